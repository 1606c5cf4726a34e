/**
 * A whole Holdfast for one test file: api and worker as the real processes, on a database and Temporal namespaces of
 * their own, before an upstream twin in this process. A test that needs a fault puts it between: another `databaseUrl`
 * (a proxy), another `temporalAddress`, signals to `api` and `worker`.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Client, Connection } from '@temporalio/client';
import type pg from 'pg';
import { createAccount } from '../../db/accounts/accounts.ts';
import { createApiKey, type ApiKey, type KeySettings } from '../../db/accounts/api-keys.ts';
import { loadCatalogue, type CatalogueModel } from '../../db/requests/catalogue.ts';
import { formatId, type AccountUuid, type Id } from '../../domain/ids.ts';
import { usd } from '../../domain/money.ts';
import { fund } from '../../sandbox/funding.ts';
import { startUpstreamTwin, type UpstreamTwin } from '../../twins/upstream/twin.ts';
import {
  COMMISSION_SCHEDULE_ID,
  MAINTENANCE_SCHEDULE_ID,
  RECONCILE_BOOSTS_SCHEDULE_ID,
  RECONCILE_SCHEDULE_ID,
  SWEEP_EVENTS_SCHEDULE_ID,
  SWEEP_SCHEDULE_ID,
  type Namespaces,
} from '../../contract/index.ts';
import { createTestDatabase, createTestNamespaces, testServices, type TestDatabase } from './services.ts';
import { addStaff, ADA, EVE } from './staff.ts';
import { until } from './until.ts';

const ROOT = resolve(import.meta.dirname, '../..');

/** The durations of production at about a tenth, so that tests see in seconds what takes minutes in production. */
export const SHORT_DURATIONS = {
  REQUEST_GRACE_SECONDS: '6',
  DRAIN_SECONDS: '6',
  FINISH_PATIENCE_SECONDS: '0.5',
  HOLD_TIMEOUT_SECONDS: '1',
  HEARTBEAT_SECONDS: '0.5',
  GATEWAY_GONE_SECONDS: '3',
  SWEEP_INTERVAL_SECONDS: '1.5',
  SWEEP_FINISHED_AGE_SECONDS: '3',
  EVIDENCE_SECONDS: '10',
  SETTLE_SLOT_SECONDS: '3',
  SHUTDOWN_SECONDS: '5',
  KEY_CACHE_SECONDS: '0.5',
} as const;

/** Models of every kind that tests need; prices are easy to calculate with. */
export const TEST_MODELS: readonly CatalogueModel[] = [
  testModel('test/small', { input: '1', cached_input: '0.5', output: '2' }),
  testModel('test/large', { input: '2.5', cached_input: '0.25', output: '10', reasoning: '12' }),
  testModel('test/per-call', { request: '0.01' }),
  testModel('test/small:free', {}),
  testModel('test/unpriced', {}),
  { ...testModel('test/brief', { input: '1', output: '2' }), request_timeout_seconds: 2 },
];

function testModel(id: string, prices: CatalogueModel['prices']): CatalogueModel {
  return {
    id,
    dialect: 'openai',
    context_length: 100_000,
    default_output_tokens: 1000,
    hidden_output: false,
    request_timeout_seconds: 60,
    upstreams: [{ base_url: '', api_key_env: 'UPSTREAM_TEST_KEY', model: id.replace('test/', ''), lookup: null }],
    prices,
  };
}

/** A process of the stack that a test may signal, kill and start again. */
export interface StackProcess {
  readonly pid: number;
  /** Lines of its structured log so far. */
  readonly log: readonly Record<string, unknown>[];
  signal(signal: NodeJS.Signals): void;
  /** Resolves with the exit code (null after a signal). */
  readonly exited: Promise<number | null>;
}

export interface TestAccount {
  readonly uuid: AccountUuid;
  readonly id: Id<'account'>;
}

export interface TestStackOptions {
  readonly name: string;
  /** Environment of api and worker on top of SHORT_DURATIONS. */
  readonly env?: Readonly<Record<string, string>>;
  readonly models?: readonly CatalogueModel[];
  /** The address for api and worker instead of the database's own, e.g. a proxy's. */
  readonly databaseUrl?: (url: string) => string | Promise<string>;
  readonly temporalAddress?: string;
  /** False leaves the worker (or api) to the test. */
  readonly worker?: boolean;
  readonly api?: boolean;
}

export interface TestStack {
  readonly database: TestDatabase;
  readonly namespaces: Namespaces;
  readonly twin: UpstreamTwin;
  /** Of the running api; set again by `startApi`. */
  readonly baseUrl: string;
  /** The metrics of the running api, on the port of their own. */
  readonly metricsUrl: string;
  readonly api: StackProcess;
  readonly worker: StackProcess;
  startApi(env?: Readonly<Record<string, string>>): Promise<StackProcess>;
  startWorker(env?: Readonly<Record<string, string>>): Promise<StackProcess>;
  /** An account with that much money; 0 for an empty one. */
  createAccount(balanceUsd: string): Promise<TestAccount>;
  createKey(account: TestAccount, settings?: Partial<KeySettings>): Promise<{ key: ApiKey; secret: string }>;
  /** Looks at everything, bypassing roles. */
  readonly admin: pg.Pool;
  stop(): Promise<void>;
}

export async function startTestStack(options: TestStackOptions): Promise<TestStack> {
  const database = await createTestDatabase(options.name);
  const namespaces = await createTestNamespaces();
  const twin = await startUpstreamTwin();
  const management = database.pool('management', { max: 2 });
  const admin = database.admin();
  await addStaff(admin);
  const models = options.models ?? TEST_MODELS;
  await loadCatalogue(
    management,
    models.map((model) => ({
      ...model,
      upstreams: model.upstreams.map((upstream) => ({
        ...upstream,
        base_url: `${twin.url}/v1`,
        lookup: `${twin.url}/_twin/requests/{request_id}`,
      })),
    })),
  );
  const environment = {
    ...process.env,
    ...SHORT_DURATIONS,
    // Its calls would be among those that a test counts or lets fail.
    START_CHECKS: 'off',
    UPSTREAM_TEST_KEY: 'twin',
    UPSTREAM_TEST_KEY_HOSTS: '127.0.0.1:*',
    UPSTREAM_PRIVATE_HOSTS: '127.0.0.1:*',
    DATABASE_URL: (await options.databaseUrl?.(database.url)) ?? database.url,
    TEMPORAL_ADDRESS: options.temporalAddress ?? testServices().temporalAddress,
    TEMPORAL_NAMESPACE_REQUESTS: namespaces.requests,
    TEMPORAL_NAMESPACE: namespaces.processes,
    LOG_LEVEL: 'info',
    HOLDFAST_PORT: '0',
    METRICS_PORT: '0',
    ...options.env,
  };
  const started: StackProcess[] = [];
  let api: StackProcess | null = null;
  let worker: StackProcess | null = null;
  let baseUrl = '';
  let metricsUrl = '';

  const stack: TestStack = {
    database,
    namespaces,
    twin,
    admin,
    get baseUrl() {
      return baseUrl;
    },
    get metricsUrl() {
      return metricsUrl;
    },
    get api() {
      if (api === null) throw new Error('the api was not started');
      return api;
    },
    get worker() {
      if (worker === null) throw new Error('the worker was not started');
      return worker;
    },
    async startApi(env = {}) {
      const child = launch('api/main.ts', { ...environment, ...env });
      started.push((api = child));
      const { port } = await untilLogged(child, 'api listens');
      baseUrl = `http://127.0.0.1:${String(port)}`;
      if (env['METRICS_PORT'] === '') return child;
      const { port: metricsPort } = await untilLogged(child, 'metrics listen');
      metricsUrl = `http://127.0.0.1:${String(metricsPort)}/metrics`;
      return child;
    },
    async startWorker(env = {}) {
      const child = launch('worker/main.ts', { ...environment, ...env });
      started.push((worker = child));
      await untilLogged(child, 'worker runs');
      return child;
    },
    async createAccount(balanceUsd) {
      const { id } = await createAccount(management, { name: 'Test', email: null });
      const amount = usd(balanceUsd);
      if (amount > 0n) {
        await fund(management, { asks: ADA, approves: EVE }, { accountId: id, amount, reason: 'test credit' });
      }
      return { uuid: id, id: formatId('account', id) };
    },
    createKey: (account, settings = {}) =>
      createApiKey(management, {
        accountId: account.uuid,
        name: 'test',
        expiresAt: null,
        limit: null,
        limitReset: 'none',
        models: null,
        ipAllowlist: null,
        ...settings,
      }),
    async stop() {
      for (const child of started) child.signal('SIGKILL');
      await Promise.all(started.map((child) => child.exited));
      await endSchedules(environment.TEMPORAL_ADDRESS, namespaces);
      await twin.close();
      await database.drop();
    },
  };
  try {
    await Promise.all([
      options.api === false ? undefined : stack.startApi(),
      options.worker === false ? undefined : stack.startWorker(),
    ]);
  } catch (error) {
    await stack.stop();
    throw error;
  }
  return stack;
}

/**
 * Schedules outlive their worker, and every one that stays goes on starting runs on the server that all tests share.
 * A server of the test's own may be gone or stopped by now: then there is nothing to end.
 */
async function endSchedules(address: string, namespaces: Namespaces): Promise<void> {
  const connection = await Connection.connect({ address, connectTimeout: 2000 }).catch(() => null);
  if (connection === null) return;
  const end = async (namespace: string, scheduleId: string): Promise<void> => {
    const client = new Client({ connection, namespace });
    await connection.withDeadline(Date.now() + 2000, () => client.schedule.getHandle(scheduleId).delete());
  };
  await Promise.allSettled([
    end(namespaces.requests, SWEEP_SCHEDULE_ID),
    end(namespaces.processes, MAINTENANCE_SCHEDULE_ID),
    end(namespaces.processes, RECONCILE_BOOSTS_SCHEDULE_ID),
    end(namespaces.processes, COMMISSION_SCHEDULE_ID),
    end(namespaces.processes, SWEEP_EVENTS_SCHEDULE_ID),
    end(namespaces.processes, RECONCILE_SCHEDULE_ID),
  ]);
  await connection.close();
}

function launch(file: string, env: NodeJS.ProcessEnv): StackProcess {
  const child = spawn(process.execPath, [resolve(ROOT, file)], { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const log: Record<string, unknown>[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => log.push(parseLine(line)));
  }
  const exited = once(child, 'exit').then(([code]) => code as number | null);
  return {
    pid: child.pid ?? -1,
    log,
    exited,
    signal: (signal) => {
      if (isRunning(child)) child.kill(signal);
    },
  };
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

function parseLine(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return { msg: line };
  }
}

async function untilLogged(child: StackProcess, message: string): Promise<Record<string, unknown>> {
  let ended = false;
  void child.exited.then(() => (ended = true));
  return until(`"${message}" in the log`, () => {
    const line = child.log.find(({ msg }) => msg === message);
    if (line === undefined && ended) {
      throw new Error(
        `the process ended before "${message}":\n${child.log.map((entry) => JSON.stringify(entry)).join('\n')}`,
      );
    }
    return line;
  });
}
