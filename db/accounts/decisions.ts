/** Decisions of a second person. Each kind has an SQL function that decides what waits, once. */
import type pg from 'pg';
import { queryOne, type Session } from '../shared/client.ts';

/** What a second person says of something that waits. */
export interface SecondDecision<Id> {
  readonly id: Id;
  readonly approve: boolean;
  readonly decidedBy: string;
}

/**
 * Calls the SQL function that decides. A repeat returns the row as it was decided; `decidedNow` tells the call that
 * decided from the repeats. Refuses what the function refuses.
 */
export async function decideOnce<Row extends pg.QueryResultRow, Result>(
  session: Session,
  sqlFunction: string,
  values: readonly unknown[],
  toResult: (row: Row) => Result,
): Promise<Result & { readonly decidedNow: boolean }> {
  const parameters = values.map((_, n) => `$${n + 1}`).join(', ');
  const row = await queryOne<Row & { decided_now: boolean | null }>(session, {
    name: sqlFunction,
    // now() is the transaction's own moment, which no other transaction has written.
    text: `select *, decided_at = now() as decided_now from ${sqlFunction}(${parameters})`,
    values: [...values],
  });
  return { ...toResult(row), decidedNow: row.decided_now ?? false };
}
