/**
 * Findings of the doctor as warnings in the log of a worker that has just started: the worker is the process that has
 * every key. Nothing waits for it and nothing fails by it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { runChecks } from '../doctor/check.ts';
import { checksOf } from '../doctor/checks.ts';
import { withoutSecrets } from '../doctor/report.ts';
import { databaseAddresses, secretsOf } from '../doctor/settings.ts';
import type { Environment } from '../runtime/environment.ts';
import { upstreamRules } from '../providers/upstreams/settings.ts';
import type { WorkerConfig } from './config.ts';

const TIMEOUT_SECONDS = 15;
/** By then everything that starts with the worker (its own pollers, the api, the watches of chains) is up. */
const AFTER_MS = 15_000;

/** Logs each finding that is not ok, or one line when all is well. Never throws. */
export async function warnOfSetUp(options: {
  readonly config: WorkerConfig;
  readonly environment: Environment;
  readonly logger: Logger;
  /** Aborted when the process stops. */
  readonly stopping: AbortSignal;
  /** How long it waits before it looks; for tests. */
  readonly afterMs?: number;
}): Promise<void> {
  const { config, environment, logger, stopping, afterMs = AFTER_MS } = options;
  try {
    await delay(afterMs, undefined, { signal: stopping });
    const open = checksOf({
      databases: databaseAddresses(environment, ['worker']),
      temporalAddress: config.temporalAddress,
      namespaces: config.namespaces,
      payments: config.payments,
      rewards: config.rewards,
      upstreams: upstreamRules(environment),
    });
    const lines = await runChecks(open.checks, TIMEOUT_SECONDS).finally(() => open.close());
    const notOk = withoutSecrets(lines, secretsOf(environment)).filter(({ state }) => state !== 'ok');
    for (const { check, state, message, cure } of notOk) {
      logger.warn({ check, state, cure }, `set-up: ${message}`);
    }
    if (notOk.length === 0) logger.info({ checks: lines.length }, 'set-up: nothing is wrong');
  } catch (error) {
    if (!stopping.aborted) logger.warn({ error: String(error) }, 'set-up: could not be checked');
  }
}
