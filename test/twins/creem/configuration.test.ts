/** Settings of the sandbox for the Creem twin and the product, and when there is no place for the twin. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { verifyWebhookSignature } from 'creem/webhooks.js';
import { z } from 'zod';

import { parseEnvironment } from '../../../runtime/environment.ts';
import { PAYMENT_SCHEMA, paymentSettings } from '../../../providers/payment-settings.ts';
import { PROVIDER_TWINS, takesRealMoney } from '../../../sandbox/provider-twins.ts';
import type { CreemTwin } from '../../../twins/creem/twin.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { paid, startTwin, untilReceived } from './fixture.ts';

describe('creem twin in the sandbox', () => {
  let endpoint: WebhookEndpoint;
  let twin: CreemTwin;

  beforeEach(async () => {
    endpoint = await WebhookEndpoint.start();
    twin = await startTwin(endpoint);
  });
  afterEach(async () => {
    await twin.close();
    await endpoint.close();
  });

  it('is told by both sides the same: the product accepts what it gets, and the SDK what the twin signs with', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'creem-twin-'));
    try {
      const entry = PROVIDER_TWINS.find(({ name }) => name === 'creem')!;
      const context = { url: twin.url, apiUrl: 'http://api.test', publicUrl: 'http://api.test', folder };
      const told = entry.twinEnv(context);
      const { creem: settings } = paymentSettings(
        parseEnvironment(entry.productEnv(context), z.object(PAYMENT_SCHEMA)),
      );
      assert.ok(settings !== null && !settings.live);
      assert.deepEqual(
        [told['TWIN_PRODUCT_ID'], told['TWIN_WEBHOOK_SECRETS']],
        [settings.productId, settings.webhookSecrets[0]],
      );
      twin.configureWebhooks({ form: 'standard', secrets: settings.webhookSecrets });
      await paid(twin);
      await untilReceived(endpoint, 1);
      const { body, headers } = endpoint.received[0]!;
      await verifyWebhookSignature(body, headers, settings.webhookSecrets[0]!);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('has no place beside a real account that takes real money', () => {
    for (const [env, isReal] of [
      [{}, false],
      [{ STRIPE_SECRET_KEY: 'sk_test_a', CREEM_API_KEY: 'creem_test_a' }, false],
      [{ STRIPE_SECRET_KEY: 'sk_live_a' }, true],
      [{ CREEM_API_KEY: 'creem_a' }, true],
      [{ CREEM_API_KEY: 'creem_a', CREEM_MODE: 'test' }, false],
    ] as const) {
      assert.equal(takesRealMoney(env), isReal, JSON.stringify(env));
    }
  });
});
