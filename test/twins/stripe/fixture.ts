/**
 * Common parts of the Stripe twin's tests: the unmodified `stripe` client, something to buy with it, what reached an
 * endpoint. Whatever the twin does differently from Stripe would let a wrong top-up pass every other test.
 */
import assert from 'node:assert/strict';

import Stripe from 'stripe';

import { startStripeTwin, type StripeTwin, type StripeTwinOptions } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import type { Delivery, WebhookEndpoint } from '../../support/webhook-endpoint.ts';

export const SECRET = 'whsec_new';
export const OLD_SECRET = 'whsec_old';
export const DAY_SECONDS = 86_400;

type SessionParams = Stripe.Checkout.SessionCreateParams;

/** Quick to repeat a delivery; a delayed payment waits until it is told how it ends. */
export function startTwin(options: StripeTwinOptions = {}): Promise<StripeTwin> {
  return startStripeTwin({ webhookSecrets: [SECRET], retryLadderMs: [5, 10], asyncDelayMs: null, ...options });
}

/** Its repetition of failed calls is off unless asked for, so that a failure shows. */
export function clientOf({ port }: Pick<StripeTwin, 'port'>, maxNetworkRetries = 0): Stripe {
  return new Stripe('sk_test_twin', { host: '127.0.0.1', port, protocol: 'http', maxNetworkRetries, timeout: 5_000 });
}

/** The parameters of a checkout session: one thing for 20 USD. */
export function order(change: Partial<SessionParams> = {}): SessionParams {
  return {
    mode: 'payment',
    client_reference_id: 'order-1',
    metadata: { where: 'session' },
    payment_intent_data: { metadata: { where: 'intent' } },
    line_items: [
      {
        quantity: 1,
        price_data: { currency: 'usd', unit_amount: 2_000, product_data: { name: 'Credit & <more>' } },
      },
    ],
    success_url: 'http://seller.test/done?session={CHECKOUT_SESSION_ID}',
    cancel_url: 'http://seller.test/cancelled',
    ...change,
  };
}

/** A session that was paid, as the API shows it. */
export async function paid(
  twin: Pick<StripeTwin, 'url' | 'port'>,
  card = 'ok',
  change: Partial<SessionParams> = {},
): Promise<Stripe.Checkout.Session & { payment_intent: string }> {
  const { sessions } = clientOf(twin).checkout;
  const { id } = await sessions.create(order(change));
  await new TwinControl(() => twin.url).steer(`sessions/${id}/pay`, { card });
  const session = await sessions.retrieve(id);
  assert.ok(typeof session.payment_intent === 'string');
  return session as Stripe.Checkout.Session & { payment_intent: string };
}

export async function chargeOf(stripe: Stripe, paymentIntent: string): Promise<Stripe.Charge> {
  const { latest_charge } = await stripe.paymentIntents.retrieve(paymentIntent, { expand: ['latest_charge'] });
  return latest_charge as Stripe.Charge;
}

/** The error that a call of the client ends with. */
export async function failureOf(call: Promise<unknown>): Promise<Stripe.errors.StripeError> {
  const error: unknown = await call.then(
    () => assert.fail('the call succeeded'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Stripe.errors.StripeError, String(error));
  return error;
}

/** The event of a delivery, with any signature. */
export function eventOf({ body }: Delivery): Stripe.Event {
  return JSON.parse(body) as Stripe.Event;
}

export function signatureOf({ headers }: Delivery): string {
  return String(headers['stripe-signature']);
}

/** All deliveries of a type, once there are as many. */
export function untilReceived(endpoint: WebhookEndpoint, type: string, count = 1): Promise<Delivery[]> {
  return until(`${count} ${type}`, () => {
    const delivered = endpoint.received.filter((delivery) => eventOf(delivery).type === type);
    return delivered.length >= count && delivered;
  });
}
