/**
 * The payments that credit top-ups, and what of them is taken back. One function per SQL function of
 * db/functions/payments.
 */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { ReversalStep } from '../../domain/payments/top-up.ts';
import { ledgerRefusal, query, queryOne } from '../shared/client.ts';
import type { QuietTopUps } from './top-ups.ts';

/**
 * Credits a payment, once per (provider, payment id), and closes the order as credited; a repeat changes nothing. False
 * where a person has credited it to another order.
 */
export async function creditPayment(
  pool: pg.Pool,
  payment: {
    readonly topUpId: Uuid<'topUp'>;
    readonly paymentId: string;
    readonly received: PicoUsd;
    readonly credit: PicoUsd;
    /** False while the payment itself can still vanish; `finalizePayment` follows. */
    readonly isFinal: boolean;
    /** `provider`, or the person who credited by hand. */
    readonly creditedBy: string;
  },
): Promise<boolean> {
  try {
    await query(pool, {
      name: 'credit_payment',
      text: 'select id from credit_payment($1, $2, $3, $4, $5, $6)',
      values: [
        payment.topUpId,
        payment.paymentId,
        formatUsd(payment.received),
        formatUsd(payment.credit),
        payment.isFinal,
        payment.creditedBy,
      ],
    });
    return true;
  } catch (error) {
    if (ledgerRefusal(error)?.code === 'payment_of_another_order') return false;
    throw error;
  }
}

/** Writes down that a credited payment cannot vanish any more. */
export async function finalizePayment(pool: pg.Pool, paymentId: string): Promise<void> {
  await query(pool, { name: 'finalize_payment', text: 'select finalize_payment($1)', values: [paymentId] });
}

export interface CreditedPayment {
  readonly id: string;
  readonly paymentId: string;
  readonly received: PicoUsd;
  readonly credited: PicoUsd;
  readonly reversed: PicoUsd;
  readonly isFinal: boolean;
  /** True once the payer's bank is known to take it for fraud. */
  readonly isWarned: boolean;
  /** `<object id>/<direction>` of every recorded step. */
  readonly steps: ReadonlySet<string>;
}

export async function paymentsOf(pool: pg.Pool, topUpId: Uuid<'topUp'>): Promise<CreditedPayment[]> {
  const rows = await query<{
    id: string;
    payment_id: string;
    received: string;
    credited: string;
    reversed: string;
    final_at: Date | null;
    warned_at: Date | null;
    steps: string[];
  }>(pool, { name: 'payments_of', text: 'select * from payments_of($1)', values: [topUpId] });
  return rows.map((row) => ({
    id: row.id,
    paymentId: row.payment_id,
    received: usd(row.received),
    credited: usd(row.credited),
    reversed: usd(row.reversed),
    isFinal: row.final_at !== null,
    isWarned: row.warned_at !== null,
    steps: new Set(row.steps),
  }));
}

/** Moves one step of a reversal, once. False when `expected` is no longer the reversed sum: plan again. */
export async function reversePayment(
  pool: pg.Pool,
  paymentId: string,
  step: ReversalStep,
  expected: PicoUsd,
): Promise<boolean> {
  const row = await queryOne<{ done: boolean }>(pool, {
    name: 'reverse_payment',
    text: 'select reverse_payment($1, $2, $3, $4, $5, $6) as done',
    values: [paymentId, step.objectId, step.kind, step.direction, formatUsd(step.amount), formatUsd(expected)],
  });
  return row.done;
}

/** A refund or dispute that can still change. */
export interface OpenReversal {
  readonly provider: string;
  readonly objectId: string;
  readonly topUpId: Uuid<'topUp'>;
}

/** Writes down which reversals of a payment can still change: these, and no others. */
export async function keepOpenReversals(pool: pg.Pool, paymentId: string, objectIds: readonly string[]): Promise<void> {
  await query(pool, {
    name: 'keep_open_reversals',
    text: 'select keep_open_reversals($1, $2)',
    values: [paymentId, objectIds],
  });
}

/**
 * Disputes of payments to an account, credited or not: those that are open freeze its automatic top-ups, each once;
 * those that are over in our favour free them.
 */
export async function noteDisputes(
  pool: pg.Pool,
  { accountId, provider }: { readonly accountId: AccountUuid; readonly provider: string },
  disputes: { readonly open: readonly string[]; readonly won: readonly string[] },
): Promise<void> {
  await query(pool, {
    name: 'note_disputes',
    text: 'select note_disputes($1, $2, $3, $4)',
    values: [accountId, provider, disputes.open, disputes.won],
  });
}

/**
 * Reversals that can still change, of orders that nobody has asked their provider for in so long that their run may be
 * gone.
 */
export async function findQuietReversals(
  pool: pg.Pool,
  { ageSeconds, pollSeconds, limit }: QuietTopUps,
): Promise<OpenReversal[]> {
  const rows = await query<{ provider: string; object_id: string; top_up_id: string }>(pool, {
    name: 'find_quiet_reversals',
    text: 'select * from find_quiet_reversals($1, $2, $3)',
    values: [ageSeconds, pollSeconds, limit],
  });
  return rows.map((row) => ({
    provider: row.provider,
    objectId: row.object_id,
    topUpId: uuidOf('topUp', row.top_up_id),
  }));
}

/** The order that a payment was credited to; null when it was not. */
export async function topUpOfPayment(
  pool: pg.Pool,
  provider: string,
  paymentId: string,
): Promise<Uuid<'topUp'> | null> {
  const row = await queryOne<{ id: string | null }>(pool, {
    name: 'top_up_of_payment',
    text: 'select top_up_of_payment($1, $2) as id',
    values: [provider, paymentId],
  });
  return row.id === null ? null : uuidOf('topUp', row.id);
}
