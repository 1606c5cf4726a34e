/**
 * `autoTopUp` on the real dev server with scripted activities: one check after the other decides from the row, and no
 * wish for one is lost. What is decided is in test/unit/domain/payments/auto-top-up.test.ts, what is charged in
 * test/top-ups.
 */
import assert from 'node:assert/strict';
import { WorkflowNotFoundError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { provisionNamespaces } from '../../../worker/provision.ts';
import { STEPS_MAX } from '../../../workflows/kit/steps.ts';
import {
  autoTopUpStart,
  autoTopUpStatusQuery,
  checkAutoTopUpUpdate,
  SEARCH_ATTRIBUTES,
  wakeSignal,
  WORKFLOW_TYPES,
  type AutoTopUpInput,
  type AutoTopUpStatus,
  type AutoTopUpStep,
  type TopUpTiming,
} from '../../../contract/index.ts';
import { someTopUpId, topUpSnapshot } from '../../support/top-up-snapshots.ts';
import { until } from '../../support/until.ts';
import {
  currentDetailsOf,
  gate,
  inTurn,
  openWorkflowEnvironment,
  someAccountId,
  type Activities,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';

type AutoTopUpWorkflow = (input: AutoTopUpInput) => Promise<AutoTopUpStatus>;

const QUIET: TopUpTiming = { pollSeconds: 3600, pollMaxSeconds: 3600, runSeconds: 86_400 };
const ENOUGH: AutoTopUpStep = { kind: 'rest', why: 'enough' };
const CAPPED: AutoTopUpStep = { kind: 'wait', why: 'cap_reached', until: '2099-01-01T00:00:00.000Z' };
const SUCCEEDED = { state: 'succeeded', failure: null, declinesInARow: 0, pause: null } as const;
/** The server takes no more of one run. */
const UPDATES_AT_ONCE = 10;
const REFUSED: Error = ApplicationFailure.nonRetryable('stripe: key expired', 'provider_refused');

function chargeOf(topUpId: string, isResumed = false): AutoTopUpStep {
  return { kind: 'charge', topUpId, amountUsd: '10.000000000000', card: 'visa ····4242', isResumed };
}

describe('autoTopUp', function () {
  this.timeout(30_000);
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  const workflow = () => environment.clients.processes.workflow;

  async function running(
    script: Partial<Activities>,
    body: (run: Awaited<ReturnType<typeof begin>>, worker: ScriptedWorker) => Promise<void>,
    timing = QUIET,
  ): Promise<void> {
    await environment.withWorker('processes', script, async (worker) => body(await begin(worker, timing), worker));
  }

  function begin(worker: ScriptedWorker, timing: TopUpTiming) {
    const start = autoTopUpStart(someAccountId(), worker.taskQueue, timing);
    return workflow().start<AutoTopUpWorkflow>(WORKFLOW_TYPES.autoTopUp, start);
  }

  it('decides again when it is woken while it decides, and ends when nothing is left to do', async () => {
    const door = gate();
    let checks = 0;
    const script: Partial<Activities> = {
      beginAutoTopUp: async () => {
        if (++checks === 1) await door.passed;
        return ENOUGH;
      },
    };
    await running(script, async (run) => {
      await until('the first decision', async () => checks === 1);
      await run.signal(wakeSignal, { eventId: null });
      door.open();
      assert.deepEqual((await run.result()).step, ENOUGH);
      assert.equal(checks, 2);
    });
  });

  it('follows one attempt to its end, notes it once, and decides again from the balance after it', async () => {
    const topUpId = someTopUpId();
    const script: Partial<Activities> = {
      beginAutoTopUp: inTurn(chargeOf(topUpId), chargeOf(topUpId, true), chargeOf(topUpId, true), ENOUGH),
      openTopUpCheckout: inTurn(topUpSnapshot(topUpId, 'waiting')),
      reconcileTopUp: inTurn(
        topUpSnapshot(topUpId, 'waiting'),
        topUpSnapshot(topUpId, 'processing'),
        topUpSnapshot(topUpId, 'credited'),
      ),
      finishAutoTopUp: inTurn(SUCCEEDED),
    };
    await running(
      script,
      async (run, worker) => {
        const { steps } = await run.result();
        assert.deepEqual(
          steps.map(({ what }) => what),
          [`beginning ${topUpId}: 10.000000000000 USD from visa ····4242`, 'succeeded'],
        );
        const counted = ['openTopUpCheckout', 'reconcileTopUp', 'finishAutoTopUp'] as const;
        assert.deepEqual(
          counted.map((name) => worker.callsOf(name).length),
          [1, 3, 1],
        );
      },
      { ...QUIET, pollSeconds: 0.1, pollMaxSeconds: 0.1 },
    );
  });

  it('is stuck while its provider does not answer, and goes on at once when an operator asks', async () => {
    const topUpId = someTopUpId();
    const script: Partial<Activities> = {
      beginAutoTopUp: inTurn(chargeOf(topUpId), chargeOf(topUpId, true), ENOUGH),
      openTopUpCheckout: inTurn(REFUSED, topUpSnapshot(topUpId, 'credited')),
      finishAutoTopUp: inTurn(SUCCEEDED),
    };
    await running(script, async (run) => {
      await until('the refusal', async () => /Stuck: .*key expired/.test(await currentDetailsOf(run)));
      const stuck = async () => (await run.describe()).typedSearchAttributes.get(SEARCH_ATTRIBUTES.stuck);
      await until('the attribute', async () => (await stuck()) === 'provider_unreachable');
      const { steps } = await run.executeUpdate(checkAutoTopUpUpdate, { args: [{ by: 'ada' }] });
      assert.ok(steps.some(({ what }) => what === 'succeeded'));
      await run.result();
      assert.equal(await stuck(), undefined);
    });
  });

  it('continues as new when its time is over while it waits for the next month', async () => {
    let step: AutoTopUpStep = CAPPED;
    await running(
      { beginAutoTopUp: () => Promise.resolve(step) },
      async (run) => {
        const later = workflow().getHandle<AutoTopUpWorkflow>(run.workflowId);
        await until('a later run', async () => (await later.describe()).runId !== run.firstExecutionRunId);
        step = ENOUGH;
        await later.signal(wakeSignal, { eventId: null });
        assert.deepEqual((await later.result()).step, ENOUGH);
      },
      { ...QUIET, runSeconds: 1 },
    );
  });

  it(`continues as new after ${STEPS_MAX} steps, and every operator who asked was answered`, async () => {
    let step: AutoTopUpStep = CAPPED;
    await running({ beginAutoTopUp: () => Promise.resolve(step) }, async (run) => {
      for (let asked = 0; asked < STEPS_MAX; asked += UPDATES_AT_ONCE) {
        const updates = Array.from({ length: UPDATES_AT_ONCE }, () =>
          run.executeUpdate(checkAutoTopUpUpdate, { args: [{ by: 'ada' }] }),
        );
        for (const answer of await Promise.all(updates)) assert.deepEqual(answer.step, CAPPED);
      }
      const later = workflow().getHandle<AutoTopUpWorkflow>(run.workflowId);
      await until('a later run', async () => (await later.describe()).runId !== run.firstExecutionRunId);
      step = ENOUGH;
      await later.signal(wakeSignal, { eventId: null });
      assert.deepEqual((await later.result()).steps, []);
    });
  });

  it('takes no update once it has ended', async () => {
    await running({ beginAutoTopUp: inTurn(ENOUGH) }, async (run) => {
      await run.result();
      await assert.rejects(
        run.executeUpdate(checkAutoTopUpUpdate, { args: [{ by: 'ada' }] }),
        (error) => error instanceof WorkflowNotFoundError,
      );
      assert.deepEqual((await run.query(autoTopUpStatusQuery)).step, ENOUGH);
    });
  });
});
