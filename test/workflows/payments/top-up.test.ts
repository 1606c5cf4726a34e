/**
 * `topUp` on the real dev server with scripted activities: what wakes it, when it continues as new, and what it takes
 * along. The money is in test/activities/payments/top-ups.test.ts and test/top-ups.
 */
import assert from 'node:assert/strict';
import { WithStartWorkflowOperation, WorkflowNotFoundError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { provisionNamespaces } from '../../../worker/provision.ts';
import { STEPS_MAX } from '../../../workflows/kit/steps.ts';
import {
  checkoutUpdate,
  checkTopUpUpdate,
  SEARCH_ATTRIBUTES,
  topUpStart,
  topUpStatusQuery,
  wakeSignal,
  WORKFLOW_TYPES,
  type TopUpInput,
  type TopUpSnapshot,
  type TopUpTiming,
} from '../../../contract/index.ts';
import { someTopUpId, topUpSnapshot } from '../../support/top-up-snapshots.ts';
import { until } from '../../support/until.ts';
import {
  currentDetailsOf,
  gate,
  inTurn,
  openWorkflowEnvironment,
  type Activities,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';

type TopUpWorkflow = (input: TopUpInput) => Promise<TopUpSnapshot | null>;

/** Nothing but a signal or an update leads to a check. */
const QUIET: TopUpTiming = { pollSeconds: 3600, pollMaxSeconds: 3600, runSeconds: 86_400 };
const REFUSED: Error = ApplicationFailure.nonRetryable('stripe: key expired', 'provider_refused');

describe('topUp', function () {
  this.timeout(30_000);
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  const workflow = () => environment.clients.processes.workflow;
  const startOf = (worker: ScriptedWorker, topUpId: string, timing = QUIET, events?: readonly string[]) =>
    topUpStart({ topUpId, summary: 'a test', ...(events && { events }) }, worker.taskQueue, timing);

  /** A run over a scripted provider, and everything its activities were asked. */
  async function running(
    script: (topUpId: string) => Partial<Activities>,
    body: (run: Awaited<ReturnType<typeof begin>>, worker: ScriptedWorker, topUpId: string) => Promise<void>,
    given: { timing?: TopUpTiming; events?: readonly string[] } = {},
  ): Promise<void> {
    const topUpId = someTopUpId();
    await environment.withWorker('processes', script(topUpId), async (worker) => {
      await body(await begin(worker, topUpId, given), worker, topUpId);
    });
  }

  function begin(
    worker: ScriptedWorker,
    topUpId: string,
    { timing, events }: { timing?: TopUpTiming; events?: readonly string[] },
  ) {
    return workflow().start<TopUpWorkflow>(WORKFLOW_TYPES.topUp, startOf(worker, topUpId, timing, events));
  }

  const checksOf = (worker: ScriptedWorker): (readonly string[])[] =>
    worker.callsOf('reconcileTopUp').map(({ events }) => events);
  const isLaterRun = async (workflowId: string, firstRunId: string): Promise<boolean> =>
    (await workflow().getHandle(workflowId).describe()).runId !== firstRunId;

  it('checks once more when an event comes during a check, and hands that event over', async () => {
    const door = gate();
    let checks = 0;
    const script = (id: string): Partial<Activities> => ({
      openTopUpCheckout: inTurn(topUpSnapshot(id, 'waiting')),
      reconcileTopUp: async () => {
        if (++checks === 1) await door.passed;
        return topUpSnapshot(id, checks === 1 ? 'waiting' : 'credited');
      },
    });
    await running(script, async (run, worker) => {
      await until('the first check', async () => checks === 1);
      await run.signal(wakeSignal, { eventId: 'evt_1' });
      door.open();
      assert.equal((await run.result())?.state, 'credited');
      assert.deepEqual(checksOf(worker), [[], ['evt_1']]);
    });
  });

  it('answers an operator who asks during a check with one that began after the question', async () => {
    const door = gate();
    let checks = 0;
    const script = (id: string): Partial<Activities> => ({
      openTopUpCheckout: inTurn(topUpSnapshot(id, 'waiting')),
      reconcileTopUp: async () => {
        if (++checks === 1) await door.passed;
        return topUpSnapshot(id, checks === 1 ? 'processing' : 'credited');
      },
    });
    await running(script, async (run, worker) => {
      await until('the first check', async () => checks === 1);
      const asked = run.executeUpdate(checkTopUpUpdate, { args: [{ by: 'ada' }] });
      await until('the question', async () => (await run.query(topUpStatusQuery)).steps.length > 1);
      door.open();
      assert.equal((await asked)?.state, 'credited');
      assert.deepEqual(
        worker.callsOf('reconcileTopUp').map(({ isRecheck }) => isRecheck ?? false),
        [false, true],
      );
      const { steps } = await run.query(topUpStatusQuery);
      assert.ok(steps.some(({ what }) => what === 'check requested, signed "ada"'));
    });
  });

  it('keeps an event that a failed check could not handle, and is stuck until a check succeeds', async () => {
    const script = (id: string): Partial<Activities> => ({
      openTopUpCheckout: inTurn(topUpSnapshot(id, 'waiting')),
      reconcileTopUp: inTurn(REFUSED, topUpSnapshot(id, 'credited')),
    });
    await running(
      script,
      async (run, worker) => {
        await until('the refusal', async () => /Stuck: .*key expired/.test(await currentDetailsOf(run)));
        const stuck = async () => (await run.describe()).typedSearchAttributes.get(SEARCH_ATTRIBUTES.stuck);
        await until('the attribute', async () => (await stuck()) === 'provider_unreachable');
        await run.signal(wakeSignal, { eventId: 'evt_2' });
        await run.result();
        assert.deepEqual(checksOf(worker), [['evt_1'], ['evt_1', 'evt_2']]);
        assert.equal(await stuck(), undefined);
      },
      { events: ['evt_1'] },
    );
  });

  it('is found by account and provider even when its starter knew neither', async () => {
    const script = (id: string): Partial<Activities> => ({
      openTopUpCheckout: inTurn(topUpSnapshot(id, 'waiting')),
      reconcileTopUp: inTurn(topUpSnapshot(id, 'credited')),
    });
    await running(script, async (run) => {
      await run.result();
      const { typedSearchAttributes: found } = await run.describe();
      assert.deepEqual(
        [found.get(SEARCH_ATTRIBUTES.accountId), found.get(SEARCH_ATTRIBUTES.provider)],
        ['acct_0199000000007000800000000000a001', 'stripe'],
      );
    });
  });

  it('continues as new when its time is over, with the events that nobody has handled', async () => {
    let isAway = true;
    const handled: string[] = [];
    const script = (id: string): Partial<Activities> => ({
      openTopUpCheckout: inTurn(topUpSnapshot(id, 'waiting')),
      reconcileTopUp: async ({ events }) => {
        if (isAway) throw REFUSED;
        handled.push(...events);
        return topUpSnapshot(id, 'credited');
      },
    });
    await running(
      script,
      async (run) => {
        await until('a later run', () => isLaterRun(run.workflowId, run.firstExecutionRunId));
        isAway = false;
        await run.result();
        assert.deepEqual(handled, ['evt_1']);
      },
      { timing: { ...QUIET, runSeconds: 1 }, events: ['evt_1'] },
    );
  });

  it(`continues as new after ${STEPS_MAX} steps; the next run begins with the check that the last signal asked for`, async () => {
    const door = gate();
    let checks = 0;
    const script = (id: string): Partial<Activities> => ({
      openTopUpCheckout: inTurn(topUpSnapshot(id, 'waiting')),
      reconcileTopUp: async () => {
        if (++checks === 1) await door.passed;
        return topUpSnapshot(id, checks === 1 ? 'waiting' : 'credited');
      },
    });
    await running(script, async (run, worker) => {
      await until('the first check', async () => checks === 1);
      for (let n = 0; n < STEPS_MAX; n++) await run.signal(wakeSignal, { eventId: n === 7 ? 'evt_7' : null });
      door.open();
      await run.result();
      assert.ok(await isLaterRun(run.workflowId, run.firstExecutionRunId));
      assert.deepEqual(checksOf(worker), [[], ['evt_7']]);
    });
  });

  it('answers an operator although its time is over, and only then continues as new', async () => {
    const door = gate();
    let checks = 0;
    const script = (id: string): Partial<Activities> => ({
      openTopUpCheckout: inTurn(topUpSnapshot(id, 'waiting')),
      reconcileTopUp: async () => {
        if (++checks === 1) await door.passed;
        return topUpSnapshot(id, checks > 2 ? 'credited' : 'waiting');
      },
    });
    await running(
      script,
      async (run) => {
        await until('the first check', async () => checks === 1);
        const asked = run.executeUpdate(checkTopUpUpdate, { args: [{ by: 'ada' }] });
        await until('the question', async () => (await run.query(topUpStatusQuery)).steps.length > 1);
        const { startTime } = await run.describe();
        await until('the end of its time', () => Date.now() > startTime.getTime() + 1500);
        door.open();
        assert.equal((await asked)?.state, 'waiting');
        assert.equal((await run.result())?.state, 'credited');
        assert.ok(await isLaterRun(run.workflowId, run.firstExecutionRunId));
        assert.equal(checks, 3);
      },
      { timing: { ...QUIET, runSeconds: 1 } },
    );
  });

  it('takes no update once it has ended; with a start, the update gets a run of its own that checks once', async () => {
    const script = (id: string): Partial<Activities> => ({
      openTopUpCheckout: inTurn(topUpSnapshot(id, 'credited')),
      reconcileTopUp: inTurn(topUpSnapshot(id, 'credited')),
    });
    await running(script, async (run, worker, topUpId) => {
      await run.result();
      await assert.rejects(
        run.executeUpdate(checkTopUpUpdate, { args: [{ by: 'ada' }] }),
        (error) => error instanceof WorkflowNotFoundError,
      );
      const before = checksOf(worker).length;
      const startWorkflowOperation = new WithStartWorkflowOperation<TopUpWorkflow>(WORKFLOW_TYPES.topUp, {
        ...startOf(worker, topUpId),
        workflowIdConflictPolicy: 'USE_EXISTING',
      });
      const answer = await workflow().executeUpdateWithStart(checkTopUpUpdate, {
        args: [{ by: 'ada' }],
        startWorkflowOperation,
      });
      assert.equal(answer?.state, 'credited');
      await workflow().getHandle(run.workflowId).result();
      assert.equal(checksOf(worker).length, before + 1);
    });
  });

  it('tells who waits for the checkout that the provider refuses it', async () => {
    const script = (): Partial<Activities> => ({ openTopUpCheckout: inTurn<TopUpSnapshot>(REFUSED) });
    await running(script, async (run) => {
      assert.equal(await run.executeUpdate(checkoutUpdate, { args: [{}] }), null);
      await run.terminate('the test is over');
    });
  });
});
