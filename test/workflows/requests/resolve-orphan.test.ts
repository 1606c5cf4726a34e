/**
 * `resolveOrphan` on the real dev server: how long it looks for evidence, and what it does with what it finds. Look-up,
 * bill and platform cost are scripted; test/activities/requests/orphans.test.ts has the real ones.
 */
import assert from 'node:assert/strict';
import {
  lowBalanceWorkflowId,
  orphanWorkflowId,
  WORKFLOW_TYPES,
  type LowBalanceInput,
  type OrphanInput,
} from '../../../contract/index.ts';
import type { Evidence } from '../../../providers/upstreams/usage-lookup.ts';
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
import { startedChildren, timersOf } from '../../support/workflow-history.ts';
import { until } from '../../support/until.ts';

type ResolveOrphan = (input: OrphanInput) => Promise<{ resolution: string }>;

const USAGE = { prompt_tokens: 12, completion_tokens: 34 };
const FOUND: Evidence = { kind: 'usage', usage: USAGE };
const NO_LOOKUP: Evidence = { kind: 'no-lookup' };
const PENDING: Evidence = { kind: 'pending', reason: 'still running there' };
const SETTLED = { settled: 1, settleErrors: 0, lowBalanceAccountIds: [] };

describe('resolveOrphan', () => {
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
  });
  after(() => environment.close());

  function start(worker: ScriptedWorker, input: OrphanInput) {
    return environment.clients.requests.workflow.start<ResolveOrphan>(WORKFLOW_TYPES.resolveOrphan, {
      workflowId: orphanWorkflowId(input.requestId),
      taskQueue: worker.taskQueue,
      args: [input],
    });
  }

  describe('where the client had left', () => {
    it('bills the usage that the upstream reports, settles it under its own id, and says so', async () => {
      const script = {
        lookUpUsage: inTurn(FOUND),
        finishOrphan: inTurn('Ended by the upstream’s usage.'),
        settleRequests: inTurn(SETTLED),
      };
      await environment.withWorker('requests', script, async (worker) => {
        const requestId = someRequestId();
        const handle = await start(worker, { requestId, clientLeft: true, evidenceSeconds: 600 });
        assert.deepEqual(await handle.result(), { resolution: 'Ended by the upstream’s usage.' });
        assert.deepEqual(worker.calls, [
          { name: 'lookUpUsage', input: requestId },
          { name: 'finishOrphan', input: { requestId, usage: USAGE } },
          { name: 'settleRequests', input: { requestIds: [requestId], workflowId: orphanWorkflowId(requestId) } },
        ]);
        assert.equal(await currentDetailsOf(handle), 'Ended by the upstream’s usage.');
      });
    });

    it('bills an estimate at once where no upstream can be asked', async () => {
      const script = {
        lookUpUsage: inTurn(NO_LOOKUP),
        finishOrphan: inTurn('Ended by an estimate.'),
        settleRequests: inTurn(SETTLED),
      };
      await environment.withWorker('requests', script, async (worker) => {
        const requestId = someRequestId();
        const handle = await start(worker, { requestId, clientLeft: true, evidenceSeconds: 600 });
        await handle.result();
        assert.deepEqual(worker.callsOf('finishOrphan'), [{ requestId, usage: null }]);
        assert.equal(worker.callsOf('lookUpUsage').length, 1);
        assert.deepEqual(timersOf(await handle.fetchHistory()), []);
      });
    });

    it('bills an estimate when the time for evidence is over, and not before', async () => {
      const script = {
        lookUpUsage: inTurn(PENDING),
        finishOrphan: inTurn('Ended by an estimate.'),
        settleRequests: inTurn(SETTLED),
      };
      await environment.withWorker('requests', script, async (worker) => {
        const requestId = someRequestId();
        const begin = Date.now();
        const handle = await start(worker, { requestId, clientLeft: true, evidenceSeconds: 1 });
        await handle.result();
        assert.ok(Date.now() - begin >= 1000, 'the evidence had its time');
        assert.deepEqual(worker.callsOf('finishOrphan'), [{ requestId, usage: null }]);
        const waited = timersOf(await handle.fetchHistory()).reduce((sum, ms) => sum + ms, 0);
        assert.ok(waited <= 1000, `pauses of ${waited} ms stay within the time for evidence`);
      });
    });

    it('prefers evidence that arrives with the last look-up, after the time was over, to an estimate', async () => {
      const evidenceSeconds = 2;
      const begin = Date.now();
      let lookUps = 0;
      const script = {
        lookUpUsage: async (): Promise<Evidence> => {
          if (lookUps++ === 0) return PENDING;
          await until('the time for evidence is over', () => Date.now() - begin > evidenceSeconds * 1000 + 500);
          return FOUND;
        },
        finishOrphan: inTurn('Ended by the upstream’s usage.'),
        settleRequests: inTurn(SETTLED),
      };
      await environment.withWorker('requests', script, async (worker) => {
        const requestId = someRequestId();
        const handle = await start(worker, { requestId, clientLeft: true, evidenceSeconds });
        await handle.result();
        assert.deepEqual(worker.callsOf('finishOrphan'), [{ requestId, usage: USAGE }]);
        assert.equal(lookUps, 2);
      });
    });

    it('starts what follows a charge, as every other settlement does', async () => {
      const account = someAccountId();
      const script = {
        lookUpUsage: inTurn(FOUND),
        finishOrphan: inTurn('Ended by the upstream’s usage.'),
        settleRequests: inTurn({ ...SETTLED, lowBalanceAccountIds: [account] }),
        writeLowBalanceNotice: inTurn(true),
      };
      await environment.withWorker('requests', script, async (worker) => {
        const handle = await start(worker, { requestId: someRequestId(), clientLeft: true, evidenceSeconds: 600 });
        await handle.result();
        assert.deepEqual(await startedChildren(handle), [
          {
            type: WORKFLOW_TYPES.noticeLowBalance,
            workflowId: lowBalanceWorkflowId(account),
            parentClosePolicy: 'ABANDON',
            summary: `Low balance: ${account}`,
            input: { accountId: account },
          },
        ]);
        const notice = environment.clients.requests.workflow.getHandle<
          (input: LowBalanceInput) => Promise<{ written: boolean }>
        >(lowBalanceWorkflowId(account));
        assert.deepEqual(await notice.result(), { written: true });
      });
    });

    it('repeats bill and settlement that met a fault, with the same evidence', async () => {
      const fault = new Error('connection terminated');
      const script = {
        lookUpUsage: inTurn<Evidence>(FOUND, NO_LOOKUP),
        finishOrphan: inTurn(fault, 'Ended by the upstream’s usage.'),
        settleRequests: inTurn(fault, SETTLED),
      };
      await environment.withWorker('requests', script, async (worker) => {
        const requestId = someRequestId();
        const handle = await start(worker, { requestId, clientLeft: true, evidenceSeconds: 600 });
        await handle.result();
        assert.deepEqual(worker.callsOf('finishOrphan'), [
          { requestId, usage: USAGE },
          { requestId, usage: USAGE },
        ]);
        assert.equal(worker.callsOf('settleRequests').length, 2);
      });
    });
  });

  describe('where the hold is released already', () => {
    it('books what the upstream reports as platform cost and charges nobody', async () => {
      const script = { lookUpUsage: inTurn(FOUND), bookOrphanCost: inTurn('Platform cost of it: 0.5 USD.') };
      await environment.withWorker('requests', script, async (worker) => {
        const requestId = someRequestId();
        const handle = await start(worker, { requestId, clientLeft: false, evidenceSeconds: 600 });
        assert.deepEqual(await handle.result(), { resolution: 'Platform cost of it: 0.5 USD.' });
        assert.deepEqual(worker.calls, [
          { name: 'lookUpUsage', input: requestId },
          { name: 'bookOrphanCost', input: { requestId, usage: USAGE } },
        ]);
        assert.equal(await currentDetailsOf(handle), 'Platform cost of it: 0.5 USD.');
      });
    });

    for (const { what, evidence, evidenceSeconds } of [
      { what: 'no upstream can be asked', evidence: NO_LOOKUP, evidenceSeconds: 600 },
      { what: 'the upstream does not know in time', evidence: PENDING, evidenceSeconds: 0.3 },
    ]) {
      it(`books what was held where ${what}`, async () => {
        const activities = { lookUpUsage: inTurn(evidence), bookOrphanCost: inTurn('Booked as it was held.') };
        await environment.withWorker('requests', activities, async (worker) => {
          const requestId = someRequestId();
          const handle = await start(worker, { requestId, clientLeft: false, evidenceSeconds });
          assert.equal((await handle.result()).resolution, 'Booked as it was held.');
          assert.deepEqual(worker.calls.at(-1), { name: 'bookOrphanCost', input: { requestId, usage: null } });
        });
      });
    }

    for (const { what, evidence, evidenceSeconds } of [
      { what: 'says that it did no work', evidence: { kind: 'nothing' }, evidenceSeconds: 600 },
      { what: 'has not heard of the request in time', evidence: { kind: 'unknown' }, evidenceSeconds: 0.3 },
    ] as const) {
      it(`books nothing where the upstream ${what}`, async () => {
        await environment.withWorker('requests', { lookUpUsage: inTurn<Evidence>(evidence) }, async (worker) => {
          const handle = await start(worker, { requestId: someRequestId(), clientLeft: false, evidenceSeconds });
          const { resolution } = await handle.result();
          assert.equal(resolution, 'The upstream says that it did no work for this request; nothing to book.');
          assert.equal(await currentDetailsOf(handle), resolution);
        });
      });
    }
  });

  it('doubles its pauses from 1/300 of the time for evidence up to 1/10 of it', async () => {
    const pending = Array.from({ length: 6 }, () => PENDING);
    const script = { lookUpUsage: inTurn<Evidence>(...pending, FOUND), bookOrphanCost: inTurn('Booked.') };
    await environment.withWorker('requests', script, async (worker) => {
      const handle = await start(worker, { requestId: someRequestId(), clientLeft: false, evidenceSeconds: 12 });
      await handle.result();
      assert.deepEqual(timersOf(await handle.fetchHistory()), [40, 80, 160, 320, 640, 1200]);
    });
  }).timeout(30_000);

  it('tells an operator why it waits and for how long', async () => {
    const asked = gate();
    const script = {
      lookUpUsage: inTurn<Evidence>(PENDING, FOUND),
      bookOrphanCost: async () => {
        await asked.passed;
        return 'Booked.';
      },
    };
    await environment.withWorker('requests', script, async (worker) => {
      const handle = await start(worker, { requestId: someRequestId(), clientLeft: false, evidenceSeconds: 60 });
      const details = await until('the first look-up’s answer', async () => {
        const text = await currentDetailsOf(handle);
        return text.includes('asking again') && text;
      });
      assert.equal(details, 'The upstream has no final usage yet (still running there); asking again in 0.2 s.');
      asked.open();
      await handle.result();
      assert.equal(await currentDetailsOf(handle), 'Booked.');
    });
  });
});
