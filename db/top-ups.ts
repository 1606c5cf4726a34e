/** Top-ups: orders, the payments that credit them, and what is taken back. One function per SQL function of db/migrations/0007. */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type Uuid } from '../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../domain/money.ts';
import type { ReversalStep, TopUpState } from '../domain/top-up.ts';
import { run, runOne, type Session } from './client.ts';
import { pageOf, type Page, type PageRequest } from './page.ts';

export interface TopUp {
  readonly id: Uuid<'topUp'>;
  readonly accountId: AccountUuid;
  readonly state: TopUpState;
  readonly method: string;
  readonly provider: string;
  /** What is credited. */
  readonly amount: PicoUsd;
  /** What the customer pays on top. */
  readonly fee: PicoUsd;
  readonly currency: string;
  readonly live: boolean;
  /** The provider's checkout object; null until it exists. */
  readonly providerId: string | null;
  readonly checkoutUrl: string | null;
  readonly received: PicoUsd;
  readonly credited: PicoUsd;
  /** Why a person has to look, as a code. */
  readonly stuck: string | null;
  readonly expiresAt: Date;
  readonly createdAt: Date;
  readonly card: CardUse;
}

/** What an order has to do with kept cards. */
export interface CardUse {
  /** The customer wants the card kept for automatic top-ups. */
  readonly save: boolean;
  /** The provider's customer object: whose card is kept or charged. */
  readonly customerId: string | null;
  /** The kept card that is charged; of automatic top-ups only. */
  readonly paymentMethod: string | null;
}

export interface TopUpRow {
  id: string;
  account_id: string;
  state: TopUpState;
  method: string;
  provider: string;
  amount: string;
  fee: string;
  currency: string;
  live: boolean;
  provider_id: string | null;
  checkout_url: string | null;
  received: string;
  credited: string;
  stuck: string | null;
  expires_at: Date;
  created_at: Date;
  save_card: boolean;
  customer_id: string | null;
  payment_method: string | null;
}

export function toTopUp(row: TopUpRow): TopUp {
  return {
    id: uuidOf('topUp', row.id),
    accountId: uuidOf('account', row.account_id),
    state: row.state,
    method: row.method,
    provider: row.provider,
    amount: usd(row.amount),
    fee: usd(row.fee),
    currency: row.currency,
    live: row.live,
    providerId: row.provider_id,
    checkoutUrl: row.checkout_url,
    received: usd(row.received),
    credited: usd(row.credited),
    stuck: row.stuck,
    expiresAt: row.expires_at,
    createdAt: row.created_at,
    card: { save: row.save_card, customerId: row.customer_id, paymentMethod: row.payment_method },
  };
}

/**
 * Creates an order; a repeat with the same id returns the one that is there, with other content it is refused (`id_reused`).
 * Refuses `too_many_open_top_ups` when the account has `openMax` others that can still be paid.
 */
export async function createTopUp(
  session: Session,
  order: Pick<TopUp, 'id' | 'accountId' | 'method' | 'provider' | 'amount' | 'fee' | 'currency' | 'live'> & {
    readonly expiresInSeconds: number;
    readonly saveCard?: boolean;
    /** Not given: any number. */
    readonly openMax?: number;
  },
): Promise<TopUp> {
  const row = await runOne<TopUpRow>(session, {
    name: 'create_top_up',
    text: 'select * from create_top_up($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)',
    values: [
      order.id,
      order.accountId,
      order.method,
      order.provider,
      formatUsd(order.amount),
      formatUsd(order.fee),
      order.currency,
      order.live,
      order.expiresInSeconds,
      order.saveCard ?? false,
      order.openMax ?? null,
    ],
  });
  return toTopUp(row);
}

/** Null when there is no such order. */
export async function topUpById(pool: pg.Pool, id: Uuid<'topUp'>): Promise<TopUp | null> {
  const [row] = await run<TopUpRow>(pool, { name: 'top_up_of', text: 'select * from top_up_of($1)', values: [id] });
  return row === undefined ? null : toTopUp(row);
}

/** Writes down the customer object that an order keeps its card for; the first one counts. */
export async function noteTopUpCustomer(pool: pg.Pool, id: Uuid<'topUp'>, customerId: string): Promise<TopUp> {
  const row = await runOne<TopUpRow>(pool, {
    name: 'note_top_up_customer',
    text: 'select * from note_top_up_customer($1, $2)',
    values: [id, customerId],
  });
  return toTopUp(row);
}

/** Writes down the provider's object of an order. The first one counts; the row that is returned says which that is. */
export async function beginCheckout(
  pool: pg.Pool,
  id: Uuid<'topUp'>,
  checkout: { readonly providerId: string; readonly url: string | null; readonly expiresAt: Date | null },
): Promise<TopUp> {
  const row = await runOne<TopUpRow>(pool, {
    name: 'begin_checkout',
    text: 'select * from begin_checkout($1, $2, $3, $4)',
    values: [id, checkout.providerId, checkout.url, checkout.expiresAt],
  });
  return toTopUp(row);
}

/** Credits a payment, once per (provider, payment id), and closes the order as credited. */
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
): Promise<void> {
  await run(pool, {
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
}

/** Writes down that a credited payment cannot vanish any more. */
export async function finalizePayment(pool: pg.Pool, paymentId: string): Promise<void> {
  await run(pool, { name: 'finalize_payment', text: 'select finalize_payment($1)', values: [paymentId] });
}

/** Moves an order to a state without money, unless it has left the one it was judged in. Returns the order as it then is. */
export async function moveTopUp(
  pool: pg.Pool,
  move: {
    readonly id: Uuid<'topUp'>;
    readonly from: TopUpState;
    readonly to: TopUpState;
    readonly stuck: string | null;
    readonly received: PicoUsd;
  },
): Promise<TopUp> {
  const row = await runOne<TopUpRow>(pool, {
    name: 'move_top_up',
    text: 'select * from move_top_up($1, $2, $3, $4, $5)',
    values: [move.id, move.from, move.to, move.stuck, formatUsd(move.received)],
  });
  return toTopUp(row);
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
  const rows = await run<{
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

/** Moves one step of a reversal, once. False when `expected` is no longer what is reversed: plan anew. */
export async function reversePayment(
  pool: pg.Pool,
  paymentId: string,
  step: ReversalStep,
  expected: PicoUsd,
): Promise<boolean> {
  const row = await runOne<{ done: boolean }>(pool, {
    name: 'reverse_payment',
    text: 'select reverse_payment($1, $2, $3, $4, $5, $6) as done',
    values: [paymentId, step.objectId, step.kind, step.direction, formatUsd(step.amount), formatUsd(expected)],
  });
  return row.done;
}

export interface QuietTopUps {
  /** How long nobody may ask for an order that has no checkout yet. */
  readonly ageSeconds: number;
  /** How much longer for one that has: the longest wait between two looks of its run. */
  readonly pollSeconds: number;
  readonly limit: number;
}

/** Open orders whose provider nobody has asked for so long that their run may be gone, the longest first. */
export async function findQuietTopUps(
  pool: pg.Pool,
  { ageSeconds, pollSeconds, limit }: QuietTopUps,
): Promise<Uuid<'topUp'>[]> {
  const row = await runOne<{ ids: string[] }>(pool, {
    name: 'find_quiet_top_ups',
    text: 'select find_quiet_top_ups($1, $2, $3) as ids',
    values: [ageSeconds, pollSeconds, limit],
  });
  return row.ids.map((id) => uuidOf('topUp', id));
}

/** A refund or dispute that can still change. */
export interface OpenReversal {
  readonly provider: string;
  readonly objectId: string;
  readonly topUpId: Uuid<'topUp'>;
}

/** Writes down which reversals of a payment can still change: these, and no others. */
export async function keepOpenReversals(pool: pg.Pool, paymentId: string, objectIds: readonly string[]): Promise<void> {
  await run(pool, {
    name: 'keep_open_reversals',
    text: 'select keep_open_reversals($1, $2)',
    values: [paymentId, objectIds],
  });
}

/** Reversals that can still change, of orders that nobody has asked their provider for in so long that their run may be gone. */
export async function findQuietReversals(
  pool: pg.Pool,
  { ageSeconds, pollSeconds, limit }: QuietTopUps,
): Promise<OpenReversal[]> {
  const rows = await run<{ provider: string; object_id: string; top_up_id: string }>(pool, {
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

/** Writes down which payments of an order its provider has just shown as paid: a credit by hand of another one is looked at twice. */
export async function noteShownPayments(
  pool: pg.Pool,
  id: Uuid<'topUp'>,
  paymentIds: readonly string[],
): Promise<void> {
  await run(pool, {
    name: 'note_shown_payments',
    text: 'select note_shown_payments($1, $2)',
    values: [id, paymentIds],
  });
}

/** Writes down that the provider of an order is being asked, so that the sweep knows its run to be there. */
export async function noteTopUpLook(pool: pg.Pool, id: Uuid<'topUp'>): Promise<void> {
  await run(pool, { name: 'note_top_up_look', text: 'select note_top_up_look($1)', values: [id] });
}

/** The order that a payment was credited to; null when it was not. */
export async function topUpOfPayment(
  pool: pg.Pool,
  provider: string,
  paymentId: string,
): Promise<Uuid<'topUp'> | null> {
  const row = await runOne<{ id: string | null }>(pool, {
    name: 'top_up_of_payment',
    text: 'select top_up_of_payment($1, $2) as id',
    values: [provider, paymentId],
  });
  return row.id === null ? null : uuidOf('topUp', row.id);
}

/** One order of an account; null when it has no such one. */
export async function findTopUp(
  session: Session,
  id: Uuid<'topUp'>,
  accountId: AccountUuid | null,
): Promise<TopUp | null> {
  const [row] = await run<TopUpRow>(session, {
    name: 'find_top_up',
    text: 'select * from top_up where id = $1 and ($2::uuid is null or account_id = $2)',
    values: [id, accountId],
  });
  return row === undefined ? null : toTopUp(row);
}

/** The orders of an account, newest first. Staff look for them by db/top-up-records.ts. */
export async function listTopUps(session: Session, accountId: AccountUuid, page: PageRequest): Promise<Page<TopUp>> {
  const rows = await run<TopUpRow>(session, {
    name: 'list_top_ups',
    text: 'select * from top_up where account_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3',
    values: [accountId, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toTopUp), page.limit, (topUp) => topUp.id);
}

/** The order that a payment was credited to; null when it was not. For those who may read tables. */
export async function paidTopUp(session: Session, provider: string, paymentId: string): Promise<TopUp | null> {
  const [row] = await run<TopUpRow>(session, {
    name: 'paid_top_up',
    text: 'select t.* from top_up t join payment p on p.top_up_id = t.id where p.provider = $1 and p.payment_id = $2',
    values: [provider, paymentId],
  });
  return row === undefined ? null : toTopUp(row);
}
