/**
 * A Checkout Session as it stands: whether it is over, and what was paid by it. A session is complete as soon as its
 * customer has done what the page asks; by a voucher, a bank transfer or a debit the money comes, or does not come,
 * days later.
 */
import type Stripe from 'stripe';
import { amountOfMinor } from '../../domain/currency.ts';
import type { CheckoutFacts, PaymentFacts, UnreadPart } from '../../domain/payments/top-up.ts';
import { isForbidden, namesOf, paidFacts, refusalOf } from './calls.ts';
import { savedCard } from './cards.ts';
import { payerMarksOf } from './marks.ts';

/** Any other status, of a later version of the API, is looked at again. */
const CHECKOUT_STATUSES = ['open', 'complete', 'expired'] as const;

/** The currency of a session that states none: that of no order. */
const UNKNOWN_CURRENCY = 'unknown';

/**
 * Statuses in which the payment of a complete session has come to nothing: it was refused or ran out, or was cancelled.
 * In any other one, those of later versions of the API included, it can still come.
 */
const FAILED_STATUSES = ['requires_payment_method', 'canceled'];

export async function inspectSession(
  stripe: Stripe,
  sessionId: string,
  { wantsCard }: { readonly wantsCard: boolean },
): Promise<CheckoutFacts> {
  const { session, unread } = await readSession(stripe, sessionId, wantsCard);
  const intent = intentOf(session);
  const checkout = CHECKOUT_STATUSES.find((known) => known === session.status) ?? 'open';
  const card = wantsCard && session.payment_status === 'paid' && intent !== null ? savedCard(intent) : null;
  const payments = await paymentsOf(stripe, session, unread);
  const remark = remarkOn(session, payments);
  return { checkout, payments, ...(card !== null && { card }), ...(remark !== null && { remark }) };
}

/**
 * The session with all that can be read of its payment. Which objects a restricted key may expand is a permission of
 * each, and none of them is needed to know that the session is paid.
 */
async function readSession(
  stripe: Stripe,
  sessionId: string,
  wantsCard: boolean,
): Promise<{ session: Stripe.Checkout.Session; unread: UnreadPart[] }> {
  const whole = ['payment_intent.latest_charge', ...(wantsCard ? ['payment_intent.payment_method'] : [])];
  const unread: UnreadPart[] = [];
  const attempts: [part: string, expand: string[]][] = [
    ['charge and card', whole],
    ['payment', ['payment_intent']],
  ];
  for (const [part, expand] of attempts) {
    try {
      return { session: await stripe.checkout.sessions.retrieve(sessionId, { expand }), unread };
    } catch (error) {
      if (!isForbidden(error)) throw error;
      unread.push({ part, isEssential: false, error: refusalOf(error)! });
    }
  }
  return { session: await stripe.checkout.sessions.retrieve(sessionId), unread };
}

async function paymentsOf(
  stripe: Stripe,
  session: Stripe.Checkout.Session,
  unread: readonly UnreadPart[],
): Promise<PaymentFacts[]> {
  const { payment_intent: reference, status, payment_status } = session;
  const currency = session.currency ?? UNKNOWN_CURRENCY;
  const facts = {
    received: amountOfMinor(session.amount_total ?? 0, currency),
    currency,
    live: session.livemode,
    isFinal: true,
    reversals: [],
  };
  if (status !== 'complete') return [];
  if (payment_status === 'no_payment_required') return [{ paymentId: session.id, status: 'no_payment', ...facts }];
  // No payment is named yet: the next look will find it.
  if (reference === null) return [{ paymentId: session.id, status: 'processing', ...facts }];
  const intent = intentOf(session);
  const paymentId = typeof reference === 'string' ? reference : reference.id;
  const marks = payerMarksOf(intent?.latest_charge ?? null);
  const otherIds = intent === null ? [session.id] : namesOf(intent, session);
  const payment = { paymentId, otherIds, ...facts, ...(marks.length > 0 && { marks }) };
  if (payment_status === 'paid') {
    const paid = { ...payment, ...receivedBy(intent) };
    const since = await paidFacts(stripe, paid);
    const notRead = [...unread, ...(since.unread ?? [])];
    return [{ ...paid, status: 'paid', ...since, ...(notRead.length > 0 && { unread: notRead }) }];
  }
  if (intent === null || !FAILED_STATUSES.includes(intent.status)) return [{ ...payment, status: 'processing' }];
  const failure = intent.last_payment_error?.decline_code ?? intent.last_payment_error?.code;
  return [{ ...payment, status: 'failed', ...(failure !== undefined && { failure }) }];
}

/**
 * The received sum of a payment, where it can be read: the session has the requested sum, and of a payment that was
 * captured in part, or authorized for less, only a part came.
 */
function receivedBy(intent: Stripe.PaymentIntent | null): Pick<PaymentFacts, 'received' | 'currency'> | null {
  if (intent === null || intent.status !== 'succeeded') return null;
  const { amount_received: minor, currency } = intent;
  return { received: amountOfMinor(minor, currency), currency };
}

/** The reason why a payment takes days; null where it does not. */
function remarkOn(
  session: Stripe.Checkout.Session,
  payments: readonly PaymentFacts[],
): NonNullable<CheckoutFacts['remark']> | null {
  if (!payments.some(({ status }) => status === 'processing')) return null;
  const intent = intentOf(session);
  if (intent?.status !== 'requires_action') return { stuck: null, words: 'stripe has not confirmed the payment yet' };
  const how = intent.next_action?.type.replaceAll('_', ' ') ?? 'outside the checkout';
  return { stuck: null, words: `the customer has left the checkout and still has to pay (${how})` };
}

function intentOf({ payment_intent: intent }: Stripe.Checkout.Session): Stripe.PaymentIntent | null {
  return intent === null || typeof intent === 'string' ? null : intent;
}
