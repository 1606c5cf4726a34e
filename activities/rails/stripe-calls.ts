/** What every call to Stripe has in common here: idempotency keys, what is never repeated, and what undoes a payment. */
import Stripe from 'stripe';
import { formatId } from '../../domain/ids.ts';
import { usdOfCents, type PaymentFacts, type ReversalFacts } from '../../domain/top-up.ts';
import type { TopUp } from '../../db/top-ups.ts';
import { RailRefusal } from './rail.ts';

export const LIST_PAGE = 100;
/** Objects of ours are looked for from a little before the order was made: the clocks are two. */
export const CLOCK_SKEW_SECONDS = 300;
/** Stored errors that a new key may get past, before a person has to look. */
const KEY_GROUPS_MAX = 5;
/** Stripe forgets a key after a day: from then on a repeat would be a second object. */
const KEY_HOURS = 23;

/** Statuses of a dispute in which Stripe has not taken the money, or has given it back. Unknown ones count as taken. */
const NOT_TAKEN = ['won', 'warning_needs_response', 'warning_under_review', 'warning_closed'];
const DISPUTE_ENDED = ['won', 'lost', 'warning_closed'];

/** When an order's objects can have been made, in Stripe's seconds. */
export function since(order: TopUp): number {
  return Math.floor(order.createdAt.getTime() / 1000) - CLOCK_SKEW_SECONDS;
}

/**
 * Makes an object under an idempotency key of its order. Stripe stores the first answer to a key, its own 500s included;
 * where such a stored error comes back, or keys are forgotten, the object is looked for before another one is made.
 */
export async function keyed<T>(
  order: TopUp,
  what: string,
  make: (idempotencyKey: string) => Promise<T>,
  find: () => Promise<T | null>,
): Promise<T> {
  if (Date.now() - order.createdAt.getTime() > KEY_HOURS * 3_600_000) {
    const made = await find();
    if (made !== null) return made;
  }
  for (let group = 1; ; group++) {
    try {
      return await make(`topup:${formatId('topUp', order.id)}:${what}:${group}`);
    } catch (error) {
      const isStored =
        error instanceof Stripe.errors.StripeAPIError && error.headers?.['idempotent-replayed'] === 'true';
      if (!isStored || group === KEY_GROUPS_MAX) throw error;
      const made = await find();
      if (made !== null) return made;
    }
  }
}

/** Turns what Stripe will say again and again into a RailRefusal; everything else may be repeated. */
export async function refusing<T>(call: () => Promise<T>): Promise<T> {
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

/** What has become of a payment since it was paid. */
export async function paidFacts(
  stripe: Stripe,
  paymentIntent: string,
): Promise<Pick<PaymentFacts, 'reversals' | 'warnings'>> {
  const reversals: ReversalFacts[] = [];
  for await (const refund of stripe.refunds.list({ payment_intent: paymentIntent, limit: LIST_PAGE })) {
    reversals.push(refundFacts(refund));
  }
  for await (const dispute of stripe.disputes.list({ payment_intent: paymentIntent, limit: LIST_PAGE })) {
    reversals.push(disputeFacts(dispute));
  }
  const warnings: { objectId: string; fraudType: string }[] = [];
  const params = { payment_intent: paymentIntent, limit: LIST_PAGE };
  for await (const { id, fraud_type } of stripe.radar.earlyFraudWarnings.list(params)) {
    warnings.push({ objectId: id, fraudType: fraud_type });
  }
  return { reversals, ...(warnings.length > 0 && { warnings }) };
}

export function refundFacts({ id, amount, status }: Stripe.Refund): ReversalFacts {
  const isTaken = status === 'succeeded';
  const isOpen = !isTaken && status !== 'failed' && status !== 'canceled';
  return { objectId: id, kind: 'refund', amount: usdOfCents(amount), isTaken, isOpen };
}

export function disputeFacts({ id, amount, status }: Stripe.Dispute): ReversalFacts {
  const isTaken = !NOT_TAKEN.includes(status);
  const isOpen = !DISPUTE_ENDED.includes(status);
  return { objectId: id, kind: 'dispute', amount: usdOfCents(amount), isTaken, isOpen };
}
