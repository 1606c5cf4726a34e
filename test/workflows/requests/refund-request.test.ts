/**
 * `refundRequest` on the real dev server: it tells how the refund's row stands and ends when that is decided, and
 * whatever is typed into it decides nothing. The row is scripted; test/activities/requests/refunds.test.ts has the real
 * one.
 */
import assert from 'node:assert/strict';
import { WorkflowFailedError, WorkflowUpdateFailedError } from '@temporalio/client';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import {
  decideRefundUpdate,
  wakeSignal,
  checkRefundUpdate,
  refundStart,
  refundStatusQuery,
  WORKFLOW_TYPES,
  type RefundInput,
  type RefundStatus,
} from '../../../contract/index.ts';
import type { RefundActivities } from '../../../activities/requests/refunds.ts';
import { provisionNamespaces } from '../../../worker/provision.ts';
import {
  currentDetailsOf,
  gate,
  inTurn,
  openWorkflowEnvironment,
  someAccountId,
  someRequestId,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';
import { until } from '../../support/until.ts';

type RefundRequest = (input: RefundInput) => Promise<RefundStatus>;

const WAITING: RefundStatus = {
  state: 'waiting',
  amountUsd: '0.250000000000',
  reason: 'answer was cut',
  requestedBy: 'ada',
  decidedBy: null,
  postingId: null,
};
const POSTED: RefundStatus = {
  ...WAITING,
  state: 'posted',
  decidedBy: 'grace',
  postingId: 'pst_00000000000070008000000000000001',
};
const REJECTED: RefundStatus = { ...WAITING, state: 'rejected', decidedBy: 'ada' };

describe('refundRequest', () => {
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  /** A run over a row that a test changes by `row.now`. */
  async function running(
    row: { now: RefundStatus },
    work: (run: Awaited<ReturnType<typeof start>>, worker: ScriptedWorker) => Promise<void>,
    given: Partial<RefundInput> = {},
  ): Promise<void> {
    await environment.withWorker('processes', { readRefund: () => Promise.resolve(row.now) }, async (worker) => {
      await work(await start(worker, given), worker);
    });
  }

  function start(worker: ScriptedWorker, given: Partial<RefundInput> = {}) {
    const refund = { accountId: someAccountId(), amountUsd: WAITING.amountUsd };
    return environment.clients.processes.workflow.start<RefundRequest>(
      WORKFLOW_TYPES.refundRequest,
      refundStart({ requestId: someRequestId(), n: 1, ...refund, ...given }, worker.taskQueue),
    );
  }

  it('tells how a posted refund was decided, and ends', async () => {
    await running({ now: POSTED }, async (run, worker) => {
      assert.deepEqual(await run.result(), POSTED);
      assert.match(await currentDetailsOf(run), /^posted by grace: 0\.250000000000 USD for req_[0-9a-f]{32}\.$/);
      assert.equal(worker.callsOf('readRefund').length, 1);
      assert.deepEqual(await run.query(refundStatusQuery), POSTED, 'also after its end');
    });
  });

  it('waits, says for whom and why, and ends when it is told that somebody has decided', async () => {
    const row = { now: WAITING };
    await running(row, async (run) => {
      await until('the first check', async () => (await run.query(refundStatusQuery)) !== null);
      assert.match(
        await currentDetailsOf(run),
        /^Waiting for a second person to approve 0\.250000000000 USD for req_[0-9a-f]{32}: answer was cut \(asked by ada\)\.$/,
      );
      row.now = REJECTED;
      await run.signal(wakeSignal, { eventId: null });
      assert.deepEqual(await run.result(), REJECTED);
    });
  });

  it('finds a decision by polling when no signal told it', async () => {
    const row = { now: WAITING };
    await running(
      row,
      async (run) => {
        await until('the first check', async () => (await run.query(refundStatusQuery)) !== null);
        row.now = POSTED;
        assert.deepEqual(await run.result(), POSTED);
      },
      { pollSeconds: 0.2 },
    );
  });

  it('takes no decision, whatever name it carries: says where one is made, moves nothing and writes nothing into its history', async () => {
    const row = { now: WAITING };
    await running(row, async (run, worker) => {
      await until('the first check', async () => (await run.query(refundStatusQuery)) !== null);
      const before = (await run.fetchHistory()).events?.length;
      for (const typed of [
        { approve: true, decidedBy: 'grace' },
        { approve: true, decidedBy: 'grace (tok_01980000000070008000000000000001)' },
        { approve: false, decidedBy: 'ada' },
        {},
        null,
      ]) {
        await assert.rejects(
          run.executeUpdate(decideRefundUpdate, { args: [typed] }),
          (error) =>
            error instanceof WorkflowUpdateFailedError &&
            /POST \/admin\/requests\/req_[0-9a-f]{32}\/refunds\/1\/approve/.test(error.cause?.message ?? ''),
        );
      }
      assert.equal((await run.fetchHistory()).events?.length, before);
      assert.deepEqual(
        worker.calls.map(({ name }) => name),
        ['readRefund'],
      );
      row.now = POSTED;
      assert.deepEqual(await run.executeUpdate(checkRefundUpdate), POSTED);
      await run.result();
    });
  });

  it('reads the row again for an operator who asks while a check is under way', async () => {
    const first = gate();
    let checks = 0;
    const readRefund: RefundActivities['readRefund'] = async () => {
      if (++checks > 1) return POSTED;
      await first.passed;
      return WAITING;
    };
    await environment.withWorker('processes', { readRefund }, async (worker) => {
      const run = await start(worker);
      await until('the first check to have begun', () => checks === 1);
      const asked = run.executeUpdate(checkRefundUpdate);
      await until('the question to be in the history', async () =>
        (await run.fetchHistory()).events?.some(
          ({ workflowExecutionUpdateAcceptedEventAttributes: accepted }) => accepted,
        ),
      );
      first.open();
      assert.deepEqual(await asked, POSTED, 'not what the first check saw before the decision');
      await run.result();
    });
  });

  it('repeats a check that met a fault, and fails with the code where there is no such refund', async () => {
    const fault = new Error('connection terminated');
    await environment.withWorker('processes', { readRefund: inTurn<RefundStatus>(fault, POSTED) }, async (worker) => {
      assert.deepEqual(await (await start(worker)).result(), POSTED);
    });
    const unknown = ApplicationFailure.nonRetryable('there is no refund', 'not_found');
    await environment.withWorker('processes', { readRefund: inTurn<RefundStatus>(unknown) }, async (worker) => {
      await assert.rejects((await start(worker)).result(), (error) => {
        const cause = error instanceof WorkflowFailedError ? error.cause : null;
        return cause instanceof ActivityFailure && (cause.cause as ApplicationFailure).type === 'not_found';
      });
    });
  });

  it('waits on in a new run when one run has had its time, under the same id', async () => {
    const row = { now: WAITING };
    await running(
      row,
      async (first) => {
        const run = environment.clients.processes.workflow.getHandle<RefundRequest>(first.workflowId);
        await until('a second run', async () => (await run.describe()).runId !== first.firstExecutionRunId);
        await until('its words', async () => /^Waiting for a second person/.test(await currentDetailsOf(run)));
        row.now = POSTED;
        await run.signal(wakeSignal, { eventId: null });
        assert.deepEqual(await first.result(), POSTED, 'who waits for the first run gets the last one’s result');
      },
      { runSeconds: 0.2 },
    );
  });
});
