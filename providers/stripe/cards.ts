/**
 * Stripe without the customer: customer objects, and PaymentIntents that charge a saved card off-session. A
 * PaymentIntent is made and confirmed by one call under an idempotency key of its order, so a repeat is the same
 * charge; a decline is an answer like any other and is read from the PaymentIntent itself, never from the error.
 */
import Stripe from 'stripe';
import { assert } from '../../domain/assert.ts';
import { formatId } from '../../domain/ids.ts';
import { addUsd, formatUsdShort } from '../../domain/money.ts';
import { amountOfMinor } from '../../domain/currency.ts';
import { centsOf, type CheckoutFacts, type PaymentFacts } from '../../domain/payments/top-up.ts';
import type { CardFacts } from '../../domain/payments/auto-top-up.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import { STRIPE_TOP_UP_KEY } from './events.ts';
import { CardGone, type Checkout } from '../rail.ts';
import { isForbidden, keyed, LIST_PAGE, namesOf, paidFacts, since } from './calls.ts';
import { payerMarksOf } from './marks.ts';

/** Parameters at fault where a saved card or its customer is gone. */
const CARD_PARAMS = ['payment_method', 'customer'];

export async function createCustomer(stripe: Stripe, accountId: string, n: number): Promise<string> {
  const customer = await stripe.customers.create(
    { metadata: { account_id: accountId } },
    { idempotencyKey: `customer:${accountId}:${n}` },
  );
  return customer.id;
}

/** Charges an order's card, or finds the charge that an earlier attempt made. */
export function chargeCard(stripe: Stripe, order: TopUp): Promise<Checkout> {
  return keyed(
    order,
    'charge',
    (idempotencyKey) => charge(stripe, order, idempotencyKey),
    () => findCharge(stripe, order),
  );
}

async function charge(stripe: Stripe, order: TopUp, idempotencyKey: string): Promise<Checkout> {
  const { customerId, paymentMethod } = order.card;
  assert(customerId !== null && paymentMethod !== null, 'an automatic top-up has its card');
  const cents = centsOf(addUsd(order.amount, order.fee));
  assert(cents !== null, 'a card is charged whole cents');
  try {
    const intent = await stripe.paymentIntents.create(
      {
        amount: cents,
        currency: order.currency,
        customer: customerId,
        payment_method: paymentMethod,
        allowed_payment_method_types: ['card'],
        confirm: true,
        off_session: true,
        error_on_requires_action: true,
        description: `Credit of ${formatUsdShort(order.amount)} USD`,
        metadata: { [STRIPE_TOP_UP_KEY]: formatId('topUp', order.id) },
      },
      { idempotencyKey },
    );
    return chargeOf(intent);
  } catch (error) {
    if (error instanceof Stripe.errors.StripeCardError && error.payment_intent !== undefined) {
      return chargeOf(error.payment_intent);
    }
    const isCardGone =
      error instanceof Stripe.errors.StripeInvalidRequestError && CARD_PARAMS.includes(error.param ?? '');
    if (isCardGone) throw new CardGone('stripe', error.message);
    throw error;
  }
}

export async function findCharge(stripe: Stripe, order: TopUp): Promise<Checkout | null> {
  const topUpId = formatId('topUp', order.id);
  const { customerId } = order.card;
  if (customerId === null) return null;
  const created = { gte: since(order) };
  for await (const intent of stripe.paymentIntents.list({ customer: customerId, created, limit: LIST_PAGE })) {
    if (intent.metadata[STRIPE_TOP_UP_KEY] === topUpId) return chargeOf(intent);
  }
  return null;
}

function chargeOf({ id }: Stripe.PaymentIntent): Checkout {
  return { providerId: id, url: null, expiresAt: null };
}

export async function inspectCharge(stripe: Stripe, paymentIntentId: string): Promise<CheckoutFacts> {
  const intent = await readCharge(stripe, paymentIntentId);
  const marks = payerMarksOf(intent.latest_charge);
  const paid = {
    paymentId: intent.id,
    received: amountOfMinor(intent.amount_received, intent.currency),
    currency: intent.currency,
    live: intent.livemode,
    otherIds: namesOf(intent, null),
    isFinal: true,
    reversals: [],
    ...(marks.length > 0 && { marks }),
  };
  switch (intent.status) {
    case 'succeeded':
      return { checkout: 'complete', payments: [{ ...paid, status: 'paid', ...(await paidFacts(stripe, paid)) }] };
    case 'processing':
      return { checkout: 'complete', payments: [{ ...paid, status: 'processing' }] };
    case 'requires_action':
      // Some banks only tell their customer first, and the charge follows a day later.
      if (intent.next_action?.type === 'card_await_notification') {
        return { checkout: 'complete', payments: [{ ...paid, status: 'processing' }] };
      }
      return { checkout: 'complete', payments: [failed(paid, intent)] };
    case 'requires_payment_method':
    case 'canceled':
      return { checkout: 'complete', payments: [failed(paid, intent)] };
    default:
      return { checkout: 'open', payments: [] };
  }
}

/** The charge's own object tells the card again; a key that may not read it still shows the payment. */
async function readCharge(stripe: Stripe, paymentIntentId: string): Promise<Stripe.PaymentIntent> {
  try {
    return await stripe.paymentIntents.retrieve(paymentIntentId, { expand: ['latest_charge'] });
  } catch (error) {
    if (!isForbidden(error)) throw error;
    return stripe.paymentIntents.retrieve(paymentIntentId);
  }
}

/** Nobody is there to authenticate: what waits for it has failed. */
function failed(paid: Omit<PaymentFacts, 'status'>, intent: Stripe.PaymentIntent): PaymentFacts {
  const error = intent.last_payment_error;
  const code = error?.code === 'authentication_required' ? error.code : (error?.decline_code ?? error?.code);
  const unsaid = intent.status === 'requires_action' ? 'authentication_required' : 'canceled';
  return { ...paid, status: 'failed', failure: code ?? unsaid };
}

/** A declined charge stays open at Stripe until somebody ends it. */
export async function cancelCharge(stripe: Stripe, paymentIntentId: string): Promise<void> {
  try {
    await stripe.paymentIntents.cancel(paymentIntentId);
  } catch (error) {
    // Paid, or cancelled before.
    if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) throw error;
  }
}

/** The card that a payment was made with, where Stripe keeps it for a customer. */
export function savedCard(intent: Stripe.PaymentIntent): CardFacts | null {
  const { payment_method: method } = intent;
  if (method === null || typeof method === 'string' || method.card === undefined) return null;
  const customerId = typeof method.customer === 'string' ? method.customer : (method.customer?.id ?? null);
  if (customerId === null) return null;
  const { brand, last4, exp_month: expMonth, exp_year: expYear, fingerprint } = method.card;
  return { paymentMethod: method.id, customerId, brand, last4, expMonth, expYear, fingerprint: fingerprint ?? null };
}
