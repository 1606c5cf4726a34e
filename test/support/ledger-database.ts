/**
 * A ledger database for tests: pools by role, customers with money and keys, ids at will, and the few things that only
 * an administrator can do (time passing, reversals, tampering with rows behind the guards).
 */
import { uuidv7 } from 'uuidv7';
import { randomBytes, randomUUID } from 'node:crypto';
import pg from 'pg';
import { createAccount } from '../../db/accounts/accounts.ts';
import { createApiKey, type KeySettings } from '../../db/accounts/api-keys.ts';
import { requestAdjustment } from '../../db/accounts/adjustments.ts';
import type { FinishRecord, HoldRequest } from '../../db/requests/requests.ts';
import { uuidOf, type AccountUuid, type KeyUuid, type RequestUuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import { NO_USAGE } from '../../domain/usage/usage.ts';
import { createTestDatabase, type TestDatabase } from './services.ts';
import { addStaff, ANN, upTo } from './staff.ts';

export interface LedgerPools {
  readonly gateway: pg.Pool;
  readonly worker: pg.Pool;
  readonly management: pg.Pool;
  readonly admin: pg.Pool;
}

export interface LedgerDatabase extends LedgerPools {
  readonly database: TestDatabase;
}

/** A migrated database with a pool for each role; `connections` is per role. */
export async function createLedgerDatabase(name: string, connections = 4): Promise<LedgerDatabase> {
  const database = await createTestDatabase(name);
  const admin = database.admin();
  await addStaff(admin);
  return {
    database,
    gateway: database.pool('gateway', { max: connections }),
    worker: database.pool('worker', { max: connections }),
    management: database.pool('management', { max: connections }),
    admin,
  };
}

/** A version 7 UUID of the moment `atMs`; `rank` decides the order among ids of one millisecond. */
export function uuidAt(atMs: number, rank?: number): string {
  const random = randomBytes(10);
  if (rank !== undefined) random.writeUInt16BE(rank & 0xfff, 0);
  random[0] = (random[0]! & 0x0f) | 0x70;
  random[2] = (random[2]! & 0x3f) | 0x80;
  const hex = Math.floor(atMs).toString(16).padStart(12, '0') + random.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

export function newRequestId(): RequestUuid {
  return uuidOf('request', uuidv7());
}

/** A customer whose money came by an adjustment; `balance` is decimal USD. */
export async function createCustomer({ management }: LedgerPools, balance: string): Promise<AccountUuid> {
  const { id } = await createAccount(management, { name: 'Customer', email: null });
  if (usd(balance) !== 0n) await credit(management, id, balance);
  return id;
}

/** Moves `amount` (decimal USD, negative takes away) to an account by an adjustment of its own. */
export async function credit(management: pg.Pool, accountId: AccountUuid, amount: string): Promise<void> {
  await requestAdjustment(management, {
    id: uuidOf('adjustment', uuidAt(Date.now())),
    accountId,
    amount: usd(amount),
    reason: 'for a test',
    requestedBy: ANN,
    limits: upTo('10000000000'),
  });
}

export async function createKey(
  pools: LedgerPools,
  accountId: AccountUuid,
  settings: Partial<KeySettings> = {},
): Promise<KeyUuid> {
  return (await createKeyWithSecret(pools, accountId, settings)).id;
}

export async function createKeyWithSecret(
  { management }: LedgerPools,
  accountId: AccountUuid,
  settings: Partial<KeySettings> = {},
): Promise<{ id: KeyUuid; secret: string }> {
  const { key, secret } = await createApiKey(management, {
    accountId,
    name: 'Key',
    expiresAt: null,
    limit: null,
    limitReset: 'none',
    models: null,
    ipAllowlist: null,
    ...settings,
  });
  return { id: key.id, secret };
}

export const GATEWAY_ID = randomUUID();

/** A hold of exactly `amount` (decimal USD), unless `given` says otherwise. */
export function holdOf(
  key: { accountId: AccountUuid; keyId: KeyUuid },
  amount: string,
  given: Partial<HoldRequest> = {},
): HoldRequest {
  return {
    requestId: newRequestId(),
    ...key,
    modelId: 'demo/model',
    wanted: usd(amount),
    least: usd(amount),
    priceVersion: 1,
    stream: false,
    gatewayId: GATEWAY_ID,
    ttlSeconds: 600,
    ...given,
  };
}

/** A completed request that was rated at `listCost` (decimal USD), unless `given` says otherwise. */
export function endOf(requestId: RequestUuid, listCost: string, given: Partial<FinishRecord> = {}): FinishRecord {
  return {
    requestId,
    outcome: 'completed',
    listCost: usd(listCost),
    usage: { ...NO_USAGE, inputTokens: 100, outputTokens: 20 },
    estimated: false,
    rawUsage: null,
    latencyMs: 250,
    firstTokenMs: null,
    upstream: null,
    ...given,
  };
}

/** Takes money back from a customer, below zero if need be: what a refund to the card or a dispute does. */
export async function postReversal(
  admin: pg.Pool,
  reversal: { businessId: string; accountId: AccountUuid; amount: PicoUsd },
): Promise<void> {
  await admin.query(`select post_transfer('top_up_reversal', $1, $2, system_account('cash:stripe'), $3, null, true)`, [
    reversal.businessId,
    reversal.accountId,
    formatUsd(reversal.amount),
  ]);
}

/**
 * Lets a new limit window begin. The functions take the time from the server's clock, which a test cannot set, so what
 * is recorded of the key's windows moves into the past instead, past the guards that freeze settled requests.
 */
export async function beginNextWindow(admin: pg.Pool, keyId: KeyUuid, ms: number): Promise<void> {
  await behindTheGuards(admin, async (client) => {
    const values = [keyId, ms / 1000];
    await client.query(
      'update api_key set window_start = window_start - make_interval(secs => $2) where id = $1',
      values,
    );
    await client.query(
      'update request set window_start = window_start - make_interval(secs => $2) where key_id = $1',
      values,
    );
  });
}

/** One transaction in which no trigger fires: for preparing states that the ledger itself would never make. */
export async function behindTheGuards<T>(admin: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await admin.connect();
  try {
    await client.query('begin');
    await client.query('set local session_replication_role = replica');
    const result = await work(client);
    await client.query('commit');
    client.release();
    return result;
  } catch (error) {
    client.release(true);
    throw error;
  }
}

/** Removes all customers and everything that happened, so that a test begins with an empty ledger. */
export async function emptyLedger(admin: pg.Pool): Promise<void> {
  await behindTheGuards(admin, async (client) => {
    for (const table of [
      'approval',
      'hand_money',
      'request_refund',
      'adjustment',
      'notice',
      'posting',
      'platform_cost',
      'usage_hour',
      'free_use',
      'request',
      'api_key',
    ]) {
      await client.query(`delete from ${table}`);
    }
    await client.query("delete from account where kind = 'customer'");
  });
}

/** The names of the rules that are broken, in order; empty when the ledger is healthy. */
export async function brokenRules(admin: pg.Pool): Promise<string[]> {
  const { rows } = await admin.query<{ rule: string }>({
    name: 'broken_rules',
    text: 'select distinct rule from violations order by rule',
  });
  return rows.map((row) => row.rule);
}

/** Rejects with the SQLSTATE `state`; for `assert.rejects`. */
export function withState(state: string): (error: unknown) => boolean {
  return (error) => error instanceof pg.DatabaseError && error.code === state;
}
