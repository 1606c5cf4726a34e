/**
 * The load of bench:webhooks: events made and signed as Stripe does it, sent when they are due, whatever the answers
 * do.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Pool } from 'undici';
import { signatureHeader } from '../twins/stripe/signature.ts';
import { seededRandom } from './random.ts';

/** One event under way. */
export interface Delivery {
  readonly eventId: string;
  /** From the scheduled arrival to the end of the answer; NaN until then. */
  latencyMs: number;
  /** How late it was sent after its scheduled arrival. */
  readonly lateMs: number;
  /** Epoch milliseconds of the answer's end. */
  answeredAt: number;
  error: string | null;
}

export interface Sent {
  readonly deliveries: readonly Delivery[];
  readonly seconds: number;
}

/** Sends signed events about random orders at their Poisson arrivals. */
export async function sendEvents(
  { pool, secret, orders }: { pool: Pool; secret: string; orders: readonly string[] },
  load: { readonly name: string; readonly ratePerSecond: number; readonly seconds: number; readonly seed: number },
): Promise<Sent> {
  const random = seededRandom(load.seed);
  const start = performance.now();
  const deadline = start + load.seconds * 1000;
  const deliveries: Delivery[] = [];
  const answers: Promise<void>[] = [];
  for (let arrival = start + random.exponential(1000 / load.ratePerSecond); arrival < deadline;) {
    // A timer may fire a little early, and an event that is early would look faster than it is.
    for (let wait = arrival - performance.now(); wait > 0; wait = arrival - performance.now())
      await delay(Math.ceil(wait));
    const eventId = `evt_${load.name}_${deliveries.length}`;
    const body = Buffer.from(JSON.stringify(eventOf(eventId, random.pick(orders))));
    const scheduled = arrival;
    const delivery: Delivery = {
      eventId,
      latencyMs: NaN,
      lateMs: performance.now() - arrival,
      answeredAt: NaN,
      error: null,
    };
    deliveries.push(delivery);
    answers.push(deliver(pool, body, secret, delivery, scheduled));
    arrival += random.exponential(1000 / load.ratePerSecond);
  }
  await Promise.all(answers);
  return { deliveries, seconds: (performance.now() - start) / 1000 };
}

async function deliver(pool: Pool, body: Buffer, secret: string, delivery: Delivery, scheduled: number): Promise<void> {
  try {
    const { statusCode, body: answer } = await pool.request({
      method: 'POST',
      path: '/webhooks/stripe',
      headers: {
        'content-type': 'application/json',
        'stripe-signature': signatureHeader(body, Math.floor(Date.now() / 1000), [secret]),
      },
      body,
    });
    const { duplicate } = (await answer.json()) as { duplicate?: boolean };
    delivery.latencyMs = performance.now() - scheduled;
    delivery.answeredAt = performance.timeOrigin + performance.now();
    if (statusCode !== 200) delivery.error = `status ${statusCode}`;
    else if (duplicate !== false) delivery.error = 'taken for a duplicate';
  } catch (error) {
    delivery.error = (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** As large as Stripe's own event of a checkout, with the fields that say what it is about. */
function eventOf(eventId: string, topUpId: string): unknown {
  return {
    id: eventId,
    object: 'event',
    api_version: '2026-06-30',
    created: Math.floor(Date.now() / 1000),
    livemode: false,
    pending_webhooks: 1,
    request: { id: null, idempotency_key: null },
    type: 'checkout.session.completed',
    data: {
      object: {
        id: `cs_test_${eventId}`,
        object: 'checkout.session',
        amount_total: 1000,
        client_reference_id: topUpId,
        currency: 'usd',
        livemode: false,
        metadata: { topup_id: topUpId },
        mode: 'payment',
        payment_status: 'unpaid',
        status: 'complete',
        url: `https://checkout.test/${'x'.repeat(600)}`,
        custom_text: { description: 'y'.repeat(900) },
      },
    },
  };
}
