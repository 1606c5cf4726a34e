/** Creem's events to the webhook endpoint: again after each wait of a short ladder, then only on request. */
import type { TwinClock } from '../kit/clock.ts';
import { DeliveryQueue, type DeliveryFault, type DeliveryRow, type Letter } from '../kit/deliveries.ts';
import type { FaultRules } from '../kit/payment-faults.ts';
import { signatureHeaders } from './signature.ts';
import type { CreemEvent, Store, Webhooks } from './store.ts';

export interface DeliveriesOptions {
  readonly webhooks: Webhooks;
  /** Waits between attempts; after the last one the event is given up. */
  readonly retryLadderMs: readonly number[];
  /** How long an endpoint may take to answer. */
  readonly timeoutMs: number;
}

const WRONG_SECRET = 'whsec_d3JvbmctYXMtY2FuLWJl';

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
    return this.#store.webhooks ?? this.#options.webhooks;
  }

  configure(change: Partial<Webhooks>): Webhooks {
    this.#store.webhooks = { ...this.webhooks(), ...change };
    this.#store.flush();
    return this.#store.webhooks;
  }

  /** Events that happen while no endpoint is known are never sent, unless redelivery is asked for. */
  accept(event: CreemEvent): void {
    if (this.webhooks().url !== null) this.plan(this.#newRow(event));
  }

  /** Sends an event (again) now, and resolves when it was answered; undefined when there is no such event. */
  async redeliver(eventId: string): Promise<DeliveryRow | undefined> {
    const event = this.#store.events.get(eventId);
    if (event === undefined) return undefined;
    const row = this.#store.deliveries.get(eventId) ?? this.#newRow(event);
    await this.attempt(row);
    return row;
  }

  #newRow({ id, eventType }: CreemEvent): DeliveryRow {
    const row: DeliveryRow = { id, event_type: eventType, state: 'pending', attempts: [], next_attempt_ms: null };
    return this.#store.deliveries.put(row);
  }

  protected override takeFault(row: DeliveryRow): DeliveryFault {
    return this.#faults.takeForDelivery(row.event_type);
  }

  protected override letterOf(row: DeliveryRow): Letter | null {
    const { url, secrets, form } = this.webhooks();
    if (url === null) return null;
    const body = Buffer.from(JSON.stringify(this.#store.events.get(row.id)));
    const sign = (timestamp: number, isForged: boolean): Record<string, string> =>
      signatureHeaders(form, { body, messageId: row.id, timestamp, secrets: isForged ? [WRONG_SECRET] : secrets });
    return { url, body, sign, timeoutMs: this.#options.timeoutMs };
  }

  protected override nextAttemptMs(row: DeliveryRow, _answers: readonly unknown[], nowMs: number): number | null {
    const waitMs = this.#options.retryLadderMs[row.attempts.length - 1];
    return waitMs === undefined ? null : nowMs + waitMs;
  }
}
