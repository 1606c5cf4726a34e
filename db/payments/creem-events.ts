/** Facts from stored events of Creem that its API does not offer. */
import type pg from 'pg';
import { timeIn, wholeNumberIn } from '../../domain/sent-values.ts';
import { queryOne, query } from '../shared/client.ts';

/** A refund or dispute as its event wrote it. Creem sends no event for its end. */
export interface CreemReversal {
  readonly id: string;
  readonly kind: 'refund' | 'dispute';
  /** In cents, tax included. */
  readonly cents: number;
  /** The status of a refund when the event was written; null for a dispute. */
  readonly status: string | null;
  readonly createdAt: Date;
}

/** Checkouts that events have named for an order (`top_…`), the first one first. */
export async function creemCheckoutsOf(pool: pg.Pool, requestId: string): Promise<string[]> {
  const row = await queryOne<{ ids: string[] }>(pool, {
    name: 'creem_checkouts_of',
    text: 'select creem_checkouts_of($1) as ids',
    values: [requestId],
  });
  return row.ids;
}

/** Refunds and disputes that events have named for a transaction, each once, the oldest first. */
export async function creemReversalsOf(pool: pg.Pool, transactionId: string): Promise<CreemReversal[]> {
  const rows = await query<{ subject: unknown }>(pool, {
    name: 'creem_reversals_of',
    text: 'select subject from creem_reversals_of($1) as named(subject)',
    values: [transactionId],
  });
  const found = new Map<string, CreemReversal>();
  for (const { subject } of rows) {
    const reversal = toReversal(subject);
    if (reversal !== null) found.set(reversal.id, reversal);
  }
  return [...found.values()].sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime());
}

/** Null for anything that is no refund or dispute as Creem documents them: it is not guessed at. */
function toReversal(subject: unknown): CreemReversal | null {
  const { id, object, status, amount, refund_amount, created_at } = subject as Readonly<Record<string, unknown>>;
  if (object !== 'refund' && object !== 'dispute') return null;
  const cents = wholeNumberIn(object === 'refund' ? refund_amount : amount);
  const createdAt = timeIn(created_at);
  if (typeof id !== 'string' || cents === null || cents < 0 || createdAt === null) return null;
  return {
    id,
    kind: object,
    cents,
    status: object === 'refund' && typeof status === 'string' ? status : null,
    createdAt,
  };
}
