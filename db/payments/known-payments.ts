/**
 * Payments as their providers last showed them, credited or not: written by every look at an order and by
 * reconciliation, read by staff for manual credits. `findPayment` turns a pasted id into the one key that a credit must
 * have.
 */
import type pg from 'pg';
import { formatId, uuidOf, type Uuid } from '../../domain/ids.ts';
import { formatPico, picoAmount, usd, type PicoAmount, type PicoUsd } from '../../domain/money.ts';
import {
  namedPayment,
  namesIn,
  outsideKey,
  type NamedPayment,
  type PaymentChoice,
} from '../../domain/payments/payment-names.ts';
import type { PaymentFacts } from '../../domain/payments/top-up.ts';
import { query, type Session } from '../shared/client.ts';
import type { TopUp } from './top-ups.ts';

/**
 * Writes down all payments of an order as its provider has just shown them. A payment that is shown no more is `gone`.
 */
export async function notePayments(
  pool: pg.Pool,
  id: Uuid<'topUp'>,
  payments: readonly Pick<PaymentFacts, 'paymentId' | 'status' | 'received' | 'currency' | 'live' | 'otherIds'>[],
): Promise<void> {
  // A payment that a provider shows twice is one payment.
  const once = new Map(payments.map((payment) => [payment.paymentId, payment]));
  const rows = [...once.values()].map(({ paymentId, status, received, currency, live, otherIds = [] }) => ({
    payment_id: paymentId,
    status,
    received: formatPico(received),
    currency,
    live,
    other_ids: otherIds,
  }));
  await query(pool, {
    name: 'note_payments',
    text: 'select note_payments($1, $2)',
    values: [id, JSON.stringify(rows)],
  });
}

/** Records a payment that only a provider's statement shows; `topUp` is the order that it names, if it is ours. */
export async function noteListedPayment(
  pool: pg.Pool,
  listed: {
    readonly provider: string;
    readonly paymentId: string;
    readonly topUp: Uuid<'topUp'> | null;
    readonly received: PicoAmount;
    readonly currency: string;
  },
): Promise<void> {
  await query(pool, {
    name: 'note_listed_payment',
    text: 'select note_listed_payment($1, $2, $3, $4, $5)',
    values: [listed.provider, listed.paymentId, listed.topUp, formatPico(listed.received), listed.currency],
  });
}

/**
 * The statuses of a known payment: as its provider reports it, `listed` where only the statement does, `gone` once it
 * is shown no more.
 */
export const KNOWN_PAYMENT_STATUSES = ['paid', 'processing', 'failed', 'no_payment', 'listed', 'gone'] as const;
export type KnownPaymentStatus = (typeof KNOWN_PAYMENT_STATUSES)[number];

/** A payment of an order as staff choose from. */
export interface KnownPayment {
  /** The key of its credit. */
  readonly paymentId: string;
  readonly status: KnownPaymentStatus;
  /** In `currency`. */
  readonly received: PicoAmount;
  readonly currency: string;
  /** Null where only the statement shows it, which does not say. */
  readonly live: boolean | null;
  /** Other ids of it, in lower case. */
  readonly otherIds: readonly string[];
  /** The credited amount; null when it was not credited. */
  readonly credited: PicoUsd | null;
  readonly seenAt: Date;
}

interface NameRow {
  provider: string;
  payment_id: string;
  top_up_id: string | null;
  status: KnownPaymentStatus;
  names: string[];
}

const toChoice = (row: NameRow): PaymentChoice => ({
  provider: row.provider,
  paymentId: row.payment_id,
  topUpId: row.top_up_id === null ? null : formatId('topUp', uuidOf('topUp', row.top_up_id)),
  status: row.status,
  names: row.names,
});

/** The payments of an order, those of today's truth first. For roles that may read tables. */
export async function listKnownPayments(session: Session, topUpId: Uuid<'topUp'>): Promise<KnownPayment[]> {
  const rows = await query<
    NameRow & { received: string; currency: string; live: boolean | null; credited: string | null; seen_at: Date }
  >(session, {
    name: 'list_known_payments',
    text: `select k.*, p.credited from known_payment k left join payment p on (p.provider, p.payment_id) = (k.provider, k.payment_id)
      where k.top_up_id = $1 order by k.status = 'gone', k.payment_id`,
    values: [topUpId],
  });
  return rows.map((row) => ({
    paymentId: row.payment_id,
    status: row.status,
    received: picoAmount(row.received),
    currency: row.currency,
    live: row.live,
    otherIds: row.names.filter((name) => name !== row.payment_id.toLowerCase()),
    credited: row.credited === null ? null : usd(row.credited),
    seenAt: row.seen_at,
  }));
}

/**
 * Which payment a person means by what they gave for an order, by the key that a credit of it must have; else why not.
 */
export async function findPayment(session: Session, order: TopUp, given: string): Promise<NamedPayment> {
  const outside = outsideKey(given);
  if (outside !== null) return outside;
  const found = await query<NameRow>(session, {
    name: 'find_known_payments',
    text: 'select * from find_known_payments($1)',
    values: [namesIn(given)],
  });
  const choices = await query<NameRow>(session, {
    name: 'known_payments_of',
    text: 'select * from known_payments_of($1)',
    values: [order.id],
  });
  const topUpId = formatId('topUp', order.id);
  return namedPayment(given, { topUpId, provider: order.provider }, found.map(toChoice), choices.map(toChoice));
}
