/**
 * What Temporal must have before a worker can run: two namespaces with their retention, the search attributes, and the
 * schedules. Every step is repeatable and several workers may do it at once.
 */
import { ScheduleAlreadyRunning, ScheduleOverlapPolicy, type Client, type Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import {
  MAINTENANCE_SCHEDULE_ID,
  RETENTION_DAYS,
  SEARCH_ATTRIBUTES,
  SWEEP_EVENTS_SCHEDULE_ID,
  SWEEP_SCHEDULE_ID,
  WORKFLOW_TYPES,
  type Namespaces,
  type SweepEventsInput,
  type SweepInput,
} from '../workflows/contract.ts';
import { setTimeout as delay } from 'node:timers/promises';

const SECONDS_PER_DAY = 86_400;
const ALREADY_EXISTS = 6;
const NOT_FOUND = 5;
/** `INDEXED_VALUE_TYPE_KEYWORD` of the Temporal API. */
const KEYWORD = 2;

/** Registers namespaces and search attributes; waits until the server's caches know them. */
export async function provisionNamespaces(connection: Connection, namespaces: Namespaces): Promise<void> {
  await registerNamespace(connection, namespaces.requests, RETENTION_DAYS.requests);
  await registerNamespace(connection, namespaces.processes, RETENTION_DAYS.processes);
  const searchAttributes = Object.fromEntries(Object.values(SEARCH_ATTRIBUTES).map(({ name }) => [name, KEYWORD]));
  for (const namespace of [namespaces.requests, namespaces.processes]) {
    await untilKnown(() =>
      ignoring(ALREADY_EXISTS, connection.operatorService.addSearchAttributes({ namespace, searchAttributes })),
    );
  }
}

async function registerNamespace(connection: Connection, namespace: string, retentionDays: number): Promise<void> {
  await ignoring(
    ALREADY_EXISTS,
    connection.workflowService.registerNamespace({
      namespace,
      workflowExecutionRetentionPeriod: msToTs(retentionDays * SECONDS_PER_DAY * 1000),
    }),
  );
  await untilKnown(() => connection.workflowService.describeNamespace({ namespace }));
}

/** A namespace is registered at once and known to every part of the server some seconds later. */
async function untilKnown(call: () => Promise<unknown>): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await call();
      return;
    } catch (error) {
      if (grpcCode(error) !== NOT_FOUND || attempt >= 150) throw error;
      await delay(200);
    }
  }
}

/** Creates the schedules, or brings existing ones to this configuration. */
export async function provisionSchedules(
  clients: { requests: Client; processes: Client },
  namespaces: Namespaces,
  settings: { sweepIntervalSeconds: number; sweep: SweepInput; sweepEvents: SweepEventsInput },
): Promise<void> {
  const { sweepIntervalSeconds, sweep, sweepEvents } = settings;
  await saveSchedule(clients.requests, {
    scheduleId: SWEEP_SCHEDULE_ID,
    everySeconds: sweepIntervalSeconds,
    workflowType: WORKFLOW_TYPES.sweepRequests,
    workflowId: 'sweep',
    summary: 'Requests that stayed behind',
    taskQueue: namespaces.requests,
    args: [sweep],
    runTimeoutSeconds: Math.max(60, sweepIntervalSeconds),
  });
  await saveSchedule(clients.processes, {
    scheduleId: SWEEP_EVENTS_SCHEDULE_ID,
    everySeconds: sweepIntervalSeconds,
    workflowType: WORKFLOW_TYPES.sweepEvents,
    workflowId: 'sweep-events',
    summary: 'Events and top-ups that stayed behind',
    taskQueue: namespaces.processes,
    args: [sweepEvents],
    runTimeoutSeconds: Math.max(60, sweepIntervalSeconds),
  });
  await saveSchedule(clients.processes, {
    scheduleId: MAINTENANCE_SCHEDULE_ID,
    everySeconds: SECONDS_PER_DAY,
    workflowType: WORKFLOW_TYPES.maintainLedger,
    workflowId: 'maintain-ledger',
    summary: 'Daily upkeep of the ledger',
    taskQueue: namespaces.processes,
    args: [],
    runTimeoutSeconds: 3600,
  });
}

interface ScheduleSettings {
  readonly scheduleId: string;
  readonly everySeconds: number;
  readonly workflowType: string;
  readonly workflowId: string;
  /** What an operator reads beside each run in the Temporal UI. */
  readonly summary: string;
  readonly taskQueue: string;
  readonly args: readonly unknown[];
  readonly runTimeoutSeconds: number;
}

async function saveSchedule(client: Client, settings: ScheduleSettings): Promise<void> {
  const definition = {
    spec: { intervals: [{ every: settings.everySeconds * 1000 }] },
    action: {
      type: 'startWorkflow' as const,
      workflowType: settings.workflowType,
      workflowId: settings.workflowId,
      staticSummary: settings.summary,
      taskQueue: settings.taskQueue,
      args: [...settings.args],
      workflowRunTimeout: settings.runTimeoutSeconds * 1000,
    },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1m' as const },
  };
  try {
    await client.schedule.create({ scheduleId: settings.scheduleId, ...definition });
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    await client.schedule.getHandle(settings.scheduleId).update((current) => ({
      ...definition,
      state: {
        paused: current.state.paused,
        ...(current.state.note === undefined ? {} : { note: current.state.note }),
      },
    }));
  }
}

async function ignoring(code: number, call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (grpcCode(error) !== code) throw error;
  }
}

function grpcCode(error: unknown): unknown {
  return (error as { code?: unknown }).code;
}
