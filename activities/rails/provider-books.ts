/**
 * What a provider has on its books, listed without asking about any single order: the half of reconciliation that notices
 * payments nobody told us of. Only ids and sums are read here; what follows from a payment is the rail's and the domain's.
 */
import type Stripe from 'stripe';
import type { Creem } from 'creem';
import type pg from 'pg';
import { formatId } from '../../domain/ids.ts';
import type { PicoUsd } from '../../domain/money.ts';
import { usdOfCents } from '../../domain/top-up.ts';
import { depositsCountedBetween } from '../../db/deposits.ts';
import { STRIPE_TOP_UP_KEY } from '../../runtime/stripe-events.ts';
import { readTransactions } from './creem-answers.ts';
import { outcomeOf, type CreemOutcome } from './creem-reversals.ts';
import { LIST_PAGE, refusing } from './stripe-calls.ts';

export interface Period {
  readonly since: Date;
  readonly until: Date;
}

/** A payment that was made, or whose refund or dispute was, in a period. */
export interface BookEntry {
  /** What a credit of it is keyed by. */
  readonly paymentId: string;
  /** The order (`top_…`) that the provider has on record; null where it names none. */
  readonly topUpId: string | null;
  /** What was paid; null for an entry that only tells of a refund or dispute. */
  readonly received: PicoUsd | null;
}

export interface ProviderBooks {
  readonly provider: string;
  entries(period: Period): AsyncIterable<BookEntry>;
}

/** Payments of Stripe that carry our mark; the account may serve others as well. */
export function createStripeBooks(stripe: Stripe): ProviderBooks {
  return {
    provider: 'stripe',
    async *entries({ since, until }) {
      const created = { gte: seconds(since), lte: seconds(until) };
      const limit = LIST_PAGE;
      for await (const intent of pages(() => stripe.paymentIntents.list({ created, limit }))) {
        const topUpId = intent.metadata[STRIPE_TOP_UP_KEY] ?? null;
        if (intent.status !== 'succeeded' || topUpId === null) continue;
        yield { paymentId: intent.id, topUpId, received: usdOfCents(intent.amount_received) };
      }
      for await (const { payment_intent: intent } of pages(() => stripe.refunds.list({ created, limit }))) {
        if (intent !== null) yield { paymentId: idOf(intent), topUpId: null, received: null };
      }
      for await (const { payment_intent: intent } of pages(() => stripe.disputes.list({ created, limit }))) {
        if (intent !== null) yield { paymentId: idOf(intent), topUpId: null, received: null };
      }
    },
  };
}

const seconds = (time: Date): number => Math.floor(time.getTime() / 1000);

function idOf(object: string | { readonly id: string }): string {
  return typeof object === 'string' ? object : object.id;
}

async function* pages<T>(list: () => AsyncIterable<T>): AsyncIterable<T> {
  const rows = list()[Symbol.asyncIterator]();
  for (;;) {
    const next = await refusing(() => rows.next());
    if (next.done === true) return;
    yield next.value;
  }
}

/**
 * Payments of Creem for our product; the store may sell others as well. A transaction names the order that it paid, which is
 * what a credit is keyed by, but no request of ours.
 */
export function createCreemBooks(creem: Creem, productId: string): ProviderBooks {
  return {
    provider: 'creem',
    async *entries({ since, until }) {
      // The search takes no times and promises no order, so all of it is read.
      for (let page = 1, pages = 1; page <= pages; page++) {
        const found = await readTransactions(() =>
          creem.transactions.search(undefined, undefined, productId, page, LIST_PAGE),
        );
        pages = found.pages;
        for (const { orderId, paidCents, createdAt, status } of found.transactions) {
          const isInPeriod = createdAt !== null && createdAt >= since && createdAt < until;
          if (orderId === null || !isInPeriod || NO_MONEY.includes(outcomeOf(status))) continue;
          yield { paymentId: orderId, topUpId: null, received: paidCents === null ? null : usdOfCents(paidCents) };
        }
      }
    },
  };
}

const NO_MONEY: readonly CreemOutcome[] = ['pending', 'void', 'unknown'];

/** Transfers on every chain, as two vendors have agreed on them; that none was missed is what the daily re-scan sees to. */
export function createDepositBooks(pool: pg.Pool): ProviderBooks {
  return {
    provider: 'crypto',
    async *entries(period) {
      for (const { paymentId, topUpId, amount } of await depositsCountedBetween(pool, period)) {
        yield { paymentId, topUpId: formatId('topUp', topUpId), received: amount };
      }
    },
  };
}
