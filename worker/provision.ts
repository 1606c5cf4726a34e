/**
 * Provisions Temporal before a worker can run: two namespaces with their retention, the search attributes, and the
 * schedules. Every step is repeatable and several workers may do it at once.
 */
import { ScheduleAlreadyRunning, ScheduleOverlapPolicy, type Client, type Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import {
  COMMISSION_SCHEDULE_ID,
  MAINTENANCE_SCHEDULE_ID,
  RECONCILE_BOOSTS_SCHEDULE_ID,
  RECONCILE_SCHEDULE_ID,
  RETENTION_DAYS,
  SEARCH_ATTRIBUTES,
  SWEEP_EVENTS_SCHEDULE_ID,
  SWEEP_SCHEDULE_ID,
  WORKFLOW_TYPES,
  type MonthlyCommissionsInput,
  type Namespaces,
  type ReconcileBoostsInput,
  type ReconcileInput,
  type SweepEventsInput,
  type SweepInput,
} from '../contract/index.ts';
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

export interface ScheduleInputs {
  readonly sweepIntervalSeconds: number;
  readonly sweep: SweepInput;
  readonly sweepEvents: SweepEventsInput;
  readonly reconcileIntervalSeconds: number;
  readonly reconcile: ReconcileInput;
  readonly reconcileBoosts?: ReconcileBoostsInput | null;
  readonly monthlyCommissions: MonthlyCommissionsInput;
}

/** Creates the schedules, or brings existing ones to this configuration. */
export async function provisionSchedules(
  clients: { requests: Client; processes: Client },
  namespaces: Namespaces,
  settings: ScheduleInputs,
): Promise<void> {
  const { sweepIntervalSeconds, sweep, sweepEvents, reconcileBoosts = null } = settings;
  const { reconcileIntervalSeconds, reconcile } = settings;
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
    scheduleId: RECONCILE_SCHEDULE_ID,
    everySeconds: reconcileIntervalSeconds,
    workflowType: WORKFLOW_TYPES.reconcile,
    workflowId: 'reconcile',
    summary: 'The ledger against the providers and against its own rules',
    taskQueue: namespaces.processes,
    args: [reconcile],
    runTimeoutSeconds: Math.max(3600, reconcileIntervalSeconds),
  });
  if (reconcileBoosts !== null) {
    await saveSchedule(clients.processes, {
      scheduleId: RECONCILE_BOOSTS_SCHEDULE_ID,
      everySeconds: SECONDS_PER_DAY,
      workflowType: WORKFLOW_TYPES.reconcileBoosts,
      workflowId: 'reconcile-boosts',
      summary: 'Boosts and votes that no event reported',
      taskQueue: namespaces.processes,
      args: [reconcileBoosts],
      runTimeoutSeconds: 6 * 3600,
    });
  }
  await saveSchedule(clients.processes, {
    scheduleId: COMMISSION_SCHEDULE_ID,
    // A month has ended everywhere but in the clocks by then; missed while all was down, it is made up for.
    monthly: { dayOfMonth: 1, hour: 0, minute: 30 },
    catchupSeconds: 14 * SECONDS_PER_DAY,
    workflowType: WORKFLOW_TYPES.monthlyCommissions,
    workflowId: 'commission-month',
    summary: 'Commissions of the month that has ended',
    taskQueue: namespaces.processes,
    args: [settings.monthlyCommissions],
    runTimeoutSeconds: 3600,
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
  /** Either an interval … */
  readonly everySeconds?: number;
  /** … or a moment of each month, UTC. */
  readonly monthly?: { readonly dayOfMonth: number; readonly hour: number; readonly minute: number };
  /** How long a start that was missed while the server was down is made up for. Default a minute. */
  readonly catchupSeconds?: number;
  readonly workflowType: string;
  readonly workflowId: string;
  /** The text for operators beside each run in the Temporal UI. */
  readonly summary: string;
  readonly taskQueue: string;
  readonly args: readonly unknown[];
  readonly runTimeoutSeconds: number;
}

async function saveSchedule(client: Client, settings: ScheduleSettings): Promise<void> {
  const { everySeconds, monthly, catchupSeconds = 60 } = settings;
  const definition = {
    spec: {
      ...(everySeconds === undefined ? {} : { intervals: [{ every: everySeconds * 1000 }] }),
      ...(monthly === undefined ? {} : { calendars: [monthly] }),
    },
    action: {
      type: 'startWorkflow' as const,
      workflowType: settings.workflowType,
      workflowId: settings.workflowId,
      staticSummary: settings.summary,
      taskQueue: settings.taskQueue,
      args: [...settings.args],
      workflowRunTimeout: settings.runTimeoutSeconds * 1000,
    },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: catchupSeconds * 1000 },
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
