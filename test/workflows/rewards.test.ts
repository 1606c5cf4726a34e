/**
 * The processes of rewards with scripted activities: what they wait for, what they repeat, and what an operator
 * reads.
 */
import assert from 'node:assert/strict';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import {
  BOUNTY_UPDATES,
  bountyStatusQuery,
  linkStatusQuery,
  linkUpdate,
  wakeSignal,
  checkBountyUpdate,
  rewardEventSignal,
  voteStatusQuery,
  WORKFLOW_TYPES,
  type BountyStatus,
} from '../../contract/index.ts';
import { provisionNamespaces } from '../../worker/provision.ts';
import {
  currentDetailsOf,
  gate,
  inTurn,
  openWorkflowEnvironment,
  someAccountId,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../support/workflow-environment.ts';
import { until } from '../support/until.ts';

const FAULT = new Error('connection terminated');
const USER = '700000000000000001';
const event = (eventId: string) => ({ provider: 'votes/topgg', eventId });

describe('processes of rewards', () => {
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  let runs = 0;
  const startOf = (worker: ScriptedWorker) => ({
    workflowId: `rewards-${++runs}-${worker.taskQueue}`,
    taskQueue: worker.taskQueue,
  });

  it('voteReward repeats a fault, takes votes of its cooldown in the same run, and ends with it', async () => {
    const nextVoteAt = new Date(Date.now() + 3000).toISOString();
    const script = {
      rewardVotes: inTurn(
        FAULT,
        { results: ['accepted'], nextVoteAt },
        { results: ['refused: cooldown'], nextVoteAt },
        { results: [], nextVoteAt: null },
      ),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const start = { ...startOf(worker), args: [{ site: 'topgg', discordUserId: USER }] };
      const deliver = (eventId: string) =>
        environment.clients.processes.workflow.signalWithStart(WORKFLOW_TYPES.voteReward, {
          ...start,
          signal: rewardEventSignal,
          signalArgs: [event(eventId)],
        });
      const handle = await deliver('v1');
      await until('the first vote', async () => (await handle.query(voteStatusQuery)).steps.length === 1);
      assert.match(await currentDetailsOf(handle), /the next vote is paid from 20/);
      assert.equal((await deliver('v2')).signaledRunId, handle.signaledRunId);
      await handle.result();
      const events = worker.callsOf('rewardVotes').map(({ events }) => events.map(({ eventId }) => eventId));
      assert.deepEqual(events, [['v1'], ['v1'], ['v2'], []]);
      assert.ok(Date.now() >= Date.parse(nextVoteAt));
    });
  });

  it('discordLink without a request, as the sweep starts it, looks for claims once and ends', async () => {
    const script = { releaseRewardClaims: inTurn(0) };
    await environment.withWorker('processes', script, async (worker) => {
      const { workflow } = environment.clients.processes;
      const handle = await workflow.start(WORKFLOW_TYPES.discordLink, {
        ...startOf(worker),
        args: [{ discordUserId: USER }],
      });
      assert.equal((await handle.query(linkStatusQuery)).outcome, null);
      await handle.result();
      assert.equal(worker.callsOf('releaseRewardClaims').length, 1);
    });
  });

  it('discordLink links, then pays what was earned before', async () => {
    const door = gate();
    const script = {
      linkDiscordUser: async () => {
        await door.passed;
        return { outcome: 'linked', accountId: someAccountId() };
      },
      noteDiscordEvent: inTurn('no link'),
      releaseRewardClaims: inTurn(FAULT, 4, 0),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const { workflow } = environment.clients.processes;
      const events = [{ provider: 'discord', eventId: 'webhook/1' }];
      const handle = await workflow.start(WORKFLOW_TYPES.discordLink, {
        ...startOf(worker),
        args: [{ discordUserId: USER, events }],
      });
      // Whatever else comes with it: whose account and which user it is stand in the attempt's row.
      const typed = { attemptId: 'a1', accountId: someAccountId(), username: 'mallory' };
      const linking = handle.executeUpdate(linkUpdate, { args: [typed] });
      door.open();
      const status = await linking;
      assert.equal(status.outcome, 'linked');
      const { released } = (await handle.result()) as { released: number };
      assert.equal(released, 4);
      const { attemptId, discordUserId, ...rest } = worker.callsOf('linkDiscordUser')[0]!;
      assert.deepEqual([attemptId, discordUserId, Object.keys(rest)], ['a1', USER, ['at']]);
    });
  });

  it('bugBounty takes no step, whatever name it carries; tells what the row says, and goes on in a new run after its day', async () => {
    const status = (state: BountyStatus['state']): BountyStatus => ({
      bountyId: 'bty_1',
      accountId: someAccountId(),
      title: 'Free inference',
      state,
      severity: null,
      amountUsd: null,
      reason: null,
      severityBy: null,
      decidedBy: null,
    });
    let state: BountyStatus['state'] = 'submitted';
    const script = { readBounty: () => Promise.resolve(status(state)) };
    await environment.withWorker('processes', script, async (worker) => {
      const { workflow } = environment.clients.processes;
      const start = startOf(worker);
      const handle = await workflow.start(WORKFLOW_TYPES.bugBounty, {
        ...start,
        args: [{ bountyId: 'bty_1', runSeconds: 2 }],
      });
      await until('the report', async () => (await handle.query(bountyStatusQuery)) !== null);
      const route = { accept: 'severity' } as Readonly<Record<string, string>>;
      for (const [name, update] of Object.entries(BOUNTY_UPDATES)) {
        const typed = { kind: name, by: 'bob (tok_01980000000070008000000000000001)', severity: 'critical' };
        await assert.rejects(
          handle.executeUpdate(update, { args: [typed] }),
          (error) =>
            error instanceof WorkflowUpdateFailedError &&
            (error.cause?.message ?? '').includes(`POST /admin/bounties/bty_1/${route[name] ?? name} `),
        );
      }
      assert.deepEqual([...new Set(worker.calls.map(({ name }) => name))], ['readBounty']);
      state = 'accepted';
      assert.equal((await handle.executeUpdate(checkBountyUpdate))?.state, 'accepted');
      await until(
        'a new run',
        async () => (await workflow.getHandle(start.workflowId).describe()).runId !== handle.firstExecutionRunId,
      );
      const now = workflow.getHandle(start.workflowId);
      await until('its words', async () => /second person/.test(await currentDetailsOf(now)));
      state = 'rewarded';
      await now.signal(wakeSignal, { eventId: null });
      assert.equal(((await now.result()) as BountyStatus).state, 'rewarded');
    });
  });
});
