/** The load of bench:webhooks is what it says: real signatures, events of their own, failures counted as such. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import Stripe from 'stripe';
import { Pool } from 'undici';
import { sendEvents } from '../../../bench/webhook-load.ts';
import { subjectOfStripeEvent } from '../../../providers/stripe/events.ts';

const SECRET = 'whsec_0123456789abcdef0123';
const ORDERS = ['top_1', 'top_2', 'top_3'];

describe('load of webhooks', () => {
  let server: Server;
  let pool: Pool;
  let answer: { status: number; body: string };
  const events: Stripe.Event[] = [];
  before(async () => {
    server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const signature = request.headers['stripe-signature'] as string;
        events.push(Stripe.webhooks.constructEvent(Buffer.concat(parts), signature, SECRET));
        response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    pool = new Pool(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { connections: null });
  });
  after(async () => {
    await pool.destroy();
    server.close();
  });
  beforeEach(() => {
    events.length = 0;
    answer = { status: 200, body: '{"duplicate":false}' };
  });

  const send = (seed = 1) =>
    sendEvents({ pool, secret: SECRET, orders: ORDERS }, { name: 'x', ratePerSecond: 200, seconds: 0.5, seed });

  it('each event is signed as the SDK verifies it, has its own id, and is about one of the orders', async () => {
    const { deliveries } = await send();
    assert.ok(deliveries.length > 50 && deliveries.length < 200, String(deliveries.length));
    assert.equal(new Set(events.map(({ id }) => id)).size, deliveries.length);
    for (const event of events) assert.ok(ORDERS.includes(subjectOfStripeEvent(event).topUpId!));
    for (const { error, latencyMs, answeredAt } of deliveries) {
      assert.equal(error, null);
      assert.ok(latencyMs >= 0 && answeredAt > 0);
    }
  });

  it('the same seed gives the same number of arrivals', async () => {
    const counts = [];
    for (const seed of [7, 7, 8]) counts.push((await send(seed)).deliveries.length);
    assert.equal(counts[0], counts[1]);
    assert.notEqual(counts[0], counts[2]);
  });

  for (const [what, status, body, error] of [
    ['a refusal', 503, '{}', 'status 503'],
    ['an event taken for a duplicate', 200, '{"duplicate":true}', 'taken for a duplicate'],
  ] as const) {
    it(`the load counts ${what} as an error`, async () => {
      answer = { status, body };
      const { deliveries } = await send();
      assert.deepEqual(new Set(deliveries.map((each) => each.error)), new Set([error]));
    });
  }
});
