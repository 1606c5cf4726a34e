/**
 * Stripe: Checkout Sessions in payment mode. A payment is keyed by its PaymentIntent; the session names our order in
 * `client_reference_id` and in its metadata, the PaymentIntent in its own (Stripe copies neither to the other, and refunds
 * and disputes lead only to the PaymentIntent).
 */
import Stripe from 'stripe';
import { assert } from '../domain/assert.ts';
import { formatId } from '../domain/ids.ts';
import { addUsd, formatUsdShort, ZERO_USD } from '../domain/money.ts';
import { centsOf, usdOfCents, type CheckoutFacts, type PaymentFacts, type ReversalFacts } from '../domain/top-up.ts';
import type { TopUp } from '../db/top-ups.ts';
import { STRIPE_TOP_UP_KEY, subjectOfStripeEvent } from '../runtime/stripe-events.ts';
import { RailRefusal, type Checkout, type PaymentRail } from './payment-rail.ts';

/** Stripe refuses sessions that end earlier; the order may have waited since it was made. */
const SESSION_SECONDS_MIN = 1800;
const LIST_PAGE = 100;
/** Sessions of ours are looked for from a little before the order was made: the clocks are two. */
const CLOCK_SKEW_SECONDS = 300;
/** Stored errors that a new key may get past, before a person has to look. */
const KEY_GROUPS_MAX = 5;

/** Statuses of a dispute in which Stripe has not taken the money, or has given it back. Unknown ones count as taken. */
const NOT_TAKEN = ['won', 'warning_needs_response', 'warning_under_review', 'warning_closed'];
const DISPUTE_ENDED = ['won', 'lost', 'warning_closed'];

/** Any other status, of a later version of the API, is looked at again. */
const CHECKOUT_STATUSES = ['open', 'complete', 'expired'] as const;

export function createStripeRail(stripe: Stripe, publicUrl: string): PaymentRail {
  return {
    provider: 'stripe',
    accepts: 'exact',
    leastReceived: ZERO_USD,
    openCheckout: (order) => refusing(() => openCheckout(stripe, publicUrl, order)),
    inspect: (order) => refusing(() => inspect(stripe, order)),
    async closeCheckout({ providerId }) {
      if (providerId === null) return;
      try {
        await stripe.checkout.sessions.expire(providerId);
      } catch (error) {
        // Not open any more: paid or expired, which inspecting it will tell.
        if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) throw error;
      }
    },
    subjectOf: subjectOfStripeEvent,
    async topUpOf(paymentId) {
      const intent = await refusing(() => stripe.paymentIntents.retrieve(paymentId));
      return intent.metadata[STRIPE_TOP_UP_KEY] ?? null;
    },
  };
}

/** Turns what Stripe will say again and again into a RailRefusal; everything else may be repeated. */
async function refusing<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const isRefusal =
      error instanceof Stripe.errors.StripeInvalidRequestError ||
      error instanceof Stripe.errors.StripeAuthenticationError ||
      error instanceof Stripe.errors.StripePermissionError;
    if (isRefusal) throw new RailRefusal('stripe', error.message);
    throw error;
  }
}

/**
 * Creates the session under an idempotency key of the order. Stripe stores the first answer to a key, its own 500s
 * included; where such a stored error comes back, the session is looked for before another key is tried.
 */
async function openCheckout(stripe: Stripe, publicUrl: string, order: TopUp): Promise<Checkout> {
  const made = await findSession(stripe, order);
  if (made !== null) return checkoutOf(made);
  for (let group = 1; ; group++) {
    try {
      const session = await stripe.checkout.sessions.create(sessionParams(publicUrl, order), {
        idempotencyKey: `topup:${formatId('topUp', order.id)}:create:${group}`,
      });
      return checkoutOf(session);
    } catch (error) {
      const isStored =
        error instanceof Stripe.errors.StripeAPIError && error.headers?.['idempotent-replayed'] === 'true';
      if (!isStored || group === KEY_GROUPS_MAX) throw error;
      const session = await findSession(stripe, order);
      if (session !== null) return checkoutOf(session);
    }
  }
}

function sessionParams(publicUrl: string, order: TopUp): Stripe.Checkout.SessionCreateParams {
  const topUpId = formatId('topUp', order.id);
  const metadata = { [STRIPE_TOP_UP_KEY]: topUpId };
  const cents = centsOf(addUsd(order.amount, order.fee));
  assert(cents !== null, 'a card is charged whole cents');
  const created = Math.floor(order.createdAt.getTime() / 1000);
  return {
    mode: 'payment',
    client_reference_id: topUpId,
    metadata,
    payment_intent_data: { metadata },
    line_items: [
      {
        quantity: 1,
        price_data: {
          currency: order.currency,
          unit_amount: cents,
          product_data: { name: `Credit of ${formatUsdShort(order.amount)} USD` },
        },
      },
    ],
    // Parameters must be the same at every attempt, so nothing in them may come from the clock of the attempt.
    expires_at: Math.max(
      Math.floor(order.expiresAt.getTime() / 1000),
      created + SESSION_SECONDS_MIN + CLOCK_SKEW_SECONDS,
    ),
    success_url: `${publicUrl}/top-ups/${topUpId}?session_id={CHECKOUT_SESSION_ID}`,
    cancel_url: `${publicUrl}/top-ups/${topUpId}?cancelled=1`,
  };
}

async function findSession(stripe: Stripe, order: TopUp): Promise<Stripe.Checkout.Session | null> {
  const topUpId = formatId('topUp', order.id);
  const gte = Math.floor(order.createdAt.getTime() / 1000) - CLOCK_SKEW_SECONDS;
  for await (const session of stripe.checkout.sessions.list({ created: { gte }, limit: LIST_PAGE })) {
    if (session.client_reference_id === topUpId) return session;
  }
  return null;
}

function checkoutOf(session: Stripe.Checkout.Session): Checkout {
  return { providerId: session.id, url: session.url, expiresAt: new Date(session.expires_at * 1000) };
}

async function inspect(stripe: Stripe, { providerId }: TopUp): Promise<CheckoutFacts> {
  assert(providerId !== null, 'an order is inspected once its checkout exists');
  const session = await stripe.checkout.sessions.retrieve(providerId, { expand: ['payment_intent'] });
  const checkout = CHECKOUT_STATUSES.find((known) => known === session.status) ?? 'open';
  return { checkout, payments: await paymentsOf(stripe, session) };
}

async function paymentsOf(stripe: Stripe, session: Stripe.Checkout.Session): Promise<PaymentFacts[]> {
  const intent = session.payment_intent;
  const paid = {
    received: usdOfCents(session.amount_total ?? 0),
    currency: session.currency ?? 'unknown',
    live: session.livemode,
    isFinal: true,
  };
  if (session.status === 'complete' && session.payment_status === 'no_payment_required') {
    return [{ paymentId: session.id, status: 'no_payment', ...paid, reversals: [] }];
  }
  if (intent === null || typeof intent === 'string' || session.status !== 'complete') return [];
  if (session.payment_status === 'paid') {
    return [{ paymentId: intent.id, status: 'paid', ...paid, reversals: await reversalsOf(stripe, intent.id) }];
  }
  const status = intent.status === 'processing' ? 'processing' : 'failed';
  return [{ paymentId: intent.id, status, ...paid, reversals: [] }];
}

async function reversalsOf(stripe: Stripe, paymentIntent: string): Promise<ReversalFacts[]> {
  const found: ReversalFacts[] = [];
  for await (const refund of stripe.refunds.list({ payment_intent: paymentIntent, limit: LIST_PAGE })) {
    const isEnded = refund.status === 'failed' || refund.status === 'canceled' || refund.status === 'succeeded';
    found.push({
      objectId: refund.id,
      kind: 'refund',
      amount: usdOfCents(refund.amount),
      isTaken: refund.status === 'succeeded',
      isOpen: !isEnded,
    });
  }
  for await (const dispute of stripe.disputes.list({ payment_intent: paymentIntent, limit: LIST_PAGE })) {
    found.push({
      objectId: dispute.id,
      kind: 'dispute',
      amount: usdOfCents(dispute.amount),
      isTaken: !NOT_TAKEN.includes(dispute.status),
      isOpen: !DISPUTE_ENDED.includes(dispute.status),
    });
  }
  return found;
}
