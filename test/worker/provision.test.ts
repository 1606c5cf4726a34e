/**
 * Provisioning of Temporal before a worker runs, on namespaces of the test's own: complete after one call, unchanged
 * after the next, the same when several workers start at once, and respectful of what operators changed by hand.
 */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import {
  Client,
  Connection,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
  type ScheduleDescription,
} from '@temporalio/client';
import { tsToMs, msToTs } from '@temporalio/common/lib/time.js';
import { parseWorkerConfig } from '../../worker/config.ts';
import { provisionNamespaces, provisionSchedules } from '../../worker/provision.ts';
import {
  MAINTENANCE_SCHEDULE_ID,
  SWEEP_EVENTS_SCHEDULE_ID,
  SEARCH_ATTRIBUTES,
  SWEEP_SCHEDULE_ID,
  WORKFLOW_TYPES,
  type Namespaces,
} from '../../contract/index.ts';
import { testServices } from '../support/services.ts';
import { until } from '../support/until.ts';

const DAY_MS = 86_400_000;
/** The number of KEYWORD in the Temporal API. */
const KEYWORD = 2;

describe('provisioning of Temporal', () => {
  let connection: Connection;
  let namespaces: Namespaces;
  let clients: { requests: Client; processes: Client };
  const opened: { requests: Client; processes: Client }[] = [];

  before(async () => {
    connection = await Connection.connect({ address: testServices().temporalAddress });
  });
  beforeEach(() => {
    const suffix = randomBytes(4).toString('hex');
    namespaces = { requests: `test-provision-requests-${suffix}`, processes: `test-provision-${suffix}` };
    clients = {
      requests: new Client({ connection, namespace: namespaces.requests }),
      processes: new Client({ connection, namespace: namespaces.processes }),
    };
    opened.push(clients);
  });
  after(async () => {
    // Schedules would go on starting runs on a server that other tests use.
    for (const { requests, processes } of opened) {
      await removeSchedule(requests, SWEEP_SCHEDULE_ID);
      await removeSchedule(processes, MAINTENANCE_SCHEDULE_ID);
      await removeSchedule(processes, SWEEP_EVENTS_SCHEDULE_ID);
    }
    await connection.close();
  });

  const settings = (environment: Record<string, string> = {}) =>
    parseWorkerConfig({
      DATABASE_URL: 'postgres://nobody@localhost/nothing',
      TEMPORAL_ADDRESS: testServices().temporalAddress,
      ...environment,
    });

  async function retentionDays(namespace: string): Promise<number> {
    const { config } = await connection.workflowService.describeNamespace({ namespace });
    return tsToMs(config?.workflowExecutionRetentionTtl) / DAY_MS;
  }

  async function customAttributes(namespace: string): Promise<Record<string, number>> {
    const { customAttributes: found } = await connection.operatorService.listSearchAttributes({ namespace });
    return Object.fromEntries(Object.entries(found ?? {}).map(([name, type]) => [name, Number(type)]));
  }

  describe('of namespaces', () => {
    const OURS = { AccountId: KEYWORD, PaymentState: KEYWORD, Provider: KEYWORD, RunPeriod: KEYWORD, Stuck: KEYWORD };

    it('keeps requests for 3 days and everything else for 90, with our search attributes in both', async () => {
      await provisionNamespaces(connection, namespaces);
      assert.equal(await retentionDays(namespaces.requests), 3);
      assert.equal(await retentionDays(namespaces.processes), 90);
      for (const namespace of Object.values(namespaces) as string[]) {
        assert.deepEqual(await customAttributes(namespace), OURS);
      }
    });

    it('can be done by three workers at once, and again by one that starts later', async () => {
      await Promise.all([1, 2, 3].map(() => provisionNamespaces(connection, namespaces)));
      await provisionNamespaces(connection, namespaces);
      for (const namespace of Object.values(namespaces) as string[]) {
        assert.deepEqual(await customAttributes(namespace), OURS);
      }
    });

    it('returns when they can be used: a workflow that is started next may carry the attributes', async () => {
      await provisionNamespaces(connection, namespaces);
      const accountId = `acct_${randomUUID().replaceAll('-', '')}`;
      const handle = await clients.processes.workflow.start('refundRequest', {
        workflowId: 'refund/test/1',
        taskQueue: namespaces.processes,
        typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.accountId, value: accountId }],
      });
      const { typedSearchAttributes } = await handle.describe();
      assert.equal(typedSearchAttributes.get(SEARCH_ATTRIBUTES.accountId), accountId);
      await handle.terminate('the test is over');
    });

    it('adds an attribute that is new in this version, beside those that are there and those that are not ours', async () => {
      await provisionNamespaces(connection, namespaces);
      const namespace = namespaces.requests;
      await connection.operatorService.addSearchAttributes({ namespace, searchAttributes: { Theirs: KEYWORD } });
      await connection.operatorService.removeSearchAttributes({ namespace, searchAttributes: ['Stuck'] });
      await until('the attribute is gone', async () => !('Stuck' in (await customAttributes(namespace))));
      await provisionNamespaces(connection, namespaces);
      assert.deepEqual(await customAttributes(namespace), { ...OURS, Theirs: KEYWORD });
    });

    it('leaves the retention alone that an operator has set', async () => {
      await provisionNamespaces(connection, namespaces);
      await connection.workflowService.updateNamespace({
        namespace: namespaces.requests,
        config: { workflowExecutionRetentionTtl: msToTs(10 * DAY_MS) },
      });
      await provisionNamespaces(connection, namespaces);
      assert.equal(await retentionDays(namespaces.requests), 10);
    });
  });

  describe('of schedules', () => {
    beforeEach(() => provisionNamespaces(connection, namespaces));

    const sweep = (): Promise<ScheduleDescription> => clients.requests.schedule.getHandle(SWEEP_SCHEDULE_ID).describe();
    const maintenance = (): Promise<ScheduleDescription> =>
      clients.processes.schedule.getHandle(MAINTENANCE_SCHEDULE_ID).describe();

    it('sweeps at its interval and makes partitions daily, one run at a time, missed runs only for a minute', async () => {
      const config = settings({ EVIDENCE_SECONDS: '120' });
      await provisionSchedules(clients, namespaces, config);
      const { spec, policies, action, state } = await sweep();
      assert.deepEqual(
        spec.intervals?.map(({ every }) => every),
        [15_000],
      );
      assert.equal(policies.overlap, ScheduleOverlapPolicy.SKIP);
      assert.equal(policies.catchupWindow, 60_000);
      assert.equal(state.paused, false);
      assert.equal(action.workflowType, WORKFLOW_TYPES.sweepRequests);
      assert.equal(action.taskQueue, namespaces.requests);
      assert.equal(action.workflowRunTimeout, 60_000, 'a run that hangs is over after a minute');
      assert.deepEqual(action.args, [config.sweep]);
      assert.equal(config.sweep.evidenceSeconds, 120);

      const upkeep = await maintenance();
      assert.deepEqual(
        upkeep.spec.intervals?.map(({ every }) => every),
        [DAY_MS],
      );
      assert.equal(upkeep.policies.overlap, ScheduleOverlapPolicy.SKIP);
      assert.equal(upkeep.policies.catchupWindow, 60_000);
      assert.equal(upkeep.action.workflowType, WORKFLOW_TYPES.maintainLedger);
      assert.equal(upkeep.action.taskQueue, namespaces.processes);
    });

    it('changes a schedule in place and leaves it paused, with the note, where somebody paused it', async () => {
      await provisionSchedules(clients, namespaces, settings());
      const before = await sweep();
      await clients.requests.schedule.getHandle(SWEEP_SCHEDULE_ID).pause('ada looks into something');

      const changed = settings({ SWEEP_INTERVAL_SECONDS: '300', GATEWAY_GONE_SECONDS: '700' });
      await provisionSchedules(clients, namespaces, changed);
      const after = await sweep();
      assert.deepEqual(
        after.spec.intervals?.map(({ every }) => every),
        [300_000],
      );
      assert.deepEqual(after.action.args, [changed.sweep]);
      assert.equal(after.action.workflowRunTimeout, 300_000, 'a run may last as long as a longer interval');
      assert.deepEqual([after.state.paused, after.state.note], [true, 'ada looks into something']);
      assert.deepEqual(after.info.createdAt, before.info.createdAt);

      await clients.requests.schedule.getHandle(SWEEP_SCHEDULE_ID).unpause('done');
      await provisionSchedules(clients, namespaces, changed);
      assert.equal((await sweep()).state.paused, false);
    });

    it('can be done by three workers at once', async () => {
      await Promise.all([1, 2, 3].map(() => provisionSchedules(clients, namespaces, settings())));
      assert.equal((await sweep()).action.workflowType, WORKFLOW_TYPES.sweepRequests);
      assert.equal((await maintenance()).action.workflowType, WORKFLOW_TYPES.maintainLedger);
    });

    it('skips runs while one is under way, and shows an operator what a run is for', async () => {
      await provisionSchedules(clients, namespaces, settings({ SWEEP_INTERVAL_SECONDS: '1' }));
      // No worker takes the run, so it stays under way.
      const { runningActions, numActionsTaken } = await until('two skipped runs', async () => {
        const { info } = await sweep();
        return info.numActionsSkippedOverlap >= 2 && info;
      });
      assert.equal(numActionsTaken, 1);
      assert.equal(runningActions.length, 1);

      const { workflowId } = runningActions[0]!.workflow;
      const handle = clients.requests.workflow.getHandle(workflowId);
      const description = await handle.describe();
      assert.equal(description.type, WORKFLOW_TYPES.sweepRequests);
      assert.equal(await description.staticSummary(), 'Requests that stayed behind');
      await clients.requests.schedule.getHandle(SWEEP_SCHEDULE_ID).delete();
      await handle.terminate('the test is over');
    });
  });
});

async function removeSchedule(client: Client, scheduleId: string): Promise<void> {
  try {
    await client.schedule.getHandle(scheduleId).delete();
  } catch (error) {
    if (!(error instanceof ScheduleNotFoundError)) throw error;
  }
}
