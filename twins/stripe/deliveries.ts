/** Stripe's events to the webhook endpoint: again until a 2xx, for three days. */
import type Stripe from 'stripe';
import type { TwinClock } from '../kit/clock.ts';
import { DeliveryQueue, type DeliveryFault, type DeliveryRow, type Letter } from '../kit/deliveries.ts';
import type { FaultRules } from '../kit/payment-faults.ts';
import { isSubscribed } from './endpoints.ts';
import { signatureHeader } from './signature.ts';
import type { Store, Webhooks } from './store.ts';

export interface DeliveriesOptions {
  readonly webhooks: Webhooks;
  /** Waits between attempts; the last one repeats. */
  readonly retryLadderMs: readonly number[];
  /** How long an endpoint may take to answer. */
  readonly timeoutMs: number;
}

/** As long as Stripe tries in live mode. */
const RETRY_MS = 3 * 86_400_000;

export class Deliveries extends DeliveryQueue<DeliveryRow> {
  readonly #store: Store;
  readonly #faults: FaultRules;
  readonly #options: DeliveriesOptions;

  constructor(store: Store, clock: TwinClock, faults: FaultRules, options: DeliveriesOptions) {
    super(store, clock);
    this.#store = store;
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
    if (webhooks.url !== null && isSubscribed(webhooks, event.type)) this.plan(this.#newRow(event));
  }

  /** Sends an event (again) now, and resolves when it was answered; undefined when there is no such event. */
  async redeliver(eventId: string): Promise<DeliveryRow | undefined> {
    const event = this.#store.events.get(eventId);
    if (event === undefined) return undefined;
    const row = this.#store.deliveries.get(eventId) ?? this.#newRow(event);
    await this.attempt(row);
    return row;
  }

  #newRow({ id, type }: Stripe.Event): DeliveryRow {
    return this.#store.deliveries.put({ id, event_type: type, state: 'pending', attempts: [], next_attempt_ms: null });
  }

  protected override takeFault(row: DeliveryRow): DeliveryFault {
    return this.#faults.takeForDelivery(row.event_type);
  }

  protected override letterOf(row: DeliveryRow): Letter | null {
    const { url, secrets } = this.webhooks();
    if (url === null) return null;
    const body = Buffer.from(JSON.stringify(this.#store.events.get(row.id), null, 2));
    const sign = (timestamp: number, isForged: boolean): Record<string, string> => ({
      'content-type': 'application/json; charset=utf-8',
      'user-agent': 'Stripe/1.0 (+https://stripe.com/docs/webhooks)',
      'stripe-signature': signatureHeader(body, timestamp, isForged ? ['whsec_wrong'] : secrets),
    });
    return { url, body, sign, timeoutMs: this.#options.timeoutMs };
  }

  protected override nextAttemptMs(row: DeliveryRow, _answers: readonly unknown[], nowMs: number): number | null {
    const created: unknown = this.#store.events.get(row.id)?.created ?? 0;
    // Thin events have their time as text.
    const happenedMs = typeof created === 'number' ? created * 1000 : Date.parse(String(created));
    const ladder = this.#options.retryLadderMs;
    const waitMs = ladder[Math.min(row.attempts.length, ladder.length) - 1];
    const atMs = nowMs + (waitMs ?? RETRY_MS);
    return atMs >= happenedMs + RETRY_MS ? null : atMs;
  }
}
