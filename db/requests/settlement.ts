/**
 * Settling finished requests, and what follows it. One function per SQL function of
 * db/functions/requests/settlement.sql.
 */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type RequestUuid } from '../../domain/ids.ts';
import { query, queryOne } from '../shared/client.ts';

/**
 * Charges or gives back finished requests, idempotent; returns how many were settled now. Writes `workflowId` on their
 * rows.
 */
export async function settleRequests(
  pool: pg.Pool,
  requestIds: readonly string[],
  workflowId: string | null,
): Promise<number> {
  const row = await queryOne<{ settled: number }>(pool, {
    name: 'settle_requests',
    text: 'select settle_requests($1::uuid[], $2) as settled',
    values: [requestIds, workflowId],
  });
  return row.settled;
}

/**
 * Settles up to 1,000 finished requests of one account without a workflow, so that a late settlement refuses nobody.
 */
export async function settleAccount(pool: pg.Pool, accountId: AccountUuid): Promise<number> {
  const row = await queryOne<{ settled: number }>(pool, {
    name: 'settle_account',
    text: 'select settle_account($1) as settled',
    values: [accountId],
  });
  return row.settled;
}

/** Takes a row out of settlement for a person to look at; its hold stays. */
export async function markSettleError(pool: pg.Pool, requestId: string, error: string): Promise<void> {
  await query(pool, {
    name: 'mark_settle_error',
    text: 'select mark_settle_error($1, $2)',
    values: [requestId, error],
  });
}

/**
 * Accounts of these requests that are below their low-balance threshold and have not been told, and those below the
 * threshold of their automatic top-up.
 */
export async function accountsToFollowUp(
  pool: pg.Pool,
  requestIds: readonly string[],
): Promise<{ readonly toNotify: AccountUuid[]; readonly toTopUp: AccountUuid[] }> {
  const row = await queryOne<{ to_notify: string[]; to_top_up: string[] }>(pool, {
    name: 'accounts_to_follow_up',
    text: 'select accounts_to_notify($1::uuid[]) as to_notify, accounts_to_top_up($1::uuid[]) as to_top_up',
    values: [requestIds],
  });
  const accounts = (ids: readonly string[]): AccountUuid[] => ids.map((id) => uuidOf('account', id));
  return { toNotify: accounts(row.to_notify), toTopUp: accounts(row.to_top_up) };
}

/** Requests finished longer than `ageSeconds` ago that no settlement has reached, oldest first. */
export async function findUnsettled(pool: pg.Pool, ageSeconds: number, limit: number): Promise<RequestUuid[]> {
  const row = await queryOne<{ ids: string[] }>(pool, {
    name: 'find_unsettled',
    text: 'select find_unsettled($1, $2) as ids',
    values: [ageSeconds, limit],
  });
  return row.ids.map((id) => uuidOf('request', id));
}
