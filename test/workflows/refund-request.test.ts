/**
 * `refundRequest` on the real dev server: who may decide, that a decision is taken once however often it is sent, and
 * that its story can be read during and after. The posting is scripted; test/activities/refunds.test.ts has the real one.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  type WorkflowHandle,
} from '@temporalio/client';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import {
  decideRefundUpdate,
  refundStatusQuery,
  refundWorkflowId,
  WORKFLOW_TYPES,
  type RefundDecision,
  type RefundInput,
  type RefundStatus,
} from '../../workflows/contract.ts';
import type { RefundActivities } from '../../activities/refunds.ts';
import {
  currentDetailsOf,
  gate,
  openWorkflowEnvironment,
  someRequestId,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../support/workflow-environment.ts';
import { until } from '../support/until.ts';

type RefundRequest = (input: RefundInput) => Promise<RefundStatus>;

const POSTING_ID = 'pst_00000000000070008000000000000001';

/** Decides as the ledger does: the first decision stands, a repeat returns it. */
function ledgerDecisions(input: RefundInput): RefundActivities['decideRefund'] {
  let decided: RefundStatus | null = null;
  return async ({ approve, decidedBy }) =>
    (decided ??= {
      state: approve ? 'posted' : 'rejected',
      amountUsd: input.amountUsd,
      reason: input.reason,
      requestedBy: input.requestedBy,
      decidedBy,
      postingId: approve ? POSTING_ID : null,
    });
}

function refundOf(given: Partial<RefundInput> = {}): RefundInput {
  return {
    requestId: someRequestId(),
    n: 1,
    amountUsd: '0.250000000000',
    reason: 'answer was cut',
    requestedBy: 'ada',
    needsApproval: false,
    ...given,
  };
}

describe('refundRequest', () => {
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
  });
  after(() => environment.close());

  function start(worker: ScriptedWorker, input: RefundInput) {
    return environment.clients.processes.workflow.start<RefundRequest>(WORKFLOW_TYPES.refundRequest, {
      workflowId: refundWorkflowId(input.requestId, input.n),
      taskQueue: worker.taskQueue,
      args: [input],
    });
  }

  function decide(
    handle: WorkflowHandle<RefundRequest>,
    decision: RefundDecision,
    updateId: string = randomUUID(),
  ): Promise<RefundStatus> {
    return handle.executeUpdate(decideRefundUpdate, { args: [decision], updateId });
  }

  it('posts a small refund at once, as decided by the one who asked', async () => {
    const input = refundOf();
    await environment.withWorker('processes', { decideRefund: ledgerDecisions(input) }, async (worker) => {
      const handle = await start(worker, input);
      const posted = await handle.result();
      assert.deepEqual(posted, {
        state: 'posted',
        amountUsd: input.amountUsd,
        reason: input.reason,
        requestedBy: 'ada',
        decidedBy: 'ada',
        postingId: POSTING_ID,
      });
      assert.deepEqual(worker.callsOf('decideRefund'), [
        { requestId: input.requestId, n: 1, approve: true, decidedBy: 'ada' },
      ]);
      assert.equal(await currentDetailsOf(handle), `posted by ada: 0.250000000000 USD for ${input.requestId}.`);
    });
  });

  it('waits for a second person, and says for whom and why', async () => {
    const input = refundOf({ needsApproval: true });
    await environment.withWorker('processes', { decideRefund: ledgerDecisions(input) }, async (worker) => {
      const handle = await start(worker, input);
      assert.equal((await handle.query(refundStatusQuery)).state, 'waiting');
      assert.equal(
        await currentDetailsOf(handle),
        `Waiting for a second person to approve 0.250000000000 USD for ${input.requestId}: answer was cut (asked by ada).`,
      );
      assert.deepEqual(worker.calls, []);

      const posted = await decide(handle, { approve: true, decidedBy: 'grace' });
      assert.equal(posted.state, 'posted');
      assert.equal(posted.decidedBy, 'grace');
      assert.deepEqual(await handle.result(), posted);
      assert.equal(await currentDetailsOf(handle), `posted by grace: 0.250000000000 USD for ${input.requestId}.`);
    });
  });

  it('does not let the one who asked approve: nothing is called and nothing is written in the history', async () => {
    const input = refundOf({ needsApproval: true });
    await environment.withWorker('processes', { decideRefund: ledgerDecisions(input) }, async (worker) => {
      const handle = await start(worker, input);
      await handle.query(refundStatusQuery);
      const before = (await handle.fetchHistory()).events?.length;
      await assert.rejects(
        decide(handle, { approve: true, decidedBy: 'ada' }),
        updateFailedWith('second_person_needed'),
      );
      assert.deepEqual(worker.calls, []);
      assert.equal((await handle.query(refundStatusQuery)).state, 'waiting');
      assert.equal((await handle.fetchHistory()).events?.length, before);
      await decide(handle, { approve: false, decidedBy: 'grace' });
    });
  });

  it('goes on waiting when the ledger knows who decides as the one who asked, and hears the next one', async () => {
    const input = refundOf({ needsApproval: true });
    const decideAsLedger = ledgerDecisions(input);
    const script: RefundActivities['decideRefund'] = async (decision) => {
      if (decision.decidedBy !== 'ada elsewhere') return decideAsLedger(decision);
      throw ApplicationFailure.nonRetryable('refund refused: second_person_needed', 'second_person_needed');
    };
    await environment.withWorker('processes', { decideRefund: script }, async (worker) => {
      const handle = await start(worker, input);
      await assert.rejects(decide(handle, { approve: true, decidedBy: 'ada elsewhere' }), WorkflowUpdateFailedError);
      assert.equal((await handle.query(refundStatusQuery)).state, 'waiting');
      assert.equal((await decide(handle, { approve: true, decidedBy: 'grace' })).state, 'posted');
      assert.equal((await handle.result()).decidedBy, 'grace');
    });
  });

  it('lets the one who asked take it back', async () => {
    const input = refundOf({ needsApproval: true });
    await environment.withWorker('processes', { decideRefund: ledgerDecisions(input) }, async (worker) => {
      const handle = await start(worker, input);
      const rejected = await decide(handle, { approve: false, decidedBy: 'ada' });
      assert.equal(rejected.state, 'rejected');
      assert.equal(rejected.postingId, null);
      assert.deepEqual(await handle.result(), rejected);
      assert.equal(await currentDetailsOf(handle), `rejected by ada: 0.250000000000 USD for ${input.requestId}.`);
    });
  });

  it('takes a decision once, however often and however late it is sent under one id', async () => {
    const input = refundOf({ needsApproval: true });
    await environment.withWorker('processes', { decideRefund: ledgerDecisions(input) }, async (worker) => {
      const handle = await start(worker, input);
      const approval = { approve: true, decidedBy: 'grace' };
      const answers = await Promise.all([1, 2, 3].map(() => decide(handle, approval, 'act_1')));
      const posted = await handle.result();
      answers.push(await decide(handle, approval, 'act_1'));
      for (const answer of answers) assert.deepEqual(answer, posted);
      assert.equal(worker.callsOf('decideRefund').length, 1);
    });
  });

  it('answers two people who decide at once with the one decision that came first', async () => {
    const input = refundOf({ needsApproval: true });
    const ledger = ledgerDecisions(input);
    const bothAsked = gate();
    const decideRefund: RefundActivities['decideRefund'] = async (decision) => {
      if (decision.decidedBy === 'hedy') bothAsked.open();
      await bothAsked.passed;
      return ledger(decision);
    };
    await environment.withWorker('processes', { decideRefund }, async (worker) => {
      const handle = await start(worker, input);
      const [first, second] = await Promise.all([
        decide(handle, { approve: true, decidedBy: 'grace' }),
        decide(handle, { approve: false, decidedBy: 'hedy' }),
      ]);
      assert.deepEqual(first, second);
      assert.deepEqual(await handle.result(), first);
    });
  });

  it('does not end under a decision that still waits for its answer', async () => {
    const input = refundOf({ needsApproval: true });
    const ledger = ledgerDecisions(input);
    const slow = gate();
    const decideRefund: RefundActivities['decideRefund'] = async (decision) => {
      if (decision.decidedBy === 'hedy') await slow.passed;
      return ledger(decision);
    };
    await environment.withWorker('processes', { decideRefund }, async (worker) => {
      const handle = await start(worker, input);
      const late = decide(handle, { approve: false, decidedBy: 'hedy' });
      await until('the slow decision is under way', () => worker.calls.length === 1);
      await decide(handle, { approve: true, decidedBy: 'grace' });
      assert.equal((await handle.describe()).status.name, 'RUNNING');
      slow.open();
      assert.equal((await late).decidedBy, 'grace');
      assert.equal((await handle.result()).decidedBy, 'grace');
    });
  });

  it('goes on waiting when the ledger refuses an approval, and tells the approver the code', async () => {
    const input = refundOf({ needsApproval: true });
    const ledger = ledgerDecisions(input);
    const decideRefund: RefundActivities['decideRefund'] = async (decision) => {
      if (decision.approve)
        throw ApplicationFailure.nonRetryable('refund refused: refund_too_large', 'refund_too_large');
      return ledger(decision);
    };
    await environment.withWorker('processes', { decideRefund }, async (worker) => {
      const handle = await start(worker, input);
      await assert.rejects(decide(handle, { approve: true, decidedBy: 'grace' }), updateFailedWith('refund_too_large'));
      assert.equal((await handle.query(refundStatusQuery)).state, 'waiting');
      assert.equal((await decide(handle, { approve: false, decidedBy: 'grace' })).state, 'rejected');
      assert.equal((await handle.result()).state, 'rejected');
    });
  });

  it('fails visibly, with the code, when the ledger refuses a refund that needs nobody’s approval', async () => {
    const decideRefund: RefundActivities['decideRefund'] = async () => {
      throw ApplicationFailure.nonRetryable('refund refused: request_not_charged', 'request_not_charged');
    };
    await environment.withWorker('processes', { decideRefund }, async (worker) => {
      const handle = await start(worker, refundOf());
      await assert.rejects(handle.result(), (error: unknown) => {
        assert.ok(error instanceof WorkflowFailedError);
        assert.equal(codeOf(error.cause), 'request_not_charged');
        return true;
      });
      assert.equal(worker.calls.length, 1);
    });
  });

  it('repeats a posting that met a fault', async () => {
    const input = refundOf();
    const ledger = ledgerDecisions(input);
    let attempts = 0;
    const decideRefund: RefundActivities['decideRefund'] = async (decision) => {
      if (attempts++ === 0) throw new Error('connection terminated');
      return ledger(decision);
    };
    await environment.withWorker('processes', { decideRefund }, async (worker) => {
      assert.equal((await (await start(worker, input)).result()).state, 'posted');
      assert.equal(attempts, 2);
    });
  });

  it('waits on in a new run when one run has had its time, under the same id and with the same story', async () => {
    const input = refundOf({ needsApproval: true, runSeconds: 0.2 });
    await environment.withWorker('processes', { decideRefund: ledgerDecisions(input) }, async (worker) => {
      const first = await start(worker, input);
      const handle = environment.clients.processes.workflow.getHandle<RefundRequest>(first.workflowId);
      await until('a second run', async () => (await handle.describe()).runId !== first.firstExecutionRunId);
      assert.equal((await handle.query(refundStatusQuery)).state, 'waiting');
      assert.match(await currentDetailsOf(handle), /^Waiting for a second person to approve 0\.250000000000 USD/);
      assert.deepEqual(worker.calls, []);
      assert.equal((await decide(handle, { approve: true, decidedBy: 'grace' })).state, 'posted');
      assert.equal((await first.result()).state, 'posted', 'who waits for the first run gets the last one’s result');
    });
  });

  it('still tells its status after its end, and takes no new decision then', async () => {
    const input = refundOf();
    await environment.withWorker('processes', { decideRefund: ledgerDecisions(input) }, async (worker) => {
      const handle = await start(worker, input);
      const posted = await handle.result();
      assert.deepEqual(await handle.query(refundStatusQuery), posted);
      await assert.rejects(decide(handle, { approve: false, decidedBy: 'grace' }), WorkflowNotFoundError);
      assert.equal(worker.calls.length, 1);
    });
  });
});

/** The `type` of the application failure at the end of a chain of causes: the code of domain and ledger. */
function codeOf(error: unknown): string | null | undefined {
  if (error instanceof ActivityFailure) return codeOf(error.cause);
  return error instanceof ApplicationFailure ? error.type : undefined;
}

function updateFailedWith(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof WorkflowUpdateFailedError);
    assert.equal(codeOf(error.cause), code);
    return true;
  };
}
