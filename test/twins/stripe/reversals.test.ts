/** Money that goes back at the Stripe twin: refunds that succeed, wait or fail, and disputes and what precedes them. */
import assert from 'node:assert/strict';

import type Stripe from 'stripe';

import type { StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { chargeOf, clientOf, eventOf, failureOf, paid, startTwin, untilReceived } from './fixture.ts';

describe('stripe twin: reversals', () => {
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

  describe('refunds', () => {
    it('add up on the charge, and more than was paid is refused', async () => {
      const { payment_intent } = await paid(twin);
      const first = await stripe.refunds.create({ payment_intent, amount: 500 });
      assert.equal(first.status, 'succeeded');
      const tooMuch = await failureOf(stripe.refunds.create({ payment_intent, amount: 1_501 }));
      assert.deepEqual([tooMuch.statusCode, tooMuch.param], [400, 'amount']);
      const charge = await chargeOf(stripe, payment_intent);
      assert.deepEqual([charge.amount_refunded, charge.refunded], [500, false]);
      await stripe.refunds.create({ charge: charge.id });
      const again = await failureOf(stripe.refunds.create({ payment_intent }));
      assert.equal(again.code, 'charge_already_refunded');
      const { data } = await stripe.refunds.list({ payment_intent });
      assert.deepEqual(
        data.map(({ amount }) => amount),
        [1_500, 500],
      );
      const delivered = await untilReceived(endpoint, 'charge.refunded', 2);
      const cumulative = delivered.map((refunded) => (eventOf(refunded).data.object as Stripe.Charge).amount_refunded);
      assert.deepEqual(
        cumulative.sort((a, b) => a - b),
        [500, 2_000],
      );
    });

    it('can wait, and give the money back when they fail', async () => {
      const { payment_intent } = await paid(twin);
      const refund = await control.steer<Stripe.Refund>('refunds', { payment_intent, status: 'pending' });
      assert.equal((await stripe.refunds.retrieve(refund.id)).status, 'pending');
      await control.steer(`refunds/${refund.id}`, { status: 'failed' });
      assert.equal((await chargeOf(stripe, payment_intent)).amount_refunded, 0);
      const types = (await stripe.events.list({ types: ['refund.created', 'refund.updated', 'refund.failed'] })).data;
      assert.deepEqual(
        types.map(({ type }) => type),
        ['refund.failed', 'refund.updated', 'refund.created'],
      );
      const pending = await paid(twin, 'refund_pending');
      const slow = await stripe.refunds.create({ payment_intent: pending.payment_intent });
      assert.equal(slow.status, 'pending');
      twin.advanceClock(60);
      assert.equal((await stripe.refunds.retrieve(slow.id)).status, 'succeeded');
    });
  });

  describe('disputes', () => {
    const typesOf = (): string[] =>
      twin
        .events()
        .map(({ type }) => type)
        .filter((type) => type.startsWith('charge.dispute.'))
        .map((type) => type.slice('charge.dispute.'.length));

    it('take the money, and give it back when they are won', async () => {
      const { payment_intent } = await paid(twin);
      const { id } = await control.steer<Stripe.Dispute>('disputes', {
        payment_intent,
        amount: 1_200,
        reason: 'duplicate',
      });
      const open = await stripe.disputes.retrieve(id);
      assert.deepEqual([open.amount, open.reason, open.status], [1_200, 'duplicate', 'needs_response']);
      assert.equal(open.balance_transactions[0]?.amount, -1_200);
      const refund = await failureOf(stripe.refunds.create({ payment_intent }));
      assert.equal(refund.code, 'charge_disputed');
      await control.steer(`disputes/${id}`, { status: 'under_review' });
      await control.steer(`disputes/${id}`, { status: 'won' });
      const { data } = await stripe.disputes.list({ payment_intent });
      assert.deepEqual([data.length, data[0]?.status], [1, 'won']);
      assert.deepEqual(typesOf(), ['created', 'funds_withdrawn', 'updated', 'funds_reinstated', 'closed']);
    });

    it('may begin as an inquiry, which moves no money until it becomes a dispute', async () => {
      const { payment_intent } = await paid(twin);
      const { id } = await control.steer<Stripe.Dispute>('disputes', {
        payment_intent,
        status: 'warning_needs_response',
      });
      assert.deepEqual(typesOf(), ['created']);
      await control.steer(`disputes/${id}`, { status: 'needs_response' });
      await control.steer(`disputes/${id}`, { withdraw: true });
      await control.steer(`disputes/${id}`, { status: 'lost' });
      assert.deepEqual(typesOf(), ['created', 'funds_withdrawn', 'updated', 'closed']);
    });

    it('disputes follow a payment with the test card for it, and a warning', async () => {
      const session = await paid(twin, 'dispute_later');
      await control.steer('early-fraud-warnings', { payment_intent: session.payment_intent });
      twin.advanceClock(60);
      assert.deepEqual(typesOf(), ['created', 'funds_withdrawn']);
      const warnings = await stripe.radar.earlyFraudWarnings.list({ payment_intent: session.payment_intent });
      assert.equal(warnings.data.length, 1);
      await untilReceived(endpoint, 'radar.early_fraud_warning.created');
    });
  });
});
