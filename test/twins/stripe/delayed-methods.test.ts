/**
 * Methods that are paid after the checkout: the session is complete and unpaid, the payment waits in `requires_action`.
 */
import assert from 'node:assert/strict';
import type Stripe from 'stripe';
import type { StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { clientOf, paid, startTwin } from './fixture.ts';

describe('stripe twin: delayed methods', () => {
  let twin: StripeTwin;
  let control: TwinControl;
  let stripe: Stripe;

  before(async () => {
    twin = await startTwin();
    control = new TwinControl(() => twin.url);
    stripe = clientOf(twin);
  });
  after(() => twin.close());

  const settle = async (id: string, succeed: boolean) => {
    await control.steer(`async/${id}`, { succeed });
    const session = await stripe.checkout.sessions.retrieve(id, { expand: ['payment_intent'] });
    return { session, intent: session.payment_intent as Stripe.PaymentIntent };
  };

  for (const [card, action] of [
    ['voucher', 'oxxo_display_details'],
    ['convenience_store', 'konbini_display_details'],
    ['bank_transfer', 'display_bank_transfer_instructions'],
  ] as const) {
    it(`${card}: complete, unpaid, waiting for ${action}; then paid`, async () => {
      const { id, status, payment_status, payment_intent } = await paid(twin, card);
      const intent = await stripe.paymentIntents.retrieve(payment_intent);
      assert.deepEqual(
        [status, payment_status, intent.status, intent.next_action?.type, intent.latest_charge],
        ['complete', 'unpaid', 'requires_action', action, null],
      );
      const after = await settle(id, true);
      assert.deepEqual([after.session.payment_status, after.intent.status], ['paid', 'succeeded']);
      assert.equal(after.intent.amount_received, 2000);
    });
  }

  it('a payment that nobody pays in time needs another method, and its session stays unpaid', async () => {
    const { id } = await paid(twin, 'voucher');
    const { session, intent } = await settle(id, false);
    assert.deepEqual([session.payment_status, intent.status], ['unpaid', 'requires_payment_method']);
    assert.equal(intent.last_payment_error?.code, 'payment_intent_payment_attempt_expired');
    assert.ok(twin.events().some(({ type }) => type === 'checkout.session.async_payment_failed'));
  });

  it('a card’s charge carries its fingerprint', async () => {
    const fingerprints = [];
    for (const card of ['ok', 'ok', 'refund_fails']) {
      const { payment_intent } = await paid(twin, card);
      const { latest_charge } = await stripe.paymentIntents.retrieve(payment_intent, { expand: ['latest_charge'] });
      fingerprints.push((latest_charge as Stripe.Charge).payment_method_details?.card?.fingerprint);
    }
    assert.equal(fingerprints[0], fingerprints[1]);
    assert.notEqual(fingerprints[0], fingerprints[2]);
  });
});
