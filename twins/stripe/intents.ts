/** The API's calls that create, confirm and cancel PaymentIntents. */
import type Stripe from 'stripe';

import { cardOfToken } from './cards.ts';
import { invalidRequest, noSuch } from './errors.ts';
import type { Params } from './form.ts';
import { newMethod } from './objects.ts';
import { attachMethod, attemptPayment, cancelIntent, cardFailure, createIntent } from './payments.ts';
import { checkAmount, readCustomer } from './sessions.ts';
import { idOf, type MethodRow } from './store.ts';
import type { World } from './world.ts';

const IGNORED = [
  'allowed_payment_method_types',
  'automatic_payment_methods',
  'capture_method',
  'payment_method_options',
  'payment_method_types',
  'receipt_email',
  'return_url',
  'statement_descriptor',
  'statement_descriptor_suffix',
  'use_stripe_sdk',
];

export function createPaymentIntent(world: World, params: Params): Stripe.PaymentIntent {
  const amount = params.requiredInteger('amount');
  const currency = params.requiredString('currency').toLowerCase();
  checkAmount(amount, currency);
  const customer = readCustomer(world, params);
  const method = readMethod(world, params, customer);
  const isConfirmed = params.boolean('confirm');
  const terms = readTerms(params);
  if (!isConfirmed && terms.isNamed) {
    throw invalidRequest('You must set `confirm` to true to use this parameter.', 'off_session');
  }
  if (isConfirmed && method === null) throw missingMethod();
  const description = params.string('description') ?? null;
  const futureUsage = params.choice('setup_future_usage', ['off_session', 'on_session']) ?? null;
  const metadata = params.metadata();
  params.refuseOthers(IGNORED);

  const intent = createIntent(world, { amount, currency, customer, description, metadata, futureUsage });
  if (method === null) return intent;
  intent.payment_method = method.id;
  intent.status = 'requires_confirmation';
  world.store.intents.put(intent);
  return isConfirmed ? confirm(world, intent, method, terms.isActionRefused) : intent;
}

export function confirmPaymentIntent(world: World, intent: Stripe.PaymentIntent, params: Params): Stripe.PaymentIntent {
  const customer = typeof intent.customer === 'string' ? intent.customer : null;
  const method = readMethod(world, params, customer) ?? world.store.methods.get(idOf(intent.payment_method)) ?? null;
  const { isActionRefused } = readTerms(params);
  params.refuseOthers(IGNORED);
  refuseUnless(intent, ['requires_payment_method', 'requires_confirmation', 'requires_action'], 'confirm');
  if (method === null) throw missingMethod();
  return confirm(world, intent, method, isActionRefused);
}

export function cancelPaymentIntent(world: World, intent: Stripe.PaymentIntent, params: Params): Stripe.PaymentIntent {
  params.refuseOthers(['cancellation_reason']);
  refuseUnless(intent, ['requires_payment_method', 'requires_confirmation', 'requires_action'], 'cancel');
  cancelIntent(world, intent);
  return intent;
}

export function attachPaymentMethod(world: World, row: MethodRow, params: Params): Stripe.PaymentMethod {
  const customer = readCustomer(world, params);
  if (customer === null) {
    throw invalidRequest('Missing required param: customer.', 'customer', 'parameter_missing');
  }
  if (row.isDetached) throw detached('payment_method');
  attachMethod(world, row, customer);
  return row.method;
}

export function detachPaymentMethod(world: World, row: MethodRow): Stripe.PaymentMethod {
  const { customer } = row.method;
  if (customer === null) {
    throw invalidRequest('The payment method you provided is not attached to a customer so detachment is impossible.');
  }
  row.method.customer = null;
  row.isDetached = true;
  world.events.emit('payment_method.detached', world.store.methods.put(row).method, { customer });
  return row.method;
}

function confirm(
  world: World,
  intent: Stripe.PaymentIntent,
  method: MethodRow,
  isActionRefused: boolean,
): Stripe.PaymentIntent {
  const result = attemptPayment(world, intent, method, { isAuthenticated: false, isActionRefused });
  if (typeof result === 'object') throw cardFailure(intent, method, result);
  return intent;
}

function readTerms(params: Params): { isNamed: boolean; isActionRefused: boolean } {
  const isNamed = params.has('off_session') || params.has('error_on_requires_action');
  const isOffSession = params.boolean('off_session');
  return { isNamed, isActionRefused: params.boolean('error_on_requires_action') || isOffSession };
}

/** A method by id, or a new one by one of Stripe's test names. */
function readMethod(world: World, params: Params, customer: string | null): MethodRow | null {
  const id = params.string('payment_method');
  if (id === undefined) return null;
  const card = cardOfToken(id);
  if (card !== undefined) return world.store.methods.put(newMethod(world.clock.now(), card));
  const row = world.store.methods.get(id);
  if (row === undefined) throw noSuch('PaymentMethod', id, 'payment_method');
  if (row.isDetached) throw detached('payment_method');
  if (row.method.customer !== null && row.method.customer !== customer) {
    throw invalidRequest(
      'The provided PaymentMethod belongs to another Customer, so it cannot be used here.',
      'payment_method',
    );
  }
  return row;
}

function missingMethod(): Error {
  return invalidRequest(
    'You cannot confirm this PaymentIntent because it is missing a payment method.',
    'payment_method',
    'payment_intent_unexpected_state',
  );
}

function detached(param: string): Error {
  return invalidRequest(
    'The provided PaymentMethod was previously used without Customer attachment or was detached from a Customer. ' +
      'It may not be used again.',
    param,
  );
}

function refuseUnless(intent: Stripe.PaymentIntent, statuses: readonly string[], action: string): void {
  if (statuses.includes(intent.status)) return;
  throw invalidRequest(
    `You cannot ${action} this PaymentIntent because it has a status of ${intent.status}.`,
    undefined,
    'payment_intent_unexpected_state',
  );
}
