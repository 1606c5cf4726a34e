/**
 * A provider's statement: its payments, listed without asking about any single order. This half of reconciliation finds
 * payments that no event reported. Only ids and sums are read here; what follows from a payment is the rail's and the
 * domain's.
 */
import type Stripe from 'stripe';
import type { Creem } from 'creem';
import type pg from 'pg';
import { formatId } from '../domain/ids.ts';
import { amountOfMinor, USD } from '../domain/currency.ts';
import { ZERO_USD, type PicoAmount } from '../domain/money.ts';
import type { ReversalFacts } from '../domain/payments/top-up.ts';
import { depositsCountedBetween } from '../db/payments/deposits.ts';
import { STRIPE_TOP_UP_KEY } from './stripe/events.ts';
import { readTransactions, type CreemTransaction } from './creem/answers.ts';
import { outcomeOf, type CreemOutcome } from './creem/reversals.ts';
import { creemTransactionSums } from './creem/sums.ts';
import { disputeFacts, LIST_PAGE, refundFacts, refusing } from './stripe/calls.ts';

export interface Period {
  readonly since: Date;
  readonly until: Date;
}

/** A payment that was made in a period, or a refund or dispute that was. */
export interface StatementEntry {
  /** The key of its credit. */
  readonly paymentId: string;
  /** The order (`top_…`) that the provider has on record; null where it names none. */
  readonly topUpId: string | null;
  /** The paid sum, as the ledger counts it, in `currency`; null for an entry of a refund or dispute. */
  readonly received: PicoAmount | null;
  /** ISO code in lower case; null where the entry has no paid sum. */
  readonly currency: string | null;
  /** How much of it the provider has taken back; null where the list does not tell. */
  readonly taken: PicoAmount | null;
  /** The refund or dispute of an entry; `isTaken` is null while it can still change. */
  readonly reversal: { readonly objectId: string; readonly isTaken: boolean | null } | null;
}

export interface StatementPage {
  readonly entries: readonly StatementEntry[];
  /** Where the next page begins, in the statement's own form; null after the last one. */
  readonly next: string | null;
}

export interface ProviderStatement {
  readonly provider: string;
  /**
   * The page at a cursor; null is the first. At most 200 entries, and a page that is read again has the same entries;
   * an entry may come on two pages, none is left out.
   */
  page(period: Period, cursor: string | null): Promise<StatementPage>;
}

/** Payments of Stripe that carry our mark, then refunds and disputes; the account may serve others as well. */
export function createStripeStatement(stripe: Stripe): ProviderStatement {
  return {
    provider: 'stripe',
    page({ since, until }, cursor) {
      const [list = 'payments', after] = cursor?.split(' ') ?? [];
      const params = {
        created: { gte: seconds(since), lte: seconds(until) },
        limit: LIST_PAGE,
        ...(after !== undefined && { starting_after: after }),
      };
      return refusing(async () => {
        switch (list) {
          case 'payments': {
            const found = await stripe.paymentIntents.list({ ...params, expand: ['data.latest_charge'] });
            return stripePage(found, paymentEntry, list, 'refunds');
          }
          case 'refunds':
            return stripePage(await stripe.refunds.list(params), refundEntry, list, 'disputes');
          default:
            return stripePage(await stripe.disputes.list(params), disputeEntry, list, null);
        }
      });
    },
  };
}

function stripePage<T extends { readonly id: string }>(
  { data, has_more }: { readonly data: readonly T[]; readonly has_more: boolean },
  entryOf: (row: T) => StatementEntry | null,
  list: string,
  nextList: string | null,
): StatementPage {
  const last = data.at(-1);
  const entries = data.map(entryOf).filter((entry) => entry !== null);
  return { entries, next: has_more && last !== undefined ? `${list} ${last.id}` : nextList };
}

function paymentEntry(intent: Stripe.PaymentIntent): StatementEntry | null {
  const topUpId = intent.metadata[STRIPE_TOP_UP_KEY] ?? null;
  if (intent.status !== 'succeeded' || topUpId === null) return null;
  const { latest_charge: charge } = intent;
  // The charge has neither the sum of a dispute nor whether its money is gone.
  const isTold = charge !== null && typeof charge !== 'string' && !charge.disputed;
  return {
    paymentId: intent.id,
    topUpId,
    received: amountOfMinor(intent.amount_received, intent.currency),
    currency: intent.currency,
    taken: isTold ? amountOfMinor(charge.amount_refunded, intent.currency) : null,
    reversal: null,
  };
}

const refundEntry = (refund: Stripe.Refund): StatementEntry | null =>
  reversalEntry(refund.payment_intent, refundFacts(refund));

const disputeEntry = (dispute: Stripe.Dispute): StatementEntry | null =>
  reversalEntry(dispute.payment_intent, disputeFacts(dispute));

function reversalEntry(
  intent: string | { readonly id: string } | null,
  { objectId, isTaken, isOpen }: ReversalFacts,
): StatementEntry | null {
  if (intent === null) return null;
  return {
    paymentId: typeof intent === 'string' ? intent : intent.id,
    topUpId: null,
    received: null,
    currency: null,
    taken: null,
    reversal: { objectId, isTaken: isOpen ? null : isTaken },
  };
}

const seconds = (time: Date): number => Math.floor(time.getTime() / 1000);

/**
 * How much older than the period a page must be before it counts as past it: rows may be written a little out of turn.
 */
const CREEM_MARGIN_MS = 86_400_000;
/** Pages of what is left that must be in order as well before it is left unread. */
const CREEM_PROBES = 4;

/**
 * Payments of Creem for our product; the store may sell others as well. A transaction names the order that it paid,
 * which is what a credit is keyed by, but no request of ours.
 *
 * The search takes no times and promises no order, so all of it is read, unless it shows its order itself: once a page
 * is older than the period, every row before it was in order, newest first, and so are pages spread over the rest, the
 * rest is older still. The cursor is the page and the time of the last row; that is no number once the order was
 * broken.
 */
export function createCreemStatement(creem: Creem, productId: string): ProviderStatement {
  const read = (page: number) =>
    readTransactions(() => creem.transactions.search(undefined, undefined, productId, page, LIST_PAGE));

  return {
    provider: 'creem',
    async page(period, cursor) {
      const [at = '1', before = 'Infinity'] = cursor?.split(' ') ?? [];
      const page = Number(at);
      const { transactions, pages } = await read(page);
      const last = oldestInOrder(transactions, Number(before));
      const isPast = newestOf(transactions) < period.since.getTime() - CREEM_MARGIN_MS;
      const isDone = page >= pages || (isPast && (await isInOrderAfter(page, pages, last)));
      const entries = transactions.flatMap((transaction) => creemEntry(transaction, period) ?? []);
      return { entries, next: isDone ? null : `${page + 1} ${last}` };
    },
  };

  async function isInOrderAfter(page: number, pages: number, last: number): Promise<boolean> {
    let oldest = last;
    const probes = Array.from({ length: CREEM_PROBES }, (_, n) =>
      Math.ceil(page + ((pages - page) * (n + 1)) / CREEM_PROBES),
    );
    for (const probe of new Set(probes)) {
      if (Number.isNaN(oldest)) return false;
      oldest = oldestInOrder((await read(probe)).transactions, oldest);
    }
    return !Number.isNaN(oldest);
  }
}

/**
 * The time of the last row where all rows come newest first, none of them newer than `before`; NaN where they do not.
 */
function oldestInOrder(transactions: readonly CreemTransaction[], before: number): number {
  let last = before;
  for (const { createdAt } of transactions) {
    const time = createdAt?.getTime() ?? Number.NaN;
    last = time <= last ? time : Number.NaN;
  }
  return last;
}

/** Infinity for a page without rows or with one of an unknown time. */
function newestOf(transactions: readonly CreemTransaction[]): number {
  if (transactions.length === 0) return Infinity;
  return Math.max(...transactions.map(({ createdAt }) => createdAt?.getTime() ?? Infinity));
}

/** Currency of a transaction that states none: not counted as USD; the check of its order finds the truth. */
const UNKNOWN_CURRENCY = 'unknown';

function creemEntry(transaction: CreemTransaction, { since, until }: Period): StatementEntry | null {
  const { orderId, taxCents, refundedCents, createdAt, status, currency } = transaction;
  // A transaction without a time may be of the period.
  const isInPeriod = createdAt === null || (createdAt >= since && createdAt < until);
  if (orderId === null || !isInPeriod || NO_MONEY.includes(outcomeOf(status))) return null;
  // The rail decides about reversals of a payment and its tax.
  const isUntouched = status === 'paid' && (refundedCents ?? 0) === 0 && taxCents !== null;
  return {
    paymentId: orderId,
    topUpId: null,
    received: amountOfMinor(creemTransactionSums(transaction).receivedCents, currency ?? UNKNOWN_CURRENCY),
    currency: currency ?? UNKNOWN_CURRENCY,
    taken: isUntouched ? ZERO_USD : null,
    reversal: null,
  };
}

const NO_MONEY: readonly CreemOutcome[] = ['pending', 'void', 'unknown'];

const DEPOSIT_PAGE = 200;

/**
 * Transfers on every chain, as two vendors have agreed on them; that none was missed is what the daily re-scan sees to.
 */
export function createDepositStatement(pool: pg.Pool): ProviderStatement {
  return {
    provider: 'crypto',
    async page(period, after) {
      const deposits = await depositsCountedBetween(pool, period, { after, limit: DEPOSIT_PAGE });
      const last = deposits.length < DEPOSIT_PAGE ? undefined : deposits.at(-1);
      const entries = deposits.map(({ paymentId, topUpId, amount }): StatementEntry => ({
        paymentId,
        topUpId: formatId('topUp', topUpId),
        received: amount,
        currency: USD,
        // A counted deposit is not lost.
        taken: ZERO_USD,
        reversal: null,
      }));
      return { entries, next: last?.id ?? null };
    },
  };
}
