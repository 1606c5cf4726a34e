/**
 * The account's events: written with their state change, listed by the API, handed to the deliveries.
 * The object inside is a copy as of that moment.
 */
import type Stripe from 'stripe';

import type { TwinClock } from '../kit/clock.ts';
import { newId, type Store } from './store.ts';

/** The API version of the SDK that this twin is typed by. */
export const API_VERSION = '2026-10-28.endive' satisfies Stripe.LatestApiVersion;

/** The call that is being answered; null for a timed change and for the control API. */
export interface CallIdentity {
  readonly requestId: string;
  readonly idempotencyKey: string | null;
}

/** An event of another product, another mode or a connected account. */
export interface ForeignEvent {
  readonly type: string;
  /** Any value in its place. */
  readonly object: unknown;
  readonly livemode: boolean;
  readonly isThin: boolean;
  readonly account?: string;
  readonly context?: string;
}

export class EventLog {
  readonly #store: Store;
  readonly #clock: TwinClock;
  readonly #deliver: (event: Stripe.Event) => void;
  #call: CallIdentity | null = null;

  constructor(store: Store, clock: TwinClock, deliver: (event: Stripe.Event) => void) {
    this.#store = store;
    this.#clock = clock;
    this.#deliver = deliver;
  }

  /** Events emitted by `run`, which is synchronous, name this call as their origin. */
  during<T>(call: CallIdentity, run: () => T): T {
    this.#call = call;
    try {
      return run();
    } finally {
      this.#call = null;
    }
  }

  emit(type: Stripe.Event['type'], object: object, previous?: object): void {
    const event = {
      id: newId('evt'),
      object: 'event',
      api_version: API_VERSION,
      created: this.#clock.now(),
      data: structuredClone({ object, ...(previous !== undefined && { previous_attributes: previous }) }),
      livemode: false,
      pending_webhooks: 1,
      request: { id: this.#call?.requestId ?? null, idempotency_key: this.#call?.idempotencyKey ?? null },
      type,
    } satisfies Omit<Stripe.EventBase, 'data'> & { data: object; type: string } as unknown as Stripe.Event;
    this.#store.events.put(event);
    this.#deliver(event);
  }

  /** An event about no object of this twin. A thin event names its object and has none. */
  emitForeign({ type, object, livemode, isThin, ...from }: ForeignEvent): object {
    const id = newId('evt');
    const created = this.#clock.now();
    const event = isThin
      ? {
          id: id.replace('evt_', 'evt_test_'),
          object: 'v2.core.event',
          created: new Date(created * 1000).toISOString(),
          livemode,
          type,
          related_object: { id: newId('pi'), type: 'payment_intent', url: '/v1/payment_intents' },
          ...from,
        }
      : {
          id,
          object: 'event',
          api_version: API_VERSION,
          created,
          data: { object: structuredClone(object) },
          livemode,
          pending_webhooks: 1,
          request: { id: null, idempotency_key: null },
          type,
          ...from,
        };
    this.#store.events.put(event as unknown as Stripe.Event);
    this.#deliver(event as unknown as Stripe.Event);
    return event;
  }
}
