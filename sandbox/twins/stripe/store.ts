/**
 * All that the twin remembers, as tables of JSON rows in order of creation. With a data file, every changed row is
 * appended to it as one line before the call that changed it is answered, so that not even kill -9 loses a payment
 * that a client was told of. The last line of a row wins; the file is rewritten, one line a row, at the start.
 */
import { randomInt } from 'node:crypto';
import { appendFileSync, closeSync, existsSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type Stripe from 'stripe';

import type { DeliveryRow } from './deliveries.ts';

interface Row {
  readonly id: string;
}

export class Table<T extends Row> {
  readonly #rows = new Map<string, T>();
  readonly #changed = new Set<string>();

  get(id: string): T | undefined {
    return this.#rows.get(id);
  }

  /** Adds a row, or notes that it was changed in place. */
  put(row: T): T {
    this.#rows.set(row.id, row);
    this.#changed.add(row.id);
    return row;
  }

  delete(id: string): void {
    if (this.#rows.delete(id)) this.#changed.add(id);
  }

  oldestFirst(): T[] {
    return [...this.#rows.values()];
  }

  newestFirst(): T[] {
    return this.oldestFirst().reverse();
  }

  find(matches: (row: T) => boolean): T | undefined {
    return this.oldestFirst().find(matches);
  }

  takeChanged(): string[] {
    const ids = [...this.#changed];
    this.#changed.clear();
    return ids;
  }
}

export interface SessionRow extends Row {
  readonly session: Stripe.Checkout.Session;
  readonly lines: readonly Stripe.LineItem[];
  /** What the page shows. */
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
  /** Of method, path and parameters. */
  readonly fingerprint: string;
  readonly status: number;
  readonly text: string;
  readonly requestId: string;
}

interface SettingsRow extends Row {
  clockOffsetMs: number;
  /** Null until `POST /_twin/webhooks` has changed what the process was started with. */
  webhooks: { url: string | null; secrets: readonly string[] } | null;
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
  readonly #tables: Readonly<Record<string, Table<Row>>>;
  #file: number | null = null;

  constructor(dataFile: string | null) {
    const { sessions, intents, charges, refunds, disputes, warnings, customers, methods } = this;
    const { events, deliveries, tasks, keys } = this;
    this.#tables = {
      ...{ sessions, intents, charges, refunds, disputes, warnings, customers, methods },
      ...{ events, deliveries, tasks, keys, settings: this.#settings },
    };
    if (dataFile === null) return;
    if (existsSync(dataFile)) this.#read(readFileSync(dataFile, 'utf8'));
    const rows = Object.entries(this.#tables).flatMap(([name, table]) =>
      table.oldestFirst().map((row) => JSON.stringify([name, row.id, row]) + '\n'),
    );
    writeFileSync(`${dataFile}.new`, rows.join(''));
    renameSync(`${dataFile}.new`, dataFile);
    this.#file = openSync(dataFile, 'a');
  }

  get settings(): SettingsRow {
    return this.#settings.get('settings') ?? { id: 'settings', clockOffsetMs: 0, webhooks: null };
  }

  changeSettings(change: Partial<Omit<SettingsRow, 'id'>>): void {
    this.#settings.put({ ...this.settings, ...change });
  }

  /** Writes what has changed; called before anybody is told of it. */
  flush(): void {
    let lines = '';
    for (const [name, table] of Object.entries(this.#tables)) {
      for (const id of table.takeChanged()) lines += JSON.stringify([name, id, table.get(id) ?? null]) + '\n';
    }
    if (this.#file !== null && lines !== '') appendFileSync(this.#file, lines);
  }

  close(): void {
    this.flush();
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #read(text: string): void {
    // A process killed while it wrote leaves half a line behind, which nobody was told of.
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    for (const line of whole.split('\n')) {
      if (line === '') continue;
      const [name, id, row] = JSON.parse(line) as [string, string, Row | null];
      const table = this.#tables[name];
      if (table === undefined) throw new Error(`The data file has rows of an unknown table '${name}'.`);
      if (row === null) table.delete(id);
      else table.put(row);
    }
    for (const table of Object.values(this.#tables)) table.takeChanged();
  }
}

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

export function newId(prefix: string): string {
  let id = `${prefix}_`;
  for (let length = 0; length < 24; length += 1) id += ALPHABET[randomInt(ALPHABET.length)];
  return id;
}

/** The id in a field that may have been expanded; empty where there is none. */
export function idOf(reference: string | { readonly id: string } | null | undefined): string {
  if (typeof reference === 'string') return reference;
  return reference?.id ?? '';
}
