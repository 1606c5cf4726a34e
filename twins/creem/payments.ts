/**
 * Actions of customers, banks and the seller's dashboard: pay, abandon, refund, dispute. Each change emits Creem's
 * events.
 */
import type { DisputeEntity$Outbound, RefundEntity$Outbound } from 'creem/models/components';

import { type Checkout, type Dispute, newId, type Refund, type Transaction } from './store.ts';
import { checkoutOfOrder, emit, existing, makeCustomer, MODE, Refused, type World } from './world.ts';

/** Overrides of what a payment would be, for payments that do not match their checkout. */
export interface PayChange {
  readonly sub_total?: number | undefined;
  readonly discount_amount?: number | undefined;
  readonly tax_amount?: number | undefined;
  readonly currency?: string | undefined;
  readonly mode?: string | undefined;
  /** Optional fields that the order and its transaction do not have, as in Creem's own samples. */
  readonly without?: readonly OmittedField[] | undefined;
  /** Fields that are null, which the SDK refuses for some of them. */
  readonly nulled?: readonly OmittedField[] | undefined;
}

/** Fields that Creem's types or samples do without: a payment may come with any or none of them. */
export const OPTIONAL_FIELDS = [
  'order.mode',
  'order.currency',
  'order.status',
  'order.sub_total',
  'order.tax_amount',
  'order.discount_amount',
  'order.amount_due',
  'order.amount_paid',
  'order.transaction',
  'transaction.currency',
  'transaction.amount_paid',
  'transaction.tax_amount',
  'transaction.discount_amount',
  'transaction.refunded_amount',
] as const;
export type OmittedField = (typeof OPTIONAL_FIELDS)[number];

export function openCheckout(
  world: World,
  wanted: {
    readonly customPrice: number;
    readonly units: number;
    readonly requestId: string | undefined;
    readonly successUrl: string | undefined;
    readonly metadata: Readonly<Record<string, unknown>> | undefined;
  },
): Checkout {
  const id = newId('ch');
  const checkout: Checkout = {
    id,
    mode: MODE,
    object: 'checkout',
    status: 'pending',
    ...(wanted.requestId !== undefined && { request_id: wanted.requestId }),
    product: world.store.product.id,
    units: wanted.units,
    custom_price: wanted.customPrice,
    checkout_url: `${world.publicUrl()}/checkout/${id}`,
    success_url: wanted.successUrl ?? null,
    ...(wanted.metadata !== undefined && { metadata: wanted.metadata }),
  };
  world.store.checkouts.set(id, checkout);
  return checkout;
}

/**
 * The sums of a checkout, in cents: the price without tax, and the tax, which a product may have in its price already.
 */
export function totalsOf(world: World, checkout: Checkout, change: PayChange = {}): Record<'price' | 'tax', number> {
  const price = change.sub_total ?? (checkout.custom_price ?? world.store.product.price) * checkout.units;
  const taxed = price - (change.discount_amount ?? 0);
  if (world.store.product.tax_mode === 'inclusive') {
    const inside = change.tax_amount ?? Math.round((taxed * world.taxPpm) / (1_000_000 + world.taxPpm));
    return { price: price - inside, tax: inside };
  }
  return { price, tax: change.tax_amount ?? Math.round((taxed * world.taxPpm) / 1_000_000) };
}

export function pay(world: World, checkout: Checkout, change: PayChange = {}): Checkout {
  if (checkout.status !== 'pending') throw new Refused(409, `The checkout is ${checkout.status}.`);
  const { price, tax } = totalsOf(world, checkout, change);
  const discount = change.discount_amount ?? 0;
  const paid = price - discount + tax;
  const customer = makeCustomer(world);
  const shared = { mode: change.mode ?? MODE, currency: change.currency ?? world.store.product.currency };
  const orderId = newId('ord');
  const transaction: Transaction = {
    id: newId('tran'),
    object: 'transaction',
    ...shared,
    amount: price,
    amount_paid: paid,
    discount_amount: discount,
    type: 'payment',
    tax_country: 'NL',
    tax_amount: tax,
    status: 'paid',
    refunded_amount: null,
    order: orderId,
    customer: customer.id,
    description: world.store.product.name,
    created_at: Date.now(),
  };
  leaveOut(transaction, 'transaction', change);
  world.store.transactions.set(transaction.id, transaction);
  const now = new Date().toISOString();
  Object.assign(checkout, {
    status: 'completed',
    customer: customer.id,
    order: {
      id: orderId,
      object: 'order',
      ...shared,
      customer: customer.id,
      product: checkout.product,
      transaction: transaction.id,
      amount: price,
      sub_total: price,
      tax_amount: tax,
      discount_amount: discount,
      amount_due: paid,
      amount_paid: paid,
      status: 'paid',
      type: 'onetime',
      created_at: now,
      updated_at: now,
    },
  } satisfies Partial<Checkout>);
  leaveOut(checkout.order!, 'order', change);
  emit(world, 'checkout.completed', { ...checkout, product: world.store.product, customer });
  return checkout;
}

function leaveOut(object: object, what: string, { without = [], nulled = [] }: PayChange): void {
  const of = (fields: readonly string[]): string[] =>
    fields.flatMap((field) => (field.startsWith(`${what}.`) ? [field.slice(what.length + 1)] : []));
  for (const name of of(without)) Reflect.deleteProperty(object, name);
  for (const name of of(nulled)) Reflect.set(object, name, null);
}

export function expire(checkout: Checkout): Checkout {
  if (checkout.status !== 'pending') throw new Refused(409, `The checkout is ${checkout.status}.`);
  checkout.status = 'expired';
  return checkout;
}

/** A part of what is left, or all of it. A pending one moves nothing yet. */
export function refund(
  world: World,
  transaction: Transaction,
  {
    amount,
    status = 'succeeded',
    reason = 'requested_by_customer',
  }: Partial<Record<'status' | 'reason', string>> & {
    amount?: number | undefined;
  } = {},
): Refund {
  const left = (transaction.amount_paid ?? 0) - (transaction.refunded_amount ?? 0);
  const cents = amount ?? left;
  if (left <= 0 || cents > left) throw new Refused(400, `Only ${left} cents of the transaction can be refunded.`);
  const made: Refund = {
    id: newId('ref'),
    status,
    refund_amount: cents,
    reason,
    transaction: transaction.id,
    created_at: Date.now(),
  };
  world.store.refunds.set(made.id, made);
  if (status === 'succeeded') moveRefunded(transaction, cents);
  emit(world, 'refund.created', refundOnTheWire(world, made));
  return made;
}

/** How a refund ends. Creem has no event for it. */
export function endRefund(world: World, made: Refund, status: string): Refund {
  const transaction = existing(world.store.transactions, made.transaction);
  if (made.status === 'succeeded') moveRefunded(transaction, -made.refund_amount);
  if (status === 'succeeded') moveRefunded(transaction, made.refund_amount);
  made.status = status;
  return made;
}

/** The whole payment is charged back, and counts as refunded meanwhile. */
export function dispute(world: World, transaction: Transaction): Dispute {
  if (transaction.status === 'chargedBack') throw new Refused(409, 'The transaction is charged back already.');
  const made: Dispute = {
    id: newId('disp'),
    amount: transaction.amount_paid ?? 0,
    transaction: transaction.id,
    created_at: Date.now(),
    refundedBefore: transaction.refunded_amount ?? 0,
    outcome: 'open',
  };
  world.store.disputes.set(made.id, made);
  transaction.status = 'chargedBack';
  transaction.refunded_amount = transaction.amount_paid ?? 0;
  emit(world, 'dispute.created', disputeOnTheWire(world, made));
  return made;
}

/** How a dispute ends. Only its being turned into a refund has an event. */
export function endDispute(world: World, made: Dispute, outcome: Exclude<Dispute['outcome'], 'open'>): Dispute {
  if (made.outcome !== 'open') throw new Refused(409, `The dispute is ${made.outcome}.`);
  const transaction = existing(world.store.transactions, made.transaction);
  made.outcome = outcome;
  if (outcome === 'lost') return made;
  transaction.refunded_amount = made.refundedBefore;
  if (outcome === 'won') moveRefunded(transaction, 0);
  else refund(world, transaction, { reason: 'fraudulent' });
  return made;
}

function moveRefunded(transaction: Transaction, cents: number): void {
  const refunded = (transaction.refunded_amount ?? 0) + cents;
  transaction.refunded_amount = refunded;
  if (refunded >= (transaction.amount_paid ?? 0)) transaction.status = 'refunded';
  else transaction.status = refunded > 0 ? 'partialRefund' : 'paid';
}

function refundOnTheWire(world: World, made: Refund): RefundEntity$Outbound {
  const transaction = existing(world.store.transactions, made.transaction);
  const checkout = checkoutOfOrder(world, transaction.order ?? '');
  return {
    ...made,
    mode: MODE,
    object: 'refund',
    refund_currency: transaction.currency,
    transaction,
    checkout,
    order: checkout.order,
  };
}

function disputeOnTheWire(world: World, { id, amount, transaction: transactionId, created_at }: Dispute): object {
  const transaction = existing(world.store.transactions, transactionId);
  const checkout = checkoutOfOrder(world, transaction.order ?? '');
  return {
    id,
    mode: MODE,
    object: 'dispute',
    amount,
    currency: transaction.currency,
    // Creem's samples of this event have another word for it than its API.
    transaction: { ...transaction, status: 'chargeback' },
    checkout,
    order: checkout.order,
    created_at,
  } satisfies DisputeEntity$Outbound;
}
