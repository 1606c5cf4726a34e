/** The processes of one activity each: what they return, and what an operator reads of them afterwards. */
import assert from 'node:assert/strict';
import { lowBalanceWorkflowId, WORKFLOW_TYPES, type LowBalanceInput } from '../../contract/index.ts';
import {
  currentDetailsOf,
  inTurn,
  openWorkflowEnvironment,
  someAccountId,
  type WorkflowEnvironment,
} from '../support/workflow-environment.ts';

type NoticeLowBalance = (input: LowBalanceInput) => Promise<{ written: boolean }>;
type MaintainLedger = () => Promise<{ partitionsMade: number }>;

describe('processes of one activity', () => {
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
  });
  after(() => environment.close());

  for (const { written, details } of [
    { written: true, details: 'The notice is on the account.' },
    { written: false, details: 'Nothing to do: the balance recovered or the notice was there.' },
  ]) {
    it(`noticeLowBalance ${written ? 'writes the notice' : 'leaves an account alone that recovered'}, and says so`, async () => {
      const fault = new Error('connection terminated');
      const script = { writeLowBalanceNotice: inTurn(fault, written) };
      await environment.withWorker('requests', script, async (worker) => {
        const accountId = someAccountId();
        const handle = await environment.clients.requests.workflow.start<NoticeLowBalance>(
          WORKFLOW_TYPES.noticeLowBalance,
          { workflowId: lowBalanceWorkflowId(accountId), taskQueue: worker.taskQueue, args: [{ accountId }] },
        );
        assert.deepEqual(await handle.result(), { written });
        assert.deepEqual(worker.callsOf('writeLowBalanceNotice'), [accountId, accountId]);
        assert.equal(await currentDetailsOf(handle), details);
      });
    });
  }

  it('maintainLedger returns how many partitions were missing', async () => {
    await environment.withWorker('processes', { ensurePartitions: inTurn(2) }, async (worker) => {
      const result = await environment.clients.processes.workflow.execute<MaintainLedger>(
        WORKFLOW_TYPES.maintainLedger,
        { workflowId: `maintain-${worker.taskQueue}`, taskQueue: worker.taskQueue, args: [] },
      );
      assert.deepEqual(result, { partitionsMade: 2 });
      assert.equal(worker.calls.length, 1);
    });
  });
});
