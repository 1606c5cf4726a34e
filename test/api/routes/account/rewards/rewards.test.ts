/**
 * Rewards on the management interface where neither Discord nor Temporal is there: what is answered, and what is
 * refused.
 */
import assert from 'node:assert/strict';
import { refusal, startManagement, type Management } from '../../management.ts';

describe('rewards on the management interface', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_rewards');
  });
  after(() => management.stop());

  const asAccount = (method: string, path: string, body?: unknown) =>
    management.call(method, path, { token: management.tokens.account, ...(body === undefined ? {} : { body }) });
  const asStaff = (method: string, path: string, body?: unknown) =>
    management.call(method, path, { token: management.tokens.operator, ...(body === undefined ? {} : { body }) });

  it('GET /api/rewards shows the amounts of the rules, and that Discord is not available', async () => {
    const { status, body } = await asAccount('GET', '/api/rewards');
    assert.equal(status, 200);
    const view = body as { amounts: Record<string, unknown>; discord: Record<string, unknown>; sites: unknown[] };
    assert.deepEqual(
      [view.amounts['discord_link_usd'], view.amounts['boost_usd'], view.amounts['vote_usd']],
      ['1.000000000000', '1.000000000000', '0.050000000000'],
    );
    assert.deepEqual([view.discord['available'], view.discord['linked'], view.sites], [false, false, []]);
    assert.deepEqual((await asAccount('GET', '/api/rewards/history')).body, { data: [], next_cursor: null });
  });

  it('starting or ending a link is refused without Discord', async () => {
    assert.equal((await asAccount('GET', '/api/discord/link')).status, 404);
    assert.equal((await asAccount('DELETE', '/api/discord/link')).status, 404);
    assert.equal((await fetch(`${management.url}/api/discord/callback?state=x&code=y`)).status, 404);
  });

  it('there are no webhooks of unconfigured directories', async () => {
    for (const path of ['/webhooks/discord', '/webhooks/votes/topgg', '/webhooks/votes/nowhere']) {
      const response = await fetch(`${management.url}${path}`, { method: 'POST', body: '{}' });
      assert.equal(response.status, 404, path);
    }
  });

  const report = { title: 'A bug', description: 'It breaks.' };
  for (const { what, body, param } of [
    { what: 'no account', body: report, param: 'account_id' },
    { what: 'a short title', body: { ...report, title: 'A' }, param: 'title' },
    { what: 'no description', body: { title: 'A bug' }, param: 'description' },
    { what: 'a field that is none', body: { ...report, severity: 'low' }, param: 'severity' },
  ]) {
    it(`a bug report with ${what} is refused`, async () => {
      const account_id =
        what === 'no account' ? {} : { account_id: `acct_${management.accountId.replaceAll('-', '')}` };
      const answer = await asStaff('POST', '/admin/bounties', { ...account_id, ...body });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param });
    });
  }

  it('a bug report is recorded while Temporal is away, once per key, and its steps are taken as rows', async () => {
    const body = { ...report, account_id: `acct_${management.accountId.replaceAll('-', '')}` };
    const create = () =>
      management.call('POST', '/admin/bounties', {
        token: management.tokens.operator,
        body,
        headers: { 'idempotency-key': 'one' },
      });
    const [first, again] = [await create(), await create()];
    assert.deepEqual([first.status, again.status], [201, 201]);
    const { id } = first.body as { id: string };
    assert.equal((again.body as { id: string }).id, id);
    assert.equal(refusal(await asStaff('POST', `/admin/bounties/${id}/approve`)).code, 'conflict');
    assert.equal((await asStaff('POST', `/admin/bounties/${id}/triage`)).status, 200);
    const open = await asStaff('GET', '/admin/bounties?open=true');
    assert.equal((open.body as { data: unknown[] }).data.length, 1);
  });

  it('rewards can be filtered only by existing kinds and states', async () => {
    assert.equal((await asStaff('GET', '/admin/rewards?state=waiting')).status, 200);
    assert.equal(refusal(await asStaff('GET', '/admin/rewards?state=lost')).param, 'state');
    assert.equal(refusal(await asStaff('GET', '/admin/rewards?discord_user_id=me')).param, 'discord_user_id');
  });
});
