/** What reconciliation reads of the ledger, and the cases it opens and closes. One function per SQL function of 0014. */
import type pg from 'pg';
import { uuidOf, type Uuid } from '../domain/ids.ts';
import { usd } from '../domain/money.ts';
import type { BookedPayment } from '../domain/reconciliation.ts';
import { run, runOne } from './client.ts';

/** Orders of a provider that were credited in the time, or whose payment waits for a person. */
export async function topUpsToCompare(
  pool: pg.Pool,
  provider: string,
  { since, until }: { readonly since: Date; readonly until: Date },
): Promise<Uuid<'topUp'>[]> {
  const row = await runOne<{ ids: string[] }>(pool, {
    name: 'top_ups_to_compare',
    text: 'select top_ups_to_compare($1, $2, $3) as ids',
    values: [provider, since, until],
  });
  return row.ids.map((id) => uuidOf('topUp', id));
}

export async function bookedPayments(pool: pg.Pool, topUpId: Uuid<'topUp'>): Promise<BookedPayment[]> {
  const rows = await run<{
    payment_id: string;
    received: string;
    credited: string;
    reversed: string;
    credited_by: string;
    steps: string[];
  }>(pool, { name: 'booked_payments', text: 'select * from booked_payments($1)', values: [topUpId] });
  return rows.map((row) => ({
    paymentId: row.payment_id,
    received: usd(row.received),
    credited: usd(row.credited),
    reversed: usd(row.reversed),
    creditedBy: row.credited_by,
    steps: new Set(row.steps),
  }));
}

export interface FoundCase {
  readonly kind: string;
  readonly subject: string;
}

/** Closes the open cases of `kinds` about what was looked at and is not found any more; returns how many. */
export async function closeGoneCases(
  pool: pg.Pool,
  cases: {
    readonly kinds: readonly string[];
    readonly lookedAt: readonly string[];
    readonly found: readonly FoundCase[];
    readonly resolution: string;
  },
): Promise<number> {
  const found = cases.found.map(({ kind, subject }) => `${kind} ${subject}`);
  const row = await runOne<{ closed: number }>(pool, {
    name: 'close_gone_cases',
    text: 'select close_gone_cases($1, $2, $3, $4) as closed',
    values: [cases.kinds, cases.lookedAt, found, cases.resolution],
  });
  return row.closed;
}

/** Makes a case of every breach of an invariant; returns how many there are. The pool must allow for minutes. */
export async function reviewViolations(pool: pg.Pool, limit: number): Promise<number> {
  const row = await runOne<{ breaches: number }>(pool, {
    name: 'review_violations',
    text: 'select review_violations($1) as breaches',
    values: [limit],
  });
  return row.breaches;
}
