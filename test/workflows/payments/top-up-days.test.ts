/**
 * A top-up that nobody pays for three days, with the waits and runs of production, on a server that skips what nobody
 * has to wait for. Needs a JVM.
 */
import assert from 'node:assert/strict';
import { Client } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import {
  SEARCH_ATTRIBUTES,
  topUpStart,
  WORKFLOW_TYPES,
  type TopUpInput,
  type TopUpSnapshot,
} from '../../../contract/index.ts';
import { startTimeSkippingServer, type TimeSkippingServer } from '../../support/time-skipping.ts';
import { someTopUpId, topUpSnapshot } from '../../support/top-up-snapshots.ts';
import { productBundle, quietTemporalRuntime } from '../../support/workflow-environment.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const TASK_QUEUE = 'time-skipping';
/** `INDEXED_VALUE_TYPE_KEYWORD` of the Temporal API. */
const KEYWORD = 2;

describe('topUp over days', () => {
  let server: TimeSkippingServer;
  let native: NativeConnection;

  before(async function () {
    this.timeout(300_000);
    const started = await startTimeSkippingServer();
    if ('missing' in started) {
      console.log(`    skipped: ${started.missing}, which the time-skipping server needs`);
      this.skip();
    }
    server = started;
    quietTemporalRuntime();
    const searchAttributes = Object.fromEntries(Object.values(SEARCH_ATTRIBUTES).map(({ name }) => [name, KEYWORD]));
    await server.connection.operatorService.addSearchAttributes({ namespace: 'default', searchAttributes });
    native = await NativeConnection.connect({ address: server.address });
  });
  after(async () => {
    if (server === undefined) return;
    await native?.close();
    await server.close();
  });

  it('checks at doubling waits up to an hour, in runs of a day, and ends when the order expires', async function () {
    this.timeout(120_000);
    const client = new Client({ connection: server.connection, namespace: 'default' });
    const topUpId = someTopUpId();
    const checkedAt: number[] = [];
    let state: TopUpSnapshot['state'] = 'waiting';
    const worker = await Worker.create({
      connection: native,
      namespace: 'default',
      taskQueue: TASK_QUEUE,
      workflowBundle: await productBundle(),
      activities: {
        openTopUpCheckout: () => Promise.resolve(topUpSnapshot(topUpId, 'waiting')),
        reconcileTopUp: async () => {
          checkedAt.push(await server.now());
          return topUpSnapshot(topUpId, state);
        },
      },
    });
    await worker.runUntil(async () => {
      const timing = { pollSeconds: 60, pollMaxSeconds: 3600, runSeconds: 86_400 };
      const start = topUpStart({ topUpId, summary: 'a test' }, TASK_QUEUE, timing);
      const run = await client.workflow.start<(input: TopUpInput) => Promise<TopUpSnapshot | null>>(
        WORKFLOW_TYPES.topUp,
        start,
      );
      const begun = await server.now();
      for (let hour = 1; hour <= 72; hour++) await server.skipTo(begun + hour * HOUR_MS);
      state = 'expired';
      await server.skipTo(begun + 3 * DAY_MS + 2 * HOUR_MS);
      assert.equal((await run.result())?.state, 'expired');
      const { runId } = await client.workflow.getHandle(run.workflowId).describe();
      assert.notEqual(runId, run.firstExecutionRunId);
      const waits = checkedAt.slice(1, 8).map((at, n) => Math.round((at - checkedAt[n]!) / 60_000));
      assert.deepEqual(waits, [1, 2, 4, 8, 16, 32, 60]);
      // Each of three days: six waits below an hour, then one check an hour.
      assert.ok(checkedAt.length >= 72 && checkedAt.length <= 100, `${checkedAt.length} checks`);
    });
  });
});
