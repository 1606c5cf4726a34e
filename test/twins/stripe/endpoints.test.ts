/**
 * The Stripe twin's webhook endpoint, undelivered events and time, seen by Stripe's
 * own SDK.
 */
import assert from 'node:assert/strict';
import type Stripe from 'stripe';
import type { StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { clientOf, startTwin } from './fixture.ts';

describe('stripe twin: webhook endpoints', () => {
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

  it('are listed with address, events and status, and no secret', async () => {
    await control.steer('webhooks', { events: ['customer.created'], status: 'disabled' });
    const { data } = await stripe.webhookEndpoints.list();
    assert.deepEqual(
      data.map(({ id, url, enabled_events: events, status }) => [id, url, events, status]),
      [['we_twin', endpoint.url, ['customer.created'], 'disabled']],
    );
    assert.equal('secret' in data[0]!, false);
    await control.steer('webhooks', { url: null });
    assert.deepEqual((await stripe.webhookEndpoints.list()).data, []);
  });

  it('get only what they subscribe to, and nothing while they are disabled', async () => {
    await control.steer('webhooks', { events: ['customer.deleted'] });
    const { id } = await stripe.customers.create();
    await stripe.customers.del(id);
    await until('the event that is wanted', () => endpoint.received.length > 0);
    await control.steer('webhooks', { events: ['*'], status: 'disabled' });
    await stripe.customers.create();
    const { data } = await stripe.events.list();
    assert.equal(data.length, 3);
    assert.deepEqual(
      twin.deliveries().map(({ event_type: type }) => type),
      ['customer.deleted'],
    );
  });

  it('that refuse leave events that wait, which a list by delivery tells from the others', async () => {
    await stripe.customers.create();
    const isDelivered = async (delivery_success: boolean) => (await stripe.events.list({ delivery_success })).data;
    await until('the first is delivered', async () => (await isDelivered(true)).length === 1);
    await control.steer('webhooks', { url: 'http://127.0.0.1:1/' });
    await stripe.customers.create();
    const waiting = await isDelivered(false);
    assert.deepEqual(
      waiting.map(({ pending_webhooks: pending }) => pending),
      [1],
    );
    assert.deepEqual(
      (await isDelivered(true)).map(({ pending_webhooks: pending }) => pending),
      [0],
    );
  });

  it('and every answer has the time of the twin’s clock', async () => {
    const ahead = async (): Promise<number> => {
      const { lastResponse } = await stripe.customers.create();
      return Math.round((Date.parse(lastResponse.headers['date'] ?? '') - Date.now()) / 1000);
    };
    assert.ok(Math.abs(await ahead()) <= 2);
    twin.advanceClock(360);
    assert.ok(Math.abs((await ahead()) - 360) <= 2);
  });
});
