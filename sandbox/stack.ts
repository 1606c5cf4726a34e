/**
 * A whole Holdfast on this machine: PostgreSQL, provider twins, Temporal, worker, api, started in that order for one
 * data dir and kept running. `npm start`, the bench and the end-to-end tests all use this. Owns which parts there are,
 * how each is started and what they are told; each part's own business is in its own file.
 *
 * Two stacks with different data dirs run side by side; two with the same one cannot (lock). `DATABASE_URL` and
 * `TEMPORAL_ADDRESS` in the environment put real servers in the place of the stand-ins.
 */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { migrate } from '../db/migrate.ts';
import { endLeftover } from '../twins/kit/child-process.ts';
import { openAuditorLogin, seedDemo, TWIN_KEY_VARIABLE, twinModels, type Demo } from './demo.ts';
import { environmentFile, findingsOf, writeEnvironment, type Finding } from './doctor.ts';
import { nodePart } from './node-part.ts';
import { PortBook, freePort, nextFreePort, reservePort, type Reservation } from '../twins/kit/ports.ts';
import { storedSecret, chainRpcUrls, PROVIDER_TWINS, takesRealMoney } from './provider-twins.ts';
import {
  endPostgresLeftovers,
  ensureDatabase,
  ownerOfPostgres,
  postgresSocketUrl,
  postgresUrl,
  startPostgres,
} from './postgres.ts';
import { watchSources } from './source-watch.ts';
import { StackLock } from './stack-lock.ts';
import { writeStackFile, type StackFile } from './stack-file.ts';
import { Supervisor, type Part } from './supervisor.ts';
import { locateTemporal } from './temporal-locator.ts';
import { BACKGROUND_NICE, startTemporal } from './temporal-server.ts';

export interface StackOptions {
  readonly dataDir: string;
  /** Environment of the parts, and source of `HOLDFAST_PORT`, `DATABASE_URL`, `TEMPORAL_ADDRESS` … Default: ours. */
  readonly env?: NodeJS.ProcessEnv;
  /** Called for each step and for each restarted part. */
  readonly say?: (line: string) => void;
  /** Calls the start off; what was started is stopped and the start rejects. */
  readonly signal?: AbortSignal;
  /** Looks at the whole set-up once it runs ({@link Stack.findings}); takes a second or two. */
  readonly isChecked?: boolean;
  /** Api and worker start again when a source file of theirs changes. */
  readonly isWatched?: boolean;
  /** Called once when another stack has taken the data dir over; this one has been stopped by then. */
  readonly displaced?: () => void;
}

export interface Stack {
  /** The present content of `stack.json`. */
  describe(): StackFile;
  /** The `DATABASE_URL` of api and worker. */
  readonly databaseUrl: string;
  /** Faults found when the stack had started; null where nobody looked. */
  readonly findings: readonly Finding[] | null;
  /**
   * The pid of a part (`postgres`, `twin`, a provider's twin, `temporal`, `worker`, `api`); null while it is being
   * started again.
   */
  pid(part: string): number | null;
  /** Stops all parts in order: api (drains), worker, Temporal, twins, PostgreSQL. */
  stop(): Promise<void>;
  /** Makes a stop that is under way end soon, without draining. */
  hurry(): void;
}

const ROOT = resolve(import.meta.dirname, '..');
const MODELS_FILE = join(ROOT, 'models.json');
const DATABASE = 'holdfast';
const DEFAULT_PORT = 8787;
/** Where a sandbox's upstreams may be, without TLS. */
const THIS_MACHINE = '127.0.0.1:*,localhost:*';
/** The order in which a crashed run's leftovers are ended; PostgreSQL comes last and has ways of its own. */
export const STACK_PARTS = ['api', 'worker', 'temporal', ...PROVIDER_TWINS.map(({ name }) => name), 'twin'];

export async function startStack(options: StackOptions): Promise<Stack> {
  const dataDir = resolve(options.dataDir);
  makeDataDir(dataDir);
  const lock = new StackLock(dataDir);
  const isOwnDatabase = isUnset((options.env ?? process.env)['DATABASE_URL']);
  await lock.take(STACK_PARTS, () => (isOwnDatabase ? ownerOfPostgres(dataDir) : null));
  const starting = new StartingStack(dataDir, lock, options);
  try {
    return await starting.start();
  } catch (error) {
    await starting.stop();
    lock.release();
    options.signal?.throwIfAborted();
    throw error;
  }
}

/** One start, from the leftovers of the last run to the running stack. */
class StartingStack {
  readonly #dataDir: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #say: (line: string) => void;
  readonly #ports: PortBook;
  readonly #supervisor: Supervisor;
  readonly #lock: StackLock;
  readonly #isChecked: boolean;
  readonly #isWatched: boolean;
  /** Rewrites stack.json; null until the stack is ready. */
  #rewrite: (() => void) | null = null;
  /** Keeps the api's port from other starts until the api, the last part, binds it. */
  #apiPort: Reservation | null = null;

  constructor(dataDir: string, lock: StackLock, options: StackOptions) {
    const { env = process.env, say = () => undefined, signal, displaced = () => undefined } = options;
    this.#dataDir = dataDir;
    this.#lock = lock;
    this.#isChecked = options.isChecked ?? false;
    this.#isWatched = options.isWatched ?? false;
    this.#env = { ...env, PATH: [join(ROOT, 'node_modules/.bin'), env['PATH'] ?? ''].join(delimiter) };
    this.#say = say;
    this.#ports = new PortBook(join(dataDir, 'ports.json'));
    this.#supervisor = new Supervisor({ restarted: () => this.#rewrite?.(), say, stillOurs: () => lock.isHeld() });
    lock.watch({
      restored: () => {
        // The folder may have been deleted with it, and the records of the parts too.
        this.#supervisor.keepRecords();
        say(`the lock of ${dataDir} was gone; it is there again`);
      },
      lost: (owner) => {
        say(`another stack (process ${owner.pid}) has taken ${dataDir} over: this one stops`);
        void this.stop().then(displaced);
      },
    });
    // Once the stack runs, only its own `stop` ends it.
    signal?.addEventListener('abort', () => {
      if (this.#rewrite === null) this.#supervisor.callOff();
    });
  }

  async start(): Promise<Stack> {
    const stackFile = join(this.#dataDir, 'stack.json');
    rmSync(stackFile, { force: true });
    await this.#endLeftovers();
    const api = await this.#apiAddress();
    const { databaseUrl, socketEnv } = await this.#startDatabase();
    const twinUrl = await this.#startTwin();
    const demo = await this.#prepareDatabase(databaseUrl, twinUrl);
    const providers = await this.#startProviderTwins(api.url);
    const temporal = await this.#startTemporal();
    const partsEnv = {
      ...this.#env,
      DATABASE_URL: databaseUrl,
      ...socketEnv,
      TEMPORAL_ADDRESS: temporal.address,
      [TWIN_KEY_VARIABLE]: 'twin',
      [`${TWIN_KEY_VARIABLE}_HOSTS`]: THIS_MACHINE,
      UPSTREAM_PRIVATE_HOSTS: [this.#env['UPSTREAM_PRIVATE_HOSTS'] ?? '', THIS_MACHINE].join(','),
      ...(isUnset(this.#env['PUBLIC_URL']) ? { PUBLIC_URL: api.url } : {}),
      ...(isUnset(this.#env['REFERRAL_COOKIE_KEY'])
        ? { REFERRAL_COOKIE_KEY: storedSecret(join(this.#dataDir, 'referral-cookie-key')) }
        : {}),
      ...providers.env,
      ...(temporal.uiUrl === null ? {} : { TEMPORAL_UI_URL: temporal.uiUrl }),
      // The stack is looked at as a whole once it runs.
      START_CHECKS: 'off',
    };
    writeEnvironment(this.#dataDir, partsEnv, this.#env);
    await this.#startWorker(partsEnv);
    const metricsPort = await this.#port('api-metrics', 'METRICS_PORT');
    await this.#startApi({ ...partsEnv, METRICS_PORT: String(metricsPort), METRICS_HOST: '127.0.0.1' }, api);

    const chainUrl = providers.urls.get('chain') ?? null;
    const describe = (): StackFile => ({
      base_url: api.url,
      console_url: null,
      metrics_url: `http://127.0.0.1:${metricsPort}/metrics`,
      temporal_ui_url: temporal.uiUrl,
      temporal_address: temporal.address,
      database_url: this.#ownDatabase ? auditorUrl(databaseUrl, demo) : null,
      operator_token: demo.operatorToken,
      second_operator_token: demo.secondOperatorToken,
      demo: {
        account_id: demo.accountId,
        management_token: demo.managementToken,
        api_key: demo.apiKey,
        model: demo.model,
        free_model: demo.freeModel,
      },
      twins: {
        upstream_url: twinUrl,
        stripe_url: providers.urls.get('stripe') ?? null,
        creem_url: providers.urls.get('creem') ?? null,
        discord_url: providers.urls.get('discord') ?? null,
        rpc_urls: chainUrl === null ? null : chainRpcUrls(chainUrl),
        chain_control_url: chainUrl,
      },
      processes: {
        api: this.#supervisor.pid('api'),
        worker: this.#supervisor.pid('worker'),
        temporal: this.#supervisor.pid('temporal'),
        postgres: this.#supervisor.pid('postgres'),
      },
    });
    this.#rewrite = () => writeStackFile(stackFile, describe());
    this.#rewrite();
    const stopWatching = this.#isWatched ? this.#watchSources() : () => undefined;
    const findings = this.#isChecked ? await findingsOf(partsEnv, this.#supervisor.signal) : null;

    let stopped: Promise<void> | null = null;
    return {
      describe,
      databaseUrl,
      findings,
      pid: (part) => this.#supervisor.pid(part),
      stop: () => {
        stopWatching();
        return (stopped ??= this.stop().then(() => {
          for (const file of [stackFile, environmentFile(this.#dataDir)]) rmSync(file, { force: true });
          this.#lock.release();
        }));
      },
      hurry: () => this.#supervisor.hurry(),
    };
  }

  async stop(): Promise<void> {
    await this.#apiPort?.release();
    await this.#supervisor.stop();
  }

  #watchSources(): () => void {
    return watchSources(ROOT, (part) => {
      this.#say(`${part}: its source has changed`);
      this.#supervisor.restart(part);
    });
  }

  get #ownDatabase(): boolean {
    return isUnset(this.#env['DATABASE_URL']);
  }

  async #endLeftovers(): Promise<void> {
    const ended: string[] = [];
    for (const name of STACK_PARTS) {
      if (await endLeftover(this.#files(name).recordFile, { graceSeconds: 5 })) ended.push(name);
    }
    if (this.#ownDatabase) {
      if (await endPostgresLeftovers(this.#dataDir, this.#files('postgres').recordFile)) ended.push('postgres');
    }
    if (ended.length > 0) this.#say(`ended what an earlier run left running: ${ended.join(', ')}`);
  }

  /** Returns `DATABASE_URL`, and the variables that give the roles of the request path the server's socket. */
  async #startDatabase(): Promise<{ databaseUrl: string; socketEnv: NodeJS.ProcessEnv }> {
    const given = this.#env['DATABASE_URL'];
    if (!isUnset(given)) {
      this.#say('PostgreSQL: the one of DATABASE_URL');
      return { databaseUrl: given, socketEnv: {} };
    }
    const port = await this.#port('postgres', 'HOLDFAST_POSTGRES_PORT');
    const options = { dataDir: this.#dataDir, port, sharedBuffers: '512MB', ...this.#files('postgres') };
    await this.#add('PostgreSQL', `127.0.0.1:${port}`, {
      name: 'postgres',
      start: async (signal) => (await startPostgres({ ...options, signal })).child,
      // Fast shutdown; hurried, an immediate one, which the next start recovers from by replaying the WAL.
      stopSignal: 'SIGINT',
      stopSeconds: 30,
      hurrySignal: 'SIGQUIT',
    });
    const url = postgresUrl(this.#dataDir, port);
    await ensureDatabase(url('postgres'), DATABASE);
    const socketUrl = postgresSocketUrl(this.#dataDir, port)?.(DATABASE);
    const variables = ['DATABASE_URL_GATEWAY', 'DATABASE_URL_WORKER'].filter((name) => isUnset(this.#env[name]));
    const socketEnv = socketUrl === undefined ? {} : Object.fromEntries(variables.map((name) => [name, socketUrl]));
    return { databaseUrl: url(DATABASE), socketEnv };
  }

  async #startTwin(): Promise<string> {
    const port = await this.#port('twin', 'HOLDFAST_TWIN_PORT');
    const url = `http://127.0.0.1:${port}`;
    const env = {
      TWIN_MODELS: twinModels(MODELS_FILE),
      TWIN_DATA_FILE: join(this.#dataDir, 'twin', 'requests.jsonl'),
      ...this.#env,
      TWIN_HOST: '127.0.0.1',
      TWIN_PORT: String(port),
    };
    const part = this.#nodePart('twin', 'twins/upstream/main.ts', env, `${url}/_twin/config`);
    await this.#add('upstream twin', url, { ...part, stopSeconds: 5 });
    return url;
  }

  /**
   * The stand-ins of providers whose own variables are not set. Returns their URLs and what api and worker are told.
   */
  async #startProviderTwins(apiUrl: string): Promise<{ urls: ReadonlyMap<string, string>; env: NodeJS.ProcessEnv }> {
    const urls = new Map<string, string>();
    const env: NodeJS.ProcessEnv = {};
    for (const twin of PROVIDER_TWINS) {
      const real = [twin.variable, ...(twin.otherVariables ?? [])].find((name) => !isUnset(this.#env[name]));
      if (real !== undefined) {
        this.#say(`${twin.title}: the account of ${real}`);
        continue;
      }
      if (twin.switchVariable !== undefined && this.#env[twin.switchVariable] === 'off') {
        this.#say(`${twin.title}: off, by ${twin.switchVariable}`);
        continue;
      }
      if (twin.takesMoney === true && takesRealMoney(this.#env)) {
        this.#say(`${twin.title}: off, since another provider takes real money`);
        continue;
      }
      const port = await this.#port(twin.name, twin.portVariable);
      const url = `http://127.0.0.1:${port}`;
      const { PUBLIC_URL: ownUrl } = this.#env;
      const publicUrl = isUnset(ownUrl) ? apiUrl : ownUrl.replace(/\/$/, '');
      const context = { url, apiUrl, publicUrl, folder: join(this.#dataDir, 'twin') };
      const twinEnv = { ...this.#env, TWIN_HOST: '127.0.0.1', TWIN_PORT: String(port), ...twin.twinEnv(context) };
      const part = this.#nodePart(twin.name, twin.script, twinEnv, `${url}${twin.readyPath}`);
      await this.#add(`${twin.title} twin`, url, { ...part, stopSeconds: 5 });
      urls.set(twin.name, url);
      Object.assign(env, twin.productEnv(context));
    }
    return { urls, env };
  }

  async #prepareDatabase(databaseUrl: string, twinUrl: string): Promise<Demo> {
    const begin = performance.now();
    await migrate(databaseUrl, this.#say);
    const secretsFile = join(this.#dataDir, 'secrets.json');
    const demo = await seedDemo({ databaseUrl, modelsFile: MODELS_FILE, secretsFile, twinUrl });
    if (this.#ownDatabase) await openAuditorLogin(databaseUrl, demo.auditorPassword);
    this.#say(`schema, catalogue and demo account: ready (${since(begin)})`);
    return demo;
  }

  async #startTemporal(): Promise<{ address: string; uiUrl: string | null }> {
    const given = this.#env['TEMPORAL_ADDRESS'];
    if (!isUnset(given)) {
      this.#say(`Temporal: the one of TEMPORAL_ADDRESS, ${given}`);
      return { address: given, uiUrl: this.#env['TEMPORAL_UI_URL'] ?? null };
    }
    const program = await locateTemporal({
      env: this.#env,
      progress: (message) => this.#say(`Temporal: ${message}`),
      signal: this.#supervisor.signal,
    });
    const port = await this.#port('temporal', 'HOLDFAST_TEMPORAL_PORT');
    const uiPort = await this.#port('temporal-ui', 'HOLDFAST_TEMPORAL_UI_PORT');
    const options = { program: program.path, dataDir: this.#dataDir, port, uiPort, ...this.#files('temporal') };
    const address = `127.0.0.1:${port}`;
    await this.#add(`Temporal ${program.serverVersion}`, address, {
      name: 'temporal',
      start: async (signal) => (await startTemporal({ ...options, nice: BACKGROUND_NICE, signal })).child,
      stopSignal: 'SIGTERM',
      stopSeconds: 15,
      hurrySignal: 'SIGKILL',
    });
    return { address, uiUrl: `http://127.0.0.1:${uiPort}` };
  }

  async #startWorker(env: NodeJS.ProcessEnv): Promise<void> {
    const port = await this.#port('worker', 'WORKER_HEALTH_PORT');
    const ready = `http://127.0.0.1:${port}/healthz`;
    const part = this.#nodePart('worker', 'worker/main.ts', { ...env, WORKER_HEALTH_PORT: String(port) }, ready);
    const stopSeconds = seconds(env['WORKER_SHUTDOWN_SECONDS'], 10) + 10;
    await this.#add('worker', 'two namespaces', { ...part, stopSeconds });
  }

  async #startApi(env: NodeJS.ProcessEnv, { host, port, url }: ApiAddress): Promise<void> {
    const partEnv = { ...env, HOLDFAST_HOST: host, HOLDFAST_PORT: String(port) };
    const part = this.#nodePart('api', 'api/main.ts', partEnv, `${url}/readyz`);
    await this.#apiPort?.release();
    this.#apiPort = null;
    await this.#add('api', url, { ...part, stopSeconds: seconds(env['SHUTDOWN_SECONDS'], 120) + 10 });
  }

  /**
   * A port that is asked for is free or the start fails; otherwise it is 8787 or the next free one, and then always
   * that.
   */
  async #apiAddress(): Promise<ApiAddress> {
    const host = isUnset(this.#env['HOLDFAST_HOST']) ? '127.0.0.1' : this.#env['HOLDFAST_HOST'];
    const given = this.#env['HOLDFAST_PORT'];
    const port = isUnset(given)
      ? await this.#ports.portFor('api', () => nextFreePort(DEFAULT_PORT, host), host)
      : portNumber(given, 'HOLDFAST_PORT');
    this.#apiPort = await reservePort(port, host);
    if (this.#apiPort === null) throw new Error(`port ${port} (HOLDFAST_PORT) is taken`);
    const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
    return { host, port, url: `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}` };
  }

  async #port(part: string, variable: string): Promise<number> {
    const given = this.#env[variable];
    return isUnset(given) ? this.#ports.portFor(part, freePort) : portNumber(given, variable);
  }

  #nodePart(name: string, script: string, env: NodeJS.ProcessEnv, readyUrl: string): Omit<Part, 'stopSeconds'> {
    return nodePart({ name, script, env, readyUrl, ...this.#files(name) });
  }

  async #add(title: string, where: string, part: Part): Promise<void> {
    const begin = performance.now();
    await this.#supervisor.add(part);
    this.#say(`${title}: ready, ${where} (${since(begin)})`);
  }

  #files(name: string): { logFile: string; recordFile: string } {
    return {
      logFile: join(this.#dataDir, 'logs', `${name}.log`),
      recordFile: join(this.#dataDir, 'run', `${name}.json`),
    };
  }
}

interface ApiAddress {
  /** The address that the api binds. */
  readonly host: string;
  readonly port: number;
  /** Where this machine reaches it. */
  readonly url: string;
}

/** Under root the folder is passable (not listable) for others, because PostgreSQL then runs as another user. */
function makeDataDir(dataDir: string): void {
  for (const folder of ['run', 'logs', 'twin']) mkdirSync(join(dataDir, folder), { recursive: true, mode: 0o700 });
  chmodSync(dataDir, process.getuid?.() === 0 ? 0o711 : 0o700);
}

function auditorUrl(databaseUrl: string, demo: Demo): string {
  const url = new URL(databaseUrl);
  url.username = 'holdfast_auditor';
  url.password = demo.auditorPassword;
  return url.href;
}

function isUnset(value: string | undefined): value is undefined | '' {
  return value === undefined || value === '';
}

function portNumber(text: string, variable: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new Error(`${variable} is not a port: ${text}`);
  return port;
}

function seconds(text: string | undefined, fallback: number): number {
  const value = Number(text);
  return Number.isFinite(value) && value > 0 ? value : fallback;
}

function since(begin: number): string {
  return `${((performance.now() - begin) / 1000).toFixed(1)} s`;
}
