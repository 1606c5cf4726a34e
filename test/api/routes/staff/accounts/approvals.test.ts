/**
 * Movements of one person alone, over HTTP: the sums of a person and of an account over a day and 30 days hold whatever
 * the pieces, and the list of what waits shows them to who decides.
 */
import assert from 'node:assert/strict';
import { createAccessToken, type TokenRole } from '../../../../../db/accounts/access-tokens.ts';
import { formatId } from '../../../../../domain/ids.ts';
import { usd } from '../../../../../domain/money.ts';
import { brokenRules, createCustomer } from '../../../../support/ledger-database.ts';
import {
  pick,
  refusal,
  rowsOf,
  settledRequest,
  startManagement,
  textOf,
  type Answer,
  type Management,
} from '../../management.ts';

describe('/admin/approvals', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_approvals', {
      manualLimits: {
        movement: usd('0'),
        personDay: usd('300'),
        personMonth: usd('1500'),
        accountDay: usd('300'),
        accountMonth: usd('1000'),
      },
    });
  });
  after(async () => {
    assert.deepEqual(await brokenRules(management.admin), []);
    await management.stop();
  });

  let n = 0;
  /** A token of somebody new. */
  const somebody = async (role: Exclude<TokenRole, 'account'> = 'finance'): Promise<string> =>
    (await createAccessToken(management.management, { role, accountId: null, name: `person ${++n}` })).secret;
  const newAccount = async () => formatId('account', await createCustomer(management, '0'));
  const adjust = (token: string, account: string, amount: string): Promise<Answer> =>
    management.call('POST', `/admin/accounts/${account}/adjustments`, {
      token,
      body: { amount_usd: amount, reason: 'goodwill' },
    });
  const approve = (token: string, id: string): Promise<Answer> =>
    management.call('POST', `/admin/adjustments/${id}/approve`, { token });
  const waiting = async (id: string): Promise<Record<string, unknown>> => {
    const { body } = await management.call('GET', '/admin/approvals?limit=100');
    const row = rowsOf(body).find((one) => one['id'] === id);
    assert.ok(row !== undefined);
    return row;
  };

  it('ten adjustments of 100 by one person move 300, and the list shows what that person has moved', async () => {
    const ann = await somebody();
    const answers: Answer[] = [];
    for (let i = 0; i < 10; i++) answers.push(await adjust(ann, await newAccount(), '100'));
    assert.deepEqual(
      answers.map(({ status }) => status),
      [201, 201, 201, 202, 202, 202, 202, 202, 202, 202],
    );
    const row = await waiting(textOf(answers[3]!.body, 'id'));
    assert.deepEqual(pick(row, 'amount_usd', 'requester_alone', 'account_alone', 'approved_by'), [
      '100.000000000000',
      { day_usd: '300.000000000000', month_usd: '300.000000000000' },
      { day_usd: '0.000000000000', month_usd: '0.000000000000' },
      [],
    ]);
    assert.equal((await adjust(ann, await newAccount(), '0.000000000001')).status, 202, 'not a pico-dollar more');
  });

  it('ten at once move no more', async () => {
    const ann = await somebody();
    const accounts = await Promise.all(Array.from({ length: 10 }, () => newAccount()));
    const answers = await Promise.all(accounts.map((account) => adjust(ann, account, '100')));
    assert.equal(answers.filter(({ status }) => status === 201).length, 3);
  });

  it('several persons move no more to one account', async () => {
    const account = await newAccount();
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++) statuses.push((await adjust(await somebody(), account, '100')).status);
    assert.deepEqual(statuses, [201, 201, 201, 202, 202]);
  });

  it('taking and giving back, withdrawing and another kind of movement free nothing', async () => {
    const ann = await somebody('operator');
    const account = await newAccount();
    assert.equal((await adjust(ann, account, '100')).status, 201);
    assert.equal((await adjust(ann, account, '-100')).status, 201);
    const batch = await management.call('POST', '/admin/voucher-batches', {
      token: ann,
      body: { name: 'fair', count: 1, amount_usd: '100', reason: 'for the fair', expires_at: null },
    });
    assert.equal(batch.status, 201, batch.text);
    const withdrawn = await management.call('POST', `/admin/voucher-batches/${textOf(batch.body, 'id')}/void`, {
      token: ann,
      body: { reason: 'no fair' },
    });
    assert.equal(withdrawn.status, 200, withdrawn.text);
    assert.equal((await adjust(ann, account, '0.01')).status, 202);
    const requestId = await settledRequest(management, '0.5');
    const refund = await management.call('POST', `/admin/requests/${formatId('request', requestId)}/refund`, {
      token: ann,
      body: { reason: 'bad answer' },
    });
    assert.deepEqual(pick(refund.body, 'state', 'needs_approval'), ['waiting', true]);
  });

  it('a token that one has made is not another person', async () => {
    const ann = await somebody('operator');
    const made = await management.call('POST', '/admin/tokens', { token: ann, body: { role: 'finance', name: 'bob' } });
    const bob = textOf(made.body, 'secret');
    for (let i = 0; i < 3; i++) assert.equal((await adjust(ann, await newAccount(), '100')).status, 201);
    const fourth = await adjust(bob, await newAccount(), '100');
    assert.equal(fourth.status, 202);
    assert.equal(refusal(await approve(ann, textOf(fourth.body, 'id'))).status, 403);
  });

  it('a movement approved by a second person uses up no limit, and the approval is final', async () => {
    const [ann, bob] = [await somebody(), await somebody()];
    const big = await adjust(ann, await newAccount(), '5000');
    assert.equal(big.status, 202);
    assert.equal((await approve(bob, textOf(big.body, 'id'))).body['state'], 'posted');
    assert.equal((await adjust(ann, await newAccount(), '100')).status, 201);
    assert.equal((await adjust(bob, await newAccount(), '100')).status, 201);
  });
});
