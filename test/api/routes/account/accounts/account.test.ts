/** A customer's own account: the balance at every moment, settings, notices. */
import assert from 'node:assert/strict';
import { createAccount } from '../../../../../db/accounts/accounts.ts';
import { noticeLowBalance } from '../../../../../db/accounts/notices.ts';
import { settleRequests } from '../../../../../db/requests/settlement.ts';
import { formatId, uuidOf, type AccountUuid } from '../../../../../domain/ids.ts';
import { createCustomer } from '../../../../support/ledger-database.ts';
import { finishedRequest, heldRequest, refusal, startManagement, tokenOf, type Management } from '../../management.ts';

describe('/api/account', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_account');
  });
  after(() => management.stop());

  const money = async (): Promise<string[]> => {
    const { body } = await management.call('GET', '/api/account');
    return ['balance_usd', 'held_usd', 'available_usd'].map((field) => body[field] as string);
  };

  it('GET /api/account deducts a request when it has ended, not when it is settled', async () => {
    assert.deepEqual(await money(), ['10.000000000000', '0.000000000000', '10.000000000000']);
    await heldRequest(management);
    assert.deepEqual(await money(), ['10.000000000000', '0.500000000000', '9.500000000000']);
    const finished = await finishedRequest(management, '0.123456789012');
    const exact = ['9.876543210988', '0.500000000000', '9.376543210988'];
    assert.deepEqual(await money(), exact);
    await settleRequests(management.worker, [finished], 'meter/test');
    assert.deepEqual(await money(), exact);
  });

  it('GET /api/account shows the caller its own account and no other', async () => {
    const { body } = await management.call('GET', '/api/account');
    assert.equal(body['id'], formatId('account', management.accountId));
    assert.equal(body['frozen'], false);
    const other = await tokenOf(management, 'account', await createCustomer(management, '3'));
    const answer = await management.call('GET', '/api/account', { token: other });
    assert.equal(answer.body['balance_usd'], '3.000000000000');
  });

  it('PATCH /api/account changes name and threshold, each alone and together', async () => {
    const change = async (body: object) => (await management.call('PATCH', '/api/account', { body })).body;
    assert.equal((await change({ name: '  Zoë 🚀 ' }))['name'], 'Zoë 🚀');
    const changed = await change({ low_balance_usd: '2.5' });
    assert.deepEqual([changed['name'], changed['low_balance_usd']], ['Zoë 🚀', '2.500000000000']);
    assert.equal((await change({}))['low_balance_usd'], '2.500000000000');
    assert.equal((await change({ low_balance_usd: '0' }))['low_balance_usd'], '0.000000000000');
  });

  it('PATCH /api/account names the field that is not valid', async () => {
    const cases: [object, string][] = [
      [{ name: '' }, 'name'],
      [{ name: '   ' }, 'name'],
      [{ name: 'x'.repeat(201) }, 'name'],
      [{ name: 'a\u0000b' }, 'name'],
      [{ name: '\ud800' }, 'name'],
      [{ name: null }, 'name'],
      [{ low_balance_usd: 1 }, 'low_balance_usd'],
      [{ low_balance_usd: '-1' }, 'low_balance_usd'],
      [{ low_balance_usd: '1e3' }, 'low_balance_usd'],
      [{ low_balance_usd: '0.0000000000001' }, 'low_balance_usd'],
      [{ low_balance_usd: '1'.repeat(21) }, 'low_balance_usd'],
      [{ balance_usd: '100' }, 'balance_usd'],
      [{ email: 'a@b.c' }, 'email'],
    ];
    for (const [body, param] of cases) {
      const answer = await management.call('PATCH', '/api/account', { body });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param }, JSON.stringify(body));
    }
  });

  describe('notices', () => {
    let accountId: AccountUuid;
    let token: string;
    before(async () => {
      accountId = await createCustomer(management, '0.4');
      token = await tokenOf(management, 'account', accountId);
    });

    const unread = async () =>
      (await management.call('GET', '/api/account', { token })).body['notices'] as {
        id: string;
        kind: string;
        details: object;
      }[];

    it('notices are shown until they are read, and only to their account', async () => {
      assert.deepEqual(await unread(), []);
      assert.equal(await noticeLowBalance(management.worker, accountId), true);
      const [notice] = await unread();
      assert.ok(notice !== undefined);
      assert.deepEqual(
        [notice.kind, notice.details],
        ['low_balance', { balance_usd: '0.400000000000', threshold_usd: '1.000000000000' }],
      );
      assert.equal((await management.call('POST', `/api/notices/${notice.id}/read`)).status, 404);
      const read = await management.call('POST', `/api/notices/${notice.id}/read`, { token });
      const again = await management.call('POST', `/api/notices/${notice.id}/read`, { token });
      assert.ok(read.body['read_at'] !== null);
      assert.deepEqual(again.body, read.body);
      assert.deepEqual(await unread(), []);
    });

    it('a notice comes again after the threshold was lowered to the present balance', async () => {
      assert.equal(await noticeLowBalance(management.worker, accountId), false);
      await management.call('PATCH', '/api/account', { token, body: { low_balance_usd: '0.4' } });
      await management.call('PATCH', '/api/account', { token, body: { low_balance_usd: '0.5' } });
      assert.equal(await noticeLowBalance(management.worker, accountId), true);
    });

    it('a notice does not come twice because the threshold was moved below the balance’s reach', async () => {
      const [before] = await unread();
      await management.call('PATCH', '/api/account', { token, body: { low_balance_usd: '3' } });
      assert.equal(await noticeLowBalance(management.worker, accountId), false);
      assert.deepEqual((await unread())[0], before);
    });
  });

  it('a frozen account still sees itself, and sees that it is frozen', async () => {
    const { id } = await createAccount(management.management, { name: 'Frozen', email: null });
    const token = await tokenOf(management, 'account', uuidOf('account', id));
    await management.call('POST', `/admin/accounts/${formatId('account', id)}/freeze`, {
      body: { reason: 'stolen card' },
    });
    const { status, body } = await management.call('GET', '/api/account', { token });
    assert.deepEqual([status, body['frozen']], [200, true]);
    assert.ok(!JSON.stringify(body).includes('stolen card'), 'the reason is for staff');
  });
});
