/**
 * Common parts of the Creem twin's tests: the unmodified `creem` client, something to buy with it, and what reached an
 * endpoint. Whatever the twin does differently from Creem would let a wrong top-up pass every other test.
 */
import { Creem } from 'creem';
import type { CheckoutEntity } from 'creem/models/components';
import { CreemError } from 'creem/models/errors';

import { startCreemTwin, type CreemTwin } from '../../../twins/creem/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import type { Delivery, WebhookEndpoint } from '../../support/webhook-endpoint.ts';

export const PRODUCT = 'prod_test';
export const SECRET = 'whsec_bmV3LXNlY3JldC1vZi10aGUtdGVzdHM=';

/** Quick to repeat a delivery; without an endpoint its events go nowhere. */
export function startTwin(endpoint?: WebhookEndpoint): Promise<CreemTwin> {
  return startCreemTwin({
    productId: PRODUCT,
    webhooks: { url: endpoint?.url ?? null, secrets: [SECRET] },
    retryLadderMs: [5, 10, 15],
  });
}

export function clientOf({ url }: Pick<CreemTwin, 'url'>, apiKey = 'creem_test_twin'): Creem {
  return new Creem({ apiKey, serverURL: url, timeoutMs: 5_000 });
}

/** A checkout of 20 USD before tax. */
export function order(creem: Creem, requestId = 'order-1'): Promise<CheckoutEntity> {
  return creem.checkouts.create({
    productId: PRODUCT,
    requestId,
    customPrice: 2_000,
    metadata: { where: 'checkout' },
    successUrl: 'http://seller.test/done?a=1',
  });
}

/** The transaction of a checkout that was paid. */
export async function paid(twin: CreemTwin): Promise<string> {
  const creem = clientOf(twin);
  const { id } = await order(creem);
  await new TwinControl(() => twin.url).steer(`checkouts/${id}/pay`);
  const checkout = await creem.checkouts.retrieve(id);
  return checkout.order!.transaction!;
}

/** For `assert.rejects`. */
export function isRefused(status: number) {
  return (error: unknown): boolean => error instanceof CreemError && error.statusCode === status;
}

/** The type of a delivery's event, with any signature. */
export function typeOf({ body }: Delivery): string {
  return (JSON.parse(body) as { eventType: string }).eventType;
}

export function typesAt(endpoint: WebhookEndpoint): string[] {
  return endpoint.received.map(typeOf);
}

export async function untilReceived(endpoint: WebhookEndpoint, count: number): Promise<void> {
  await until(`${count} events`, () => endpoint.received.length >= count);
}
