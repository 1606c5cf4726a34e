/** Reads of the ledger for reconciliation, and the cases it opens and closes. One function per SQL function of 0014. */
import type pg from 'pg';
import { uuidOf, type Uuid } from '../../domain/ids.ts';
import { formatPico, usd, type PicoAmount } from '../../domain/money.ts';
import type { BookedPayment } from '../../domain/payments/reconciliation.ts';
import { query, queryOne } from '../shared/client.ts';

/** A run of reconciliation that is on one of its pages. */
export interface RunPage {
  readonly provider: string;
  /** The start of the run, which separates its marks from those of other runs. */
  readonly run: Date;
  readonly page: number;
}

export interface EntryToCompare {
  readonly paymentId: string;
  readonly topUp: Uuid<'topUp'> | null;
  /** In `currency`; null for an entry of a refund or dispute. */
  readonly received: PicoAmount | null;
  readonly currency: string | null;
  readonly taken: PicoAmount | null;
  readonly reversal: { readonly objectId: string; readonly isTaken: boolean | null } | null;
}

/**
 * The entries of a statement page that differ from the ledger, are unknown to it or have an open case of `caseKinds`,
 * with the order that the ledger names.
 */
export async function compareEntries<E extends EntryToCompare>(
  pool: pg.Pool,
  { provider, run: began, page }: RunPage,
  entries: readonly E[],
  caseKinds: readonly string[],
): Promise<{ entry: E; booked: Uuid<'topUp'> | null }[]> {
  const rows = await query<{ place: number; top_up_id: string | null }>(pool, {
    name: 'compare_entries',
    text: 'select * from compare_entries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)',
    values: [
      provider,
      began,
      page,
      entries.map(({ paymentId }) => paymentId),
      entries.map(({ topUp }) => topUp),
      entries.map(({ received }) => (received === null ? null : formatPico(received))),
      entries.map(({ currency }) => currency),
      entries.map(({ taken }) => (taken === null ? null : formatPico(taken))),
      entries.map(({ reversal }) => reversal?.objectId ?? null),
      entries.map(({ reversal }) => reversal?.isTaken ?? null),
      caseKinds,
    ],
  });
  return rows.map(({ place, top_up_id: topUp }) => ({
    entry: entries[place - 1]!,
    booked: topUp === null ? null : uuidOf('topUp', topUp),
  }));
}

/** Marks payments whose orders' provider was asked. A repeat changes nothing. */
export async function noteCompared(
  pool: pg.Pool,
  { provider, run: began, page }: RunPage,
  paymentIds: readonly string[],
): Promise<void> {
  await query(pool, {
    name: 'note_compared',
    text: 'select note_compared($1, $2, $3, $4)',
    values: [provider, began, page, paymentIds],
  });
}

export interface IdPage {
  readonly after: string | null;
  readonly limit: number;
}

/** Orders of a provider whose payment waits for a person, by id. */
export async function waitingTopUps(
  pool: pg.Pool,
  provider: string,
  { after, limit }: IdPage,
): Promise<Uuid<'topUp'>[]> {
  const row = await queryOne<{ ids: string[] }>(pool, {
    name: 'waiting_top_ups',
    text: 'select waiting_top_ups($1, $2, $3) as ids',
    values: [provider, after, limit],
  });
  return row.ids.map((id) => uuidOf('topUp', id));
}

/**
 * Orders with a payment that was credited in the time and that no page of the run but this one has dealt with, by id.
 */
export async function topUpsNotCompared(
  pool: pg.Pool,
  { provider, run: began, page }: RunPage,
  { since, until }: { readonly since: Date; readonly until: Date },
  { after, limit }: IdPage,
): Promise<Uuid<'topUp'>[]> {
  const row = await queryOne<{ ids: string[] }>(pool, {
    name: 'top_ups_not_compared',
    text: 'select top_ups_not_compared($1, $2, $3, $4, $5, $6, $7) as ids',
    values: [provider, since, until, began, page, after, limit],
  });
  return row.ids.map((id) => uuidOf('topUp', id));
}

/**
 * Ends a run's comparison with a provider: forgets the marks that only earlier runs have made, and notes when it began.
 */
export async function forgetCompared(pool: pg.Pool, { provider, run: began }: RunPage): Promise<void> {
  await query(pool, {
    name: 'forget_compared',
    text: 'select forget_compared($1, $2)',
    values: [provider, began],
  });
}

export async function bookedPayments(pool: pg.Pool, topUpId: Uuid<'topUp'>): Promise<BookedPayment[]> {
  const rows = await query<{
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
  const row = await queryOne<{ closed: number }>(pool, {
    name: 'close_gone_cases',
    text: 'select close_gone_cases($1, $2, $3, $4) as closed',
    values: [cases.kinds, cases.lookedAt, found, cases.resolution],
  });
  return row.closed;
}

/** Makes a case of every breach of an invariant; returns how many there are. The pool must allow for minutes. */
export async function reviewViolations(pool: pg.Pool, limit: number): Promise<number> {
  const row = await queryOne<{ breaches: number }>(pool, {
    name: 'review_violations',
    text: 'select review_violations($1) as breaches',
    values: [limit],
  });
  return row.breaches;
}

/** How long ago the last run began that came to its end, in seconds, by part: `ledger`, else a provider. */
export async function reconciledAges(pool: pg.Pool): Promise<ReadonlyMap<string, number>> {
  const rows = await query<{ part: string; seconds: number }>(pool, {
    name: 'reconciled_ages',
    text: 'select part, extract(epoch from now() - as_of)::float8 as seconds from reconciled',
    values: [],
  });
  return new Map(rows.map(({ part, seconds }) => [part, seconds]));
}
