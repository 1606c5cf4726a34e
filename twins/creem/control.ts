/**
 * The twin's own HTTP routes under `/_twin`, in JSON: what customers, banks and the seller's dashboard do, and what
 * goes wrong.
 *
 *   POST   /_twin/checkouts/{id}/pay              {sub_total?, discount_amount?, tax_amount?, currency?, mode?, without?, nulled?}
 *   POST   /_twin/product                         {tax_mode: inclusive | exclusive}
 *   POST   /_twin/checkouts/{id}/expire
 *   POST   /_twin/transactions/{id}/refund        {amount?, status?}: in the dashboard, where a part is possible
 *   POST   /_twin/transactions/{id}/dispute
 *   POST   /_twin/transactions/{id}/set           {status?, refunded_amount?}: any words, without an event
 *   POST   /_twin/refunds/{id}/end                {status}, without an event
 *   POST   /_twin/disputes/{id}/end               {outcome: won | lost | refunded}; only the last one has an event
 *   GET    /_twin/state                           all objects
 *   GET    /_twin/deliveries                      every event's delivery with its attempts
 *   POST   /_twin/deliveries/{event}/redeliver    sends it now, answers when it was answered
 *   POST   /_twin/webhooks                        {url?, secrets?, form?: legacy | standard | both}
 *   GET, POST, DELETE /_twin/faults               rules, see `../kit/payment-faults.ts`
 */
import type { Control, ControlRoutes } from '../kit/control.ts';
import type { Deliveries } from './deliveries.ts';
import { dispute, endDispute, endRefund, expire, type OmittedField, OPTIONAL_FIELDS, pay, refund } from './payments.ts';
import { SIGNATURE_FORMS } from './signature.ts';
import { existing, Refused, type World } from './world.ts';
import { type FaultRules, readFaultRule } from '../kit/payment-faults.ts';
import {
  BadInput,
  optional,
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

const REFUND_STATUSES = ['pending', 'requiresAction', 'succeeded', 'failed', 'canceled'] as const;
const OUTCOMES = ['won', 'lost', 'refunded'] as const;

const TAX_MODES = ['exclusive', 'inclusive'] as const;

const ROUTES: ControlRoutes<ControlContext> = {
  'POST checkouts/:id/pay': {
    fields: ['sub_total', 'discount_amount', 'tax_amount', 'currency', 'mode', 'without', 'nulled'],
    run: ({ world }, body, id) =>
      pay(world, existing(world.store.checkouts, id), {
        sub_total: optional(body, 'sub_total', readCents),
        discount_amount: optional(body, 'discount_amount', readCents),
        tax_amount: optional(body, 'tax_amount', readCount),
        currency: optional(body, 'currency', readString),
        mode: optional(body, 'mode', readString),
        without: optional(body, 'without', readOmitted),
        nulled: optional(body, 'nulled', readOmitted),
      }),
  },
  'POST product': {
    fields: ['tax_mode'],
    run: ({ world }, body) => {
      world.store.product.tax_mode = readChoice(body['tax_mode'], 'tax_mode', TAX_MODES);
      return world.store.product;
    },
  },
  'POST checkouts/:id/expire': {
    fields: [],
    run: ({ world }, _, id) => expire(existing(world.store.checkouts, id)),
  },
  'POST transactions/:id/refund': {
    fields: ['amount', 'status'],
    run: ({ world }, body, id) =>
      refund(world, existing(world.store.transactions, id), {
        amount: optional(body, 'amount', readCents),
        status: optional(body, 'status', readRefundStatus) ?? 'succeeded',
      }),
  },
  'POST transactions/:id/dispute': {
    fields: [],
    run: ({ world }, _, id) => dispute(world, existing(world.store.transactions, id)),
  },
  'POST transactions/:id/set': {
    fields: ['status', 'refunded_amount'],
    run: ({ world }, body, id) => {
      const transaction = existing(world.store.transactions, id);
      const status = optional(body, 'status', readString);
      const refunded = optional(body, 'refunded_amount', readCount);
      if (status !== undefined) transaction.status = status;
      if (refunded !== undefined) transaction.refunded_amount = refunded;
      return transaction;
    },
  },
  'POST refunds/:id/end': {
    fields: ['status'],
    run: ({ world }, body, id) =>
      endRefund(world, existing(world.store.refunds, id), readRefundStatus(body['status'], 'status')),
  },
  'POST disputes/:id/end': {
    fields: ['outcome'],
    run: ({ world }, body, id) =>
      endDispute(world, existing(world.store.disputes, id), readChoice(body['outcome'], 'outcome', OUTCOMES)),
  },
  'GET state': {
    fields: [],
    run: ({ world, deliveries }) => ({
      ...world.store.snapshot(),
      product: world.store.product,
      webhooks: deliveries.webhooks(),
    }),
  },
  'GET deliveries': { fields: [], run: ({ world }) => ({ data: world.store.deliveries.oldestFirst() }) },
  'POST deliveries/:id/redeliver': {
    fields: [],
    run: async ({ deliveries }, _, id) => {
      const row = await deliveries.redeliver(id);
      if (row === undefined) throw new Refused(404, `There is no '${id}'.`);
      return row;
    },
  },
  'POST webhooks': {
    fields: ['url', 'secrets', 'form'],
    run: ({ deliveries }, body) => {
      const url = optional(body, 'url', (value, field) => (value === null ? null : readUrl(value, field)));
      const secrets = optional(body, 'secrets', readSecrets);
      const form = optional(body, 'form', (value, field) => readChoice(value, field, SIGNATURE_FORMS));
      return deliveries.configure({
        ...(url !== undefined && { url }),
        ...(secrets !== undefined && { secrets }),
        ...(form !== undefined && { form }),
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

function readOmitted(value: unknown, field: string): OmittedField[] {
  if (!Array.isArray(value)) throw new BadInput('must be a list', field);
  return value.map((name, place) => readChoice(name, `${field}[${place}]`, OPTIONAL_FIELDS));
}

function readRefundStatus(value: unknown, field: string): (typeof REFUND_STATUSES)[number] {
  return readChoice(value, field, REFUND_STATUSES);
}

/** How the twin of this context is steered. */
export function controlOf(context: ControlContext): Control<ControlContext> {
  return {
    routes: ROUTES,
    context,
    flush: () => context.world.store.flush(),
    refusalOf: (error) => (error instanceof Refused ? error : null),
  };
}
