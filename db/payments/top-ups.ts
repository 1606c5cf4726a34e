/**
 * Top-ups: the orders, from their checkout to their end. One function per SQL function of
 * db/functions/payments/top-ups.sql.
 */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, picoAmount, usd, type PicoAmount, type PicoUsd } from '../../domain/money.ts';
import type { TopUpState } from '../../domain/payments/top-up.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';

export interface TopUp {
  readonly id: Uuid<'topUp'>;
  readonly accountId: AccountUuid;
  readonly state: TopUpState;
  readonly method: string;
  readonly provider: string;
  /** The credited amount. */
  readonly amount: PicoUsd;
  /** The fee that the customer pays in addition. */
  readonly fee: PicoUsd;
  readonly currency: string;
  readonly live: boolean;
  /** The provider's checkout object; null until it exists. */
  readonly providerId: string | null;
  readonly checkoutUrl: string | null;
  /** The amount seen as paid in the order's currency. */
  readonly received: PicoUsd;
  /** The amounts seen as paid in other currencies. There is no rate, so nothing of it is in `received`. */
  readonly receivedOther: readonly ForeignAmount[];
  readonly credited: PicoUsd;
  /** Why a person has to look, as a code. */
  readonly stuck: string | null;
  readonly expiresAt: Date;
  readonly createdAt: Date;
  /** A person has given it up: its run closes the checkout. */
  readonly isGivenUp: boolean;
  readonly card: CardUse;
}

/** A sum in a currency that is not the order's. */
export interface ForeignAmount {
  /** ISO code in lower case. */
  readonly currency: string;
  /** In that currency. */
  readonly amount: PicoAmount;
}

/** The saved card of an order, and the wish to save one. */
export interface CardUse {
  /** The customer wants the card kept for automatic top-ups. */
  readonly save: boolean;
  /** The provider's customer object: whose card is kept or charged. */
  readonly customerId: string | null;
  /** The saved card that is charged; of automatic top-ups only. */
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
  received_other: Record<string, string>;
  credited: string;
  stuck: string | null;
  expires_at: Date;
  created_at: Date;
  save_card: boolean;
  customer_id: string | null;
  payment_method: string | null;
  abandoned_by: string | null;
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
    receivedOther: Object.entries(row.received_other)
      .map(([currency, amount]) => ({ currency, amount: picoAmount(amount) }))
      .sort((a, b) => (a.currency < b.currency ? -1 : 1)),
    credited: usd(row.credited),
    stuck: row.stuck,
    expiresAt: row.expires_at,
    createdAt: row.created_at,
    isGivenUp: row.abandoned_by !== null,
    card: { save: row.save_card, customerId: row.customer_id, paymentMethod: row.payment_method },
  };
}

/**
 * Creates an order; a repeat with the same id returns the existing order, with other content it is refused
 * (`id_reused`). Refuses `too_many_open_top_ups` when the account has `openMax` others that can still be paid.
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
  const row = await queryOne<TopUpRow>(session, {
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
  const [row] = await query<TopUpRow>(pool, { name: 'top_up_of', text: 'select * from top_up_of($1)', values: [id] });
  return row === undefined ? null : toTopUp(row);
}

/** Writes down the customer object that an order keeps its card for; the first one counts. */
export async function noteTopUpCustomer(pool: pg.Pool, id: Uuid<'topUp'>, customerId: string): Promise<TopUp> {
  const row = await queryOne<TopUpRow>(pool, {
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
  const row = await queryOne<TopUpRow>(pool, {
    name: 'begin_checkout',
    text: 'select * from begin_checkout($1, $2, $3, $4)',
    values: [id, checkout.providerId, checkout.url, checkout.expiresAt],
  });
  return toTopUp(row);
}

/**
 * Moves an order to a state without money, unless it has left the one it was judged in. Returns the order as it then
 * is.
 */
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
  const row = await queryOne<TopUpRow>(pool, {
    name: 'move_top_up',
    text: 'select * from move_top_up($1, $2, $3, $4, $5)',
    values: [move.id, move.from, move.to, move.stuck, formatUsd(move.received)],
  });
  return toTopUp(row);
}

/** A person gives an order up; its run closes the checkout. False when it has ended, or somebody has already. */
export async function abandonTopUp(
  session: Session,
  wanted: { readonly id: Uuid<'topUp'>; readonly reason: string; readonly by: string },
): Promise<boolean> {
  const { done } = await queryOne<{ done: boolean }>(session, {
    name: 'abandon_top_up',
    text: 'select abandon_top_up($1, $2, $3) as done',
    values: [wanted.id, wanted.reason, wanted.by],
  });
  return done;
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
  const row = await queryOne<{ ids: string[] }>(pool, {
    name: 'find_quiet_top_ups',
    text: 'select find_quiet_top_ups($1, $2, $3) as ids',
    values: [ageSeconds, pollSeconds, limit],
  });
  return row.ids.map((id) => uuidOf('topUp', id));
}

/** Writes down that the provider of an order is being asked, so that the sweep knows its run to be there. */
export async function noteTopUpLook(pool: pg.Pool, id: Uuid<'topUp'>): Promise<void> {
  await query(pool, { name: 'note_top_up_look', text: 'select note_top_up_look($1)', values: [id] });
}

/** Writes down why an order's provider tells less than it must, as a code; null once it tells all. */
export async function noteTopUpStuck(pool: pg.Pool, id: Uuid<'topUp'>, stuck: string | null): Promise<void> {
  await query(pool, { name: 'note_top_up_stuck', text: 'select note_top_up_stuck($1, $2)', values: [id, stuck] });
}

/** One order of an account; null when it has no such one. */
export async function findTopUp(
  session: Session,
  id: Uuid<'topUp'>,
  accountId: AccountUuid | null,
): Promise<TopUp | null> {
  const [row] = await query<TopUpRow>(session, {
    name: 'find_top_up',
    text: 'select * from top_up where id = $1 and ($2::uuid is null or account_id = $2)',
    values: [id, accountId],
  });
  return row === undefined ? null : toTopUp(row);
}

/** The orders of an account, newest first. Staff look for them by db/payments/top-up-records.ts. */
export async function listTopUps(session: Session, accountId: AccountUuid, page: PageRequest): Promise<Page<TopUp>> {
  const rows = await query<TopUpRow>(session, {
    name: 'list_top_ups',
    text: 'select * from top_up where account_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3',
    values: [accountId, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toTopUp), page.limit, (topUp) => topUp.id);
}

/** The order that a payment was credited to; null when it was not. For roles that may read tables. */
export async function paidTopUp(session: Session, provider: string, paymentId: string): Promise<TopUp | null> {
  const [row] = await query<TopUpRow>(session, {
    name: 'paid_top_up',
    text: 'select t.* from top_up t join payment p on p.top_up_id = t.id where p.provider = $1 and p.payment_id = $2',
    values: [provider, paymentId],
  });
  return row === undefined ? null : toTopUp(row);
}
