/**
 * An embedded PostgreSQL 18 for one data dir: made on first use, started, recovered after a crash, stopped.
 * Owns the cluster's settings and its administrator login; schema and roles come from `db/migrate.ts`.
 *
 * Durability is never traded for speed here: `fsync` and `synchronous_commit` keep their defaults (on), because what
 * the tests and the bench show must hold for a real server.
 */
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  existsSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { endLeftover, startChild, waitUntilReady, type Child } from '../twins/kit/child-process.ts';
import { readJsonFile, writeFileAtomic } from '../twins/kit/files.ts';
import { preparePostgresHome, removePostgresHome, type PostgresHome } from './postgres-home.ts';
import { endProcess, livingStarter, otherStack, recordOf, type ProcessRecord } from '../twins/kit/process-record.ts';

const ADMIN = 'postgres';
/** Sockets are named by path and the system limits such names to 107 bytes, `/.s.PGSQL.65535` included. */
const SOCKET_FOLDER_LENGTH_MAX = 90;

export interface PostgresOptions {
  readonly dataDir: string;
  readonly port: number;
  readonly logFile: string;
  readonly recordFile: string;
  /** PostgreSQL size, `512MB`. */
  readonly sharedBuffers: string;
  readonly signal?: AbortSignal | undefined;
}

export interface PostgresServer {
  readonly child: Child;
  readonly port: number;
  /** Administrator login over TCP on loopback. */
  url(database: string): string;
  /** Fast shutdown: open transactions are rolled back, a checkpoint is written. */
  stop(): Promise<void>;
  /** Deletes the cluster; only after {@link stop}, for temporary stacks. */
  remove(): void;
}

/** Starts the data dir's cluster and resolves once it answers a query. Ends what a crashed run of it left behind. */
export async function startPostgres(options: PostgresOptions): Promise<PostgresServer> {
  const home = preparePostgresHome(options.dataDir);
  const data = join(home.dir, 'data');
  const password = adminPassword(home);
  if (!existsSync(data)) await initialise(home, data, password);
  await endPostgresLeftovers(options.dataDir, options.recordFile);

  const child = await startChild({
    name: 'postgres',
    command: join(home.bin, 'postgres'),
    args: ['-D', data, ...settings(options, socketFolder(home) ?? '')],
    env: serverEnvironment(),
    logFile: options.logFile,
    recordFile: options.recordFile,
    cwd: home.dir,
    ...ids(home),
  });
  const url = postgresUrl(options.dataDir, options.port);
  await waitUntilReady(child, () => answers(url('postgres')), { timeoutSeconds: 120, signal: options.signal });
  return {
    child,
    port: options.port,
    url,
    stop: () => child.stop({ signal: 'SIGINT', graceSeconds: 30 }),
    remove: () => removePostgresHome(home),
  };
}

/** The administrator's login to a database of the data dir's cluster, over TCP on loopback. */
export function postgresUrl(dataDir: string, port: number): (database: string) => string {
  const password = adminPassword(preparePostgresHome(dataDir));
  return (database) => `postgresql://${ADMIN}:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
}

/**
 * The same over the server's Unix socket, which costs both sides half of what TCP does; null where the folder's name is
 * too long for one. Understood by `pg`; other clients take the address over TCP.
 */
export function postgresSocketUrl(dataDir: string, port: number): ((database: string) => string) | null {
  const folder = socketFolder(preparePostgresHome(dataDir));
  const url = postgresUrl(dataDir, port);
  return folder === null ? null : (database) => `${url(database)}?host=${encodeURIComponent(folder)}`;
}

function socketFolder({ dir }: PostgresHome): string | null {
  return dir.length <= SOCKET_FOLDER_LENGTH_MAX ? dir : null;
}

/** Creates the database unless it exists. `url` is an administrator's login; `name` is ours, never input. */
export async function ensureDatabase(url: string, name: string): Promise<void> {
  await withClient(url, async (client) => {
    const found = await client.query('select from pg_database where datname = $1', [name]);
    if (found.rowCount === 0) await client.query(`create database ${client.escapeIdentifier(name)}`);
  });
}

function settings(options: PostgresOptions, socket: string): string[] {
  const values = {
    listen_addresses: '127.0.0.1',
    port: String(options.port),
    unix_socket_directories: socket,
    unix_socket_permissions: '0700',
    max_connections: '200',
    shared_buffers: options.sharedBuffers,
    // Few checkpoints: each is followed by a burst of whole-page WAL. (Compressing those pages with lz4 would help
    // too, but the npm build has no lz4.)
    max_wal_size: '4GB',
    checkpoint_timeout: '15min',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_line_prefix: '%m [%p] %q%u@%d ',
    log_checkpoints: 'off',
  };
  return Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}

/** The cluster appears under its name only when it is complete, so a crash in the middle starts over. */
async function initialise(home: PostgresHome, data: string, password: string): Promise<void> {
  const draft = `${data}.draft`;
  const passwordFile = join(home.dir, 'initdb-password');
  rmSync(draft, { recursive: true, force: true });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  if (home.owner !== null) chownSync(passwordFile, home.owner.uid, home.owner.gid);
  try {
    await run(home, 'initdb', [
      `--pgdata=${draft}`,
      `--username=${ADMIN}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // PostgreSQL's own collation: the same order everywhere, whatever locales the machine has.
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
    ]);
    renameSync(draft, data);
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

function run(home: PostgresHome, program: string, args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(home.bin, program), args, {
      env: serverEnvironment(),
      cwd: home.dir,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...ids(home),
    });
    let output = '';
    const keep = (chunk: Buffer): void => void (output += chunk.toString());
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`${program} failed (${signal ?? `code ${code}`}):\n${output}`));
    });
  });
}

/**
 * Ends what a crashed run of this data dir left. After a kill -9 of the postmaster its backends may still be leaving,
 * and its lock files may name a pid that now is another program's or a zombie's; PostgreSQL would refuse to start.
 * A process "of this cluster" is named postgres and works in this very data directory, so no other
 * server is ever touched. (Elsewhere than on Linux only the recorded postmaster can be told for sure.)
 */
export async function endPostgresLeftovers(dataDir: string, recordFile: string): Promise<boolean> {
  if (process.platform !== 'linux') {
    return endLeftover(recordFile, { signal: 'SIGINT', graceSeconds: 20 });
  }
  const home = preparePostgresHome(dataDir).dir;
  const data = join(home, 'data');
  const pidFile = join(data, 'postmaster.pid');
  const postmaster = postmasterOf(data);
  const found = processesIn(data);
  const first = found.find(({ pid }) => pid === postmaster);
  const owner = ownerOfPostgres(dataDir);
  // Ending it would make its own stack start it again, and end ours, without end.
  if (owner !== null) throw new Error(otherStack(dataDir, owner));
  if (first !== undefined) await endProcess(first, { signal: 'SIGINT', graceSeconds: 20 });
  // Orphaned backends end on their own; a stuck backend gets a signal.
  for (const deadline = performance.now() + 5000; processesIn(data).length > 0 && performance.now() < deadline;) {
    await sleep(25);
  }
  for (const backend of processesIn(data)) await endProcess(backend, { signal: 'SIGQUIT', graceSeconds: 1 });
  const socketFiles = readdirSync(home).filter((name) => name.startsWith('.s.PGSQL.'));
  for (const stale of [pidFile, ...socketFiles.map((name) => join(home, name))]) rmSync(stale, { force: true });
  return found.length > 0;
}

/**
 * Another process that still runs and has started the data dir's PostgreSQL; null when there is none, or none that can
 * be told.
 */
export function ownerOfPostgres(dataDir: string): ProcessRecord | null {
  if (process.platform !== 'linux') return null;
  const data = join(preparePostgresHome(dataDir).dir, 'data');
  const postmaster = postmasterOf(data);
  return processesIn(data).some(({ pid }) => pid === postmaster) ? livingStarter(postmaster!) : null;
}

function postmasterOf(data: string): number | null {
  const pidFile = join(data, 'postmaster.pid');
  return existsSync(pidFile) ? Number.parseInt(readFileSync(pidFile, 'utf8'), 10) : null;
}

function processesIn(data: string): ProcessRecord[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => linkTarget(`/proc/${pid}/cwd`) === data && /\/postgres( |$)/.test(linkTarget(`/proc/${pid}/exe`)))
    .map((pid) => recordOf(Number(pid)))
    .filter((record) => record !== null);
}

function linkTarget(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** Kept beside the cluster it opens, readable by us alone. */
function adminPassword(home: PostgresHome): string {
  const file = join(home.dir, 'admin-password.json');
  const known = readJsonFile(file);
  if (typeof known === 'string') return known;
  const password = randomBytes(24).toString('base64url');
  writeFileAtomic(file, JSON.stringify(password));
  return password;
}

function ids(home: PostgresHome): { uid?: number; gid?: number } {
  return home.owner === null ? {} : { uid: home.owner.uid, gid: home.owner.gid };
}

/** Nothing of ours: PG* variables of the caller's shell would change what the server does. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], LC_ALL: 'C' };
}

async function answers(url: string): Promise<boolean> {
  return withClient(url, async (client) => (await client.query('select 1')).rowCount === 1);
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
