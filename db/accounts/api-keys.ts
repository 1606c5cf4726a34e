/**
 * API keys: what customers manage of them, and the look-up that authenticates a request. Counters (held, spent,
 * window) belong to the ledger's functions; editing a limit never touches them.
 */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type KeyUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import { type Session, query, queryOne } from '../shared/client.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { API_KEY_PREFIX, hashSecret, newSecret, shownPrefix } from '../shared/secrets.ts';

export const LIMIT_RESETS = ['none', 'daily', 'weekly', 'monthly'] as const;
export type LimitReset = (typeof LIMIT_RESETS)[number];

/** The settings of a key; null means unlimited, never, all models, any address. */
export interface KeySettings {
  readonly name: string;
  readonly expiresAt: Date | null;
  readonly limit: PicoUsd | null;
  readonly limitReset: LimitReset;
  readonly models: readonly string[] | null;
  /** Addresses or CIDR ranges. */
  readonly ipAllowlist: readonly string[] | null;
}

export interface ApiKey extends KeySettings {
  readonly id: KeyUuid;
  readonly accountId: AccountUuid;
  readonly prefix: string;
  readonly createdAt: Date;
  readonly revokedAt: Date | null;
  /** All charges so far, unsettled ones included. */
  readonly spentTotal: PicoUsd;
  /** Charges in the limit's current window. */
  readonly windowSpent: PicoUsd;
  /** Holds of requests that are still running. */
  readonly held: PicoUsd;
  /** The rest of the limit; null when unlimited. */
  readonly remaining: PicoUsd | null;
}

interface KeyRow {
  id: string;
  account_id: string;
  name: string;
  prefix: string;
  expires_at: Date | null;
  limit_usd: string | null;
  limit_reset: LimitReset;
  models: string[] | null;
  ip_allowlist: string[] | null;
  created_at: Date;
  revoked_at: Date | null;
  spent_total: string;
  window_spent: string;
  held: string;
  remaining: string | null;
}

function toApiKey(row: KeyRow): ApiKey {
  return {
    id: uuidOf('key', row.id),
    accountId: uuidOf('account', row.account_id),
    name: row.name,
    prefix: row.prefix,
    expiresAt: row.expires_at,
    limit: row.limit_usd === null ? null : usd(row.limit_usd),
    limitReset: row.limit_reset,
    models: row.models,
    ipAllowlist: row.ip_allowlist,
    createdAt: row.created_at,
    revokedAt: row.revoked_at,
    spentTotal: usd(row.spent_total),
    windowSpent: usd(row.window_spent),
    held: usd(row.held),
    remaining: row.remaining === null ? null : usd(row.remaining),
  };
}

/** Settings in the order in which both statements that write them list their parameters. */
function settingValues(settings: KeySettings): unknown[] {
  const { name, expiresAt, limit, limitReset, models, ipAllowlist } = settings;
  return [name, expiresAt, limit === null ? null : formatUsd(limit), limitReset, models, ipAllowlist];
}

const SELECT_KEY = `
  select k.id, k.account_id, k.name, k.prefix, k.expires_at, k.limit_usd, k.limit_reset, k.models,
    k.ip_allowlist::text[] as ip_allowlist, k.created_at, k.revoked_at, s.spent_total, s.window_spent, s.held, s.remaining
  from api_key k join key_spending s on s.key_id = k.id`;

/**
 * Creates a key and returns it with its secret, which exists only in this answer. `secret` is given only by the
 * sandbox, whose demo key must survive restarts. Refuses `too_many_keys` when the account has `most` that are not
 * revoked, and `too_many_new_keys` when it made ten times as many within a day; without `most` there is no bound.
 */
export async function createApiKey(
  session: Session,
  key: KeySettings & { accountId: AccountUuid; createdBy?: Uuid<'token'>; secret?: string; most?: number },
): Promise<{ key: ApiKey; secret: string }> {
  const secret = key.secret ?? newSecret(API_KEY_PREFIX);
  const { id } = await queryOne<{ id: string }>(session, {
    name: 'create_api_key',
    text: 'select create_api_key($1, $2, $3, $4, $5, $6, $7, $8, $9::text[]::cidr[], $10, $11) as id',
    values: [
      key.accountId,
      hashSecret(secret),
      shownPrefix(secret, API_KEY_PREFIX),
      ...settingValues(key),
      key.createdBy ?? null,
      key.most ?? null,
    ],
  });
  const created = await findApiKey(session, { id: uuidOf('key', id), accountId: key.accountId });
  if (created === null) throw new Error(`invariant broken: key ${id} vanished after it was created`);
  return { key: created, secret };
}

/** Null when the account has no such key. */
export async function findApiKey(
  session: Session,
  which: { id: KeyUuid; accountId: AccountUuid },
): Promise<ApiKey | null> {
  const [row] = await query<KeyRow>(session, {
    name: 'find_api_key',
    text: `${SELECT_KEY} where k.id = $1 and k.account_id = $2`,
    values: [which.id, which.accountId],
  });
  return row === undefined ? null : toApiKey(row);
}

/** An account's keys, newest first; `revoked` null lists both kinds. */
export async function listApiKeys(
  session: Session,
  which: { accountId: AccountUuid; revoked: boolean | null },
  page: PageRequest,
): Promise<Page<ApiKey>> {
  const rows = await query<KeyRow>(session, {
    name: 'list_api_keys',
    text: `${SELECT_KEY}
      where k.account_id = $1 and ($2::boolean is null or (k.revoked_at is not null) = $2) and ($3::uuid is null or k.id < $3)
      order by k.id desc limit $4`,
    values: [which.accountId, which.revoked, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toApiKey), page.limit, (key) => key.id);
}

/**
 * Replaces the settings of a key that is not revoked; counters stay as they are, so a smaller limit counts what was
 * spent under the larger one. False when the account has no such key or it is revoked.
 */
export async function updateApiKey(
  session: Session,
  which: { id: KeyUuid; accountId: AccountUuid },
  settings: KeySettings,
): Promise<boolean> {
  const rows = await query(session, {
    name: 'update_api_key',
    text: `update api_key set name = $3, expires_at = $4, limit_usd = $5, limit_reset = $6, models = $7,
        ip_allowlist = $8::text[]::cidr[]
      where id = $1 and account_id = $2 and revoked_at is null returning id`,
    values: [which.id, which.accountId, ...settingValues(settings)],
  });
  return rows.length === 1;
}

/** Holds the key's row until the transaction ends, so that a change of some settings builds on the latest others. */
export async function lockApiKey(client: pg.PoolClient, which: { id: KeyUuid; accountId: AccountUuid }): Promise<void> {
  await query(client, {
    name: 'lock_api_key',
    text: 'select 1 from api_key where id = $1 and account_id = $2 for no key update',
    values: [which.id, which.accountId],
  });
}

/** Revokes a key permanently; a repeat keeps the first moment. False when the account has no such key. */
export async function revokeApiKey(session: Session, which: { id: KeyUuid; accountId: AccountUuid }): Promise<boolean> {
  const rows = await query(session, {
    name: 'revoke_api_key',
    text: `update api_key set revoked_at = coalesce(revoked_at, now()) where id = $1 and account_id = $2 returning id`,
    values: [which.id, which.accountId],
  });
  return rows.length === 1;
}

/** A key as authentication needs it. */
export interface KeyIdentity {
  readonly keyId: KeyUuid;
  readonly accountId: AccountUuid;
  readonly name: string;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
  readonly models: readonly string[] | null;
  readonly ipAllowlist: readonly string[] | null;
  readonly accountFrozenAt: Date | null;
}

/** Looks a secret's hash up; null when no key has it. */
export async function findKeyByHash(pool: pg.Pool, hash: Buffer): Promise<KeyIdentity | null> {
  const found = await findKeysByHash(pool, [hash]);
  return found.get(hash.toString('base64')) ?? null;
}

/** Looks many hashes up at once; the result is by the hash in base64 and lacks those that no key has. */
export async function findKeysByHash(pool: pg.Pool, hashes: readonly Buffer[]): Promise<Map<string, KeyIdentity>> {
  const rows = await query<{
    hash: Buffer;
    key_id: string;
    account_id: string;
    name: string;
    expires_at: Date | null;
    revoked_at: Date | null;
    models: string[] | null;
    ip_allowlist: string[] | null;
    frozen_at: Date | null;
  }>(pool, { name: 'find_keys', text: 'select * from find_keys($1::bytea[])', values: [hashes] });
  return new Map(
    rows.map((row) => [
      row.hash.toString('base64'),
      {
        keyId: uuidOf('key', row.key_id),
        accountId: uuidOf('account', row.account_id),
        name: row.name,
        expiresAt: row.expires_at,
        revokedAt: row.revoked_at,
        models: row.models,
        ipAllowlist: row.ip_allowlist,
        accountFrozenAt: row.frozen_at,
      },
    ]),
  );
}
