/**
 * Parts of the shared services for one test file: a database of its own (a clone of the migrated template, made in
 * ~50 ms) and Temporal namespaces of its own. The services run once for the whole suite, started by test/run.ts,
 * and are named by `HOLDFAST_TEST_SERVICES`.
 */
import { createHash, randomBytes } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import pg from 'pg';
import { createPool, type DatabaseRole, type PoolOptions } from '../../db/shared/client.ts';
import { migrate } from '../../db/migrate.ts';
import type { Namespaces } from '../../contract/index.ts';

export interface TestServices {
  /** An administrator login to the cluster's `postgres` database. */
  readonly databaseUrl: string;
  readonly temporalAddress: string;
}

export interface TestDatabase {
  /** The login a process gets as `DATABASE_URL`. */
  readonly url: string;
  /** A pool that acts as the role, as in production; closed by {@link drop}. */
  pool(role: DatabaseRole, options?: Partial<Omit<PoolOptions, 'url' | 'role'>>): pg.Pool;
  /** A pool of the administrator, for looking at and preparing what no role may; closed by {@link drop}. */
  admin(): pg.Pool;
  /** Closes the pools and removes the database, even with other connections open. */
  drop(): Promise<void>;
}

const VARIABLE = 'HOLDFAST_TEST_SERVICES';
const DB = resolve(import.meta.dirname, '../../db');

export function testServices(): TestServices {
  const text = process.env[VARIABLE];
  if (text === undefined) {
    throw new Error(
      `${VARIABLE} is not set. Run tests through "npm test -- <file>", or start services with "node test/run.ts --services".`,
    );
  }
  return JSON.parse(text) as TestServices;
}

/** The environment by which {@link testServices} finds the services in another process. */
export function servicesEnvironment(services: TestServices): Record<string, string> {
  return { [VARIABLE]: JSON.stringify(services) };
}

/** A fresh, migrated database. `name` only makes it recognisable in PostgreSQL's log. */
export async function createTestDatabase(name: string): Promise<TestDatabase> {
  const { databaseUrl } = testServices();
  const database = `test_${name.replaceAll(/[^a-z0-9]+/g, '_').slice(0, 40)}_${randomBytes(4).toString('hex')}`;
  await withClient(databaseUrl, async (client) => {
    const template = await ensureTemplate(client, databaseUrl);
    await client.query(`create database ${database} template ${template}`);
  });
  const url = databaseOf(databaseUrl, database);
  const pools: pg.Pool[] = [];
  const opened = (pool: pg.Pool): pg.Pool => {
    pools.push(pool);
    return pool;
  };
  return {
    url,
    pool: (role, options = {}) => opened(createPool({ max: 10, ...options, url, role })),
    admin() {
      const pool = new pg.Pool({ connectionString: url, max: 4, options: '-c search_path=holdfast -c timezone=UTC' });
      pool.on('error', () => undefined);
      // A connection that is closing when the database is dropped still hears of it, when the pool no longer listens.
      pool.on('connect', (client) => client.on('error', () => undefined));
      return opened(pool);
    },
    async drop() {
      await Promise.all(pools.filter((pool) => !pool.ended).map((pool) => pool.end()));
      await withClient(databaseUrl, (client) => client.query(`drop database if exists ${database} with (force)`));
    },
  };
}

/** Namespaces in the place of the product's that no other test file knows, ready for workers and clients. */
export async function createTestNamespaces(): Promise<Namespaces> {
  const suffix = randomBytes(4).toString('hex');
  const namespaces = { requests: `test-requests-${suffix}`, processes: `test-processes-${suffix}` };
  const connection = await Connection.connect({ address: testServices().temporalAddress });
  try {
    for (const namespace of Object.values(namespaces)) {
      await connection.workflowService.registerNamespace({
        namespace,
        workflowExecutionRetentionPeriod: msToTs('1 day'),
      });
      await untilUsable(connection, namespace);
    }
  } finally {
    await connection.close();
  }
  return namespaces;
}

/** A registered namespace is known to the front end's other services a moment later. */
async function untilUsable(connection: Connection, namespace: string): Promise<void> {
  for (const deadline = performance.now() + 15_000; ;) {
    try {
      await connection.workflowService.listWorkflowExecutions({ namespace, pageSize: 1 });
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(50);
    }
  }
}

/**
 * The template's name has the hash of all our SQL in it, so services that outlive a change of it are never
 * used with an old schema. Made under a lock and named when complete: a failed migration leaves no template.
 */
async function ensureTemplate(client: pg.Client, databaseUrl: string): Promise<string> {
  const template = `template_${sqlHash()}`;
  await client.query("select pg_advisory_lock(hashtext('holdfast test template'))");
  try {
    const found = await client.query('select from pg_database where datname = $1', [template]);
    if (found.rowCount !== 0) return template;
    const draft = `${template}_draft`;
    await client.query(`drop database if exists ${draft} with (force)`);
    await client.query(`create database ${draft}`);
    await migrate(databaseOf(databaseUrl, draft));
    await client.query(`alter database ${draft} rename to ${template}`);
    return template;
  } finally {
    await client.query("select pg_advisory_unlock(hashtext('holdfast test template'))");
  }
}

function sqlHash(): string {
  const hash = createHash('sha256');
  for (const file of globSync('{migrations,functions}/**/*.sql', { cwd: DB }).sort()) {
    hash.update(file).update(readFileSync(join(DB, file)));
  }
  return hash.digest('hex').slice(0, 12);
}

function databaseOf(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
