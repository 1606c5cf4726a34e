/**
 * The webhook events of the Discord twin under a signature check of our own: an endpoint must be able to tell real ones
 * from forged ones with the application's public key alone.
 */
import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';

import { startDiscordTwin, type DiscordTwin } from '../../../twins/discord/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import { type Delivery, WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { member, type Person } from './fixture.ts';

describe('discord twin: webhook events', () => {
  let endpoint: WebhookEndpoint;
  let twin: DiscordTwin;
  /** What the endpoint answers to the next signed deliveries, before it answers 204. */
  let statuses: number[];
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    statuses = [];
    endpoint = await WebhookEndpoint.start();
    endpoint.answer = (delivery) => {
      if (delivery.path !== '/discord') return 404;
      return isSigned(delivery) ? (statuses.shift() ?? 204) : 401;
    };
    twin = await startDiscordTwin({ webhookUrl: endpoint.url, retrySecondMs: 5 });
  });
  afterEach(async () => {
    await twin.close();
    await endpoint.close();
  });

  function isSigned({ headers, body }: Delivery): boolean {
    const der = Buffer.from(`302a300506032b6570032100${twin.application.signingKey.publicKey}`, 'hex');
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    const signature = Buffer.from(String(headers['x-signature-ed25519']), 'hex');
    return verify(null, Buffer.from(`${String(headers['x-signature-timestamp'])}${body}`), key, signature);
  }

  /** Of each attempt at the first delivery, once one has succeeded. */
  async function answersUntilDelivered(): Promise<unknown[]> {
    await until('the delivery', () => twin.deliveries()[0]?.state === 'delivered');
    return twin.deliveries()[0]!.attempts.map(({ answers }) => answers);
  }

  it('are signed over timestamp and body, and tried again until a 2xx', async () => {
    statuses = [500, 404];
    const ada = await member(control, 'ada');
    await control.steer(`users/${ada.id}/deauthorize`);
    assert.deepEqual(await answersUntilDelivered(), [[500], [404], [204]]);
    const event = JSON.parse(endpoint.received[0]!.body) as {
      application_id: string;
      type: number;
      event: { type: string; data: { user: Person } };
    };
    assert.deepEqual([event.application_id, event.type], [twin.application.clientId, 1]);
    assert.deepEqual([event.event.type, event.event.data.user.id], ['APPLICATION_DEAUTHORIZED', ada.id]);
    assert.equal(new Set(endpoint.received.map(({ body }) => body)).size, 1);
  });

  it('endpoints are checked with a signed and an unsigned PING', async () => {
    assert.deepEqual(await control.steer('check'), { ping: 204, forged_ping: 401 });
    assert.deepEqual(
      endpoint.received.map(({ body }) => (JSON.parse(body) as { type: number }).type),
      [0, 0],
    );
  });

  for (const [name, fault] of [
    ['a wrong key', { wrong_secret: true }],
    ['an altered byte', { altered_byte: true }],
  ] as const) {
    it(`can be forged with ${name}, and the repetition is real`, async () => {
      twin.faults.add({ on: 'delivery', match: { channel: 'discord' }, fault });
      const ada = await member(control, 'ada');
      await control.steer(`users/${ada.id}/deauthorize`);
      assert.deepEqual(await answersUntilDelivered(), [[401], [204]]);
    });
  }
});
