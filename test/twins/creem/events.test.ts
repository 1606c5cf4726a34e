/**
 * How the Creem twin sends its events: as the SDK reads and checks them, in each form of a signature, repeated along a
 * ladder of waits, and lost, doubled, late, out of order or forged on request.
 */
import assert from 'node:assert/strict';

import type { Creem } from 'creem';
import { constructWebhookEventEntity, parseWebhookEventEntity } from 'creem/webhooks.js';

import type { CreemTwin } from '../../../twins/creem/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { clientOf, paid, SECRET, startTwin, typeOf, typesAt, untilReceived } from './fixture.ts';

const OLD_SECRET = 'whsec_b2xkLXNlY3JldC1vZi10aGUtdGVzdHM=';

describe('creem twin: events', () => {
  let endpoint: WebhookEndpoint;
  let twin: CreemTwin;
  let creem: Creem;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    endpoint = await WebhookEndpoint.start();
    twin = await startTwin(endpoint);
    creem = clientOf(twin);
  });
  afterEach(async () => {
    await twin.close();
    await endpoint.close();
  });

  /** Of the last delivery, by the SDK's own check. */
  function isGenuine(secret: string): Promise<boolean> {
    const { body, headers } = endpoint.received.at(-1)!;
    return constructWebhookEventEntity(body, headers, secret).then(
      () => true,
      () => false,
    );
  }

  it('are what the SDK reads, and name the request id of the checkout also when they are of a refund', async () => {
    const transaction = await paid(twin);
    await creem.transactions.refund({ transactionId: transaction });
    await untilReceived(endpoint, 2);
    const [completed, refunded] = ['checkout.completed', 'refund.created'].map((type) =>
      parseWebhookEventEntity(endpoint.received.find((delivery) => typeOf(delivery) === type)!.body),
    );
    assert.equal(completed?.eventType === 'checkout.completed' && completed.object.requestId, 'order-1');
    assert.ok(refunded?.eventType === 'refund.created' && typeof refunded.object.checkout === 'object');
    assert.equal(refunded.object.checkout.requestId, 'order-1');
    assert.equal(refunded.object.transaction.id, transaction);
  });

  for (const form of ['legacy', 'standard', 'both'] as const) {
    it(`are signed in the ${form} form as the SDK checks it`, async () => {
      twin.configureWebhooks({ form });
      await paid(twin);
      await untilReceived(endpoint, 1);
      const { headers } = endpoint.received.at(-1)!;
      assert.deepEqual(
        ['creem-signature' in headers, 'webhook-signature' in headers],
        [form !== 'standard', form !== 'legacy'],
      );
      assert.deepEqual([await isGenuine(SECRET), await isGenuine(OLD_SECRET)], [true, false]);
    });
  }

  it('carry a signature of every secret in the standard form while one is being replaced', async () => {
    twin.configureWebhooks({ form: 'standard', secrets: [SECRET, OLD_SECRET] });
    await paid(twin);
    await untilReceived(endpoint, 1);
    assert.deepEqual([await isGenuine(SECRET), await isGenuine(OLD_SECRET)], [true, true]);
  });

  for (const [name, fault] of [
    ['a wrong secret', { wrong_secret: true }],
    ['an altered byte', { altered_byte: true }],
    ['a time too long ago', { stale_seconds: 301 }],
    ['a time too far ahead', { future_seconds: 310 }],
  ] as const) {
    it(`fail the check with ${name}`, async () => {
      await control.steer('faults', { on: 'delivery', fault });
      await paid(twin);
      await untilReceived(endpoint, 1);
      assert.equal(await isGenuine(SECRET), false);
    });
  }

  it('can be lost, sent twice, late, and in another order', async () => {
    await control.steer('faults', { on: 'delivery', fault: { drop: true } });
    await paid(twin);
    await until('a dropped delivery', () => twin.deliveries()[0]?.state === 'dropped');
    assert.equal(endpoint.received.length, 0);
    await control.steer(`deliveries/${twin.deliveries()[0]!.id}/redeliver`);
    assert.equal(endpoint.received.length, 1);
    await control.steer('faults', { on: 'delivery', fault: { duplicate: 3, delay_ms: 5 } });
    await paid(twin);
    await untilReceived(endpoint, 4);
    await control.steer('faults', { on: 'delivery', fault: { reorder: true } });
    const transaction = await paid(twin);
    await creem.transactions.refund({ transactionId: transaction });
    await untilReceived(endpoint, 6);
    assert.deepEqual(typesAt(endpoint).slice(-2), ['refund.created', 'checkout.completed']);
  });

  it('are tried again after each wait of the ladder, and then no more', async () => {
    endpoint.answer = () => 503;
    await paid(twin);
    const row = await until('the end of the ladder', () => {
      const [first] = twin.deliveries();
      return first?.state === 'given_up' && first;
    });
    assert.equal(row.attempts.length, 4);
    endpoint.answer = () => 200;
    await control.steer(`deliveries/${row.id}/redeliver`);
    assert.equal(twin.deliveries()[0]?.state, 'delivered');
  });
});
