/**
 * Idempotency keys of management calls that move money. A key is claimed in the transaction that moves the money and
 * keeps the answer beside it, so a repeat gets the first answer, and two calls at once cannot both act: the second one
 * waits on the claim's unique key until the first has committed. After 24 hours a key may be used again; so many of one
 * scope are kept at most.
 */
import type pg from 'pg';
import { query } from './client.ts';

export const IDEMPOTENCY_HOURS = 24;

/** Old keys removed with each claim: more than one, so that they never pile up; few, so that a claim stays quick. */
const REMOVED_PER_CLAIM = 20;

/** Keys of one scope: far above what a script of a member of staff needs in a day. */
const KEYS_PER_SCOPE_MAX = 10_000;

export interface StoredAnswer {
  readonly status: number;
  readonly body: unknown;
}

export type Claim =
  /** Nobody has used the key: act under `subject` as the business id, then store the answer. */
  | { readonly kind: 'new'; readonly subject: string }
  | { readonly kind: 'repeat'; readonly subject: string; readonly answer: StoredAnswer }
  /** The key was used for another call. */
  | { readonly kind: 'reused' }
  /** The scope has as many keys as it may have. */
  | { readonly kind: 'too many' };

interface Key {
  readonly scope: string;
  readonly key: string;
  /** SHA-256 of what was asked. */
  readonly bodyHash: Buffer;
}

export async function claimIdempotencyKey(client: pg.PoolClient, { scope, key, bodyHash }: Key): Promise<Claim> {
  await query(client, {
    name: 'remove_old_idempotency_keys',
    text: `delete from idempotency_key where ctid = any (array(
        select ctid from idempotency_key where created_at < now() - make_interval(hours => $1)
        limit $2 for update skip locked
      ))`,
    values: [IDEMPOTENCY_HOURS, REMOVED_PER_CLAIM],
  });
  const [made] = await query<{ subject: string }>(client, {
    name: 'claim_idempotency_key',
    text: `insert into idempotency_key as k (scope, key, body_hash) select $1, $2, $3
      where exists (select from idempotency_key where scope = $1 and key = $2)
        or (select count(*) from (select from idempotency_key where scope = $1 limit $5) kept) < $5
      on conflict (scope, key) do update set body_hash = excluded.body_hash, subject = excluded.subject,
        status = null, answer = null, created_at = now()
      where k.created_at < now() - make_interval(hours => $4)
      returning subject`,
    values: [scope, key, bodyHash, IDEMPOTENCY_HOURS, KEYS_PER_SCOPE_MAX],
  });
  if (made !== undefined) return { kind: 'new', subject: made.subject };
  const [before] = await query<{ body_hash: Buffer; subject: string; status: number | null; answer: unknown }>(client, {
    name: 'find_idempotency_key',
    text: 'select body_hash, subject, status, answer from idempotency_key where scope = $1 and key = $2',
    values: [scope, key],
  });
  if (before === undefined) return { kind: 'too many' };
  if (!before.body_hash.equals(bodyHash)) return { kind: 'reused' };
  if (before.status === null) throw new Error('invariant broken: an idempotency key was committed without its answer');
  return { kind: 'repeat', subject: before.subject, answer: { status: before.status, body: before.answer } };
}

/** Keeps the answer of a claim that was new, in the claim's transaction. */
export async function storeAnswer(
  client: pg.PoolClient,
  { scope, key }: Omit<Key, 'bodyHash'>,
  answer: StoredAnswer,
): Promise<void> {
  await query(client, {
    name: 'store_idempotent_answer',
    text: 'update idempotency_key set status = $3, answer = $4 where scope = $1 and key = $2',
    values: [scope, key, answer.status, JSON.stringify(answer.body)],
  });
}
