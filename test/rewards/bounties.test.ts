/** Bug reports end to end: every path of a report, two people where two are needed, and money once. */
import assert from 'node:assert/strict';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { usd } from '../../domain/money.ts';
import { bountyStatusQuery, bountyWorkflowId } from '../../contract/index.ts';
import { currentDetailsOf } from '../support/workflow-environment.ts';
import { brokenRules } from '../support/ledger-database.ts';
import { startRewards, type Customer, type RewardsFixture } from './fixture.ts';
import { until } from '../support/until.ts';

const STACK_START_MS = 90_000;

interface BountyView {
  readonly id: string;
  readonly state: string;
  readonly amount_usd: string | null;
  readonly reason: string | null;
}
interface Refused {
  readonly error: { readonly code: string; readonly message: string; readonly param: string | null };
}

describe('bug reports', () => {
  let fixture: RewardsFixture;
  let customer: Customer;
  let ann: string;
  let bob: string;

  before(async function () {
    this.timeout(STACK_START_MS);
    fixture = await startRewards('rewards-bounties', {
      BOUNTY_MONTHLY_BUDGET_USD: '100',
      REWARD_BOUNTY_DAILY_USD: '1000',
    });
    ann = await fixture.staff('operator', 'ann');
    bob = await fixture.staff('finance', 'bob');
  });
  after(() => fixture.close());
  beforeEach(async () => {
    customer = await fixture.customer();
  });
  afterEach('no rule is broken', async () => assert.deepEqual(await brokenRules(fixture.stack.admin), []));

  async function report(): Promise<string> {
    const { status, body } = await fixture.call<BountyView>('POST', '/admin/bounties', ann, {
      account_id: customer.id,
      title: 'Free inference',
      description: 'A request without a key is answered.',
    });
    assert.equal(status, 201, JSON.stringify(body));
    return body.id;
  }
  const step = <T = BountyView>(id: string, name: string, as: string, body: unknown = {}) =>
    fixture.call<T>('POST', `/admin/bounties/${id}/${name}`, as, body);
  async function triaged(): Promise<string> {
    const id = await report();
    assert.equal((await step(id, 'triage', ann)).body.state, 'triaged');
    return id;
  }

  it('of low severity are paid at once, by many at once, once', async () => {
    const id = await triaged();
    const answers = await Promise.all(Array.from({ length: 4 }, () => step(id, 'severity', ann, { severity: 'low' })));
    assert.ok(answers.some(({ body }) => body.state === 'rewarded'));
    assert.equal(await fixture.balance(customer), usd('3'));
    const { earned } = await fixture.rewards(customer);
    assert.deepEqual(earned, [{ kind: 'bounty', count: 1, total_usd: '3.000000000000' }]);
  });

  it('that are critical need a second person; the run says what it waits for', async () => {
    const id = await triaged();
    const accepted = await step(id, 'severity', ann, { severity: 'critical' });
    assert.deepEqual([accepted.body.state, accepted.body.amount_usd], ['accepted', '50.000000000000']);
    const handle = fixture.temporal.workflow.getHandle(bountyWorkflowId(id));
    await until('the run to say what it waits for', async () =>
      /critical, 50\.0+ USD, set by ann .*second person/.test(await currentDetailsOf(handle)),
    );
    for (const by of ['bob', 'somebody else']) {
      await assert.rejects(
        handle.executeUpdate('approve', { args: [{ by }] }),
        (error) =>
          error instanceof WorkflowUpdateFailedError && /POST \/admin\/bounties\//.test(error.cause?.message ?? ''),
      );
    }
    assert.equal(await fixture.balance(customer), 0n, 'no 50 USD for a name that was typed');
    const own = await step<Refused>(id, 'approve', ann);
    assert.deepEqual([own.status, own.body.error.code], [403, 'forbidden']);
    const answers = await Promise.all(Array.from({ length: 3 }, () => step(id, 'approve', bob)));
    assert.ok(answers.every(({ body }) => body.state === 'rewarded'));
    assert.equal(await fixture.balance(customer), usd('50'));
    await until('the run to have heard', async () => (await handle.query(bountyStatusQuery))?.state === 'rewarded');
  });

  it('that are duplicates or none are closed with a reason, and nothing else can follow', async () => {
    const first = await report();
    const second = await report();
    const duplicate = await step(second, 'duplicate', ann, { duplicate_of: first, reason: 'Known since Monday.' });
    assert.deepEqual([duplicate.body.state, duplicate.body.reason], ['duplicate', 'Known since Monday.']);
    await until('its end', async () => {
      const { status } = await fixture.temporal.workflow.getHandle(bountyWorkflowId(second)).describe();
      return status.name === 'COMPLETED';
    });
    assert.equal((await step(second, 'severity', ann, { severity: 'low' })).status, 409);
    assert.equal((await step(second, 'triage', ann)).status, 409);
    assert.equal((await step<Refused>(first, 'severity', ann, { severity: 'low' })).status, 409);
    const itself = await step<Refused>(first, 'duplicate', ann, { duplicate_of: first, reason: 'Odd.' });
    assert.deepEqual([itself.status, itself.body.error.param], [422, 'duplicate_of']);
    const grave = await step<Refused>(first, 'severity', ann, { severity: 'grave' });
    assert.deepEqual([grave.status, grave.body.error.param], [422, 'severity']);
    assert.equal((await step(first, 'reject', ann, { reason: 'Not reproducible.' })).body.state, 'rejected');
    assert.equal(await fixture.balance(customer), 0n);
  });

  it('S33: whose step’s answer is lost say so, and take it once when it is repeated', async () => {
    const id = await triaged();
    const lost = fixture.databaseProxy.loseAnswerTo('accept_bounty');
    const [answer] = await Promise.all([step<Refused>(id, 'severity', ann, { severity: 'medium' }), lost]);
    assert.deepEqual([answer.status, answer.body.error.code], [503, 'ledger_unavailable']);
    const repeated = await step(id, 'severity', ann, { severity: 'medium' });
    assert.equal(repeated.body.state, 'rewarded', JSON.stringify(repeated.body));
    assert.equal((await step(id, 'severity', ann, { severity: 'medium' })).status, 409);
    assert.equal(await fixture.balance(customer), usd('10'));
  });

  it('go on from their row where the run is gone', async () => {
    const id = await triaged();
    await fixture.temporal.workflow.getHandle(bountyWorkflowId(id)).terminate('test');
    assert.equal((await step(id, 'severity', ann, { severity: 'medium' })).body.state, 'rewarded');
  });

  it('beyond the month’s budget wait, are in the list of approvals, and can be refused with a reason', async () => {
    const first = await triaged();
    await step(first, 'severity', ann, { severity: 'critical' });
    await step(first, 'approve', bob);
    const second = await triaged();
    assert.equal((await step(second, 'severity', ann, { severity: 'high' })).body.state, 'accepted');
    const { body } = await fixture.call<{
      data: { kind: string; account_id: string; reason: string; paid_for: string }[];
    }>('GET', '/admin/approvals', bob);
    const waiting = body.data.find(({ kind, account_id }) => kind === 'reward' && account_id === customer.id);
    assert.match(waiting!.reason, /budget/);
    assert.equal(waiting!.paid_for, `bounty ${second}`);
    const rejected = await step(second, 'reject', bob, { reason: 'The budget is used up; please come back.' });
    assert.equal(rejected.body.state, 'rejected');
    const { denials } = await fixture.rewards(customer);
    assert.equal(denials[0]!.message, 'The budget is used up; please come back.');
    assert.equal(await fixture.balance(customer), usd('50'));
  });
});
