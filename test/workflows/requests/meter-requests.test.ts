/**
 * `meterRequests` on the real dev server: one settlement, and what may follow it. Settlement itself is scripted here;
 * what it does to money is tested with the activity and the ledger.
 */
import assert from 'node:assert/strict';
import {
  lowBalanceWorkflowId,
  meterWorkflowId,
  WORKFLOW_TYPES,
  type LowBalanceInput,
  type MeterInput,
  type MeterResult,
} from '../../../contract/index.ts';
import {
  gate,
  inTurn,
  openWorkflowEnvironment,
  someAccountId,
  someRequestId,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';
import { startedChildren } from '../../support/workflow-history.ts';

type MeterRequests = (input: MeterInput) => Promise<MeterResult>;
type NoticeLowBalance = (input: LowBalanceInput) => Promise<{ written: boolean }>;

const NOBODY_LOW = { settled: 1, settleErrors: 0, lowBalanceAccountIds: [] };

describe('meterRequests', () => {
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
  });
  after(() => environment.close());

  function start(worker: ScriptedWorker, requestIds: readonly string[]) {
    return environment.clients.requests.workflow.start<MeterRequests>(WORKFLOW_TYPES.meterRequests, {
      workflowId: meterWorkflowId(requestIds[0]!),
      taskQueue: worker.taskQueue,
      args: [{ requestIds }],
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
    });
  }

  it('settles its whole batch in one call that names the workflow, and returns the counts', async () => {
    const requestIds = Array.from({ length: 256 }, someRequestId);
    const answer = { settled: 254, settleErrors: 1, lowBalanceAccountIds: [] };
    await environment.withWorker('requests', { settleRequests: inTurn(answer) }, async (worker) => {
      const handle = await start(worker, requestIds);
      assert.deepEqual(await handle.result(), { settled: 254, settleErrors: 1 });
      assert.deepEqual(worker.calls, [
        { name: 'settleRequests', input: { requestIds, workflowId: meterWorkflowId(requestIds[0]!) } },
      ]);
    });
  });

  it('costs one workflow task and one marker: settling a request is six events', async () => {
    await environment.withWorker('requests', { settleRequests: inTurn(NOBODY_LOW) }, async (worker) => {
      const handle = await start(worker, [someRequestId()]);
      await handle.result();
      const { events } = await handle.fetchHistory();
      assert.equal(events?.length, 6);
    });
  });

  it('repeats a settlement that met a fault with the same ids until it is through', async () => {
    const fault = new Error('connection terminated');
    const script = { settleRequests: inTurn(fault, fault, NOBODY_LOW) };
    await environment.withWorker('requests', script, async (worker) => {
      const requestIds = [someRequestId(), someRequestId()];
      const handle = await start(worker, requestIds);
      assert.deepEqual(await handle.result(), { settled: 1, settleErrors: 0 });
      const input = { requestIds, workflowId: meterWorkflowId(requestIds[0]!) };
      assert.deepEqual(worker.callsOf('settleRequests'), [input, input, input]);
    });
  });

  it('starts the notice of each account that is below its threshold, and does not wait for them', async () => {
    const accounts = [someAccountId(), someAccountId()];
    const written = gate();
    const script = {
      settleRequests: inTurn({ ...NOBODY_LOW, lowBalanceAccountIds: accounts }),
      writeLowBalanceNotice: async () => {
        await written.passed;
        return true;
      },
    };
    await environment.withWorker('requests', script, async (worker) => {
      const handle = await start(worker, [someRequestId()]);
      await handle.result();
      assert.deepEqual(await startedChildren(handle), [
        {
          type: WORKFLOW_TYPES.noticeLowBalance,
          workflowId: lowBalanceWorkflowId(accounts[0]!),
          parentClosePolicy: 'ABANDON',
          summary: `Low balance: ${accounts[0]}`,
          input: { accountId: accounts[0] },
        },
        {
          type: WORKFLOW_TYPES.noticeLowBalance,
          workflowId: lowBalanceWorkflowId(accounts[1]!),
          parentClosePolicy: 'ABANDON',
          summary: `Low balance: ${accounts[1]}`,
          input: { accountId: accounts[1] },
        },
      ]);
      const notices = accounts.map((account) =>
        environment.clients.requests.workflow.getHandle<NoticeLowBalance>(lowBalanceWorkflowId(account)),
      );
      for (const notice of notices) assert.equal((await notice.describe()).status.name, 'RUNNING');
      written.open();
      for (const notice of notices) assert.deepEqual(await notice.result(), { written: true });
    });
  });

  it('counts a notice that is already on its way as started', async () => {
    const account = someAccountId();
    const written = gate();
    const script = {
      settleRequests: inTurn({ ...NOBODY_LOW, lowBalanceAccountIds: [account] }),
      writeLowBalanceNotice: async () => {
        await written.passed;
        return true;
      },
    };
    await environment.withWorker('requests', script, async (worker) => {
      await (await start(worker, [someRequestId()])).result();
      const second = await start(worker, [someRequestId()]);
      assert.deepEqual(await second.result(), { settled: 1, settleErrors: 0 });
      assert.equal((await startedChildren(second)).length, 0);
      written.open();
      await environment.clients.requests.workflow.getHandle(lowBalanceWorkflowId(account)).result();
      assert.equal(worker.callsOf('writeLowBalanceNotice').length, 1);
    });
  });

  it('starts the notice again for a settlement that comes after the last one ended', async () => {
    const account = someAccountId();
    const script = {
      settleRequests: inTurn({ ...NOBODY_LOW, lowBalanceAccountIds: [account] }),
      writeLowBalanceNotice: inTurn(true, false),
    };
    await environment.withWorker('requests', script, async (worker) => {
      const notice = environment.clients.requests.workflow.getHandle<NoticeLowBalance>(lowBalanceWorkflowId(account));
      await (await start(worker, [someRequestId()])).result();
      assert.deepEqual(await notice.result(), { written: true });
      await (await start(worker, [someRequestId()])).result();
      assert.deepEqual(await notice.result(), { written: false });
    });
  });
});
