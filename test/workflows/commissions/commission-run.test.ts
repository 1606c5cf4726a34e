/**
 * `commissionRun` on the real dev server with scripted activities: what an operator reads and may do, that what is
 * refused ends the run and what fails does not, and that a run that begins again goes on.
 */
import assert from 'node:assert/strict';
import { WorkflowFailedError, WorkflowUpdateFailedError, type WorkflowHandle } from '@temporalio/client';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import {
  commissionRunStart,
  commissionStatusQuery,
  retryCommissionUpdate,
  SEARCH_ATTRIBUTES,
  WORKFLOW_TYPES,
  type CommissionProgress,
  type CommissionRunInput,
} from '../../../contract/index.ts';
import { provisionNamespaces } from '../../../worker/provision.ts';
import {
  currentDetailsOf,
  gate,
  inTurn,
  openWorkflowEnvironment,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';
import { until } from '../../support/until.ts';

type CommissionRun = (input: CommissionRunInput) => Promise<CommissionProgress>;

describe('commissionRun', () => {
  let environment: WorkflowEnvironment;
  let months = 0;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  const progressOf = (period: string, posted: number, state: CommissionProgress['state']): CommissionProgress => ({
    period,
    state,
    accruals: 3,
    posted,
    totalUsd: '3.000000000000',
    csvSha256: state === 'done' ? 'abc' : null,
  });

  function start(worker: ScriptedWorker, period: string): Promise<WorkflowHandle<CommissionRun>> {
    return environment.clients.processes.workflow.start<CommissionRun>(
      WORKFLOW_TYPES.commissionRun,
      commissionRunStart({ period, rowsPerChunk: 2, retrySeconds: 3600 }, worker.taskQueue),
    );
  }
  const nextPeriod = (): string => `2021-${String(++months).padStart(2, '0')}`;

  it('posts chunk by chunk, then writes the file, and says how far it is', async () => {
    const period = nextPeriod();
    const open = gate();
    const script = {
      beginCommissionRun: inTurn(progressOf(period, 0, 'posting')),
      postCommissions: inTurn(progressOf(period, 2, 'posting'), progressOf(period, 3, 'posted')),
      writeCommissionFile: async () => {
        await open.passed;
        return progressOf(period, 3, 'done');
      },
    };
    await environment.withWorker('processes', script, async (worker) => {
      const handle = await start(worker, period);
      await until('all to be posted', async () => {
        return (await handle.query(commissionStatusQuery)).progress?.state === 'posted';
      });
      assert.equal(
        await currentDetailsOf(handle),
        `Commissions of ${period}: 3 of 3 posted, together 3.000000000000 USD.`,
      );
      await assert.rejects(
        handle.executeUpdate(retryCommissionUpdate, { args: [{ by: 'grace' }] }),
        (error) => error instanceof WorkflowUpdateFailedError,
        'nothing has failed',
      );
      open.open();
      assert.deepEqual(await handle.result(), progressOf(period, 3, 'done'));
      assert.deepEqual(worker.callsOf('postCommissions'), [
        { period, limit: 2 },
        { period, limit: 2 },
      ]);
    });
  });

  it('writes nothing and ends at once where its run is done already', async () => {
    const period = nextPeriod();
    const script = {
      beginCommissionRun: inTurn(progressOf(period, 3, 'done')),
      writeCommissionFile: inTurn(progressOf(period, 3, 'done')),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const handle = await start(worker, period);
      assert.equal((await handle.result()).state, 'done');
      assert.deepEqual(worker.callsOf('postCommissions'), []);
    });
  });

  it('shows a step that keeps failing as stuck, with its cause, and retries it when an operator asks', async () => {
    const period = nextPeriod();
    let isAway = true;
    const script = {
      beginCommissionRun: inTurn(progressOf(period, 0, 'posting')),
      postCommissions: () =>
        isAway ? Promise.reject(new Error('disk full')) : Promise.resolve(progressOf(period, 3, 'posted')),
      writeCommissionFile: inTurn(progressOf(period, 3, 'done')),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const handle = await start(worker, period);
      await until('the run to be stuck', async () => (await handle.query(commissionStatusQuery)).failure !== null);
      assert.match(await currentDetailsOf(handle), /\*\*Stuck: a step fails\*\* \(disk full\)/);
      const { typedSearchAttributes } = await handle.describe();
      assert.equal(typedSearchAttributes.get(SEARCH_ATTRIBUTES.stuck), 'commission_step_failing');
      isAway = false;
      const status = await handle.executeUpdate(retryCommissionUpdate, { args: [{ by: 'grace' }] });
      assert.deepEqual([status.failure, status.progress?.posted], [null, 3]);
      assert.ok(status.steps.some(({ what }) => what === 'retried, signed "grace"'));
      assert.equal((await handle.result()).state, 'done');
    });
  }).timeout(40_000);

  it('ends when its period has not ended yet, instead of retrying', async () => {
    const period = nextPeriod();
    const refused = ApplicationFailure.nonRetryable('refused: period_not_ended', 'period_not_ended');
    await environment.withWorker(
      'processes',
      { beginCommissionRun: inTurn<CommissionProgress>(refused) },
      async (worker) => {
        const handle = await start(worker, period);
        await assert.rejects(handle.result(), (error) => {
          assert.ok(error instanceof WorkflowFailedError && error.cause instanceof ActivityFailure);
          assert.ok(error.cause.cause instanceof ApplicationFailure);
          return error.cause.cause.type === 'period_not_ended';
        });
        assert.equal(worker.callsOf('beginCommissionRun').length, 1);
      },
    );
  });
});
