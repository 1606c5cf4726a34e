/**
 * Links, boosts and votes by role end to end: api, worker, PostgreSQL and Temporal as they run, before Discord's twin,
 * which the product reaches by the real packages. Whatever happens to dispatches, processes and answers, each boost is
 * paid once.
 */
import assert from 'node:assert/strict';
import { WithStartWorkflowOperation, WorkflowUpdateFailedError } from '@temporalio/client';
import { usd } from '../../domain/money.ts';
import { RECONCILE_BOOSTS_SCHEDULE_ID } from '../../contract/index.ts';
import { linkUpdate, type LinkStatus, type RewardInput } from '../../contract/rewards.ts';
import { brokenRules } from '../support/ledger-database.ts';
import { startRewards, type Customer, type RewardsFixture } from './fixture.ts';
import { until } from '../support/until.ts';

const STACK_START_MS = 90_000;

/** An error with all that caused it. */
function storyOf(error: unknown): string {
  return error instanceof Error ? `${error.message} ${storyOf(error.cause)}` : '';
}

describe('discord', () => {
  let fixture: RewardsFixture;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    fixture = await startRewards('rewards-discord', {
      REWARD_BOOST_ACCOUNT_DAILY_USD: '6',
      // So short that the test need not wait half a day for a role's second vote.
      VOTE_COOLDOWN_SECONDS: '2',
      VOTE_TOLERANCE_SECONDS: '1',
    });
  });
  after(() => fixture.close());
  beforeEach(async () => {
    customer = await fixture.customer();
  });
  afterEach('no rule is broken', async () => {
    fixture.twin.faults.clear();
    assert.deepEqual(await brokenRules(fixture.stack.admin), []);
  });

  describe('a link', () => {
    it('pays once, says so, and is not given twice after unlinking', async () => {
      const user = await fixture.person();
      const { status, body } = await fixture.link(customer, user);
      assert.deepEqual([status, body.outcome], [200, 'linked']);
      assert.equal(await fixture.balance(customer), usd('1'));
      const view = await fixture.rewards(customer);
      assert.equal(view.discord.discord_user_id, user);
      assert.deepEqual(view.earned, [{ kind: 'discord_link', count: 1, total_usd: '1.000000000000' }]);
      const support = await fixture.staff('support', 'sue');
      const found = await fixture.call<{ data: { id: string }[] }>('GET', `/admin/accounts?q=${user}`, support);
      assert.deepEqual(
        found.body.data.map(({ id }) => id),
        [customer.id],
      );
      assert.equal((await fixture.call('DELETE', '/api/discord/link', customer.token)).status, 200);
      assert.equal((await fixture.call('DELETE', '/api/discord/link', customer.token)).status, 404);
      assert.equal((await fixture.link(customer, user)).status, 200);
      assert.equal(await fixture.balance(customer), usd('1'));
      const { denials } = await fixture.rewards(customer);
      assert.deepEqual(
        denials.map(({ reason }) => reason),
        ['user_rewarded'],
      );
    });

    it('is finished by the browser or the token that began it, once, and by nobody else', async () => {
      const begin = async () => {
        const response = await fetch(`${fixture.stack.baseUrl}/api/discord/link`, {
          headers: { authorization: `Bearer ${customer.token}` },
        });
        const { authorize_url: address } = (await response.json()) as { authorize_url: string };
        const [cookie = ''] = response.headers.getSetCookie();
        assert.match(cookie, /HttpOnly; SameSite=Lax$/);
        return { address, cookie: cookie.split(';')[0]! };
      };
      const finish = (path: string, headers: Record<string, string>) =>
        fetch(`${fixture.stack.baseUrl}${path}`, { headers });
      const user = await fixture.person();
      const { address, cookie } = await begin();
      const callback = await fixture.authorize(address, user);
      const stranger = await finish(callback, {});
      assert.equal(stranger.status, 403);
      assert.match(await stranger.text(), /One step is missing/);
      const other = await fixture.customer();
      assert.equal((await finish(callback, { authorization: `Bearer ${other.token}` })).status, 403);
      assert.equal((await finish(callback, { cookie: 'holdfast_discord_link=guessed' })).status, 403);
      const done = await finish(callback, { cookie: `a=b; ${cookie}` });
      assert.equal(done.status, 200);
      assert.match(await done.text(), /<h1>Linked<\/h1>/);
      assert.equal((await finish(callback, { cookie })).status, 400);
      assert.equal((await finish('/api/discord/callback?state=unknown&code=x', { cookie })).status, 400);
      assert.equal(await fixture.balance(customer), usd('1'));
      assert.equal(await fixture.balance(other), 0n);
    });

    it('that nobody proved at Discord cannot be sent to its run: 1 USD and all that waits stay', async () => {
      const user = await fixture.person();
      for (const attemptId of ['0'.repeat(64), customer.id, '']) {
        const start = new WithStartWorkflowOperation<(input: RewardInput) => Promise<LinkStatus>>('discordLink', {
          workflowId: `discord-link/${user}`,
          taskQueue: fixture.stack.namespaces.processes,
          args: [{ discordUserId: user }],
          workflowIdConflictPolicy: 'USE_EXISTING',
        });
        const forged = { attemptId, accountId: customer.id, username: 'forged' };
        await assert.rejects(
          fixture.temporal.workflow.executeUpdateWithStart(linkUpdate, {
            args: [forged],
            startWorkflowOperation: start,
          }),
          (error) => error instanceof WorkflowUpdateFailedError && /has proven to be this user/.test(storyOf(error)),
        );
      }
      assert.equal((await fixture.rewards(customer)).discord.linked, false);
      assert.equal(await fixture.balance(customer), 0n);
    });

    it('of a young account is refused with a reason that the customer reads', async () => {
      const { status, body } = await fixture.link(customer, await fixture.person({ account_age_days: 29 }));
      assert.deepEqual([status, body.outcome], [409, 'account_too_young']);
      const { denials, discord } = await fixture.rewards(customer);
      assert.equal(discord.linked, false);
      assert.match(denials[0]!.message, /too young/);
      assert.equal(await fixture.balance(customer), 0n);
    });

    it('S33: whose answers are lost pays once when it is begun again', async () => {
      const user = await fixture.person();
      fixture.twin.faults.add({
        on: 'rest',
        match: { path: '/oauth2/token' },
        fault: { drop_response_after_commit: true },
        count: 2,
      });
      assert.ok((await fixture.link(customer, user)).status >= 400);
      fixture.twin.faults.clear();
      assert.equal(await fixture.balance(customer), 0n);
      const attempts = await Promise.all(Array.from({ length: 5 }, () => fixture.link(customer, user)));
      assert.ok(attempts.every(({ body }) => body.outcome === 'linked'));
      assert.equal(await fixture.balance(customer), usd('1'));
    });

    it('whose booking’s answer is lost is booked once', async () => {
      const user = await fixture.person();
      const lost = fixture.databaseProxy.loseAnswerTo('link_discord');
      const [{ body }] = await Promise.all([fixture.link(customer, user), lost]);
      assert.equal(body.outcome, 'linked');
      assert.equal(await fixture.balance(customer), usd('1'));
    });

    it('that the user takes back at Discord is marked stale by a signed event, and nothing is clawed back', async () => {
      const user = await fixture.person();
      await fixture.link(customer, user);
      // Discord asks once well and once badly signed before it accepts an endpoint.
      const asked = JSON.stringify(await fixture.control('check'));
      assert.match(asked, /204/);
      assert.match(asked, /401/);
      await fixture.control(`users/${user}/deauthorize`);
      await until('the mark', async () => (await fixture.rewards(customer)).discord.stale_at !== null);
      assert.equal(await fixture.balance(customer), usd('1'));
    });
  });

  describe('a boost', () => {
    it('S35: each of several boosts at once is paid, for any number of repeats', async () => {
      const user = await fixture.person();
      await fixture.link(customer, user);
      fixture.twin.faults.add({ on: 'dispatch', fault: { duplicate: 5 }, count: null });
      await fixture.control(`members/${user}/boost`, { count: 2 });
      await fixture.untilBalance(customer, '3');
      await fixture.control(`members/${user}/boost`, { count: 1 });
      await fixture.untilBalance(customer, '4');
    });

    it('before linking waits and is paid on linking', async () => {
      const user = await fixture.person();
      await fixture.control(`members/${user}/boost`, { count: 3 });
      await until('the claims', async () => {
        const { rows } = await fixture.stack.admin.query(
          "select from reward where discord_user_id = $1 and state = 'claimable'",
          [user],
        );
        return rows.length === 3;
      });
      await fixture.link(customer, user);
      await fixture.untilBalance(customer, '4');
    });

    it('without a system message is paid by the member’s premium_since, split dispatches or not', async () => {
      const user = await fixture.person();
      await fixture.link(customer, user);
      await fixture.control(`members/${user}/boost`, { count: 1, message: false, split: true });
      await fixture.untilBalance(customer, '2');
    });

    it('that ended and was given again is another one; its end takes nothing back', async () => {
      const user = await fixture.person();
      await fixture.link(customer, user);
      await fixture.control(`members/${user}/boost`, { count: 1 });
      await fixture.untilBalance(customer, '2');
      await fixture.control(`members/${user}/end-boosts`, { split: true });
      await fixture.control(`members/${user}/boost`, { count: 1 });
      await fixture.untilBalance(customer, '3');
      const { earned } = await fixture.rewards(customer);
      assert.equal(earned.find(({ kind }) => kind === 'boost')!.count, 2);
    });

    it('S35: the reconciliation finds a boost that no dispatch reported, with its count', async () => {
      const user = await fixture.person();
      await fixture.link(customer, user);
      fixture.twin.faults.add({ on: 'dispatch', fault: { drop: true }, count: null });
      await fixture.control(`members/${user}/boost`, { count: 2 });
      const quiet = await fixture.person();
      const other = await fixture.customer();
      await fixture.link(other, quiet);
      await fixture.control(`members/${quiet}/boost`, { count: 1, message: false, member_update: false });
      fixture.twin.faults.clear();
      assert.equal(await fixture.balance(customer), usd('1'));
      await fixture.temporal.schedule.getHandle(RECONCILE_BOOSTS_SCHEDULE_ID).trigger();
      await fixture.untilBalance(customer, '3');
      await fixture.untilBalance(other, '2');
      await fixture.temporal.schedule.getHandle(RECONCILE_BOOSTS_SCHEDULE_ID).trigger();
      await fixture.control(`members/${user}/boost`, { count: 1 });
      await fixture.untilBalance(customer, '4');
    });

    it('while no worker runs is found when one comes back', async function () {
      this.timeout(120_000);
      const user = await fixture.person();
      await fixture.link(customer, user);
      fixture.stack.worker.signal('SIGKILL');
      await fixture.stack.worker.exited;
      await fixture.control('gateway/disconnect', { forget: true });
      await fixture.control(`members/${user}/boost`, { count: 2 });
      await fixture.stack.startWorker();
      await fixture.untilBalance(customer, '3');
    });

    it('after the gateway was cut, asked to reconnect, or lost its session is paid like any other', async function () {
      this.timeout(120_000);
      const user = await fixture.person();
      await fixture.link(customer, user);
      await fixture.control('gateway/reconnect');
      await fixture.control(`members/${user}/boost`, { count: 1 });
      await fixture.untilBalance(customer, '2');
      await fixture.control('gateway/disconnect', { forget: true });
      await fixture.control(`members/${user}/boost`, { count: 1 });
      await fixture.untilBalance(customer, '3');
    });

    it('above the cap of the day waits for a person, who is asked once and whose answer counts', async () => {
      const user = await fixture.person();
      await fixture.link(customer, user);
      await fixture.control(`members/${user}/boost`, { count: 8 });
      await until('what waits', async () => (await fixture.rewards(customer)).waiting.length === 2);
      assert.equal(await fixture.balance(customer), usd('7'));
      const finance = await fixture.staff('finance', 'fin');
      const approvals = await fixture.call<{
        data: { kind: string; id: string; paid_for: string; account_id: string }[];
      }>('GET', '/admin/approvals', finance);
      const waiting = approvals.body.data.filter(
        ({ kind, account_id }) => kind === 'reward' && account_id === customer.id,
      );
      assert.equal(waiting.length, 2);
      const [first, second] = waiting;
      const approve = () => fixture.call<{ state: string }>('POST', `/admin/rewards/${first!.id}/approve`, finance);
      const approved = await Promise.all([approve(), approve(), approve()]);
      assert.ok(approved.every(({ body }) => body.state === 'posted'));
      const reason = 'Too many boosts for one person.';
      await fixture.call('POST', `/admin/rewards/${second!.id}/reject`, finance, { reason });
      assert.equal((await fixture.call('POST', `/admin/rewards/${second!.id}/approve`, finance)).status, 409);
      assert.equal(await fixture.balance(customer), usd('8'));
      assert.equal((await fixture.rewards(customer)).denials[0]!.message, reason);
    });
  });

  it('a role that a directory gives is one vote, however often the member is seen, and the next one counts after the cooldown', async () => {
    const user = await fixture.person();
    await fixture.link(customer, user);
    const { roles } = (await fixture.twin.control('GET', 'state')).body as { roles: { id: string; name: string }[] };
    const role = roles.find(({ name }) => name.startsWith('discords.com'))!.id;
    fixture.twin.faults.add({ on: 'dispatch', fault: { duplicate: 5 }, count: null });
    await fixture.control(`members/${user}/roles`, { role, held: true });
    await fixture.untilBalance(customer, '1.05');
    await fixture.temporal.schedule.getHandle(RECONCILE_BOOSTS_SCHEDULE_ID).trigger();
    await until('the end of the cooldown', async () => {
      const { sites } = await fixture.rewards(customer);
      return sites.find(({ site }) => site === 'discords')!.next_vote_at === null;
    });
    await fixture.control(`members/${user}/roles`, { role, held: false });
    await fixture.control(`members/${user}/roles`, { role, held: true });
    await fixture.untilBalance(customer, '1.10');
  });
});
