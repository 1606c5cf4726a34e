/**
 * The worker process: provisions Temporal, then runs the workflows and activities of both namespaces until SIGTERM.
 * Starts while Temporal or PostgreSQL are still away and waits for them; exits with an error only when it cannot go on.
 */
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { startDiscordGateway } from './discord-listener.ts';
import { createStatements, createRails } from '../providers/rails.ts';
import { createPool } from '../db/shared/client.ts';
import { requireUsableSchema } from '../db/schema/migration-state.ts';
import { requirePostgres } from '../db/schema/server-version.ts';
import { createLogger } from '../runtime/logger.ts';
import { describePayments } from '../providers/payment-settings.ts';
import { describeRewards } from '../providers/reward-settings.ts';
import { parseWorkerConfig } from './config.ts';
import { warnOfSetUp } from './start-checks.ts';
import { requireRightVendors, watchChains } from './chains.ts';
import { provisionNamespaces, provisionSchedules } from './provision.ts';
import { bundleWorkflows, createActivities, createWorkers } from './workers.ts';

/** Time limit of a statement over the whole ledger. */
const SLOW_STATEMENT_MS = 15 * 60_000;

const config = parseWorkerConfig(process.env);
const logger = createLogger('worker', config.logLevel);
logger.info(describePayments(config.payments));
logger.info(describeRewards(config.rewards));

Runtime.install({
  logger: new DefaultLogger('WARN', ({ level, message, meta }) => {
    logger[level === 'ERROR' ? 'error' : 'warn']({ ...meta }, message);
  }),
  telemetryOptions: { logging: { forward: {}, filter: { core: 'WARN' } } },
  shutdownSignals: [],
});

const stopping = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    logger.info({ signal }, 'stopping');
    stopping.abort();
  });
}

/** Repeats `step` until it works: Temporal may come up after us. Told to stop meanwhile, the process ends in order. */
async function untilReady<T>(what: string, step: () => Promise<T>): Promise<T> {
  for (;;) {
    if (stopping.signal.aborted) endBeforeRunning();
    try {
      return await step();
    } catch (error) {
      logger.warn({ error: String(error) }, `waiting for ${what}`);
      await delay(1000, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
  }
}

/** Nothing runs yet that would have to be finished; what is open is connections only. */
function endBeforeRunning(): never {
  logger.info('worker stopped before it ran');
  process.exit(0);
}

await requirePostgres({ DATABASE_URL: config.databaseUrl });
await requireUsableSchema({ DATABASE_URL: config.databaseUrl });
await requireRightVendors(config.payments.crypto);
const workflowBundle = await bundleWorkflows();
const connection = await untilReady('temporal', () =>
  Connection.connect({ address: config.temporalAddress, connectTimeout: 5000 }),
);
await untilReady('namespaces', () => provisionNamespaces(connection, config.namespaces));
const clients = {
  requests: new Client({ connection, namespace: config.namespaces.requests }),
  processes: new Client({ connection, namespace: config.namespaces.processes }),
};
await untilReady('schedules', () => provisionSchedules(clients, config.namespaces, config));
await untilReady('chain watches', () =>
  watchChains(clients.processes, config.namespaces.processes, config.payments.crypto),
);

// The listener of Discord's gateway keeps one connection for its lease; activities still have eight.
const pool = createPool({ url: config.databaseUrl, role: 'worker', max: config.rewards.discord.bot === null ? 8 : 9 });
// Reads the whole ledger once an hour, which takes longer than anything that somebody waits for.
const slowPool = createPool({
  url: config.databaseUrl,
  role: 'worker',
  max: 1,
  statementTimeoutMs: SLOW_STATEMENT_MS,
  queryTimeoutMs: SLOW_STATEMENT_MS + 5000,
  planner: 'default',
});
const native = await untilReady('temporal', () => NativeConnection.connect({ address: config.temporalAddress }));
const workers = await untilReady('workers', () =>
  createWorkers({
    connection: native,
    namespaces: config.namespaces,
    activities: createActivities({
      pool,
      slowPool,
      logger,
      environment: process.env,
      rewards: config.rewards,
      rails: createRails(config.payments, pool),
      statements: createStatements(config.payments, pool),
      payments: config.payments,
      processes: { client: clients.processes, taskQueue: config.namespaces.processes },
      sweep: config.sweep,
      stopping: stopping.signal,
    }),
    workflowBundle,
    cachedWorkflows: config.cachedWorkflows,
    shutdownSeconds: config.shutdownSeconds,
  }),
);

const health = createServer((_request, response) => {
  const running = workers.every((worker) => worker.getState() === 'RUNNING');
  response
    .writeHead(running ? 200 : 503, { 'content-type': 'text/plain' })
    .end(running ? 'running\n' : 'not running\n');
});
if (config.healthPort !== null) health.listen(config.healthPort, config.healthHost);

const stop = (): void => {
  for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
};
stopping.signal.addEventListener('abort', stop);
const runs = workers.map((worker) => worker.run());
const discordGateway = startDiscordGateway({
  pool,
  logger,
  rewards: config.rewards,
  client: clients.processes,
  taskQueue: config.namespaces.processes,
});
if (stopping.signal.aborted) stop();
logger.info({ namespaces: config.namespaces }, 'worker runs');
if (config.startChecks) void warnOfSetUp({ config, environment: process.env, logger, stopping: stopping.signal });
try {
  await Promise.all(runs);
} finally {
  // One worker that fails takes the other with it: a process that does half its job is worse than a restart.
  stop();
  await Promise.allSettled(runs);
  await discordGateway?.stop();
  health.close();
  await native.close();
  await connection.close();
  await Promise.all([pool.end(), slowPool.end()]);
}
logger.info('worker stopped');
