/**
 * Actions of a customer on the checkout page, with or without the page: pay, authenticate, or fail to. The
 * PaymentIntent is made at the first attempt and kept through the following ones, as Stripe does.
 */
import type Stripe from 'stripe';

import { AUTHENTICATION_FAILED, type TestCard } from './cards.ts';
import { newCustomer, newMethod } from './objects.ts';
import { attemptPayment, createIntent, failPayment, foresee, type PaymentResult, settlePayment } from './payments.ts';
import { idOf, type SessionRow } from './store.ts';
import type { World } from './world.ts';

export interface Purchase {
  readonly card: TestCard;
  /** The result of the bank's own page; absent before the customer was sent there. */
  readonly authentication?: 'passed' | 'failed' | undefined;
  /** The amount the customer pays after a discount or in another currency, instead of the seller's amount. */
  readonly amountTotal?: number | undefined;
  readonly currency?: string | undefined;
}

/** The session must be open. */
export function paySession(world: World, row: SessionRow, purchase: Purchase): PaymentResult {
  const { session } = row;
  const { card } = purchase;
  const terms = { isAuthenticated: purchase.authentication === 'passed', isActionRefused: false };
  const isFailing = purchase.authentication === 'failed';
  if (purchase.amountTotal !== undefined) {
    session.total_details!.amount_discount = Math.max(0, (session.amount_subtotal ?? 0) - purchase.amountTotal);
    session.amount_total = purchase.amountTotal;
  }
  if (purchase.currency !== undefined) session.currency = purchase.currency;
  const foreseen = isFailing ? AUTHENTICATION_FAILED : foresee(card, terms);
  if (isOver(foreseen)) createCustomerIfWanted(world, row);

  const intent = intentOf(world, row);
  world.store.sessions.put(row);
  const method = world.store.methods.put(newMethod(world.clock.now(), card));
  method.method.billing_details.email = customerEmail(world, session);
  if (isFailing) {
    failPayment(world, intent, method, AUTHENTICATION_FAILED);
    return AUTHENTICATION_FAILED;
  }
  const result = attemptPayment(world, intent, method, terms);
  if (isOver(result)) complete(world, row, result === 'succeeded');
  return result;
}

/** Whether the customer has done all that the page asks for; the money may come later. */
function isOver(result: PaymentResult): boolean {
  return result === 'succeeded' || result === 'processing' || result === 'outside';
}

/** The outcome of a delayed payment, whether or not it belongs to a session. */
export function settleDelayed(world: World, intent: Stripe.PaymentIntent, isSuccessful: boolean): void {
  settlePayment(world, intent, isSuccessful);
  const row = world.store.sessions.find(({ session }) => session.payment_intent === intent.id);
  if (row === undefined) return;
  if (isSuccessful) row.session.payment_status = 'paid';
  world.store.sessions.put(row);
  world.events.emit(
    isSuccessful ? 'checkout.session.async_payment_succeeded' : 'checkout.session.async_payment_failed',
    row.session,
  );
}

function complete(world: World, row: SessionRow, isPaid: boolean): void {
  const { session } = row;
  session.status = 'complete';
  session.payment_status = isPaid ? 'paid' : 'unpaid';
  session.url = null;
  session.customer_details = {
    address: null,
    business_name: null,
    email: customerEmail(world, session),
    individual_name: null,
    name: null,
    phone: null,
    tax_exempt: 'none',
    tax_ids: [],
  };
  world.store.sessions.put(row);
  world.agenda.cancel('expire_session', row.id);
  world.events.emit('checkout.session.completed', session);
}

function intentOf(
  world: World,
  { session, intentMetadata, futureUsage, description }: SessionRow,
): Stripe.PaymentIntent {
  const terms = {
    amount: session.amount_total ?? 0,
    currency: session.currency ?? 'usd',
    customer: typeof session.customer === 'string' ? session.customer : null,
  };
  const existing = world.store.intents.get(idOf(session.payment_intent));
  if (existing !== undefined) return world.store.intents.put(Object.assign(existing, terms));
  const intent = createIntent(world, { ...terms, description, metadata: intentMetadata, futureUsage });
  session.payment_intent = intent.id;
  return intent;
}

/** A card can only be saved for a customer, so saving one makes a customer as well. */
function createCustomerIfWanted(world: World, row: SessionRow): void {
  const { session, futureUsage } = row;
  const isWanted = session.customer_creation === 'always' || futureUsage !== null;
  if (session.customer !== null || !isWanted) return;
  const email = customerEmail(world, session);
  const customer = newCustomer({ now: world.clock.now(), email, name: null, description: null, metadata: {} });
  session.customer = world.store.customers.put(customer).id;
  world.events.emit('customer.created', customer);
}

function customerEmail(world: World, session: Stripe.Checkout.Session): string {
  const customer = world.store.customers.get(idOf(session.customer));
  const known = customer !== undefined && customer.deleted !== true ? customer.email : null;
  return known ?? session.customer_email ?? 'customer@example.com';
}
