/**
 * Statements that may run alone or as part of a transaction: management writes and the record of who made them must
 * commit together. Complements db/client.ts, which owns pools and how errors are classified.
 */
import pg from 'pg';
import { isFault, run, type Statement } from './client.ts';

/** A pool, where each statement is a transaction of its own, or the connection of an open transaction. */
export type Session = pg.Pool | pg.PoolClient;

/** Runs one statement in the session. */
export async function query<Row extends pg.QueryResultRow>(session: Session, statement: Statement): Promise<Row[]> {
  if (session instanceof pg.Pool) return run<Row>(session, statement);
  const result = await session.query<Row>(statement.text, statement.values as unknown[]);
  return result.rows;
}

/** `query` for a statement that returns exactly one row. */
export async function queryOne<Row extends pg.QueryResultRow>(session: Session, statement: Statement): Promise<Row> {
  const rows = await query<Row>(session, statement);
  const row = rows[0];
  if (row === undefined || rows.length > 1) {
    throw new Error(`invariant broken: ${statement.name} returned ${rows.length} rows`);
  }
  return row;
}

/**
 * Runs `work` behind a savepoint, so that an error of it undoes only `work` and the transaction can go on. After a
 * fault the transaction is lost and nothing is attempted.
 */
export async function behindSavepoint<T>(client: pg.PoolClient, work: () => Promise<T>): Promise<T> {
  await client.query('savepoint before_work');
  try {
    return await work();
  } catch (error) {
    if (!isFault(error)) await client.query('rollback to savepoint before_work');
    throw error;
  }
}

/** The name of the constraint that a failed statement violated, else null. */
export function violatedConstraint(error: unknown): string | null {
  return error instanceof pg.DatabaseError ? (error.constraint ?? null) : null;
}
