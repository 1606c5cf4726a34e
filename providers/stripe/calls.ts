/** Common parts of calls to Stripe: idempotency keys, permanent errors, and the reversals of a payment. */
import Stripe from 'stripe';
import { formatId } from '../../domain/ids.ts';
import { amountOfMinor } from '../../domain/currency.ts';
import type { FraudWarning, PaymentFacts, ReversalFacts, UnreadPart } from '../../domain/payments/top-up.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import { NotAtProvider, RailRefusal } from '../rail.ts';

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

/** The earliest creation time of an order's objects, in Stripe's seconds. */
export function since(order: TopUp): number {
  return Math.floor(order.createdAt.getTime() / 1000) - CLOCK_SKEW_SECONDS;
}

/**
 * Makes an object under an idempotency key of its order. Stripe stores the first answer to a key, its own 500s
 * included; where such a stored error comes back, or keys are forgotten, the object is looked for before another one is
 * made.
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
      // An earlier attempt asked for something else under this key: the key's permissions, or the order's card, have
      // changed since.
      const isOther = error instanceof Stripe.errors.StripeIdempotencyError;
      if (!(isStored || isOther) || group === KEY_GROUPS_MAX) throw error;
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
    throw refusalOf(error) ?? error;
  }
}

/** Other ids of a payment beside its PaymentIntent, which keys its credit. */
export function namesOf(intent: Stripe.PaymentIntent, session: Stripe.Checkout.Session | null): string[] {
  const named = [intent.latest_charge, session?.id, session?.invoice];
  return named.flatMap((one) => {
    const id = typeof one === 'string' ? one : one?.id;
    return id === undefined ? [] : [id];
  });
}

/** An error of Stripe's as a refusal; null for an error that may pass. */
export function refusalOf(error: unknown): RailRefusal | null {
  if (error instanceof RailRefusal) return error;
  if (error instanceof Stripe.errors.StripePermissionError) {
    return new RailRefusal('stripe', error.message, 'permission_missing');
  }
  if (error instanceof Stripe.errors.StripeAuthenticationError) {
    return new RailRefusal('stripe', error.message, 'key_refused');
  }
  if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) return null;
  return error.code === 'resource_missing'
    ? new NotAtProvider('stripe', error.message)
    : new RailRefusal('stripe', error.message);
}

/** True where the key lacks a permission that this call takes. */
export function isForbidden(error: unknown): boolean {
  return error instanceof Stripe.errors.StripePermissionError;
}

/**
 * Changes of a payment since it was paid. The payment itself is known by then, so a list that cannot be read is
 * reported as such instead of failing: a restricted key that may not read an object, or a missing object, delays no
 * credit.
 */
export async function paidFacts(
  stripe: Stripe,
  payment: Pick<PaymentFacts, 'paymentId' | 'currency' | 'received'>,
): Promise<Pick<PaymentFacts, 'reversals' | 'warnings' | 'unread'>> {
  const { paymentId: paymentIntent, currency, received } = payment;
  // A bank may dispute in a currency of its own. Its share of the payment would need a rate, so it counts as the whole
  // until it is over.
  const disputeOfPayment = (dispute: Stripe.Dispute): ReversalFacts =>
    dispute.currency === currency ? disputeFacts(dispute) : { ...disputeFacts(dispute), amount: received };
  const params = { payment_intent: paymentIntent, limit: LIST_PAGE };
  const unread: UnreadPart[] = [];
  // At once: a hanging call takes no time from the others.
  const [refunds, disputes, warnings] = await Promise.all([
    read('refunds', true, () => stripe.refunds.list(params), refundFacts),
    read('disputes', true, () => stripe.disputes.list(params), disputeOfPayment),
    read(
      'early fraud warnings',
      false,
      () => stripe.radar.earlyFraudWarnings.list(params),
      ({ id, fraud_type }): FraudWarning => ({ objectId: id, fraudType: fraud_type }),
    ),
  ]);
  return {
    reversals: [...refunds, ...disputes],
    ...(warnings.length > 0 && { warnings }),
    ...(unread.length > 0 && { unread }),
  };

  async function read<Row, Fact>(
    part: string,
    isEssential: boolean,
    list: () => AsyncIterable<Row>,
    factOf: (row: Row) => Fact,
  ): Promise<Fact[]> {
    try {
      const facts: Fact[] = [];
      for await (const row of list()) facts.push(factOf(row));
      return facts;
    } catch (error) {
      unread.push({ part, isEssential, error: refusalOf(error) ?? asError(error) });
      return [];
    }
  }
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

export function refundFacts({ id, amount, currency, status }: Stripe.Refund): ReversalFacts {
  const isTaken = status === 'succeeded';
  const isOpen = !isTaken && status !== 'failed' && status !== 'canceled';
  return { objectId: id, kind: 'refund', amount: amountOfMinor(amount, currency), isTaken, isOpen };
}

export function disputeFacts({ id, amount, currency, status }: Stripe.Dispute): ReversalFacts {
  const isTaken = !NOT_TAKEN.includes(status);
  const isOpen = !DISPUTE_ENDED.includes(status);
  return { objectId: id, kind: 'dispute', amount: amountOfMinor(amount, currency), isTaken, isOpen };
}
