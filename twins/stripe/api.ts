/** The routes of Stripe's API that this twin has: one row each, from the parsed parameters to the answered object. */
import type Stripe from 'stripe';

import { invalidRequest, noSuch, StripeFailure } from './errors.ts';
import type { Params } from './form.ts';
import {
  attachPaymentMethod,
  cancelPaymentIntent,
  confirmPaymentIntent,
  createPaymentIntent,
  detachPaymentMethod,
} from './intents.ts';
import { listEndpoints, withDelivery } from './endpoints.ts';
import { expanded, pageOf } from './lists.ts';
import { newCustomer } from './objects.ts';
import { refundCharge } from './reversals.ts';
import { createSession, expireSession } from './sessions.ts';
import type { Table } from '../kit/tables.ts';
import { idOf } from './store.ts';
import type { World } from './world.ts';

type Call = (world: World, params: Params, id: string) => object;

/** Stripe lists the events of thirty days. */
const EVENTS_SECONDS = 30 * 86_400;

/** `:id` is the only variable part a path can have. */
const ROUTES: Readonly<Record<string, Call>> = {
  'POST /v1/checkout/sessions': createSession,
  'GET /v1/checkout/sessions': ({ store }, params) => {
    const isWanted = equalTo(params, ['payment_intent', 'customer', 'status']);
    const sessions = store.sessions.newestFirst().map(({ session }) => session);
    return pageOf(sessions.filter(isWanted), params, '/v1/checkout/sessions');
  },
  'GET /v1/checkout/sessions/:id': ({ store }, _, id) => found(store.sessions, 'checkout.session', id).session,
  'GET /v1/checkout/sessions/:id/line_items': ({ store }, params, id) => {
    const { lines } = found(store.sessions, 'checkout.session', id);
    return pageOf(lines, params, `/v1/checkout/sessions/${id}/line_items`);
  },
  'POST /v1/checkout/sessions/:id/expire': (world, params, id) => {
    params.refuseOthers();
    return expireSession(world, found(world.store.sessions, 'checkout.session', id));
  },

  'POST /v1/payment_intents': createPaymentIntent,
  'GET /v1/payment_intents': ({ store }, params) => {
    const isWanted = equalTo(params, ['customer']);
    return pageOf(store.intents.newestFirst().filter(isWanted), params, '/v1/payment_intents');
  },
  'GET /v1/payment_intents/:id': ({ store }, params, id) => {
    params.string('client_secret');
    return found(store.intents, 'payment_intent', id);
  },
  'POST /v1/payment_intents/:id/confirm': (world, params, id) =>
    confirmPaymentIntent(world, found(world.store.intents, 'payment_intent', id), params),
  'POST /v1/payment_intents/:id/cancel': (world, params, id) =>
    cancelPaymentIntent(world, found(world.store.intents, 'payment_intent', id), params),

  'GET /v1/charges': ({ store }, params) => {
    const isWanted = equalTo(params, ['payment_intent', 'customer']);
    return pageOf(store.charges.newestFirst().filter(isWanted), params, '/v1/charges');
  },
  'GET /v1/charges/:id': ({ store }, _, id) => found(store.charges, 'charge', id),

  'POST /v1/refunds': createRefund,
  'GET /v1/refunds': ({ store }, params) => {
    const isWanted = equalTo(params, ['payment_intent', 'charge']);
    return pageOf(store.refunds.newestFirst().filter(isWanted), params, '/v1/refunds');
  },
  'GET /v1/refunds/:id': ({ store }, _, id) => found(store.refunds, 'refund', id),

  'GET /v1/disputes': ({ store }, params) => {
    const isWanted = equalTo(params, ['payment_intent', 'charge']);
    const disputes = store.disputes.newestFirst().map(({ dispute }) => dispute);
    return pageOf(disputes.filter(isWanted), params, '/v1/disputes');
  },
  'GET /v1/disputes/:id': ({ store }, _, id) => found(store.disputes, 'dispute', id).dispute,

  'GET /v1/radar/early_fraud_warnings': ({ store }, params) => {
    const isWanted = equalTo(params, ['payment_intent', 'charge']);
    return pageOf(store.warnings.newestFirst().filter(isWanted), params, '/v1/radar/early_fraud_warnings');
  },
  'GET /v1/radar/early_fraud_warnings/:id': ({ store }, _, id) => found(store.warnings, 'early_fraud_warning', id),

  'POST /v1/customers': createCustomer,
  'GET /v1/customers/:id': ({ store }, _, id) => found(store.customers, 'customer', id),
  'DELETE /v1/customers/:id': deleteCustomer,
  'GET /v1/customers/:id/payment_methods': ({ store }, params, id) => {
    params.string('type');
    found(store.customers, 'customer', id);
    const methods = store.methods.newestFirst().map(({ method }) => method);
    return pageOf(
      methods.filter(({ customer }) => customer === id),
      params,
      `/v1/customers/${id}/payment_methods`,
    );
  },

  'GET /v1/payment_methods/:id': ({ store }, _, id) => found(store.methods, 'PaymentMethod', id).method,
  'POST /v1/payment_methods/:id/attach': (world, params, id) =>
    attachPaymentMethod(world, found(world.store.methods, 'PaymentMethod', id), params),
  'POST /v1/payment_methods/:id/detach': (world, params, id) => {
    params.refuseOthers();
    return detachPaymentMethod(world, found(world.store.methods, 'PaymentMethod', id));
  },

  'GET /v1/webhook_endpoints': listEndpoints,
  'GET /v1/events': (world, params) => {
    const { store, clock } = world;
    const type = params.string('type');
    const types = params.strings('types');
    const since = clock.now() - EVENTS_SECONDS;
    const isDelivered = params.has('delivery_success') ? params.boolean('delivery_success') : undefined;
    const wanted = store.events
      .newestFirst()
      .map((event) => withDelivery(world, event))
      .filter((event) => event.created >= since)
      .filter((event) => isDelivered === undefined || isDelivered === (event.pending_webhooks === 0))
      .filter((event) =>
        type === undefined ? types.length === 0 || types.includes(event.type) : isOfType(event, type),
      );
    return pageOf(wanted, params, '/v1/events');
  },
  'GET /v1/events/:id': (world, _, id) => withDelivery(world, found(world.store.events, 'event', id)),
};

/** Answers a call; throws `StripeFailure` for every error Stripe would answer. */
export function answerCall(world: World, method: string, path: string, params: Params): object {
  const { call, id } = routeOf(method, path);
  const paths = params.strings('expand');
  const answer = call(world, params, id);
  params.refuseOthers();
  return expanded(world.store, answer, paths);
}

function routeOf(method: string, path: string): { call: Call; id: string } {
  const direct = ROUTES[`${method} ${path}`];
  if (direct !== undefined) return { call: direct, id: '' };
  const segments = path.split('/');
  for (const [index, segment] of segments.entries()) {
    const call = ROUTES[`${method} ${segments.with(index, ':id').join('/')}`];
    if (call !== undefined) return { call, id: segment };
  }
  throw new StripeFailure(404, {
    type: 'invalid_request_error',
    message: `Unrecognized request URL (${method}: ${path}).`,
  });
}

function createRefund(world: World, params: Params): Stripe.Refund {
  const chargeId = params.string('charge');
  const intentId = params.string('payment_intent');
  const amount = params.integer('amount');
  const reason = params.choice('reason', ['duplicate', 'fraudulent', 'requested_by_customer']);
  const metadata = params.metadata();
  params.refuseOthers(['instructions_email', 'refund_application_fee', 'reverse_transfer']);
  if (chargeId === undefined && intentId === undefined) {
    throw invalidRequest(
      'One of the following params should be provided for this request: payment_intent or charge.',
      undefined,
      'parameter_missing',
    );
  }
  const charge =
    chargeId === undefined
      ? chargeOfIntent(world, intentId!)
      : (world.store.charges.get(chargeId) ?? noSuchParam('charge', chargeId));
  if (charge.status !== 'succeeded') throw invalidRequest(`Charge ${charge.id} is not refundable.`, 'charge');
  return refundCharge(world, charge, { amount, reason, metadata });
}

/** The charge that paid an intent. */
export function chargeOfIntent(world: World, intentId: string): Stripe.Charge {
  const intent = world.store.intents.get(intentId) ?? noSuchParam('payment_intent', intentId);
  const charge = world.store.charges.get(idOf(intent.latest_charge));
  if (charge === undefined || charge.status !== 'succeeded') {
    throw invalidRequest(
      `This PaymentIntent (${intentId}) does not have a successful charge to refund.`,
      'payment_intent',
    );
  }
  return charge;
}

function createCustomer(world: World, params: Params): Stripe.Customer {
  const customer = newCustomer({
    now: world.clock.now(),
    email: params.string('email') ?? null,
    name: params.string('name') ?? null,
    description: params.string('description') ?? null,
    metadata: params.metadata(),
  });
  params.refuseOthers(['address', 'phone', 'preferred_locales', 'tax_exempt']);
  world.events.emit('customer.created', world.store.customers.put(customer));
  return customer;
}

/** Its saved cards cannot be used again. */
function deleteCustomer(world: World, _: Params, id: string): Stripe.DeletedCustomer {
  const customer = found(world.store.customers, 'customer', id);
  if (customer.deleted === true) throw noSuch('customer', id);
  for (const row of world.store.methods.oldestFirst()) {
    if (row.method.customer !== id) continue;
    row.method.customer = null;
    row.isDetached = true;
    world.store.methods.put(row);
  }
  const deleted: Stripe.DeletedCustomer = { id, object: 'customer', deleted: true };
  world.store.customers.put(deleted);
  world.events.emit('customer.deleted', customer);
  return deleted;
}

function found<T extends { readonly id: string }>(table: Table<T>, what: string, id: string): T {
  const row = table.get(id);
  if (row === undefined) throw noSuch(what, id);
  return row;
}

function noSuchParam(param: string, id: string): never {
  throw noSuch(param, id, param);
}

/** Rows whose fields equal the parameters of the same names, as far as given. */
function equalTo<F extends string>(params: Params, fields: readonly F[]): (row: { [field in F]?: unknown }) => boolean {
  const wanted = fields.map((field) => [field, params.string(field)] as const);
  return (row) => wanted.every(([field, value]) => value === undefined || row[field] === value);
}

/** `charge.dispute.*` is a type filter as well. */
function isOfType(event: Stripe.Event, type: string): boolean {
  return type.endsWith('*') ? event.type.startsWith(type.slice(0, -1)) : event.type === type;
}
