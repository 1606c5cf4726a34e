/**
 * Idempotency keys at the Stripe twin: which answers are kept under one, and what becomes of a call that its caller, or
 * the client itself, repeats.
 */
import assert from 'node:assert/strict';

import Stripe from 'stripe';

import type { StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import { clientOf, DAY_SECONDS, failureOf, order, startTwin } from './fixture.ts';

describe('stripe twin: idempotency keys', () => {
  let twin: StripeTwin;
  let stripe: Stripe;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    twin = await startTwin();
    stripe = clientOf(twin);
  });
  afterEach(() => twin.close());

  it('repeat the first answer, refuse other parameters, and are forgotten after a day', async () => {
    const once = await stripe.checkout.sessions.create(order(), { idempotencyKey: 'k' });
    const twice = await stripe.checkout.sessions.create(order(), { idempotencyKey: 'k' });
    assert.equal(twice.id, once.id);
    assert.equal(twice.lastResponse.headers['idempotent-replayed'], 'true');
    const other = await failureOf(
      stripe.checkout.sessions.create(order({ client_reference_id: 'order-2' }), { idempotencyKey: 'k' }),
    );
    assert.ok(other instanceof Stripe.errors.StripeIdempotencyError);
    assert.equal(other.statusCode, 400);
    twin.advanceClock(DAY_SECONDS);
    const fresh = await stripe.checkout.sessions.create(order(), { idempotencyKey: 'k' });
    assert.notEqual(fresh.id, once.id);
  });

  it('answer 409 while the first call is under way', async () => {
    twin.faults.add({ on: 'api', match: { path: '/v1/customers' }, fault: { hang_ms: 60_000 } });
    const first = stripe.customers.create({}, { idempotencyKey: 'k' });
    await until('the first call', () => twin.faults.list().length === 0);
    const second = await failureOf(stripe.customers.create({}, { idempotencyKey: 'k' }));
    assert.deepEqual([second.statusCode, second.code], [409, 'idempotency_key_in_use']);
    twin.advanceClock(60);
    const { id } = await first;
    assert.equal((await stripe.customers.create({}, { idempotencyKey: 'k' })).id, id);
  });

  it('keep a 500 as well, whether or not the call had its effect', async () => {
    for (const after_commit of [false, true]) {
      const idempotencyKey = `k-${after_commit}`;
      const rule = {
        on: 'api',
        match: { method: 'post', path: '/v1/checkout' },
        fault: { fail_status: 500, after_commit },
      };
      await control.steer('faults', rule);
      for (const replayed of [undefined, 'true']) {
        const error = await failureOf(stripe.checkout.sessions.create(order(), { idempotencyKey }));
        assert.ok(error instanceof Stripe.errors.StripeAPIError);
        assert.deepEqual([error.statusCode, error.headers?.['idempotent-replayed']], [500, replayed]);
      }
      assert.equal((await stripe.checkout.sessions.list()).data.length, after_commit ? 1 : 0);
    }
  });

  it('do not keep a refused parameter or a rate limit', async () => {
    const bad = { ...order(), colour: 'red' };
    await failureOf(stripe.checkout.sessions.create(bad, { idempotencyKey: 'k' }));
    twin.faults.add({ on: 'api', fault: { rate_limit: true } });
    const limited = await failureOf(stripe.checkout.sessions.create(order(), { idempotencyKey: 'k' }));
    assert.ok(limited instanceof Stripe.errors.StripeRateLimitError);
    assert.ok(await stripe.checkout.sessions.create(order(), { idempotencyKey: 'k' }));
  });

  it('make a call whose answer was lost charge once: the client’s own retry gets the stored answer', async () => {
    twin.faults.add({
      on: 'api',
      match: { path: '/v1/payment_intents' },
      fault: { drop_response_after_commit: true },
    });
    const intent = await clientOf(twin, 2).paymentIntents.create({
      amount: 1_000,
      currency: 'usd',
      confirm: true,
      payment_method: 'pm_card_visa',
    });
    assert.equal(intent.lastResponse.headers['idempotent-replayed'], 'true');
    assert.equal((await stripe.charges.list({ payment_intent: intent.id })).data.length, 1);
    assert.equal((await stripe.paymentIntents.list()).data.length, 1);
  });
});
