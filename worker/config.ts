/** The worker's configuration. All durations are seconds; the defaults are those of docs/operations.md. */
import { z } from 'zod';
import {
  ConfigError,
  databaseUrl,
  invalidEnvironment,
  optionalPort,
  parseEnvironment,
  positiveInteger,
  seconds,
  usdAmount,
  type Environment,
} from '../runtime/environment.ts';
import { formatUsd } from '../domain/money.ts';
import { LOG_LEVELS } from '../runtime/logger.ts';
import { PAYMENT_SCHEMA, paymentSettings } from '../providers/payment-settings.ts';
import { REWARD_SCHEMA, rewardSettings } from '../providers/reward-settings.ts';
import { depositWallet } from '../providers/chain/wallet.ts';
import { NO_XPUB } from '../providers/chain/settings.ts';
import { DEFAULT_NAMESPACES } from '../contract/index.ts';

const SCHEMA = z.object({
  DATABASE_URL: databaseUrl,
  DATABASE_URL_WORKER: databaseUrl.optional(),
  TEMPORAL_ADDRESS: z.string().min(1),
  TEMPORAL_NAMESPACE_REQUESTS: z.string().min(1).default(DEFAULT_NAMESPACES.requests),
  TEMPORAL_NAMESPACE: z.string().min(1).default(DEFAULT_NAMESPACES.processes),
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  WORKER_HEALTH_PORT: optionalPort(),
  WORKER_HEALTH_HOST: z.string().min(1).default('127.0.0.1'),
  SWEEP_INTERVAL_SECONDS: seconds(15),
  SWEEP_FINISHED_AGE_SECONDS: seconds(30),
  GATEWAY_GONE_SECONDS: seconds(30),
  EVIDENCE_SECONDS: seconds(600),
  EVENT_AGE_SECONDS: seconds(30),
  RECONCILE_INTERVAL_SECONDS: seconds(3600),
  RECONCILE_PERIOD_SECONDS: seconds(3 * 86_400),
  RECONCILE_GRACE_SECONDS: seconds(900),
  RECONCILE_FIX_MAX_USD: usdAmount('100'),
  RECONCILE_LOOK_SECONDS: seconds(20),
  WORKER_SHUTDOWN_SECONDS: seconds(10),
  WORKER_CACHED_WORKFLOWS: positiveInteger(500),
  START_CHECKS: z.enum(['on', 'off'], 'must be on or off').default('on'),
  ...PAYMENT_SCHEMA,
  ...REWARD_SCHEMA,
  BOOST_LOOK_BACK_SECONDS: seconds(3 * 86_400),
});

export type WorkerConfig = ReturnType<typeof parseWorkerConfig>;

export function parseWorkerConfig(environment: Environment) {
  const env = parseEnvironment(environment, SCHEMA);
  const payments = paymentSettings(env);
  if (payments.crypto !== null) requireWallet(payments.crypto.xpub);
  const rewards = rewardSettings(env);
  // Two sweeps in time lie one interval apart; a third of an interval more is delay, a longer gap means the database
  // may have been out of reach.
  const reachabilityGapSeconds = env.SWEEP_INTERVAL_SECONDS * 1.34;
  if (reachabilityGapSeconds >= env.GATEWAY_GONE_SECONDS) {
    throw new ConfigError(
      invalidEnvironment([
        'GATEWAY_GONE_SECONDS: must be more than 1.34 times SWEEP_INTERVAL_SECONDS, ' +
          'or an outage of the database could pass unnoticed and living gateways be taken for gone',
      ]),
    );
  }
  return Object.freeze({
    databaseUrl: env.DATABASE_URL_WORKER ?? env.DATABASE_URL,
    temporalAddress: env.TEMPORAL_ADDRESS,
    namespaces: { requests: env.TEMPORAL_NAMESPACE_REQUESTS, processes: env.TEMPORAL_NAMESPACE },
    logLevel: env.LOG_LEVEL,
    healthPort: env.WORKER_HEALTH_PORT ?? null,
    healthHost: env.WORKER_HEALTH_HOST,
    sweepIntervalSeconds: env.SWEEP_INTERVAL_SECONDS,
    sweep: {
      finishedAgeSeconds: env.SWEEP_FINISHED_AGE_SECONDS,
      gatewayGoneSeconds: env.GATEWAY_GONE_SECONDS,
      reachabilityGapSeconds,
      rowsPerRun: 1000,
      orphansPerRun: 50,
      rowsPerMeter: 256,
      evidenceSeconds: env.EVIDENCE_SECONDS,
    },
    sweepEvents: {
      eventAgeSeconds: env.EVENT_AGE_SECONDS,
      rowsPerRun: 200,
      topUp: payments.topUpRun,
    },
    monthlyCommissions: { rowsPerChunk: 500, retrySeconds: 60 },
    reconcileIntervalSeconds: env.RECONCILE_INTERVAL_SECONDS,
    reconcile: {
      periodSeconds: env.RECONCILE_PERIOD_SECONDS,
      graceSeconds: env.RECONCILE_GRACE_SECONDS,
      fixLimitUsd: formatUsd(env.RECONCILE_FIX_MAX_USD),
      checkSeconds: env.RECONCILE_LOOK_SECONDS,
      topUp: payments.topUpRun,
    },
    payments,
    rewards,
    // Without a bot there are no members to list.
    reconcileBoosts: rewards.discord.bot === null ? null : { lookBackSeconds: env.BOOST_LOOK_BACK_SECONDS },
    shutdownSeconds: env.WORKER_SHUTDOWN_SECONDS,
    cachedWorkflows: env.WORKER_CACHED_WORKFLOWS,
    startChecks: env.START_CHECKS === 'on',
  });
}

/** Without its value: it may be the very key that must not be anywhere. */
function requireWallet(xpub: string): void {
  try {
    depositWallet(xpub);
  } catch {
    throw new ConfigError(invalidEnvironment([NO_XPUB]));
  }
}
