/**
 * Creem, a merchant of record: checkouts of one product at a price of its own, tax on top. A payment is keyed by
 * Creem's order. There is no idempotency key for a checkout and no list of checkouts, so a repeated call can leave two
 * of them, both with our request id; if both are paid those are two payments, and their events are how the second is
 * found.
 */
import type { Creem } from 'creem';
import type pg from 'pg';
import { assert } from '../../domain/assert.ts';
import { formatId } from '../../domain/ids.ts';
import { addUsd, ZERO_USD } from '../../domain/money.ts';
import { amountOfMinor } from '../../domain/currency.ts';
import { centsOf, type CheckoutFacts, type PaymentFacts } from '../../domain/payments/top-up.ts';
import { creemCheckoutsOf, creemReversalsOf } from '../../db/payments/creem-events.ts';
import { paymentsOf } from '../../db/payments/payments.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import { CREEM_TOP_UP_KEY, subjectOfCreemEvent } from './events.ts';
import { CREEM_LIVE_MODE, type CreemSettings } from './settings.ts';
import { createCreem } from './client.ts';
import {
  readCheckout,
  readProduct,
  readTransactions,
  type CreemCheckout,
  type CreemOrder,
  type CreemTransaction,
} from './answers.ts';
import { creemReversals, outcomeOf } from './reversals.ts';
import { creemSums } from './sums.ts';
import { RailRefusal, type Checkout, type PaymentRail } from '../rail.ts';

const PAGE = 100;
/**
 * Creem says neither when a checkout will expire nor lets us choose. After this long past our own time it is not waited
 * for.
 */
const EXPIRY_GRACE_MS = 86_400_000;
const CHECKOUT_ID = /^ch_/;

export interface CreemRailDeps {
  readonly settings: CreemSettings;
  readonly publicUrl: string;
  /** For what only stored events know. */
  readonly pool: pg.Pool;
}

export function createCreemRail({ settings, publicUrl, pool }: CreemRailDeps): PaymentRail {
  const creem = createCreem(settings);
  return {
    provider: 'creem',
    accepts: 'exact',
    leastReceived: ZERO_USD,

    async openCheckout(order) {
      const topUpId = formatId('topUp', order.id);
      // Only the list of checkouts shows whether an earlier attempt created one. An event reports the first that is
      // paid.
      const [known] = await ownCheckouts(topUpId, []);
      if (known !== undefined) return checkoutOf(known);
      await checkProduct(creem, settings.productId, order);
      const cents = centsOf(addUsd(order.amount, order.fee));
      assert(cents !== null, 'a card is charged whole cents');
      const made = await readCheckout(() =>
        creem.checkouts.create({
          productId: settings.productId,
          requestId: topUpId,
          units: 1,
          customPrice: cents,
          metadata: { [CREEM_TOP_UP_KEY]: topUpId },
          successUrl: `${publicUrl}/top-ups/${topUpId}`,
        }),
      );
      return checkoutOf(made);
    },

    async inspect(order): Promise<CheckoutFacts> {
      const { providerId } = order;
      assert(providerId !== null, 'an order is inspected once its checkout exists');
      const first = await readCheckout(() => creem.checkouts.retrieve(providerId));
      const others = await ownCheckouts(formatId('topUp', order.id), [providerId]);
      const recorded = await paymentsOf(pool, order.id);
      const payments: PaymentFacts[] = [];
      for (const checkout of [first, ...others]) {
        const payment = await paymentOf(checkout, (id) => recorded.find(({ paymentId }) => paymentId === id)?.steps);
        if (payment !== null) payments.push(payment);
      }
      return { checkout: stateOf(first, order.expiresAt), payments };
    },

    /** Creem has no call for it. A later payment is still credited. */
    closeCheckout: () => Promise.resolve(),

    subjectOf: subjectOfCreemEvent,

    async topUpOf(paymentId) {
      // An order of Creem's does not lead back to its checkout.
      if (!CHECKOUT_ID.test(paymentId)) return null;
      return (await readCheckout(() => creem.checkouts.retrieve(paymentId))).requestId;
    },
  };

  /** Checkouts of an order that events have named and that Creem confirms, without those that are known already. */
  async function ownCheckouts(topUpId: string, known: readonly string[]): Promise<CreemCheckout[]> {
    const found: CreemCheckout[] = [];
    for (const id of await creemCheckoutsOf(pool, topUpId)) {
      if (known.includes(id)) continue;
      const checkout = await readCheckout(() => creem.checkouts.retrieve(id));
      if (checkout.requestId === topUpId) found.push(checkout);
    }
    return found;
  }

  /** The payment of a checkout; null where none was tried. */
  async function paymentOf(
    checkout: CreemCheckout,
    stepsOf: (paymentId: string) => ReadonlySet<string> | undefined,
  ): Promise<PaymentFacts | null> {
    const { order } = checkout;
    if (order === null) {
      return checkout.status === 'completed' ? { ...UNKNOWN_PAYMENT, paymentId: checkout.id } : null;
    }
    const transaction = order.status === 'paid' ? await transactionOf(order) : null;
    const sums = creemSums(order, transaction);
    const currency = order.currency ?? transaction?.currency ?? UNKNOWN_PAYMENT.currency;
    const received = amountOfMinor(sums.receivedCents, currency);
    const facts = {
      paymentId: order.id,
      received,
      currency,
      live: order.mode === CREEM_LIVE_MODE,
      isFinal: true,
      otherIds: [checkout.id, order.transactionId, transaction?.id ?? null].filter((id) => id !== null),
    };
    if (transaction === null) return { ...facts, status: 'processing', reversals: [] };
    const outcome = outcomeOf(transaction.status);
    const reversals = creemReversals({
      transaction: { ...transaction, paidCents: sums.paidCents },
      received,
      named: await creemReversalsOf(pool, transaction.id),
      steps: stepsOf(order.id) ?? new Set(),
      now: new Date(),
    });
    if (outcome === 'pending' || outcome === 'unknown') return { ...facts, status: 'processing', reversals };
    return { ...facts, status: outcome === 'void' ? 'failed' : 'paid', reversals };
  }

  /** An order that was tried several times has several; the one it names has paid it. */
  async function transactionOf({ id, transactionId }: CreemOrder): Promise<CreemTransaction | null> {
    let newest: CreemTransaction | null = null;
    for (let page = 1, pages = 1; page <= pages; page++) {
      const found = await readTransactions(() => creem.transactions.search(undefined, id, undefined, page, PAGE));
      const named = found.transactions.find((transaction) => transaction.id === transactionId);
      if (named !== undefined) return named;
      for (const transaction of found.transactions) {
        if ((newest?.createdAt?.getTime() ?? -1) < (transaction.createdAt?.getTime() ?? 0)) newest = transaction;
      }
      pages = found.pages;
    }
    return newest;
  }
}

/** A completed checkout whose order Creem does not show yet. */
const UNKNOWN_PAYMENT = {
  status: 'processing',
  received: ZERO_USD,
  currency: 'unknown',
  live: false,
  isFinal: true,
  reversals: [],
} as const;

/** Any status of a later version of the API is looked at again. */
function stateOf(checkout: CreemCheckout, expiresAt: Date): CheckoutFacts['checkout'] {
  if (checkout.status === 'completed') return 'complete';
  if (checkout.status === 'expired') return 'expired';
  return Date.now() > expiresAt.getTime() + EXPIRY_GRACE_MS ? 'expired' : 'open';
}

function checkoutOf({ id, url }: CreemCheckout): Checkout {
  return { providerId: id, url, expiresAt: null };
}

/** A product of another kind would take the customer's money and then leave it in quarantine. */
async function checkProduct(creem: Creem, productId: string, order: TopUp): Promise<void> {
  const { billingType, currency, status, taxMode } = await readProduct(() => creem.products.get(productId));
  const isTaxInside = taxMode === 'inclusive';
  if (billingType !== 'onetime' || currency.toLowerCase() !== order.currency || status !== 'active' || isTaxInside) {
    const what = `${status}, ${billingType}, in ${currency}, tax ${taxMode ?? 'mode unknown'}`;
    const wanted = 'active, onetime, in USD, tax exclusive (on top of the price)';
    throw new RailRefusal('creem', `the product ${productId} is ${what}; it must be ${wanted}`);
  }
}
