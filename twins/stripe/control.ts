/**
 * The twin's own HTTP routes under `/_twin`, in JSON: what customers, banks and time do, and what goes wrong.
 *
 *   POST   /_twin/sessions/{id}/pay           {card?, authentication?, amount_total?, currency?}
 *   POST   /_twin/sessions/{id}/expire
 *   POST   /_twin/async/{session_id}          {succeed}
 *   POST   /_twin/refunds                     {payment_intent, amount?, status?}, made by the seller in the dashboard
 *   POST   /_twin/refunds/{id}                {status}
 *   POST   /_twin/disputes                    {payment_intent, amount?, currency?, status?, reason?, withdraw?}
 *   POST   /_twin/disputes/{id}               {status?, withdraw?, reinstate?}
 *   POST   /_twin/early-fraud-warnings        {payment_intent}
 *   POST   /_twin/payment-methods/{id}        {card}, as which its bank treats it from now on
 *   POST   /_twin/payment-intents/{id}        {status}, any word
 *   POST   /_twin/events                      {type, object?, account?, context?, livemode?, thin?}, of another product or account
 *   GET, POST /_twin/permissions              {granted}: permissions of restricted keys (rk_…), see `permissions.ts`; null: all
 *   GET    /_twin/state                       all objects, the clock, what is due
 *   POST   /_twin/clock                       {advance_seconds}
 *   GET    /_twin/deliveries                  every event's delivery with its attempts
 *   POST   /_twin/deliveries/{event}/redeliver  sends it now, answers when it was answered
 *   POST   /_twin/webhooks                    {url?, secrets?, events?: types, status?: enabled | disabled}
 *   GET, POST, DELETE /_twin/faults           rules, see `faults.ts`
 */
import type { Control, ControlRefusal, ControlRoutes } from '../kit/control.ts';
import { TEST_CARDS } from './cards.ts';
import { chargeOfIntent } from './api.ts';
import { paySession, settleDelayed } from './checkout.ts';
import type { Deliveries } from './deliveries.ts';
import { StripeFailure } from './errors.ts';
import { type FaultRules, readFaultRule } from '../kit/payment-faults.ts';
import { readCard } from './input.ts';
import { readPermissions } from './permissions.ts';
import { changeDispute, changeRefund, openDispute, REFUND_STATUSES, refundCharge, warnOfFraud } from './reversals.ts';
import { expireSession } from './sessions.ts';
import type { Table } from '../kit/tables.ts';
import { idOf, type SessionRow } from './store.ts';
import type { World } from './world.ts';
import {
  BadInput,
  type JsonObject,
  optional,
  readBoolean,
  readCents,
  readChoice,
  readCount,
  readSecrets,
  readString,
  readUrl,
} from '../kit/input.ts';

export interface ControlContext {
  readonly world: World;
  readonly faults: FaultRules;
  readonly deliveries: Deliveries;
}

/** Ten years: beyond it a number of seconds is certainly in the wrong unit. */
const ADVANCE_SECONDS_MAX = 315_360_000;
const AUTHENTICATIONS = ['passed', 'failed', 'pending'] as const;

const ROUTES: ControlRoutes<ControlContext> = {
  'POST sessions/:id/pay': { fields: ['card', 'authentication', 'amount_total', 'currency'], run: pay },
  'POST sessions/:id/expire': {
    fields: [],
    run: ({ world }, _, id) => expireSession(world, existing(world.store.sessions, id)),
  },
  'POST async/:id': {
    fields: ['succeed'],
    run: ({ world }, body, id) => {
      const isSuccessful = readBoolean(body['succeed'], 'succeed');
      const { session } = existing(world.store.sessions, id);
      const intent = existing(world.store.intents, idOf(session.payment_intent));
      const isWaiting =
        intent.status === 'processing' || (session.status === 'complete' && intent.status === 'requires_action');
      if (!isWaiting) throw new Conflict(`The payment is ${intent.status}, not processing.`);
      settleDelayed(world, intent, isSuccessful);
      return session;
    },
  },
  'POST refunds': {
    fields: ['payment_intent', 'amount', 'status'],
    run: ({ world }, body) =>
      refundCharge(world, chargeIn(world, body), {
        amount: optional(body, 'amount', readCents),
        status: optional(body, 'status', (value, field) => readChoice(value, field, REFUND_STATUSES)),
      }),
  },
  'POST refunds/:id': {
    fields: ['status'],
    run: ({ world }, body, id) => {
      const refund = existing(world.store.refunds, id);
      changeRefund(world, refund, readChoice(body['status'], 'status', REFUND_STATUSES));
      return refund;
    },
  },
  'POST disputes': {
    fields: ['payment_intent', 'amount', 'currency', 'status', 'reason', 'withdraw'],
    run: ({ world }, body) =>
      openDispute(world, chargeIn(world, body), {
        amount: optional(body, 'amount', readCents),
        currency: optional(body, 'currency', readString),
        status: optional(body, 'status', readString),
        reason: optional(body, 'reason', readString),
        withdraw: optional(body, 'withdraw', readBoolean),
      }),
  },
  'POST disputes/:id': {
    fields: ['status', 'withdraw', 'reinstate'],
    run: ({ world }, body, id) => {
      const row = existing(world.store.disputes, id);
      changeDispute(world, row, {
        status: optional(body, 'status', readString),
        withdraw: optional(body, 'withdraw', readBoolean),
        reinstate: optional(body, 'reinstate', readBoolean),
      });
      return row.dispute;
    },
  },
  'POST early-fraud-warnings': {
    fields: ['payment_intent'],
    run: ({ world }, body) => warnOfFraud(world, chargeIn(world, body)),
  },
  'POST payment-intents/:id': {
    fields: ['status'],
    run: ({ world }, body, id) => {
      const intent = existing(world.store.intents, id);
      // Also a type that this version of the API does not have.
      intent.status = readString(body['status'], 'status');
      return world.store.intents.put(intent);
    },
  },
  'POST events': { fields: ['type', 'object', 'account', 'context', 'livemode', 'thin'], run: emitEvent },
  'GET permissions': { fields: [], run: ({ world }) => ({ granted: world.store.settings.granted }) },
  'POST permissions': {
    fields: ['granted'],
    run: ({ world }, body) => {
      const granted = body['granted'] === null ? null : readPermissions(body['granted'], 'granted');
      world.store.changeSettings({ granted });
      return { granted };
    },
  },
  'POST payment-methods/:id': {
    fields: ['card'],
    run: ({ world }, body, id) => {
      const row = existing(world.store.methods, id);
      return world.store.methods.put({ ...row, number: readCard(body['card'], 'card').number }).method;
    },
  },
  'GET state': { fields: [], run: stateOf },
  'POST clock': {
    fields: ['advance_seconds'],
    run: ({ world }, body) => {
      advanceClock(world, readCount(body['advance_seconds'], 'advance_seconds', 0, ADVANCE_SECONDS_MAX));
      return { now: world.clock.now() };
    },
  },
  'GET deliveries': { fields: [], run: ({ world }) => ({ data: world.store.deliveries.oldestFirst() }) },
  'POST deliveries/:id/redeliver': {
    fields: [],
    run: async ({ deliveries }, _, id) => {
      const row = await deliveries.redeliver(id);
      if (row === undefined) throw new Missing(`There is no '${id}'.`);
      return row;
    },
  },
  'POST webhooks': {
    fields: ['url', 'secrets', 'events', 'status'],
    run: ({ deliveries }, body) => {
      const events = optional(body, 'events', readTypes);
      const status = optional(body, 'status', (value, field) =>
        readChoice(value, field, ['enabled', 'disabled'] as const),
      );
      const url = optional(body, 'url', (value, field) => (value === null ? null : readUrl(value, field)));
      const secrets = optional(body, 'secrets', readSecrets);
      return deliveries.configure({
        ...(url !== undefined && { url }),
        ...(secrets !== undefined && { secrets }),
        ...(events !== undefined && { events }),
        ...(status !== undefined && { status }),
      });
    },
  },
  'GET faults': { fields: [], run: ({ faults }) => ({ data: faults.list() }) },
  'POST faults': {
    fields: ['on', 'match', 'count', 'fault'],
    run: ({ faults }, body) => faults.add(readFaultRule(body)),
  },
  'DELETE faults': {
    fields: [],
    run: ({ faults, deliveries }) => {
      faults.clear();
      deliveries.releaseHeld();
      return { ok: true };
    },
  },
};

class Missing extends Error {}
class Conflict extends Error {}

/** How the twin of this context is steered. */
export function controlOf(context: ControlContext): Control<ControlContext> {
  return {
    routes: ROUTES,
    context,
    flush: () => context.world.store.flush(),
    refusalOf,
  };
}

function refusalOf(error: unknown): ControlRefusal | null {
  if (error instanceof StripeFailure) {
    return { status: error.status, message: error.message, field: error.body.param ?? null };
  }
  if (error instanceof Missing) return { status: 404, message: error.message };
  return error instanceof Conflict ? { status: 409, message: error.message } : null;
}

/** Due changes happen before this returns; deliveries are under way. */
export function advanceClock(world: World, seconds: number): void {
  world.store.changeSettings({ clockOffsetMs: world.clock.offsetMs + seconds * 1000 });
  world.clock.advance(seconds);
  world.store.flush();
}

function pay({ world }: ControlContext, body: JsonObject, id: string): unknown {
  const row = existing(world.store.sessions, id);
  if (row.session.status !== 'open') throw new Conflict(`The session is ${String(row.session.status)}.`);
  const card = optional(body, 'card', readCard) ?? TEST_CARDS[0]!;
  const wanted = optional(body, 'authentication', (value, field) => readChoice(value, field, AUTHENTICATIONS));
  const amountTotal = optional(body, 'amount_total', readCents);
  const currency = optional(body, 'currency', readString)?.toLowerCase();
  let result = paySession(world, row, { card, amountTotal, currency });
  if (result === 'requires_action' && wanted !== 'pending') {
    result = paySession(world, row, { card, authentication: wanted ?? 'passed' });
  }
  return typeof result === 'object'
    ? { result: 'declined', decline: result, session: row.session }
    : { result, session: row.session };
}

function stateOf({ world, deliveries }: ControlContext): unknown {
  const { store, clock } = world;
  return {
    clock: { now: clock.now(), offset_seconds: clock.offsetMs / 1000 },
    webhooks: deliveries.webhooks(),
    sessions: store.sessions.oldestFirst().map(({ session }: SessionRow) => session),
    payment_intents: store.intents.oldestFirst(),
    charges: store.charges.oldestFirst(),
    refunds: store.refunds.oldestFirst(),
    disputes: store.disputes.oldestFirst().map(({ dispute }) => dispute),
    early_fraud_warnings: store.warnings.oldestFirst(),
    customers: store.customers.oldestFirst(),
    payment_methods: store.methods.oldestFirst().map(({ method }) => method),
    events: store.events.oldestFirst(),
    due: store.tasks.oldestFirst(),
  };
}

/** An event about something that the twin does not have: any object, of a connected account or in the other mode. */
function emitEvent({ world }: ControlContext, body: JsonObject): unknown {
  const account = optional(body, 'account', readString);
  const context = optional(body, 'context', readString);
  return world.events.emitForeign({
    type: readString(body['type'], 'type'),
    // Also what is no object at all.
    object: body['object'] ?? {},
    livemode: optional(body, 'livemode', readBoolean) ?? false,
    isThin: optional(body, 'thin', readBoolean) ?? false,
    ...(account !== undefined && { account }),
    ...(context !== undefined && { context }),
  });
}

function readTypes(value: unknown, field: string): string[] {
  if (!Array.isArray(value)) throw new BadInput(`'${field}' must be a list of event types.`, field);
  return value.map((type) => readString(type, field));
}

function existing<T extends { readonly id: string }>(table: Table<T>, id: string): T {
  const row = table.get(id);
  if (row === undefined) throw new Missing(`There is no '${id}'.`);
  return row;
}

function chargeIn(world: World, body: JsonObject): ReturnType<typeof chargeOfIntent> {
  return chargeOfIntent(world, readString(body['payment_intent'], 'payment_intent'));
}
