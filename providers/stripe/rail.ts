/**
 * Stripe: Checkout Sessions in payment mode, and charges of saved cards (`cards.ts`). A payment is keyed by its
 * PaymentIntent; the session names our order in `client_reference_id` and in its metadata, the PaymentIntent in its own
 * (Stripe copies neither to the other, and refunds and disputes lead only to the PaymentIntent).
 */
import Stripe from 'stripe';
import { assert } from '../../domain/assert.ts';
import { formatId } from '../../domain/ids.ts';
import { addUsd, formatUsdShort, ZERO_USD } from '../../domain/money.ts';
import { centsOf, type CheckoutFacts } from '../../domain/payments/top-up.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import { STRIPE_TOP_UP_KEY, subjectOfStripeEvent } from './events.ts';
import type { Checkout, PaymentRail } from '../rail.ts';
import { CLOCK_SKEW_SECONDS, keyed, LIST_PAGE, refusing, since } from './calls.ts';
import { cancelCharge, chargeCard, createCustomer, findCharge, inspectCharge } from './cards.ts';
import { inspectSession } from './sessions.ts';

/** Stripe refuses sessions that end earlier; the order may have waited since it was made. */
const SESSION_SECONDS_MIN = 1800;

export function createStripeRail(stripe: Stripe, publicUrl: string): PaymentRail {
  return {
    provider: 'stripe',
    accepts: 'exact',
    leastReceived: ZERO_USD,
    openCheckout: (order) =>
      refusing(() => (isCharge(order) ? chargeCard(stripe, order) : openCheckout(stripe, publicUrl, order))),
    inspect: (order) => refusing(() => inspect(stripe, order)),
    async closeCheckout(order) {
      const { providerId } = order;
      if (providerId === null) return;
      await refusing(() => (isCharge(order) ? cancelCharge(stripe, providerId) : closeSession(stripe, providerId)));
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

function inspect(stripe: Stripe, order: TopUp): Promise<CheckoutFacts> {
  const { providerId } = order;
  assert(providerId !== null, 'an order is inspected once its checkout exists');
  if (isCharge(order)) return inspectCharge(stripe, providerId);
  return inspectSession(stripe, providerId, { wantsCard: order.card.save });
}

/**
 * An open checkout expires. A checkout that its customer has completed, and that waits for a voucher payment or a
 * transfer to come, has a payment that can be cancelled instead; what has ended, or is on its way through the banks,
 * stays as it is.
 */
async function closeSession(stripe: Stripe, sessionId: string): Promise<void> {
  try {
    await stripe.checkout.sessions.expire(sessionId);
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) throw error;
    const { status, payment_status, payment_intent: intent } = await stripe.checkout.sessions.retrieve(sessionId);
    if (status !== 'complete' || payment_status !== 'unpaid' || intent === null) return;
    await cancelCharge(stripe, typeof intent === 'string' ? intent : intent.id);
  }
}
