/**
 * Sends events to the webhook endpoint: at least once, in no promised order, again after each wait of a short ladder, and
 * then never by itself. Every attempt is recorded; what was not delivered when the process ended is sent at the next start.
 */
import type { CreemEvent, Store } from './store.ts';
import { type SignatureForm, signatureHeaders } from './signature.ts';
import type { DeliveryFault, FaultRules } from '../kit/payment-faults.ts';

/** Also what `GET /_twin/deliveries` shows. */
export interface DeliveryRow {
  /** The event's. */
  readonly id: string;
  readonly event_type: string;
  state: 'pending' | 'delivered' | 'dropped' | 'failed';
  readonly attempts: DeliveryAttempt[];
  next_attempt_ms: number | null;
}

export interface DeliveryAttempt {
  readonly at_ms: number;
  /** Of each copy sent: the HTTP status, or why there was none. */
  readonly answers: readonly (number | string)[];
  readonly fault: DeliveryFault;
}

export interface Webhooks {
  readonly url: string | null;
  /** The current one, and the old one while it is being rotated out. */
  readonly secrets: readonly string[];
  readonly form: SignatureForm;
}

export interface DeliveriesOptions {
  readonly webhooks: Webhooks;
  /** Waits between attempts; after the last one the event counts as failed. */
  readonly retryLadderMs: readonly number[];
  /** How long an endpoint may take to answer. */
  readonly timeoutMs: number;
}

const WRONG_SECRET = 'whsec_d3JvbmctYXMtY2FuLWJl';

export class Deliveries {
  readonly #store: Store;
  readonly #faults: FaultRules;
  readonly #options: DeliveriesOptions;
  readonly #closing = new AbortController();
  readonly #timers = new Set<NodeJS.Timeout>();
  #held: (() => void)[] = [];

  constructor(store: Store, faults: FaultRules, options: DeliveriesOptions) {
    this.#store = store;
    this.#faults = faults;
    this.#options = options;
  }

  webhooks(): Webhooks {
    return this.#store.webhooks ?? this.#options.webhooks;
  }

  configure(change: Partial<Webhooks>): Webhooks {
    this.#store.webhooks = { ...this.webhooks(), ...change };
    this.#store.save();
    return this.#store.webhooks;
  }

  /** Events that happen while no endpoint is known are never sent, unless redelivery is asked for. */
  accept(event: CreemEvent): void {
    if (this.webhooks().url !== null) this.#plan(this.#newRow(event), 0);
  }

  /** Takes up what was pending when the process ended. */
  resume(): void {
    for (const row of this.#store.deliveries.values()) {
      if (row.state === 'pending') this.#plan(row, Math.max(0, (row.next_attempt_ms ?? 0) - Date.now()));
    }
  }

  /** Sends an event (again) now, and resolves when it was answered; undefined when there is no such event. */
  async redeliver(eventId: string): Promise<DeliveryRow | undefined> {
    const event = this.#store.events.get(eventId);
    if (event === undefined) return undefined;
    const row = this.#store.deliveries.get(eventId) ?? this.#newRow(event);
    await this.#attempt(row);
    return row;
  }

  /** Sends what a `reorder` fault holds back. */
  releaseHeld(): void {
    const released = this.#held;
    this.#held = [];
    for (const release of released) release();
  }

  close(): void {
    this.#closing.abort();
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #newRow(event: CreemEvent): DeliveryRow {
    const row: DeliveryRow = {
      id: event.id,
      event_type: event.eventType,
      state: 'pending',
      attempts: [],
      next_attempt_ms: null,
    };
    this.#store.deliveries.set(row.id, row);
    return row;
  }

  #plan(row: DeliveryRow, waitMs: number): void {
    row.next_attempt_ms = Date.now() + waitMs;
    this.#later(waitMs, () => {
      if (row.state === 'pending') void this.#attempt(row);
    });
  }

  #later(waitMs: number, run: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      run();
    }, waitMs);
    this.#timers.add(timer);
  }

  async #attempt(row: DeliveryRow): Promise<void> {
    const fault = this.#faults.takeForDelivery(row.event_type);
    const { url } = this.webhooks();
    const at_ms = Date.now();
    if (fault.drop === true || url === null) {
      row.attempts.push({ at_ms, answers: [], fault });
      this.#end(row, 'dropped');
      return;
    }
    const { delay_ms: delayMs } = fault;
    if (delayMs !== undefined) await new Promise<void>((resolve) => this.#later(delayMs, resolve));
    if (fault.reorder === true) await new Promise<void>((resolve) => this.#held.push(resolve));

    const copies = Array.from({ length: fault.duplicate ?? 1 }, () => this.#send(row.id, url, fault));
    const answers = await Promise.all(copies);
    if (this.#closing.signal.aborted) return;
    row.attempts.push({ at_ms, answers, fault });
    if (answers.some((answer) => typeof answer === 'number' && answer >= 200 && answer < 300)) {
      this.#end(row, 'delivered');
    } else {
      this.#retry(row);
    }
    if (fault.reorder !== true) this.releaseHeld();
  }

  #retry(row: DeliveryRow): void {
    const waitMs = this.#options.retryLadderMs[row.attempts.length - 1];
    // An earlier success stands, whatever a redelivery on request comes to.
    if (row.state === 'delivered' || waitMs === undefined) {
      return this.#end(row, row.state === 'delivered' ? 'delivered' : 'failed');
    }
    this.#plan(row, waitMs);
    this.#store.save();
  }

  #end(row: DeliveryRow, state: DeliveryRow['state']): void {
    row.state = state;
    row.next_attempt_ms = null;
    this.#store.save();
  }

  async #send(eventId: string, url: string, fault: DeliveryFault): Promise<number | string> {
    const { secrets, form } = this.webhooks();
    const body = Buffer.from(JSON.stringify(this.#store.events.get(eventId)));
    const signature = signatureHeaders(form, {
      body,
      messageId: eventId,
      timestamp: Math.floor(Date.now() / 1000) - (fault.stale_seconds ?? 0) + (fault.future_seconds ?? 0),
      secrets: fault.wrong_secret === true ? [WRONG_SECRET] : secrets,
    });
    if (fault.altered_byte === true) alterOneByte(body);
    try {
      const response = await fetch(url, {
        method: 'POST',
        redirect: 'manual',
        headers: { 'content-type': 'application/json', ...signature },
        body,
        signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#options.timeoutMs)]),
      });
      await response.arrayBuffer();
      return response.status;
    } catch (error) {
      return error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : 'failed';
    }
  }
}

/** The first digit of the event's creation time, so that the body stays valid JSON and only the signature tells. */
function alterOneByte(body: Buffer): void {
  const at = body.indexOf('"created_at":') + '"created_at":'.length;
  body[at] = (body[at] ?? 0) === 0x39 ? 0x38 : (body[at] ?? 0) + 1;
}
