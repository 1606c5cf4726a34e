/** What every recording of a workflow is made with: the form of one, and how its worker, schedules and end are had. */
import type { ScheduleHandle, WorkflowHandle } from '@temporalio/client';
import {
  COMMISSION_SCHEDULE_ID,
  MAINTENANCE_SCHEDULE_ID,
  RECONCILE_BOOSTS_SCHEDULE_ID,
  RECONCILE_SCHEDULE_ID,
  SWEEP_EVENTS_SCHEDULE_ID,
  SWEEP_SCHEDULE_ID,
  type Namespaces,
} from '../../contract/index.ts';
import { parseWorkerConfig } from '../../worker/config.ts';
import { provisionSchedules } from '../../worker/provision.ts';
import type { Activities, WorkflowEnvironment } from './workflow-environment.ts';
import { until } from './until.ts';

export interface Recording {
  /** `<workflow type>.<path>`; the file's name. */
  readonly name: string;
  /** Returns the run, ended. */
  readonly record: (environment: WorkflowEnvironment) => Promise<WorkflowHandle>;
}

/** A worker on the task queue that production's starters name. */
export function working<T>(
  environment: WorkflowEnvironment,
  namespace: keyof Namespaces,
  script: Partial<Activities>,
  body: () => Promise<T>,
): Promise<T> {
  return environment.withWorker(namespace, script, body, { taskQueue: environment.namespaces[namespace] });
}

export async function ended(handle: WorkflowHandle): Promise<WorkflowHandle> {
  await until('the end of the run', async () => (await handle.describe()).status.name !== 'RUNNING');
  return handle;
}

/** Runs a schedule's workflow now; returns that run, ended. */
export async function triggered(
  schedule: ScheduleHandle,
  workflow: (id: string) => WorkflowHandle,
): Promise<WorkflowHandle> {
  const before = (await schedule.describe()).info.numActionsTaken;
  await schedule.trigger();
  const { recentActions } = await until('the scheduled run', async () => {
    const { info } = await schedule.describe();
    return info.numActionsTaken > before && info;
  });
  return ended(workflow(recentActions.at(-1)!.action.workflow.workflowId));
}

export async function withSchedules<T>(environment: WorkflowEnvironment, body: () => Promise<T>): Promise<T> {
  const { clients, namespaces } = environment;
  const config = parseWorkerConfig({
    DATABASE_URL: 'postgres://nobody@localhost/nothing',
    TEMPORAL_ADDRESS: 'nowhere',
  });
  const sweep = { ...config.sweep, rowsPerMeter: 2, evidenceSeconds: 30 };
  // Only triggers start runs, so the interval is long.
  const reconcile = { ...config.reconcile, checkSeconds: 1 };
  await provisionSchedules(clients, namespaces, {
    ...config,
    sweepIntervalSeconds: 86_400,
    sweep,
    reconcileIntervalSeconds: 86_400,
    reconcile,
    reconcileBoosts: { lookBackSeconds: 60 },
  });
  try {
    return await body();
  } finally {
    await clients.requests.schedule.getHandle(SWEEP_SCHEDULE_ID).delete();
    await clients.processes.schedule.getHandle(MAINTENANCE_SCHEDULE_ID).delete();
    await clients.processes.schedule.getHandle(SWEEP_EVENTS_SCHEDULE_ID).delete();
    await clients.processes.schedule.getHandle(RECONCILE_BOOSTS_SCHEDULE_ID).delete();
    await clients.processes.schedule.getHandle(RECONCILE_SCHEDULE_ID).delete();
    await clients.processes.schedule.getHandle(COMMISSION_SCHEDULE_ID).delete();
  }
}
