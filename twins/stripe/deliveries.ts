/**
 * Sends events to the webhook endpoint: at least once, in no promised order, again until a 2xx or until three days have
 * passed. Every attempt is recorded; what was not delivered when the process ended is sent again at the next start.
 */
import type Stripe from 'stripe';

import type { TwinClock } from '../kit/clock.ts';
import { isSubscribed } from './endpoints.ts';
import type { DeliveryFault, FaultRules } from '../kit/payment-faults.ts';
import { signatureHeader } from './signature.ts';
import type { Store } from './store.ts';

/** Also what `GET /_twin/deliveries` shows. */
export interface DeliveryRow {
  /** The event's. */
  readonly id: string;
  readonly event_type: string;
  state: 'pending' | 'delivered' | 'dropped' | 'given_up';
  readonly attempts: DeliveryAttempt[];
  /** Of the twin's clock; null when nothing more will happen by itself. */
  next_attempt_ms: number | null;
}

export interface DeliveryAttempt {
  readonly at_ms: number;
  readonly url: string | null;
  /** Of each copy sent: the HTTP status, or why there was none. */
  readonly answers: readonly (number | string)[];
  readonly fault: DeliveryFault;
}

export interface Webhooks {
  readonly url: string | null;
  /** The current one, and the old one while it is being rotated out. */
  readonly secrets: readonly string[];
  /** The types that are sent; all unless given. */
  readonly events?: readonly string[];
  /** `disabled`: nothing is sent. */
  readonly status?: 'enabled' | 'disabled';
}

export interface DeliveriesOptions {
  readonly webhooks: Webhooks;
  /** Waits between attempts; the last one repeats. */
  readonly retryLadderMs: readonly number[];
  /** How long an endpoint may take to answer. */
  readonly timeoutMs: number;
}

/** As long as Stripe tries in live mode. */
const RETRY_MS = 3 * 86_400_000;

export class Deliveries {
  readonly #store: Store;
  readonly #clock: TwinClock;
  readonly #faults: FaultRules;
  readonly #options: DeliveriesOptions;
  readonly #closing = new AbortController();
  #held: (() => void)[] = [];

  constructor(store: Store, clock: TwinClock, faults: FaultRules, options: DeliveriesOptions) {
    this.#store = store;
    this.#clock = clock;
    this.#faults = faults;
    this.#options = options;
  }

  webhooks(): Webhooks {
    return this.#store.settings.webhooks ?? this.#options.webhooks;
  }

  configure(change: Partial<Webhooks>): Webhooks {
    this.#store.changeSettings({ webhooks: { ...this.webhooks(), ...change } });
    return this.webhooks();
  }

  /** Events that happen while no endpoint is known are never sent, unless redelivery is asked for. */
  accept(event: Stripe.Event): void {
    const webhooks = this.webhooks();
    if (webhooks.url !== null && isSubscribed(webhooks, event.type))
      this.#plan(this.#newRow(event), this.#clock.nowMs());
  }

  /** Takes up what was pending when the process ended. */
  resume(): void {
    for (const row of this.#store.deliveries.oldestFirst()) {
      if (row.state === 'pending') this.#plan(row, row.next_attempt_ms ?? this.#clock.nowMs());
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
  }

  #newRow(event: Stripe.Event): DeliveryRow {
    return this.#store.deliveries.put({
      id: event.id,
      event_type: event.type,
      state: 'pending',
      attempts: [],
      next_attempt_ms: null,
    });
  }

  #plan(row: DeliveryRow, atMs: number): void {
    row.next_attempt_ms = atMs;
    this.#store.deliveries.put(row);
    this.#clock.at(atMs, () => {
      // A redelivery on request may have settled it, or planned another time.
      if (row.state === 'pending' && row.next_attempt_ms === atMs) void this.#attempt(row);
    });
  }

  async #attempt(row: DeliveryRow): Promise<void> {
    const fault = this.#faults.takeForDelivery(row.event_type);
    const { url, secrets } = this.webhooks();
    const atMs = this.#clock.nowMs();
    if (fault.drop === true || url === null) {
      row.attempts.push({ at_ms: atMs, url, answers: [], fault });
      this.#end(row, 'dropped');
      return;
    }
    if (fault.delay_ms !== undefined) await this.#until(atMs + fault.delay_ms);
    if (fault.reorder === true) await new Promise<void>((resolve) => this.#held.push(resolve));

    const copies = Array.from({ length: fault.duplicate ?? 1 }, () => this.#send(row.id, url, secrets, fault));
    const answers = await Promise.all(copies);
    if (this.#closing.signal.aborted) return;
    row.attempts.push({ at_ms: atMs, url, answers, fault });
    if (answers.some((answer) => typeof answer === 'number' && answer >= 200 && answer < 300)) {
      this.#end(row, 'delivered');
    } else {
      this.#retry(row);
    }
    if (fault.reorder !== true) this.releaseHeld();
  }

  #retry(row: DeliveryRow): void {
    const created: unknown = this.#store.events.get(row.id)?.created ?? 0;
    // Thin events have their time as text.
    const happenedMs = typeof created === 'number' ? created * 1000 : Date.parse(String(created));
    const ladder = this.#options.retryLadderMs;
    const waitMs = ladder[Math.min(row.attempts.length, ladder.length) - 1];
    const atMs = this.#clock.nowMs() + (waitMs ?? RETRY_MS);
    // An earlier success stands, whatever a redelivery on request comes to.
    if (row.state === 'delivered') return this.#end(row, 'delivered');
    if (atMs >= happenedMs + RETRY_MS) return this.#end(row, 'given_up');
    this.#plan(row, atMs);
    this.#store.flush();
  }

  #end(row: DeliveryRow, state: DeliveryRow['state']): void {
    row.state = state;
    row.next_attempt_ms = null;
    this.#store.deliveries.put(row);
    this.#store.flush();
  }

  async #send(
    eventId: string,
    url: string,
    secrets: readonly string[],
    fault: DeliveryFault,
  ): Promise<number | string> {
    const body = Buffer.from(JSON.stringify(this.#store.events.get(eventId), null, 2));
    const timestamp = this.#clock.now() - (fault.stale_seconds ?? 0) + (fault.future_seconds ?? 0);
    const signature = signatureHeader(body, timestamp, fault.wrong_secret === true ? ['whsec_wrong'] : secrets);
    if (fault.altered_byte === true) alterOneByte(body);
    try {
      const response = await fetch(url, {
        method: 'POST',
        redirect: 'manual',
        headers: {
          'content-type': 'application/json; charset=utf-8',
          'user-agent': 'Stripe/1.0 (+https://stripe.com/docs/webhooks)',
          'stripe-signature': signature,
        },
        body,
        signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#options.timeoutMs)]),
      });
      await response.arrayBuffer();
      return response.status;
    } catch (error) {
      return error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : 'failed';
    }
  }

  #until(atMs: number): Promise<void> {
    return new Promise((resolve) => void this.#clock.at(atMs, resolve));
  }
}

/** The first digit of the event's creation time, so that the body stays valid JSON and only the signature tells. */
function alterOneByte(body: Buffer): void {
  const at = body.indexOf('"created": ') + '"created": '.length;
  body[at] = (body[at] ?? 0) === 0x39 ? 0x38 : (body[at] ?? 0) + 1;
}
