/** The two Temporal workers of the process, one per namespace, so that a flood of requests never starves a payment. */
import { fileURLToPath } from 'node:url';
import {
  bundleWorkflowCode,
  DefaultLogger,
  Worker,
  type NativeConnection,
  type WorkflowBundle,
} from '@temporalio/worker';
import type { Logger } from 'pino';
import type pg from 'pg';
import { createMaintenanceActivities } from '../activities/maintenance.ts';
import { createNoticeActivities } from '../activities/notices.ts';
import { createOrphanActivities } from '../activities/orphans.ts';
import { createRefundActivities } from '../activities/refunds.ts';
import { createSettlementActivities } from '../activities/settlement.ts';
import type { PaymentRail } from '../activities/payment-rail.ts';
import { createSweepActivities } from '../activities/sweep.ts';
import { createTopUpActivities } from '../activities/top-ups.ts';
import type { Namespaces } from '../workflows/contract.ts';

export const WORKFLOWS_PATH = fileURLToPath(new URL('../workflows/index.ts', import.meta.url));

/** Bundles the workflow code once for both workers (about 3 s). */
export function bundleWorkflows(): Promise<WorkflowBundle> {
  return bundleWorkflowCode({ workflowsPath: WORKFLOWS_PATH, logger: new DefaultLogger('WARN') });
}

/** Every activity, built on the process's own resources. */
export function createActivities(dependencies: {
  pool: pg.Pool;
  logger: Logger;
  environment: Readonly<Record<string, string | undefined>>;
  rails: readonly PaymentRail[];
}) {
  return {
    ...createSettlementActivities(dependencies),
    ...createSweepActivities(dependencies),
    ...createOrphanActivities(dependencies),
    ...createNoticeActivities(dependencies),
    ...createRefundActivities(dependencies),
    ...createMaintenanceActivities(dependencies),
    ...createTopUpActivities(dependencies),
  };
}

export interface WorkerSettings {
  readonly connection: NativeConnection;
  readonly namespaces: Namespaces;
  readonly activities: ReturnType<typeof createActivities>;
  readonly workflowBundle: WorkflowBundle;
  readonly cachedWorkflows: number;
  readonly shutdownSeconds: number;
}

export async function createWorkers(settings: WorkerSettings): Promise<Worker[]> {
  const common = {
    connection: settings.connection,
    activities: settings.activities,
    workflowBundle: settings.workflowBundle,
    shutdownGraceTime: settings.shutdownSeconds * 1000,
    shutdownForceTime: settings.shutdownSeconds * 2000,
  };
  return [
    await Worker.create({
      ...common,
      namespace: settings.namespaces.requests,
      taskQueue: settings.namespaces.requests,
      maxCachedWorkflows: settings.cachedWorkflows,
      // Short-lived runs: most polls must be for new workflows, not for cached ones.
      maxConcurrentWorkflowTaskExecutions: 40,
      maxConcurrentWorkflowTaskPolls: 10,
      nonStickyToStickyPollRatio: 0.8,
      maxConcurrentLocalActivityExecutions: 20,
      maxConcurrentActivityTaskExecutions: 20,
    }),
    await Worker.create({
      ...common,
      namespace: settings.namespaces.processes,
      taskQueue: settings.namespaces.processes,
      maxCachedWorkflows: settings.cachedWorkflows,
      maxConcurrentWorkflowTaskExecutions: 20,
      maxConcurrentWorkflowTaskPolls: 4,
      maxConcurrentActivityTaskExecutions: 20,
    }),
  ];
}
