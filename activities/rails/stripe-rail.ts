/**
 * Stripe: Checkout Sessions in payment mode, and charges of kept cards (stripe-cards.ts). A payment is keyed by its
 * PaymentIntent; the session names our order in `client_reference_id` and in its metadata, the PaymentIntent in its own
 * (Stripe copies neither to the other, and refunds and disputes lead only to the PaymentIntent).
 */
import Stripe from 'stripe';
import { assert } from '../../domain/assert.ts';
import { formatId } from '../../domain/ids.ts';
import { addUsd, formatUsdShort, ZERO_USD } from '../../domain/money.ts';
import { centsOf, usdOfCents, type CheckoutFacts, type PaymentFacts } from '../../domain/top-up.ts';
import type { TopUp } from '../../db/top-ups.ts';
import { STRIPE_TOP_UP_KEY, subjectOfStripeEvent } from '../../runtime/stripe-events.ts';
import type { Checkout, PaymentRail } from './rail.ts';
import { CLOCK_SKEW_SECONDS, keyed, LIST_PAGE, paidFacts, refusing, since } from './stripe-calls.ts';
import { cancelCharge, chargeCard, createCustomer, findCharge, inspectCharge, keptCard } from './stripe-cards.ts';

/** Stripe refuses sessions that end earlier; the order may have waited since it was made. */
const SESSION_SECONDS_MIN = 1800;

/** Any other status, of a later version of the API, is looked at again. */
const CHECKOUT_STATUSES = ['open', 'complete', 'expired'] as const;

export function createStripeRail(stripe: Stripe, publicUrl: string): PaymentRail {
  return {
    provider: 'stripe',
    accepts: 'exact',
    leastReceived: ZERO_USD,
    openCheckout: (order) =>
      refusing(() => (isCharge(order) ? chargeCard(stripe, order) : openCheckout(stripe, publicUrl, order))),
    inspect: (order) => refusing(() => inspect(stripe, order)),
    async closeCheckout(order) {
      if (order.providerId === null) return;
      if (isCharge(order)) return cancelCharge(stripe, order.providerId);
      try {
        await stripe.checkout.sessions.expire(order.providerId);
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
    cards: {
      createCustomer: (accountId, n) => refusing(() => createCustomer(stripe, accountId, n)),
      findCharge: (order) => refusing(() => findCharge(stripe, order)),
    },
  };
}

const isCharge = (order: TopUp): boolean => order.card.paymentMethod !== null;

function openCheckout(stripe: Stripe, publicUrl: string, order: TopUp): Promise<Checkout> {
  return keyed(
    order,
    'create',
    async (idempotencyKey) =>
      checkoutOf(await stripe.checkout.sessions.create(sessionParams(publicUrl, order), { idempotencyKey })),
    () => findSession(stripe, order),
  );
}

function sessionParams(publicUrl: string, order: TopUp): Stripe.Checkout.SessionCreateParams {
  const topUpId = formatId('topUp', order.id);
  const metadata = { [STRIPE_TOP_UP_KEY]: topUpId };
  const cents = centsOf(addUsd(order.amount, order.fee));
  assert(cents !== null, 'a card is charged whole cents');
  const created = Math.floor(order.createdAt.getTime() / 1000);
  const { save, customerId } = order.card;
  return {
    mode: 'payment',
    client_reference_id: topUpId,
    metadata,
    payment_intent_data: { metadata, ...(save && { setup_future_usage: 'off_session' }) },
    ...(customerId !== null && { customer: customerId }),
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

async function findSession(stripe: Stripe, order: TopUp): Promise<Checkout | null> {
  const topUpId = formatId('topUp', order.id);
  const created = { gte: since(order) };
  for await (const session of stripe.checkout.sessions.list({ created, limit: LIST_PAGE })) {
    if (session.client_reference_id === topUpId) return checkoutOf(session);
  }
  return null;
}

function checkoutOf(session: Stripe.Checkout.Session): Checkout {
  return { providerId: session.id, url: session.url, expiresAt: new Date(session.expires_at * 1000) };
}

async function inspect(stripe: Stripe, order: TopUp): Promise<CheckoutFacts> {
  const { providerId } = order;
  assert(providerId !== null, 'an order is inspected once its checkout exists');
  if (isCharge(order)) return inspectCharge(stripe, providerId);
  const expand = [order.card.save ? 'payment_intent.payment_method' : 'payment_intent'];
  const session = await stripe.checkout.sessions.retrieve(providerId, { expand });
  const checkout = CHECKOUT_STATUSES.find((known) => known === session.status) ?? 'open';
  const { payment_intent: intent, payment_status } = session;
  const isKept = order.card.save && payment_status === 'paid' && intent !== null && typeof intent !== 'string';
  const card = isKept ? keptCard(intent) : null;
  return { checkout, payments: await paymentsOf(stripe, session), ...(card !== null && { card }) };
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
    return [{ paymentId: intent.id, status: 'paid', ...paid, ...(await paidFacts(stripe, intent.id)) }];
  }
  const status = intent.status === 'processing' ? 'processing' : 'failed';
  return [{ paymentId: intent.id, status, ...paid, reversals: [] }];
}
