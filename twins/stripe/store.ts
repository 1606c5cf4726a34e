/** All that the Stripe twin remembers. */
import type Stripe from 'stripe';

import type { DeliveryRow } from '../kit/deliveries.ts';
import { randomId } from '../kit/ids.ts';
import { Table, TableFile, type Row } from '../kit/tables.ts';

/** The endpoint that events are sent to. */
export interface Webhooks {
  readonly url: string | null;
  /** The current one, and the old one while it is being rotated out. */
  readonly secrets: readonly string[];
  /** The types that are sent; all unless given. */
  readonly events?: readonly string[];
  /** `disabled`: nothing is sent. */
  readonly status?: 'enabled' | 'disabled';
}

export interface SessionRow extends Row {
  readonly session: Stripe.Checkout.Session;
  readonly lines: readonly Stripe.LineItem[];
  /** The text on the page. */
  readonly description: string;
  /** From `payment_intent_data`: the session's own metadata stays on the session. */
  readonly intentMetadata: Record<string, string>;
  readonly futureUsage: Stripe.PaymentIntent.SetupFutureUsage | null;
}

export interface MethodRow extends Row {
  readonly method: Stripe.PaymentMethod;
  /** Which test card it is. */
  readonly number: string;
  /** A detached card may not be used again. */
  isDetached: boolean;
}

export interface DisputeRow extends Row {
  readonly dispute: Stripe.Dispute;
  isWithdrawn: boolean;
}

export const TASK_KINDS = [
  'expire_session',
  'async_succeeds',
  'async_fails',
  'open_dispute',
  'open_inquiry',
  'warn_of_fraud',
  'refund_succeeds',
  'refund_fails',
] as const;
export type TaskKind = (typeof TASK_KINDS)[number];

/** Something that will happen to an object at a time of the twin's clock. */
export interface TaskRow extends Row {
  readonly kind: TaskKind;
  readonly subject: string;
  readonly atMs: number;
}

export interface KeyRow extends Row {
  readonly createdMs: number;
  /** Hash of method, path and parameters. */
  readonly fingerprint: string;
  readonly status: number;
  readonly text: string;
  readonly requestId: string;
}

interface SettingsRow extends Row {
  clockOffsetMs: number;
  /** Null until `POST /_twin/webhooks` has changed what the process was started with. */
  webhooks: Webhooks | null;
  /** Rights of restricted keys (permissions.ts); null: all rights. */
  granted?: readonly string[] | null;
}

export class Store {
  readonly sessions = new Table<SessionRow>();
  readonly intents = new Table<Stripe.PaymentIntent>();
  readonly charges = new Table<Stripe.Charge>();
  readonly refunds = new Table<Stripe.Refund>();
  readonly disputes = new Table<DisputeRow>();
  readonly warnings = new Table<Stripe.Radar.EarlyFraudWarning>();
  readonly customers = new Table<Stripe.Customer | Stripe.DeletedCustomer>();
  readonly methods = new Table<MethodRow>();
  readonly events = new Table<Stripe.Event>();
  readonly deliveries = new Table<DeliveryRow>();
  readonly tasks = new Table<TaskRow>();
  readonly keys = new Table<KeyRow>();
  readonly #settings = new Table<SettingsRow>();
  readonly #file: TableFile;

  constructor(dataFile: string | null) {
    const { sessions, intents, charges, refunds, disputes, warnings, customers, methods } = this;
    const { events, deliveries, tasks, keys } = this;
    const tables = {
      ...{ sessions, intents, charges, refunds, disputes, warnings, customers, methods },
      ...{ events, deliveries, tasks, keys, settings: this.#settings },
    };
    this.#file = new TableFile(tables, dataFile);
  }

  get settings(): SettingsRow {
    return this.#settings.get('settings') ?? { id: 'settings', clockOffsetMs: 0, webhooks: null, granted: null };
  }

  changeSettings(change: Partial<Omit<SettingsRow, 'id'>>): void {
    this.#settings.put({ ...this.settings, ...change });
  }

  /** Writes the changes; called before any client learns of them. */
  flush(): void {
    this.#file.flush();
  }

  close(): void {
    this.#file.close();
  }
}

export function newId(prefix: string): string {
  return randomId(prefix, 24);
}

/** The id in a field that may have been expanded; empty where there is none. */
export function idOf(reference: string | { readonly id: string } | null | undefined): string {
  if (typeof reference === 'string') return reference;
  return reference?.id ?? '';
}
