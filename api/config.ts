/** The api's configuration. All durations are seconds; the defaults are those of docs/operations.md. */
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import {
  commaList,
  ConfigError,
  databaseUrl,
  invalidEnvironment,
  optionalPort,
  parseEnvironment,
  port,
  positiveInteger,
  seconds,
  usdAmount,
  type Environment,
} from '../runtime/environment.ts';
import { LOG_LEVELS } from '../runtime/logger.ts';
import { PAYMENT_SCHEMA, paymentSettings } from '../providers/payment-settings.ts';
import { REWARD_SCHEMA, rewardSettings } from '../providers/reward-settings.ts';
import { upstreamRules } from '../providers/upstreams/settings.ts';
import { DEFAULT_NAMESPACES } from '../contract/index.ts';

const cidrList = commaList.refine(
  (items) => items.every((item) => ipaddr.isValidCIDR(item)),
  'must be CIDR ranges, separated by commas',
);

const MEBIBYTE = 1024 * 1024;

const SCHEMA = z.object({
  DATABASE_URL: databaseUrl,
  DATABASE_URL_GATEWAY: databaseUrl.optional(),
  DATABASE_URL_MANAGEMENT: databaseUrl.optional(),
  DATABASE_URL_REPORTER: databaseUrl.optional(),
  TEMPORAL_ADDRESS: z.string().min(1),
  TEMPORAL_NAMESPACE_REQUESTS: z.string().min(1).default(DEFAULT_NAMESPACES.requests),
  TEMPORAL_NAMESPACE: z.string().min(1).default(DEFAULT_NAMESPACES.processes),
  TEMPORAL_UI_URL: z.url().optional(),
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  HOLDFAST_PORT: port(8787),
  HOLDFAST_HOST: z.string().min(1).default('127.0.0.1'),
  METRICS_PORT: optionalPort(),
  METRICS_HOST: z.string().min(1).default('127.0.0.1'),
  METRICS_TOKEN: z.string().min(16, 'must have at least 16 characters').optional(),
  TRUSTED_PROXIES: cidrList,
  REQUEST_GRACE_SECONDS: seconds(60),
  DRAIN_SECONDS: seconds(60),
  END_GRACE_SECONDS: seconds(5),
  STREAM_HEARTBEAT_SECONDS: seconds(10),
  FINISH_PATIENCE_SECONDS: seconds(3),
  HOLD_TIMEOUT_SECONDS: seconds(3),
  HEARTBEAT_SECONDS: seconds(5),
  SETTLE_FLOOR_SECONDS: seconds(0.1),
  SETTLE_SLOT_SECONDS: seconds(10),
  SHUTDOWN_SECONDS: seconds(120),
  CATALOGUE_REFRESH_SECONDS: seconds(30),
  CATALOGUE_STALE_SECONDS: seconds(120),
  PRICE_LEAD_SECONDS: seconds(300),
  KEY_CACHE_SECONDS: seconds(5),
  KEY_CONCURRENCY: positiveInteger(512),
  GATEWAY_STALLED_SECONDS: seconds(120),
  BODY_LIMIT_BYTES: positiveInteger(10 * MEBIBYTE),
  BODY_MEMORY_BYTES: positiveInteger(256 * MEBIBYTE),
  BODY_MEMORY_BYTES_PER_ACCOUNT: positiveInteger(64 * MEBIBYTE),
  SMALL_BODY_MEMORY_BYTES: positiveInteger(128 * MEBIBYTE),
  BODY_SECONDS: seconds(120),
  BODY_GRACE_SECONDS: seconds(10),
  BODY_BYTES_PER_SECOND_MIN: positiveInteger(500),
  SLOW_BODIES_PER_ACCOUNT: positiveInteger(32),
  BODY_BURST_BYTES: positiveInteger(32 * MEBIBYTE),
  BODY_BYTES_PER_SECOND: positiveInteger(4 * MEBIBYTE),
  BODY_THREADS: positiveInteger(2),
  CONNECTIONS_PER_ADDRESS: positiveInteger(4096),
  CONNECTIONS_MAX: positiveInteger(16_384),
  ACCOUNT_CONCURRENCY: positiveInteger(1024),
  LOOKUPS_PER_SECOND: positiveInteger(20),
  ACCOUNT_LOOKUPS_PER_SECOND: positiveInteger(40),
  FREE_TOKENS_PER_DAY: positiveInteger(500_000),
  FREE_REQUESTS_PER_MINUTE: positiveInteger(120),
  FREE_OPEN_REQUESTS: positiveInteger(16),
  FREE_CHOICES: positiveInteger(4),
  FREE_OUTPUT_TOKENS: positiveInteger(8192),
  KEYS_PER_ACCOUNT: positiveInteger(100),
  TOKENS_PER_ACCOUNT: positiveInteger(100),
  ADJUSTMENT_APPROVAL_USD: usdAmount('100'),
  REFUND_APPROVAL_USD: usdAmount('25'),
  COMMISSION_RATE_MAX_PPM: z.coerce.number().int().min(0).max(1_000_000).default(500_000),
  COMMISSION_HOLD_MIN_DAYS: z.coerce.number().int().min(0).max(3650).default(0),
  PRICE_CUT_APPROVAL_PPM: z.coerce.number().int().min(0).max(1_000_000).default(900_000),
  HAND_MONEY_PERSON_DAY_USD: usdAmount('300'),
  HAND_MONEY_PERSON_MONTH_USD: usdAmount('1500'),
  HAND_MONEY_ACCOUNT_DAY_USD: usdAmount('300'),
  HAND_MONEY_ACCOUNT_MONTH_USD: usdAmount('1000'),
  RECEIPT_SELLER: z.string().max(1000).default('Holdfast'),
  RECEIPT_FOOTER: z.string().max(2000).default(''),
  REFERRAL_COOKIE_KEY: z.string().min(32, 'must have at least 32 characters').optional(),
  REFERRAL_LANDING_URL: z.url({ protocol: /^https?$/, error: 'must be an http:// or https:// address' }).optional(),
  ...PAYMENT_SCHEMA,
  ...REWARD_SCHEMA,
});

/** Faults in the combination of values that are valid one by one. */
function contradictions(env: z.infer<typeof SCHEMA>): string[] {
  const faults: string[] = [];
  if (env.BODY_MEMORY_BYTES_PER_ACCOUNT < env.BODY_LIMIT_BYTES)
    faults.push('BODY_MEMORY_BYTES_PER_ACCOUNT: must be at least BODY_LIMIT_BYTES, or the largest body never fits');
  if (env.BODY_MEMORY_BYTES < env.BODY_MEMORY_BYTES_PER_ACCOUNT)
    faults.push('BODY_MEMORY_BYTES: must be at least BODY_MEMORY_BYTES_PER_ACCOUNT');
  // The event loop counts its turns once in a heartbeat.
  if (env.GATEWAY_STALLED_SECONDS <= 2 * env.HEARTBEAT_SECONDS)
    faults.push('GATEWAY_STALLED_SECONDS: must be more than twice HEARTBEAT_SECONDS');
  return faults;
}

/** Lines of a text; `\n` is a line end as well, because few places that set variables take a real one. */
function linesOf(text: string): string[] {
  return text
    .split(/\r?\n|\\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

export type ApiConfig = ReturnType<typeof parseApiConfig>;

export function parseApiConfig(environment: Environment) {
  const env = parseEnvironment(environment, SCHEMA);
  const faults = contradictions(env);
  if (faults.length > 0) throw new ConfigError(invalidEnvironment(faults));
  return Object.freeze({
    databaseUrls: {
      gateway: env.DATABASE_URL_GATEWAY ?? env.DATABASE_URL,
      management: env.DATABASE_URL_MANAGEMENT ?? env.DATABASE_URL,
      reporter: env.DATABASE_URL_REPORTER ?? env.DATABASE_URL,
    },
    temporalAddress: env.TEMPORAL_ADDRESS,
    temporalUiUrl: env.TEMPORAL_UI_URL ?? null,
    namespaces: { requests: env.TEMPORAL_NAMESPACE_REQUESTS, processes: env.TEMPORAL_NAMESPACE },
    logLevel: env.LOG_LEVEL,
    port: env.HOLDFAST_PORT,
    host: env.HOLDFAST_HOST,
    metrics: { port: env.METRICS_PORT ?? null, host: env.METRICS_HOST, token: env.METRICS_TOKEN ?? null },
    trustedProxies: env.TRUSTED_PROXIES,
    gateway: {
      requestGraceSeconds: env.REQUEST_GRACE_SECONDS,
      drainSeconds: env.DRAIN_SECONDS,
      endGraceSeconds: env.END_GRACE_SECONDS,
      streamHeartbeatSeconds: env.STREAM_HEARTBEAT_SECONDS,
      finishTimeoutSeconds: env.FINISH_PATIENCE_SECONDS,
      holdTimeoutSeconds: env.HOLD_TIMEOUT_SECONDS,
      heartbeatSeconds: env.HEARTBEAT_SECONDS,
      settleFloorSeconds: env.SETTLE_FLOOR_SECONDS,
      settleSlotSeconds: env.SETTLE_SLOT_SECONDS,
      catalogueRefreshSeconds: env.CATALOGUE_REFRESH_SECONDS,
      catalogueStaleSeconds: env.CATALOGUE_STALE_SECONDS,
      keyCacheSeconds: env.KEY_CACHE_SECONDS,
      keyConcurrency: env.KEY_CONCURRENCY,
      stalledSeconds: env.GATEWAY_STALLED_SECONDS,
      accountConcurrency: env.ACCOUNT_CONCURRENCY,
      bodyLimitBytes: env.BODY_LIMIT_BYTES,
      bodyMemory: {
        smallBytes: env.SMALL_BODY_MEMORY_BYTES,
        largeBytes: env.BODY_MEMORY_BYTES,
        largeBytesPerAccount: env.BODY_MEMORY_BYTES_PER_ACCOUNT,
      },
      bodyArrivals: {
        seconds: env.BODY_SECONDS,
        graceSeconds: env.BODY_GRACE_SECONDS,
        bytesPerSecondMin: env.BODY_BYTES_PER_SECOND_MIN,
        slowPerAccount: env.SLOW_BODIES_PER_ACCOUNT,
      },
      bodyRate: { burstBytes: env.BODY_BURST_BYTES, bytesPerSecond: env.BODY_BYTES_PER_SECOND },
      bodyThreads: env.BODY_THREADS,
      freeQuota: {
        tokensPerDay: env.FREE_TOKENS_PER_DAY,
        requestsPerMinute: env.FREE_REQUESTS_PER_MINUTE,
        open: env.FREE_OPEN_REQUESTS,
      },
      freeBounds: { answers: env.FREE_CHOICES, outputTokens: env.FREE_OUTPUT_TOKENS },
    },
    connections: { perAddress: env.CONNECTIONS_PER_ADDRESS, total: env.CONNECTIONS_MAX },
    lookupRates: {
      perKeyPerSecond: env.LOOKUPS_PER_SECOND,
      perAccountPerSecond: env.ACCOUNT_LOOKUPS_PER_SECOND,
    },
    shutdownSeconds: env.SHUTDOWN_SECONDS,
    priceLeadSeconds: env.PRICE_LEAD_SECONDS,
    keysMax: env.KEYS_PER_ACCOUNT,
    tokensMax: env.TOKENS_PER_ACCOUNT,
    adjustmentApprovalThreshold: env.ADJUSTMENT_APPROVAL_USD,
    refundApprovalThreshold: env.REFUND_APPROVAL_USD,
    commissions: { rateMaxPpm: env.COMMISSION_RATE_MAX_PPM, holdMinDays: env.COMMISSION_HOLD_MIN_DAYS },
    priceCutPpm: env.PRICE_CUT_APPROVAL_PPM,
    upstreams: upstreamRules(environment),
    manualLimits: {
      personDay: env.HAND_MONEY_PERSON_DAY_USD,
      personMonth: env.HAND_MONEY_PERSON_MONTH_USD,
      accountDay: env.HAND_MONEY_ACCOUNT_DAY_USD,
      accountMonth: env.HAND_MONEY_ACCOUNT_MONTH_USD,
    },
    receipts: { seller: linesOf(env.RECEIPT_SELLER), footer: linesOf(env.RECEIPT_FOOTER).join('\n') },
    payments: paymentSettings(env),
    referralKey: env.REFERRAL_COOKIE_KEY ?? null,
    referralLandingUrl: env.REFERRAL_LANDING_URL ?? null,
    rewards: rewardSettings(env),
  });
}

export type GatewaySettings = ApiConfig['gateway'];
