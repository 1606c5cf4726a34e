/** The webhook endpoint of the Creem twin, seen by Creem's own SDK. */
import assert from 'node:assert/strict';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { clientOf, SECRET, startTwin } from './fixture.ts';

describe('creem twin: webhook endpoints', () => {
  it('are listed, and tell the secret that signs', async () => {
    const endpoint = await WebhookEndpoint.start();
    const twin = await startTwin(endpoint);
    try {
      const { webhooks } = clientOf(twin);
      const { result } = await webhooks.list();
      assert.deepEqual(
        result.items.map(({ id, url, status, events, secret }) => [id, url, status, events, secret]),
        [['whk_twin', endpoint.url, 'enabled', ['checkout.completed', 'refund.created', 'dispute.created'], undefined]],
      );
      assert.equal((await webhooks.getSecret('whk_twin')).secret, SECRET);
      await assert.rejects(webhooks.getSecret('whk_other'));
      twin.configureWebhooks({ url: null });
      assert.deepEqual((await webhooks.list()).result.items, []);
    } finally {
      await twin.close();
      await endpoint.close();
    }
  });
});
