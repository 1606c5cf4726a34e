/**
 * How the Stripe twin sends its events: signed as the client's own check wants it, repeated until they are taken, and
 * lost, doubled, late, out of order or forged on request.
 */
import assert from 'node:assert/strict';

import Stripe from 'stripe';

import type { DeliveryRow, StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import { type Delivery, WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { clientOf, DAY_SECONDS, eventOf, OLD_SECRET, SECRET, signatureOf, startTwin } from './fixture.ts';

describe('stripe twin: deliveries', () => {
  let endpoint: WebhookEndpoint;
  let twin: StripeTwin;
  let stripe: Stripe;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    endpoint = await WebhookEndpoint.start();
    twin = await startTwin({ webhookUrl: endpoint.url });
    stripe = clientOf(twin);
  });
  afterEach(async () => {
    await twin.close();
    await endpoint.close();
  });

  function verify(delivery: Delivery, secret = SECRET): Stripe.Event {
    return stripe.webhooks.constructEvent(delivery.body, signatureOf(delivery), secret);
  }

  function receivedIds(): string[] {
    return endpoint.received.map((delivery) => eventOf(delivery).id);
  }

  /** One event, of which exactly one delivery is expected. */
  async function newCustomer(): Promise<string> {
    await stripe.customers.create({ name: 'Zoë' });
    return twin.events().at(-1)!.id;
  }

  it('carry a signature that the client’s own check accepts, and the event of the API', async () => {
    const id = await newCustomer();
    const delivered = await until('the event', () => endpoint.received[0]);
    const event = verify(delivered);
    assert.deepEqual([event.id, event.type, event.livemode], [id, 'customer.created', false]);
    const { lastResponse, ...read } = await stripe.events.retrieve(id);
    assert.equal(lastResponse.statusCode, 200);
    // It says for how many endpoints it still waits, which is one while it is sent.
    assert.equal(event.pending_webhooks, 1);
    assert.deepEqual({ ...event, pending_webhooks: read.pending_webhooks }, read);
    assert.match(event.request?.id ?? '', /^req_/);
  });

  it('are signed with both secrets while one is rotated out', async () => {
    await control.steer('webhooks', { secrets: [SECRET, OLD_SECRET] });
    await newCustomer();
    const delivered = await until('the event', () => endpoint.received[0]);
    assert.equal(signatureOf(delivered).match(/v1=/g)?.length, 2);
    for (const secret of [SECRET, OLD_SECRET]) verify(delivered, secret);
    assert.throws(() => verify(delivered, 'whsec_other'), Stripe.errors.StripeSignatureVerificationError);
  });

  it('are repeated until a 2xx', async () => {
    endpoint.answer = () => 503;
    const id = await newCustomer();
    await until('three attempts', () => endpoint.received[2]);
    endpoint.answer = () => 204;
    await until('the end', () => twin.deliveries()[0]?.state === 'delivered');
    const { data } = await control.show<{ data: DeliveryRow[] }>('deliveries');
    assert.equal(data[0]?.id, id);
    assert.deepEqual(data[0]?.attempts[0]?.answers, [503]);
    assert.deepEqual(data[0]?.attempts.at(-1)?.answers, [204]);
    const ended = endpoint.received.length;
    await control.steer(`deliveries/${id}/redeliver`);
    assert.equal(endpoint.received.length, ended + 1);
  });

  it('are not repeated once a redelivery on request has succeeded', async () => {
    await twin.close();
    twin = await startTwin({ webhookUrl: endpoint.url, retryLadderMs: [60_000] });
    stripe = clientOf(twin);
    endpoint.answer = () => 500;
    const id = await newCustomer();
    await until('the attempt', () => twin.deliveries()[0]?.attempts[0]);
    endpoint.answer = () => 200;
    await control.steer(`deliveries/${id}/redeliver`);
    twin.advanceClock(60);
    await newCustomer();
    await until('the next event', () => endpoint.received[2]);
    assert.deepEqual(
      receivedIds().map((received) => received === id),
      [true, true, false],
    );
  });

  it('end after three days, and events.list still has the event', async () => {
    endpoint.answer = () => 500;
    const id = await newCustomer();
    await until('an attempt', () => endpoint.received[0]);
    twin.advanceClock(3 * DAY_SECONDS);
    await until('the end', () => twin.deliveries()[0]?.state === 'given_up');
    assert.equal((await stripe.events.list({ created: { gte: 1 } })).data[0]?.id, id);
    twin.advanceClock(30 * DAY_SECONDS);
    assert.deepEqual((await stripe.events.list()).data, []);
  });

  it('can be dropped, doubled and held back behind the next one', async () => {
    await control.steer('faults', { on: 'delivery', fault: { drop: true } });
    await newCustomer();
    await until('the drop', () => twin.deliveries()[0]?.state === 'dropped');
    await control.steer('faults', { on: 'delivery', fault: { duplicate: 3 } });
    const doubled = await newCustomer();
    await until('three copies', () => endpoint.received[2]);
    assert.deepEqual(new Set(receivedIds()), new Set([doubled]));

    endpoint.received.length = 0;
    await control.steer('faults', {
      on: 'delivery',
      match: { event_type: 'customer.created' },
      fault: { reorder: true },
    });
    const [first, second] = [await newCustomer(), await newCustomer()];
    await until('both', () => endpoint.received[1]);
    assert.deepEqual(receivedIds(), [second, first]);
    await control.steer('faults', { on: 'delivery', fault: { delay_ms: 60_000 } });
    const late = await newCustomer();
    await newCustomer();
    await until('the one in time', () => endpoint.received[2]);
    twin.advanceClock(60);
    assert.equal(eventOf(await until('the late one', () => endpoint.received[3])).id, late);
  });

  for (const [name, fault] of [
    ['a wrong secret', { wrong_secret: true }],
    ['an altered byte', { altered_byte: true }],
    ['an old timestamp', { stale_seconds: 301 }],
  ] as const) {
    it(`can be forged: ${name} does not pass the client’s check, the repetition does`, async () => {
      endpoint.answer = () => 400;
      twin.faults.add({ on: 'delivery', fault });
      await newCustomer();
      const forged = await until('the forged one', () => endpoint.received[0]);
      endpoint.answer = () => 200;
      assert.throws(() => verify(forged), Stripe.errors.StripeSignatureVerificationError);
      verify(await until('the real one', () => endpoint.received[1]));
    });
  }

  it('can come from the future, which the client’s check lets pass', async () => {
    twin.faults.add({ on: 'delivery', fault: { future_seconds: 3_000 } });
    await newCustomer();
    const delivered = await until('the event', () => endpoint.received[0]);
    assert.ok(Number(/t=(\d+)/.exec(signatureOf(delivered))?.[1]) > Date.now() / 1000 + 2_900);
    verify(delivered);
  });
});
