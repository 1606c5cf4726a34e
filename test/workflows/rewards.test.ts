/** The processes of rewards with scripted activities: what they wait for, what they repeat, and what an operator reads. */
import assert from 'node:assert/strict';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import {
  BOUNTY_UPDATES,
  bountyStatusQuery,
  linkStatusQuery,
  linkUpdate,
  rewardEventSignal,
  voteStatusQuery,
  WORKFLOW_TYPES,
  type BountyStatus,
} from '../../workflows/contract.ts';
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
      const poke = (eventId: string) =>
        environment.clients.processes.workflow.signalWithStart(WORKFLOW_TYPES.voteReward, {
          ...start,
          signal: rewardEventSignal,
          signalArgs: [event(eventId)],
        });
      const handle = await poke('v1');
      await until('the first vote', async () => (await handle.query(voteStatusQuery)).steps.length === 1);
      assert.match(await currentDetailsOf(handle), /the next vote is paid from 20/);
      assert.equal((await poke('v2')).signaledRunId, handle.signaledRunId);
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
        return 'linked';
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
      const accountId = someAccountId();
      const linking = handle.executeUpdate(linkUpdate, { args: [{ accountId, username: 'ada' }] });
      door.open();
      const status = await linking;
      assert.equal(status.outcome, 'linked');
      const { released } = (await handle.result()) as { released: number };
      assert.equal(released, 4);
      assert.equal(worker.callsOf('linkDiscordUser')[0]!.accountId, accountId);
    });
  });

  it('bugBounty refuses impossible steps before anything is called, and goes on in a new run after its day', async () => {
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
    const refusal = ApplicationFailure.nonRetryable('step refused: second_person_needed', 'second_person_needed');
    let state: BountyStatus['state'] = 'submitted';
    const script = {
      readBounty: () => Promise.resolve(status(state)),
      takeBountyStep: inTurn<BountyStatus>(status('triaged'), status('accepted'), refusal, status('rewarded')),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const { workflow } = environment.clients.processes;
      const start = startOf(worker);
      const handle = await workflow.start(WORKFLOW_TYPES.bugBounty, {
        ...start,
        args: [{ bountyId: 'bty_1', runSeconds: 2 }],
      });
      await until('the report', async () => (await handle.query(bountyStatusQuery)) !== null);
      const failed = handle.executeUpdate(BOUNTY_UPDATES.approve, { args: [{ kind: 'approve', by: 'bob' }] });
      await assert.rejects(failed, WorkflowUpdateFailedError);
      assert.equal(worker.callsOf('takeBountyStep').length, 0);
      await handle.executeUpdate(BOUNTY_UPDATES.triage, { args: [{ kind: 'triage', by: 'ann' }] });
      state = 'triaged';
      await until(
        'a new run',
        async () => (await workflow.getHandle(start.workflowId).describe()).runId !== handle.firstExecutionRunId,
      );
      const now = workflow.getHandle(start.workflowId);
      const accept = { kind: 'accept', by: 'ann', severity: 'critical' } as const;
      await now.executeUpdate(BOUNTY_UPDATES.accept, { args: [accept] });
      state = 'accepted';
      assert.match(await currentDetailsOf(now), /second person/);
      const own = now.executeUpdate(BOUNTY_UPDATES.approve, { args: [{ kind: 'approve', by: 'ann' }] });
      await assert.rejects(own, WorkflowUpdateFailedError);
      await now.executeUpdate(BOUNTY_UPDATES.approve, { args: [{ kind: 'approve', by: 'bob' }] });
      assert.equal(((await now.result()) as BountyStatus).state, 'rewarded');
    });
  });
});
