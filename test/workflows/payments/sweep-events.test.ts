/**
 * `sweepEvents` on the real dev server with scripted activities: what was left behind gets a run, or wakes the one
 * that is there. What counts as left behind is in test/db and test/activities.
 */
import assert from 'node:assert/strict';
import { provisionNamespaces } from '../../../worker/provision.ts';
import {
  reversalStart,
  reversalWorkflowId,
  topUpStart,
  topUpWorkflowId,
  WORKFLOW_TYPES,
  type AutoTopUpStep,
  type EventRoute,
  type SweepEventsInput,
  type SweepEventsResult,
  type TopUpSnapshot,
} from '../../../contract/index.ts';
import { someTopUpId, topUpSnapshot } from '../../support/top-up-snapshots.ts';
import { until } from '../../support/until.ts';
import {
  gate,
  inTurn,
  openWorkflowEnvironment,
  someAccountId,
  type Activities,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';
import { startedChildren } from '../../support/workflow-history.ts';

type SweepEvents = (input: SweepEventsInput) => Promise<SweepEventsResult>;

const TIMING = { pollSeconds: 3600, pollMaxSeconds: 3600, runSeconds: 86_400 };
const INPUT: SweepEventsInput = { eventAgeSeconds: 60, rowsPerRun: 100, topUp: TIMING };
const NOTHING: Partial<Activities> = {
  findLostEvents: inTurn<EventRoute[]>([]),
  findQuietTopUps: inTurn<string[]>([]),
  findQuietReversals: inTurn<never[]>([]),
  findQuietAutoTopUps: inTurn<string[]>([]),
  findLostRewards: inTurn<never[]>([]),
};

describe('sweepEvents', function () {
  this.timeout(30_000);
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  const workflow = () => environment.clients.processes.workflow;
  const sweep = async (worker: ScriptedWorker) => {
    const run = await workflow().start<SweepEvents>(WORKFLOW_TYPES.sweepEvents, {
      ...{ workflowId: `sweep-events-${worker.taskQueue}`, taskQueue: worker.taskQueue, args: [INPUT] },
    });
    return { run, result: await run.result() };
  };
  const eventOf = (topUpId: string, eventId: string, reversalId: string | null = null): EventRoute => ({
    ...{ provider: 'stripe', eventId, topUpId, reversalId },
  });
  const handled = (worker: ScriptedWorker, topUpId: string): (readonly string[])[] =>
    worker
      .callsOf('reconcileTopUp')
      .filter((call) => call.topUpId === topUpId)
      .map(({ events }) => events);

  it('starts nothing where nothing was left behind', async () => {
    await environment.withWorker('processes', NOTHING, async (worker) => {
      const { run, result } = await sweep(worker);
      assert.deepEqual(result, { delivered: 0, restarted: 0 });
      assert.deepEqual(await startedChildren(run), []);
    });
  });

  it('starts the run of a lost event with that event, and the runs of quiet orders without one', async () => {
    const [told, quiet] = [someTopUpId(), someTopUpId()];
    const script: Partial<Activities> = {
      ...NOTHING,
      findLostEvents: inTurn([eventOf(told, 'evt_1')]),
      findQuietTopUps: inTurn([quiet]),
      openTopUpCheckout: (topUpId) => Promise.resolve(topUpSnapshot(topUpId, 'waiting')),
      reconcileTopUp: ({ topUpId }) => Promise.resolve(topUpSnapshot(topUpId, 'credited')),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const { result } = await sweep(worker);
      assert.deepEqual(result, { delivered: 1, restarted: 1 });
      for (const topUpId of [told, quiet]) await workflow().getHandle(topUpWorkflowId(topUpId)).result();
      assert.deepEqual([handled(worker, told), handled(worker, quiet)], [[['evt_1']], [[]]]);
    });
  });

  it('wakes the run that is there, which checks once more although it is in the middle of a check', async () => {
    const topUpId = someTopUpId();
    const door = gate();
    let checks = 0;
    const script: Partial<Activities> = {
      ...NOTHING,
      findLostEvents: inTurn([eventOf(topUpId, 'evt_2')]),
      findQuietTopUps: inTurn([topUpId]),
      openTopUpCheckout: inTurn(topUpSnapshot(topUpId, 'waiting')),
      reconcileTopUp: async () => {
        if (++checks === 1) await door.passed;
        return topUpSnapshot(topUpId, checks === 1 ? 'waiting' : 'credited');
      },
    };
    await environment.withWorker('processes', script, async (worker) => {
      const start = topUpStart({ topUpId, summary: 'a test' }, worker.taskQueue, TIMING);
      const run = await workflow().start(WORKFLOW_TYPES.topUp, start);
      await until('the first check', () => checks === 1);
      const { result } = await sweep(worker);
      assert.deepEqual(result, { delivered: 1, restarted: 0 }, 'the quiet order has a run');
      door.open();
      await run.result();
      assert.deepEqual(handled(worker, topUpId), [[], ['evt_2']]);
    });
  });

  it('hands the event of a dispute to the process of that dispute, running or not', async () => {
    const topUpId = someTopUpId();
    const [running, gone] = [`du_${topUpId.slice(-8)}1`, `du_${topUpId.slice(-8)}2`];
    const disputed = (isOpen: boolean): TopUpSnapshot =>
      topUpSnapshot(topUpId, 'credited', {
        reversals: [running, gone].map((objectId) => ({
          ...{ objectId, kind: 'dispute', amountUsd: '10.000000000000', isTaken: true, isOpen },
        })),
      });
    let isOpen = true;
    const script: Partial<Activities> = {
      ...NOTHING,
      findLostEvents: inTurn([eventOf(topUpId, 'evt_3', running), eventOf(topUpId, 'evt_4', gone)]),
      reconcileTopUp: () => Promise.resolve(disputed(isOpen)),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const subject = { topUpId, provider: 'stripe', objectId: running, summary: 'a test' };
      await workflow().start(WORKFLOW_TYPES.reverseTopUp, reversalStart(subject, worker.taskQueue, TIMING));
      await until('the first check', () => handled(worker, topUpId).length === 1);
      isOpen = false;
      const { run } = await sweep(worker);
      const started = await startedChildren(run);
      assert.deepEqual(
        started.map(({ workflowId }) => workflowId),
        [reversalWorkflowId('stripe', gone)],
      );
      for (const objectId of [running, gone])
        await workflow().getHandle(reversalWorkflowId('stripe', objectId)).result();
      assert.deepEqual(handled(worker, topUpId).flat().sort(), ['evt_3', 'evt_4']);
    });
  });

  it('starts automatic top-ups whose run is gone, and counts only those that it started', async () => {
    const [idle, busy] = [someAccountId(), someAccountId()];
    const wait: AutoTopUpStep = { kind: 'wait', why: 'cap_reached', until: '2099-01-01T00:00:00.000Z' };
    const script: Partial<Activities> = {
      ...NOTHING,
      findQuietAutoTopUps: inTurn([busy], [idle, busy]),
      beginAutoTopUp: ({ accountId }) =>
        Promise.resolve(accountId === busy ? wait : ({ kind: 'rest', why: 'enough' } as const)),
    };
    await environment.withWorker('processes', script, async (worker) => {
      assert.equal((await sweep(worker)).result.restarted, 1);
      assert.equal((await sweep(worker)).result.restarted, 1, 'the other one is running');
      const asked = worker.callsOf('beginAutoTopUp').map(({ accountId }) => accountId);
      assert.deepEqual(asked.filter((accountId) => accountId === busy).length, 1);
    });
  });
});
