/**
 * The rig of a bench or chaos run: a whole stack of its own from a temporary data dir, accounts with money and keys,
 * the upstream twin's knobs, and read-only eyes on the database. Removes everything it made when it is closed.
 *
 * PostgreSQL keeps its durability: the rig refuses to measure a server whose `fsync` or `synchronous_commit` is off.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { createAccount } from '../db/accounts/accounts.ts';
import { createApiKey, type KeySettings } from '../db/accounts/api-keys.ts';
import { createPool } from '../db/shared/client.ts';
import type { AccountUuid, KeyUuid } from '../domain/ids.ts';
import type { PicoUsd } from '../domain/money.ts';
import type { RequestState } from '../domain/requests/request.ts';
import { createFunders, fund, type Funders } from '../sandbox/funding.ts';
import { freePort } from '../twins/kit/ports.ts';
import { preparePostgresHome, removePostgresHome } from '../sandbox/postgres-home.ts';
import { startStack, type Stack } from '../sandbox/stack.ts';

export interface RigOptions {
  readonly name: string;
  /** Added to the environment of the stack's parts. */
  readonly env?: Readonly<Record<string, string>>;
  readonly say: (line: string) => void;
  /** Keeps the data dir for a look afterwards. */
  readonly keep: boolean;
  /** Calls the start off. */
  readonly signal: AbortSignal;
}

export interface FundedKey {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
  readonly secret: string;
}

export interface Durability {
  readonly fsync: string;
  readonly synchronousCommit: string;
  readonly fullPageWrites: string;
  readonly version: string;
}

/** Variables that would put another server, port or data dir into the stack than the rig's own. */
const FOREIGN_VARIABLES = [
  'DATABASE_URL',
  'DATABASE_URL_GATEWAY',
  'DATABASE_URL_WORKER',
  'DATABASE_URL_MANAGEMENT',
  'DATABASE_URL_REPORTER',
  'TEMPORAL_ADDRESS',
  'HOLDFAST_HOST',
  'HOLDFAST_DATA_DIR',
  'HOLDFAST_POSTGRES_PORT',
  'HOLDFAST_TEMPORAL_PORT',
  'HOLDFAST_TEMPORAL_UI_PORT',
  'HOLDFAST_TWIN_PORT',
  'WORKER_HEALTH_PORT',
  'METRICS_PORT',
  'STRIPE_SECRET_KEY',
  'CREEM_API_KEY',
  'DISCORD_CLIENT_ID',
  'CRYPTO_XPUB',
  'CHAIN_1_RPC_URLS',
  'CHAIN_137_RPC_URLS',
  'CHAIN_8453_RPC_URLS',
  'CHAIN_42161_RPC_URLS',
];

export class Rig {
  readonly stack: Stack;
  readonly dataDir: string;
  readonly gatewayUrl: string;
  readonly twinUrl: string;
  readonly durability: Durability;
  /** The auditor's connection pool: may read everything and change nothing. Survives a restart of PostgreSQL. */
  readonly audit: pg.Pool;
  /** Writes what people write: accounts, keys, credits, models. */
  readonly management: pg.Pool;
  #funders: Promise<Funders> | null = null;
  readonly #keep: boolean;

  private constructor(stack: Stack, parts: { dataDir: string; audit: pg.Pool; durability: Durability; keep: boolean }) {
    const { base_url, twins } = stack.describe();
    this.stack = stack;
    this.dataDir = parts.dataDir;
    this.gatewayUrl = base_url;
    this.twinUrl = twins.upstream_url;
    this.durability = parts.durability;
    this.audit = parts.audit;
    this.management = createPool({ url: stack.databaseUrl, role: 'management', max: 2 });
    this.#keep = parts.keep;
  }

  static async open({ name, env = {}, say, keep, signal }: RigOptions): Promise<Rig> {
    const dataDir = mkdtempSync(join(tmpdir(), `holdfast-${name}-`));
    const own = Object.entries(process.env).filter(([variable]) => !FOREIGN_VARIABLES.includes(variable));
    let stack: Stack | null = null;
    let audit: pg.Pool | null = null;
    try {
      const port = String(await freePort());
      stack = await startStack({
        dataDir,
        say,
        signal,
        // Chains mine and are watched all the time, which is no part of what a request costs.
        env: { ...Object.fromEntries(own), HOLDFAST_CHAIN_TWIN: 'off', ...env, HOLDFAST_PORT: port },
      });
      const url = stack.describe().database_url;
      if (url === null) throw new Error('invariant broken: a stack without variables has its own database');
      audit = new pg.Pool({ connectionString: url, max: 2, query_timeout: 60_000, connectionTimeoutMillis: 5000 });
      // An idle connection that dies raises here; without a listener a killed PostgreSQL would end the run.
      audit.on('error', () => undefined);
      return new Rig(stack, { dataDir, audit, durability: await requireDurability(audit), keep });
    } catch (error) {
      await audit?.end();
      await stack?.stop();
      removeData(dataDir);
      throw error;
    }
  }

  /** A new account with that much money. */
  async createAccount(balance: PicoUsd): Promise<AccountUuid> {
    const { id } = await createAccount(this.management, { name: 'Bench', email: null });
    this.#funders ??= createFunders(this.management);
    await fund(this.management, await this.#funders, {
      accountId: id,
      amount: balance,
      reason: 'money for a bench run',
    });
    return id;
  }

  async createKey(accountId: AccountUuid, settings: Partial<KeySettings> = {}): Promise<FundedKey> {
    const { key, secret } = await createApiKey(this.management, {
      accountId,
      name: 'bench',
      expiresAt: null,
      limit: null,
      limitReset: 'none',
      models: null,
      ipAllowlist: null,
      ...settings,
    });
    return { accountId, keyId: key.id, secret };
  }

  /** Calls one of the twin's own routes; throws when it does not answer 2xx. */
  async twin(method: 'GET' | 'POST' | 'DELETE', route: string, body?: unknown): Promise<unknown> {
    const response = await fetch(`${this.twinUrl}/_twin/${route}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`the twin answered ${response.status} to ${method} ${route}: ${text}`);
    return JSON.parse(text);
  }

  /** Waits until nothing is held and everything is settled; throws after the time-out. */
  async untilSettled(timeoutSeconds: number): Promise<void> {
    const open = await this.#untilNone(['held', 'finished'], timeoutSeconds);
    if (open > 0) throw new Error(`${open} requests are not settled after ${timeoutSeconds} s`);
  }

  /** Waits until every finished request is settled, whatever is held; false after the time-out. */
  async untilFinishedAreSettled(timeoutSeconds: number): Promise<boolean> {
    return (await this.#untilNone(['finished'], timeoutSeconds)) === 0;
  }

  async #untilNone(states: readonly RequestState[], timeoutSeconds: number): Promise<number> {
    const deadline = performance.now() + timeoutSeconds * 1000;
    // Written out state by state, so that each count is answered by its own partial index.
    const counts = states.map((state) => `(select count(*) from request where state = '${state}')`);
    for (;;) {
      const { rows } = await this.audit.query<{ open: number }>(`select (${counts.join(' + ')})::int as open`);
      const { open } = rows[0]!;
      if (open === 0 || performance.now() > deadline) return open;
      await delay(100);
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.audit.end(), this.management.end()]);
    await this.stack.stop();
    if (!this.#keep) removeData(this.dataDir);
  }
}

/** Throws unless commits are durable on this server. */
export async function requireDurability(pool: pg.Pool): Promise<Durability> {
  const show = async (setting: string): Promise<string> => {
    const { rows } = await pool.query<{ value: string }>('select current_setting($1) as value', [setting]);
    return rows[0]!.value;
  };
  const durability = {
    fsync: await show('fsync'),
    synchronousCommit: await show('synchronous_commit'),
    fullPageWrites: await show('full_page_writes'),
    version: await show('server_version'),
  };
  if (durability.fsync !== 'on' || durability.synchronousCommit !== 'on') {
    throw new Error(
      `fsync is ${durability.fsync} and synchronous_commit ${durability.synchronousCommit}: figures without durability say nothing`,
    );
  }
  return durability;
}

export function describeDurability({ fsync, synchronousCommit, fullPageWrites, version }: Durability): string {
  return `PostgreSQL ${version}: fsync ${fsync}, synchronous_commit ${synchronousCommit}, full_page_writes ${fullPageWrites}`;
}

function removeData(dataDir: string): void {
  removePostgresHome(preparePostgresHome(dataDir));
  rmSync(dataDir, { recursive: true, force: true });
}
