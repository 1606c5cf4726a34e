/** The sum of a Checkout Session whose payment has more details than the session: the received sum counts. */
import assert from 'node:assert/strict';
import type Stripe from 'stripe';
import { inspectSession } from '../../../../providers/stripe/sessions.ts';
import { usd } from '../../../../domain/money.ts';

const SESSION = {
  id: 'cs_test_1',
  status: 'complete',
  payment_status: 'paid',
  amount_total: 2000,
  currency: 'usd',
  livemode: false,
};
const INTENT = {
  id: 'pi_1',
  status: 'succeeded',
  amount: 2000,
  amount_received: 2000,
  currency: 'usd',
  latest_charge: null,
};

function stripeWith(intent: unknown): Stripe {
  const nothing = { list: () => (async function* () {})() };
  return {
    checkout: { sessions: { retrieve: () => Promise.resolve({ ...SESSION, payment_intent: intent }) } },
    ...{ refunds: nothing, disputes: nothing, radar: { earlyFraudWarnings: nothing } },
  } as unknown as Stripe;
}

const receivedOf = async (intent: unknown) => {
  const { payments } = await inspectSession(stripeWith(intent), SESSION.id, { wantsCard: false });
  return payments.map(({ paymentId, status, received, currency }) => [paymentId, status, received, currency]);
};

describe('what came in by a Checkout Session', () => {
  it('a session received the sum of its payment', async () => {
    assert.deepEqual(await receivedOf(INTENT), [['pi_1', 'paid', usd('20'), 'usd']]);
  });

  it('a payment captured in part received that part: 20 USD would have been credited for 5', async () => {
    assert.deepEqual(await receivedOf({ ...INTENT, amount_received: 500 }), [['pi_1', 'paid', usd('5'), 'usd']]);
  });

  it('a payment in another currency than its session is no sum of USD', async () => {
    const paid = { ...INTENT, amount_received: 3000, currency: 'jpy' };
    assert.deepEqual(await receivedOf(paid), [['pi_1', 'paid', usd('3000'), 'jpy']]);
  });

  it('a session received its requested sum where its payment cannot be read', async () => {
    assert.deepEqual(await receivedOf('pi_1'), [['pi_1', 'paid', usd('20'), 'usd']]);
  });
});
