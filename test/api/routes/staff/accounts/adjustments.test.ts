/** Manual money movements: with a reason, once per Idempotency-Key, above the threshold only with a second person. */
import assert from 'node:assert/strict';
import { createAccessToken } from '../../../../../db/accounts/access-tokens.ts';
import { formatId } from '../../../../../domain/ids.ts';
import { brokenRules, createCustomer } from '../../../../support/ledger-database.ts';
import {
  pick,
  readPages,
  refusal,
  rowsOf,
  startManagement,
  textOf,
  type Answer,
  type Management,
} from '../../management.ts';

describe('/admin adjustments', () => {
  let management: Management;
  /** A second person of finance. */
  let second: string;
  before(async () => {
    management = await startManagement('routes_adjustments');
    const { secret } = await createAccessToken(management.management, {
      role: 'finance',
      accountId: null,
      name: 'second',
    });
    second = secret;
  });
  after(async () => {
    assert.deepEqual(await brokenRules(management.admin), []);
    await management.stop();
  });

  const newAccount = async (balance = '10') => formatId('account', await createCustomer(management, balance));
  const adjust = (account: string, body: object, options: { token?: string; key?: string } = {}): Promise<Answer> =>
    management.call('POST', `/admin/accounts/${account}/adjustments`, {
      token: options.token ?? management.tokens.finance,
      body: { reason: 'goodwill', ...body },
      ...(options.key === undefined ? {} : { headers: { 'idempotency-key': options.key } }),
    });
  const balance = async (account: string) =>
    (await management.call('GET', `/admin/accounts/${account}`)).body['balance_usd'];

  it('adjustments credit and debit at once up to the threshold, to the pico-USD', async () => {
    const account = await newAccount();
    const credit = await adjust(account, { amount_usd: '0.000000000001' });
    assert.equal(credit.status, 201);
    assert.deepEqual(pick(credit.body, 'state', 'amount_usd', 'decided_by'), ['posted', '0.000000000001', null]);
    const debit = await adjust(account, { amount_usd: '-2.5' });
    assert.deepEqual([debit.status, await balance(account)], [201, '7.500000000001']);
    const posting = await management.call('GET', `/admin/postings/${textOf(debit.body, 'posting_id')}`);
    assert.deepEqual(pick(posting.body, 'kind', 'business_id', 'amount_usd'), [
      'adjustment',
      debit.body['id'],
      '2.500000000000',
    ]);
    assert.deepEqual(posting.body['debit'], { kind: 'customer', id: account, name: 'Customer' });
    assert.deepEqual(posting.body['credit'], { kind: 'system', id: null, name: 'adjustment' });
    assert.equal((posting.body['memo'] as Record<string, unknown>)['reason'], 'goodwill');
  });

  it('a debit never exceeds the available balance, and its refusal states it', async () => {
    const account = await newAccount('1');
    const answer = await adjust(account, { amount_usd: '-1.000000000001' });
    assert.deepEqual(refusal(answer), { status: 409, code: 'conflict', param: 'amount_usd' });
    assert.match(answer.text, /available: 1(\.0+)? USD/);
    assert.equal(await balance(account), '1.000000000000');
    assert.equal((await adjust(account, { amount_usd: '-1' })).status, 201);
  });

  it('an adjustment above the threshold waits for a second person other than its requester', async () => {
    const account = await newAccount();
    for (const amount of ['100.000000000001', '-100.000000000001']) {
      assert.equal((await adjust(account, { amount_usd: amount })).status, 202);
    }
    const asked = await adjust(account, { amount_usd: '150' });
    const id = textOf(asked.body, 'id');
    assert.deepEqual(pick(asked.body, 'state', 'posting_id'), ['waiting', null]);
    assert.equal(await balance(account), '10.000000000000');
    const own = await management.call('POST', `/admin/adjustments/${id}/approve`, { token: management.tokens.finance });
    assert.deepEqual(refusal(own), { status: 403, code: 'forbidden', param: null });
    const approved = await management.call('POST', `/admin/adjustments/${id}/approve`, { token: second });
    assert.equal(approved.body['state'], 'posted');
    assert.match(String(approved.body['decided_by']), /^second /);
    assert.equal(await balance(account), '160.000000000000');
    const again = await management.call('POST', `/admin/adjustments/${id}/approve`);
    assert.deepEqual([again.status, again.body], [200, approved.body]);
    assert.equal(await balance(account), '160.000000000000');
    assert.equal(
      refusal(await management.call('POST', `/admin/adjustments/${id}/reject`, { token: second })).status,
      409,
    );
    assert.deepEqual((await management.call('GET', `/admin/adjustments/${id}`)).body, approved.body);
  });

  it('a token created by the requester cannot approve an adjustment', async () => {
    const account = await newAccount();
    const { operator } = management.tokens;
    const asked = await adjust(account, { amount_usd: '150' }, { token: operator });
    const approve = (token: string) =>
      management.call('POST', `/admin/adjustments/${textOf(asked.body, 'id')}/approve`, { token });
    const body = { role: 'finance', name: 'bob' };
    const made = await management.call('POST', '/admin/tokens', { token: operator, body });
    const answer = await approve(textOf(made.body, 'secret'));
    assert.deepEqual(refusal(answer), { status: 403, code: 'forbidden', param: null });
    assert.equal(await balance(account), '10.000000000000');
    assert.equal((await approve(second)).body['state'], 'posted');
  });

  it('a waiting adjustment can be rejected, also by its requester, and then moves nothing', async () => {
    const account = await newAccount();
    const id = textOf((await adjust(account, { amount_usd: '500' })).body, 'id');
    const rejected = await management.call('POST', `/admin/adjustments/${id}/reject`, {
      token: management.tokens.finance,
    });
    assert.deepEqual(pick(rejected.body, 'state', 'posting_id'), ['rejected', null]);
    assert.equal(
      refusal(await management.call('POST', `/admin/adjustments/${id}/approve`, { token: second })).status,
      409,
    );
    assert.equal(await balance(account), '10.000000000000');
  });

  it('an approved debit that can no longer be paid stays waiting', async () => {
    const account = await newAccount('200');
    const id = textOf((await adjust(account, { amount_usd: '-150' })).body, 'id');
    await adjust(account, { amount_usd: '-90' });
    const answer = await management.call('POST', `/admin/adjustments/${id}/approve`, { token: second });
    assert.deepEqual(refusal(answer), { status: 409, code: 'conflict', param: 'amount_usd' });
    assert.equal((await management.call('GET', `/admin/adjustments/${id}`)).body['state'], 'waiting');
  });

  it('an adjustment decided by many at once moves money once', async () => {
    const account = await newAccount();
    const id = textOf((await adjust(account, { amount_usd: '1000' })).body, 'id');
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => management.call('POST', `/admin/adjustments/${id}/approve`, { token: second })),
    );
    for (const answer of answers) assert.equal(answer.status, 200);
    assert.equal(await balance(account), '1010.000000000000');
    const { body } = await management.call('GET', `/admin/actions?subject=${id}&action=adjustment.approve`);
    assert.equal(rowsOf(body).length, 1, 'and are recorded once');
  });

  it('an adjustment is refused with the field that is not valid', async () => {
    const account = await newAccount();
    const cases: [object, string][] = [
      [{}, 'amount_usd'],
      [{ amount_usd: 5 }, 'amount_usd'],
      [{ amount_usd: '0' }, 'amount_usd'],
      [{ amount_usd: '-0.000' }, 'amount_usd'],
      [{ amount_usd: '1.0000000000001' }, 'amount_usd'],
      [{ amount_usd: '+1' }, 'amount_usd'],
      [{ amount_usd: 'Infinity' }, 'amount_usd'],
      [{ amount_usd: '1000000000.000000000001' }, 'amount_usd'],
      [{ amount_usd: '-99999999999999999999' }, 'amount_usd'],
      [{ amount_usd: '1', reason: '' }, 'reason'],
      [{ amount_usd: '1', reason: null }, 'reason'],
      [{ amount_usd: '1', reason: 'x'.repeat(2001) }, 'reason'],
      [{ amount_usd: '1', note: 'x' }, 'note'],
    ];
    for (const [body, param] of cases) {
      assert.deepEqual(
        refusal(await adjust(account, body)),
        { status: 422, code: 'invalid_field', param },
        JSON.stringify(body),
      );
    }
    assert.equal(await balance(account), '10.000000000000');
    assert.equal(refusal(await adjust('acct_01980000000070008000000000000000', { amount_usd: '1' })).code, 'not_found');
  });

  it('adjustments are listed by account, newest first; waiting ones are in approvals too', async () => {
    const account = await newAccount();
    for (const amount of ['1', '2', '300']) await adjust(account, { amount_usd: amount });
    const rows = await readPages(management, `/admin/accounts/${account}/adjustments`, { limit: 2 });
    assert.deepEqual(
      rows.map((row) => [row['amount_usd'], row['state']]),
      [
        ['300.000000000000', 'waiting'],
        ['2.000000000000', 'posted'],
        ['1.000000000000', 'posted'],
        ['10.000000000000', 'posted'],
      ],
    );
    const [waiting] = await readPages(management, '/admin/approvals', { limit: 1 });
    assert.deepEqual(pick(waiting!, 'kind', 'id', 'account_id', 'amount_usd'), [
      'adjustment',
      rows[0]!['id'],
      account,
      '300.000000000000',
    ]);
    assert.equal(
      refusal(await management.call('GET', '/admin/accounts/acct_01980000000070008000000000000000/adjustments')).code,
      'not_found',
    );
  });

  describe('with an Idempotency-Key', () => {
    const actionsOn = async (answer: Answer) =>
      rowsOf((await management.call('GET', `/admin/actions?subject=${textOf(answer.body, 'id')}`)).body).length;

    it('a repeat with the same Idempotency-Key and body is done once and returns the same response', async () => {
      const account = await newAccount();
      const first = await adjust(account, { amount_usd: '5' }, { key: 'once' });
      const again = await adjust(account, { reason: ' goodwill ', amount_usd: '5.00' }, { key: 'once' });
      assert.deepEqual([again.status, again.body], [201, first.body]);
      assert.deepEqual(
        [first.headers.get('idempotent-replayed'), again.headers.get('idempotent-replayed')],
        [null, 'true'],
      );
      assert.equal(await balance(account), '15.000000000000');
      assert.equal(await actionsOn(first), 1);
    });

    it('an Idempotency-Key with another body or path is refused', async () => {
      const account = await newAccount();
      await adjust(account, { amount_usd: '5' }, { key: 'other-body' });
      for (const answer of [
        await adjust(account, { amount_usd: '6' }, { key: 'other-body' }),
        await adjust(account, { amount_usd: '5', reason: 'another' }, { key: 'other-body' }),
        await adjust(await newAccount(), { amount_usd: '5' }, { key: 'other-body' }),
      ]) {
        assert.deepEqual(refusal(answer), { status: 422, code: 'idempotency_key_reused', param: 'Idempotency-Key' });
      }
      assert.equal(await balance(account), '15.000000000000');
    });

    it('an Idempotency-Key repeats a refusal, also when the call would succeed now', async () => {
      const account = await newAccount('1');
      const first = await adjust(account, { amount_usd: '-2' }, { key: 'refused' });
      await adjust(account, { amount_usd: '5' });
      const again = await adjust(account, { amount_usd: '-2' }, { key: 'refused' });
      assert.deepEqual([again.status, again.body], [first.status, first.body]);
      assert.equal(first.status, 409);
      assert.equal(await balance(account), '6.000000000000');
      assert.equal((await adjust(account, { amount_usd: '-2' }, { key: 'refused-2' })).status, 201);
    });

    it('calls sent many times at once are done once, and every caller gets the same response', async () => {
      const account = await newAccount();
      const answers = await Promise.all(
        Array.from({ length: 12 }, () => adjust(account, { amount_usd: '1' }, { key: 'race' })),
      );
      for (const answer of answers) assert.deepEqual([answer.status, answer.body], [201, answers[0]!.body]);
      assert.equal(await balance(account), '11.000000000000');
      assert.equal(answers.filter(({ headers }) => headers.get('idempotent-replayed') === null).length, 1);
    });

    it('an Idempotency-Key belongs to the token that sent it', async () => {
      const account = await newAccount();
      await adjust(account, { amount_usd: '1' }, { key: 'mine' });
      assert.equal(
        (await adjust(account, { amount_usd: '1' }, { key: 'mine', token: second })).headers.get('idempotent-replayed'),
        null,
      );
      assert.equal(await balance(account), '12.000000000000');
    });

    it('a key may be used again after 24 hours, and old keys are removed', async () => {
      const account = await newAccount();
      const first = await adjust(account, { amount_usd: '1' }, { key: 'old' });
      await management.admin.query(`update idempotency_key set created_at = created_at - interval '24 hours 1 second'`);
      const fresh = await adjust(account, { amount_usd: '1' }, { key: 'old' });
      assert.equal(fresh.status, 201);
      assert.notEqual(fresh.body['id'], first.body['id']);
      assert.equal(await balance(account), '12.000000000000');
      const { rows } = await management.admin.query<{ key: string }>('select key from idempotency_key');
      assert.ok(rows.length <= 2, `${rows.length} keys are left of those that were old`);
    });

    it('a malformed Idempotency-Key is refused', async () => {
      const account = await newAccount();
      for (const key of ['', 'x'.repeat(256), 'two words', 'ümlaut']) {
        const answer = await adjust(account, { amount_usd: '1' }, { key });
        assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: 'Idempotency-Key' }, key);
      }
      assert.equal(await balance(account), '10.000000000000');
    });
  });
});
