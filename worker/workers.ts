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
import { createAutoTopUpActivities, type AutoTopUpDependencies } from '../activities/payments/auto-top-up.ts';
import { createCommissionActivities } from '../activities/commissions/commissions.ts';
import { createMaintenanceActivities } from '../activities/requests/maintenance.ts';
import { createNoticeActivities } from '../activities/accounts/notices.ts';
import { createOrphanActivities } from '../activities/requests/orphans.ts';
import type { ProviderStatement } from '../providers/statements.ts';
import { createReconciliationActivities } from '../activities/payments/reconciliation.ts';
import { createRefundActivities } from '../activities/requests/refunds.ts';
import { createSettlementActivities } from '../activities/requests/settlement.ts';
import { createDiscordActivities } from '../activities/rewards/discord.ts';
import type { PaymentRail } from '../providers/rail.ts';
import { createRewardActivities } from '../activities/rewards/rewards.ts';
import { createSweepActivities } from '../activities/requests/sweep.ts';
import type { SweepInput } from '../contract/index.ts';
import { createTopUpActivities } from '../activities/payments/top-ups.ts';
import { createChainActivities } from '../activities/payments/chain/watch-chain.ts';
import { createTopUpWaker } from '../activities/payments/wake-top-up.ts';
import type { PaymentSettings } from '../providers/payment-settings.ts';
import type { RewardSettings } from '../providers/reward-settings.ts';
import type { Namespaces } from '../contract/index.ts';

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
  statements: readonly ProviderStatement[];
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
      wakeTopUp: createTopUpWaker({ ...processes, pool, topUpRun: payments.topUpRun }),
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
