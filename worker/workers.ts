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
import { createAutoTopUpActivities, type AutoTopUpDependencies } from '../activities/auto-top-up.ts';
import { createCommissionActivities } from '../activities/commissions.ts';
import { createMaintenanceActivities } from '../activities/maintenance.ts';
import { createNoticeActivities } from '../activities/notices.ts';
import { createOrphanActivities } from '../activities/orphans.ts';
import type { ProviderBooks } from '../activities/rails/provider-books.ts';
import { createReconciliationActivities } from '../activities/reconciliation.ts';
import { createRefundActivities } from '../activities/refunds.ts';
import { createSettlementActivities } from '../activities/settlement.ts';
import { createDiscordActivities } from '../activities/discord.ts';
import type { PaymentRail } from '../activities/rails/rail.ts';
import { createRewardActivities } from '../activities/rewards.ts';
import { createSweepActivities } from '../activities/sweep.ts';
import type { SweepInput } from '../workflows/contract.ts';
import { createTopUpActivities } from '../activities/top-ups.ts';
import { createChainActivities } from '../activities/chain/chains.ts';
import { tellTopUpBy } from '../activities/tell-top-up.ts';
import type { PaymentSettings } from '../runtime/payments.ts';
import type { RewardSettings } from '../runtime/rewards.ts';
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
  rewards: RewardSettings;
  rails: readonly PaymentRail[];
  books: readonly ProviderBooks[];
  /** For statements over the whole ledger. */
  slowPool: pg.Pool;
  payments: PaymentSettings;
  processes: AutoTopUpDependencies['processes'];
  sweep: SweepInput;
  /** Aborted when the process stops. */
  stopping: AbortSignal;
}) {
  const { pool, payments, processes } = dependencies;
  return {
    ...createSettlementActivities(dependencies),
    ...createSweepActivities(dependencies),
    ...createOrphanActivities(dependencies),
    ...createNoticeActivities(dependencies),
    ...createRefundActivities(dependencies),
    ...createMaintenanceActivities(dependencies),
    ...createRewardActivities(dependencies),
    ...createDiscordActivities(dependencies),
    ...createCommissionActivities(dependencies),
    ...createTopUpActivities({
      ...dependencies,
      fraudWarningFreezes: dependencies.payments.stripe?.fraudWarningFreezes ?? true,
    }),
    ...createAutoTopUpActivities(dependencies),
    ...createReconciliationActivities(dependencies),
    ...createChainActivities({
      ...dependencies,
      crypto: payments.crypto,
      tellTopUp: tellTopUpBy({ ...processes, pool, topUpRun: payments.topUpRun }),
    }),
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
