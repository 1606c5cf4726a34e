/**
 * PaymentIntents and their charges: one attempt to pay, and the late outcome of a delayed one. Each function changes
 * the objects and emits the events in the order in which Stripe does.
 */
import type Stripe from 'stripe';

import {
  ASYNC_FAILED,
  AUTHENTICATION_REQUIRED,
  type CardDecline,
  findCard,
  type TestCard,
  VOUCHER_EXPIRED,
} from './cards.ts';
import { StripeFailure } from './errors.ts';
import { type IntentFacts, newCharge, newIntent } from './objects.ts';
import { idOf, type MethodRow } from './store.ts';
import type { World } from './world.ts';

/** `outside`: the checkout is over, and the payer still has to pay a voucher or to send a transfer. */
export type PaymentResult = 'succeeded' | 'processing' | 'outside' | 'requires_action' | CardDecline;

export interface PaymentTerms {
  readonly isAuthenticated: boolean;
  /** Nobody is there to authenticate, or the caller does not want to wait for it. */
  readonly isActionRefused: boolean;
}

export function createIntent(world: World, facts: Omit<IntentFacts, 'now'>): Stripe.PaymentIntent {
  const intent = world.store.intents.put(newIntent({ ...facts, now: world.clock.now() }));
  world.events.emit('payment_intent.created', intent);
  return intent;
}

/** The future outcome of a card, without causing it. */
export function foresee(card: TestCard, terms: PaymentTerms): PaymentResult {
  if (card.decline !== null) return card.decline;
  if (card.needsAuthentication && !terms.isAuthenticated) {
    return terms.isActionRefused ? AUTHENTICATION_REQUIRED : 'requires_action';
  }
  if (card.outside !== null) return terms.isActionRefused ? AUTHENTICATION_REQUIRED : 'outside';
  return isDelayed(card) ? 'processing' : 'succeeded';
}

export function attemptPayment(
  world: World,
  intent: Stripe.PaymentIntent,
  method: MethodRow,
  terms: PaymentTerms,
): PaymentResult {
  const card = cardOf(method);
  const result = foresee(card, terms);
  intent.payment_method = method.id;
  intent.next_action = null;
  intent.last_payment_error = null;
  if (typeof result === 'object') {
    failPayment(world, intent, method, result);
  } else if (result === 'requires_action') {
    requireAction(world, intent, {
      type: 'use_stripe_sdk',
      use_stripe_sdk: { type: 'three_d_secure_redirect' },
    });
  } else if (result === 'outside') {
    requireAction(world, intent, { type: card.outside ?? '' });
  } else {
    charge(world, intent, method, result === 'processing');
  }
  return result;
}

/** The outcome of a payment that was `processing`, or that its payer had to make outside the checkout. */
export function settlePayment(world: World, intent: Stripe.PaymentIntent, isSuccessful: boolean): void {
  const { store, clock, events, agenda } = world;
  agenda.cancel('async_succeeds', intent.id);
  agenda.cancel('async_fails', intent.id);
  const method = store.methods.get(idOf(intent.payment_method));
  if (method === undefined) throw new Error(`${intent.id} has no payment method.`);
  const pending = store.charges.get(idOf(intent.latest_charge));
  if (isSuccessful) {
    const settled = newCharge(clock.now(), intent, method, 'succeeded', null);
    const made =
      pending === undefined ? settled : Object.assign(pending, settled, { id: pending.id, created: pending.created });
    intent.latest_charge = store.charges.put(made).id;
    intent.next_action = null;
    events.emit('charge.succeeded', made);
    succeed(world, intent);
    return;
  }
  if (pending === undefined) {
    refuse(world, intent, method, VOUCHER_EXPIRED);
    return;
  }
  Object.assign(pending, {
    status: 'failed',
    failure_code: ASYNC_FAILED.code,
    failure_message: ASYNC_FAILED.message,
  });
  events.emit('charge.failed', store.charges.put(pending));
  refuse(world, intent, method, ASYNC_FAILED);
}

export function attachMethod(world: World, row: MethodRow, customer: string): void {
  if (row.method.customer === customer) return;
  row.method.customer = customer;
  world.events.emit('payment_method.attached', world.store.methods.put(row).method);
}

export function cancelIntent(world: World, intent: Stripe.PaymentIntent): void {
  intent.status = 'canceled';
  intent.canceled_at = world.clock.now();
  intent.next_action = null;
  world.events.emit('payment_intent.canceled', world.store.intents.put(intent));
}

/** A decline, with its charge where the card's bank was asked. */
export function failPayment(world: World, intent: Stripe.PaymentIntent, method: MethodRow, decline: CardDecline): void {
  const failed = newCharge(world.clock.now(), intent, method, 'failed', decline);
  intent.latest_charge = failed.id;
  world.events.emit('charge.failed', world.store.charges.put(failed));
  refuse(world, intent, method, decline);
}

/** The error that an API call answers after a decline. */
export function cardFailure(intent: Stripe.PaymentIntent, method: MethodRow, decline: CardDecline): StripeFailure {
  return new StripeFailure(402, {
    type: 'card_error',
    ...decline,
    charge: idOf(intent.latest_charge),
    payment_intent: structuredClone(intent),
    payment_method: structuredClone(method.method),
  });
}

export function isDelayed(card: TestCard): boolean {
  return card.later === 'async_succeeds' || card.later === 'async_fails';
}

function charge(world: World, intent: Stripe.PaymentIntent, method: MethodRow, isPending: boolean): void {
  const { store, clock, events, agenda, options } = world;
  const { later } = cardOf(method);
  if (isPending) {
    const pending = newCharge(clock.now(), intent, method, 'pending', null);
    intent.latest_charge = store.charges.put(pending).id;
    intent.status = 'processing';
    events.emit('charge.pending', pending);
    events.emit('payment_intent.processing', store.intents.put(intent));
    if (later !== null && options.asyncDelayMs !== null) {
      agenda.plan(later, intent.id, clock.nowMs() + options.asyncDelayMs);
    }
    return;
  }
  const made = newCharge(clock.now(), intent, method, 'succeeded', null);
  intent.latest_charge = store.charges.put(made).id;
  if (intent.setup_future_usage !== null && typeof intent.customer === 'string') {
    attachMethod(world, method, intent.customer);
  }
  events.emit('charge.succeeded', made);
  succeed(world, intent);
  if (later !== null) agenda.plan(later, made.id, clock.nowMs() + options.laterDelayMs);
}

function succeed(world: World, intent: Stripe.PaymentIntent): void {
  intent.status = 'succeeded';
  intent.amount_received = intent.amount;
  world.events.emit('payment_intent.succeeded', world.store.intents.put(intent));
}

function refuse(world: World, intent: Stripe.PaymentIntent, method: MethodRow, decline: CardDecline): void {
  intent.status = 'requires_payment_method';
  intent.payment_method = null;
  intent.next_action = null;
  intent.last_payment_error = {
    type: 'card_error',
    ...decline,
    ...(intent.latest_charge !== null && { charge: idOf(intent.latest_charge) }),
    payment_method: structuredClone(method.method),
  };
  world.events.emit('payment_intent.payment_failed', world.store.intents.put(intent));
}

function requireAction(world: World, intent: Stripe.PaymentIntent, action: Stripe.PaymentIntent.NextAction): void {
  intent.status = 'requires_action';
  intent.next_action = action;
  world.events.emit('payment_intent.requires_action', world.store.intents.put(intent));
}

function cardOf(method: MethodRow): TestCard {
  const card = findCard(method.number);
  if (card === undefined) throw new Error(`Payment method ${method.id} is no test card.`);
  return card;
}
