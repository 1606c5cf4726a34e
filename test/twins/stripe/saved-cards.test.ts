/** Cards that the Stripe twin keeps for a customer: charged while their owner is away, declined, detached. */
import assert from 'node:assert/strict';

import Stripe from 'stripe';

import type { StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { chargeOf, clientOf, failureOf, paid, startTwin, untilReceived } from './fixture.ts';

const OFF_SESSION = { amount: 1_000, currency: 'usd', confirm: true, off_session: true } as const;

describe('stripe twin: saved cards', () => {
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

  /** A card that was kept at a checkout, with its owner. */
  async function saved(card = 'ok'): Promise<{ customer: string; payment_method: string }> {
    const session = await paid(twin, card, {
      customer_creation: 'always',
      payment_intent_data: { setup_future_usage: 'off_session' },
    });
    const charge = await chargeOf(stripe, session.payment_intent);
    assert.ok(typeof session.customer === 'string' && charge.payment_method !== null);
    return { customer: session.customer, payment_method: charge.payment_method };
  }

  it('are charged without their owner', async () => {
    const card = await saved();
    const method = await stripe.paymentMethods.retrieve(card.payment_method);
    assert.deepEqual([method.customer, method.card?.last4], [card.customer, '4242']);
    const intent = await stripe.paymentIntents.create({ ...OFF_SESSION, ...card, error_on_requires_action: true });
    assert.deepEqual([intent.status, intent.amount_received], ['succeeded', 1_000]);
    const listed = await stripe.paymentIntents.list({ customer: card.customer });
    assert.equal(listed.data.length, 2);
    assert.equal(listed.data[0]?.id, intent.id);
  });

  it('fail with authentication_required where the bank wants to see their owner', async () => {
    const card = await saved('authentication_required');
    const error = await failureOf(
      stripe.paymentIntents.create({ ...OFF_SESSION, ...card, error_on_requires_action: true }),
    );
    assert.ok(error instanceof Stripe.errors.StripeCardError);
    assert.deepEqual([error.statusCode, error.code], [402, 'authentication_required']);
    assert.equal(error.payment_intent?.status, 'requires_payment_method');
    const onSession = await stripe.paymentIntents.create({ ...OFF_SESSION, ...card, off_session: false });
    assert.equal(onSession.status, 'requires_action');
  });

  it('say why they were declined', async () => {
    const error = await failureOf(
      stripe.paymentIntents.create({
        ...OFF_SESSION,
        payment_method: 'pm_card_visa_chargeDeclinedInsufficientFunds',
      }),
    );
    assert.ok(error instanceof Stripe.errors.StripeCardError);
    assert.deepEqual([error.code, error.decline_code], ['card_declined', 'insufficient_funds']);
  });

  it('are treated by their bank as it says from now on, and take parameters that mean nothing here', async () => {
    const card = await saved();
    await control.steer(`payment-methods/${card.payment_method}`, { card: 'decline' });
    const charge = { ...OFF_SESSION, ...card, allowed_payment_method_types: ['card' as const] };
    const error = await failureOf(stripe.paymentIntents.create(charge));
    assert.ok(error instanceof Stripe.errors.StripeCardError);
    assert.equal(error.decline_code, 'generic_decline');
    await control.steer(`payment-methods/${card.payment_method}`, { card: 'ok' });
    assert.equal((await stripe.paymentIntents.create(charge)).status, 'succeeded');
  });

  it('are of no use once detached, nor when their owner is deleted', async () => {
    const [detached, orphaned] = [await saved(), await saved()];
    await stripe.paymentMethods.detach(detached.payment_method);
    const { id, deleted } = await stripe.customers.del(orphaned.customer);
    assert.deepEqual({ id, deleted }, { id: orphaned.customer, deleted: true });
    for (const card of [detached, orphaned]) {
      const error = await failureOf(stripe.paymentIntents.create({ ...OFF_SESSION, ...card }));
      assert.ok(error instanceof Stripe.errors.StripeInvalidRequestError);
    }
    assert.equal((await stripe.customers.retrieve(orphaned.customer)).deleted, true);
    await untilReceived(endpoint, 'payment_method.detached');
    await untilReceived(endpoint, 'customer.deleted');
  });
});
