/**
 * Paying at the Stripe twin: checkout sessions, the page with plain forms that a browser is sent to, and payments whose
 * outcome comes later.
 */
import assert from 'node:assert/strict';

import Stripe from 'stripe';

import type { StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { clientOf, DAY_SECONDS, failureOf, order, paid, startTwin, untilReceived } from './fixture.ts';

describe('stripe twin: checkout', () => {
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

  function submit(sessionId: string, form: Record<string, string>): Promise<Response> {
    return fetch(`${twin.url}/pay/${sessionId}`, {
      method: 'POST',
      redirect: 'manual',
      body: new URLSearchParams(form),
    });
  }

  describe('checkout sessions', () => {
    it('begin open, name the twin’s own page, and become a PaymentIntent only when somebody pays', async () => {
      const session = await stripe.checkout.sessions.create(order());
      assert.equal(session.url, `${twin.url}/pay/${session.id}`);
      assert.deepEqual(
        [session.status, session.payment_status, session.amount_total, session.payment_intent, session.livemode],
        ['open', 'unpaid', 2_000, null, false],
      );
      assert.match(session.lastResponse.requestId, /^req_/);
      assert.ok(session.success_url?.endsWith(`session=${session.id}`));
      const { line_items } = await stripe.checkout.sessions.retrieve(session.id, { expand: ['line_items'] });
      const listed = await stripe.checkout.sessions.listLineItems(session.id);
      assert.deepEqual(line_items?.data, listed.data);
      assert.deepEqual([listed.data[0]?.amount_total, listed.data[0]?.description], [2_000, 'Credit & <more>']);
    });

    for (const [currency, amount, shown] of [
      ['jpy', 1500, /¥1,500/],
      ['kwd', 1500, /KWD\s1\.500/],
      ['isk', 1500, /ISK\s15(?![\d,])/],
      ['ugx', 1500, /UGX\s15(?![\d,])/],
      ['eur', 1500, /€15\.00/],
    ] as const) {
      it(`ask for ${amount} minor units of ${currency} as Stripe counts them`, async () => {
        const price_data = { currency, unit_amount: amount, product_data: { name: 'Credit' } };
        const { url } = await stripe.checkout.sessions.create({
          ...{ mode: 'payment', success_url: 'http://seller.test/', line_items: [{ quantity: 1, price_data }] },
        });
        assert.match(await (await fetch(url!)).text(), shown);
      });
    }

    it('refuse minor units that are no sum of their currency', async () => {
      for (const [currency, amount] of [
        ['kwd', 1505],
        ['isk', 1550],
        ['ugx', 1501],
      ] as const) {
        const failure = await failureOf(stripe.paymentIntents.create({ amount, currency }));
        assert.match(failure.message, /evenly divisible/, currency);
      }
    });

    it('give the PaymentIntent and the charge only the metadata of payment_intent_data', async () => {
      const session = await paid(twin);
      assert.deepEqual([session.status, session.payment_status, session.url], ['complete', 'paid', null]);
      assert.deepEqual(session.metadata, { where: 'session' });
      const expanded = await stripe.checkout.sessions.retrieve(session.id, {
        expand: ['payment_intent', 'payment_intent.latest_charge'],
      });
      const intent = expanded.payment_intent as Stripe.PaymentIntent;
      assert.deepEqual(intent.metadata, { where: 'intent' });
      assert.deepEqual((intent.latest_charge as Stripe.Charge).metadata, { where: 'intent' });
      await untilReceived(endpoint, 'checkout.session.completed');
      const types = twin.events().map(({ type }) => type);
      assert.deepEqual(types, [
        'payment_intent.created',
        'charge.succeeded',
        'payment_intent.succeeded',
        'checkout.session.completed',
      ]);
    });

    it('are listed newest first, by page, payment intent, customer and time', async () => {
      const customer = await stripe.customers.create({ email: 'a@example.com' });
      const first = await paid(twin, 'ok', { customer: customer.id });
      const second = await stripe.checkout.sessions.create(order());
      const third = await stripe.checkout.sessions.create(order());
      const page = await stripe.checkout.sessions.list({ limit: 2 });
      assert.deepEqual([page.data.map(({ id }) => id), page.has_more], [[third.id, second.id], true]);
      const ids: string[] = [];
      for await (const { id } of stripe.checkout.sessions.list({ limit: 1 })) ids.push(id);
      assert.deepEqual(ids, [third.id, second.id, first.id]);
      for (const filter of [{ payment_intent: first.payment_intent }, { customer: customer.id }]) {
        const { data } = await stripe.checkout.sessions.list({ ...filter, expand: ['data.payment_intent'] });
        assert.deepEqual([data.length, data[0]?.id], [1, first.id]);
        assert.equal((data[0]?.payment_intent as Stripe.PaymentIntent).id, first.payment_intent);
      }
      const later = await stripe.checkout.sessions.list({ created: { gte: first.created + 3_600 } });
      assert.deepEqual(later.data, []);
    });

    it('expire on request and by the clock, and cannot be paid afterwards', async () => {
      const byCall = await stripe.checkout.sessions.create(order());
      assert.equal((await stripe.checkout.sessions.expire(byCall.id)).status, 'expired');
      await assert.rejects(stripe.checkout.sessions.expire(byCall.id), Stripe.errors.StripeInvalidRequestError);
      const byClock = await stripe.checkout.sessions.create(order());
      await control.steer('clock', { advance_seconds: DAY_SECONDS });
      assert.equal((await stripe.checkout.sessions.retrieve(byClock.id)).status, 'expired');
      const events = await stripe.events.list({ type: 'checkout.session.expired' });
      assert.equal(events.data.length, 2);
      assert.equal((await control.call('POST', `sessions/${byClock.id}/pay`)).status, 409);
      assert.equal((await submit(byClock.id, { card_number: '4242424242424242' })).status, 410);
    });

    it('refuse what Stripe refuses, and name the parameter', async () => {
      const now = Math.floor(Date.now() / 1000);
      const refusals: [object, string, string | undefined][] = [
        [{ expires_at: now + 60 }, 'expires_at', undefined],
        [{ expires_at: now + 2 * DAY_SECONDS }, 'expires_at', undefined],
        [{ success_url: undefined }, 'success_url', 'parameter_missing'],
        [{ line_items: undefined }, 'line_items', 'parameter_missing'],
        [{ customer: 'cus_none' }, 'customer', 'resource_missing'],
        [{ colour: 'red' }, 'colour', 'parameter_unknown'],
        [{ payment_intent_data: { shade: 'x' } }, 'payment_intent_data[shade]', 'parameter_unknown'],
        [{ expand: ['nothing'] }, 'expand', 'property_cannot_be_expanded'],
      ];
      for (const [change, param, code] of refusals) {
        const error = await failureOf(stripe.checkout.sessions.create({ ...order(), ...change }));
        assert.ok(error instanceof Stripe.errors.StripeInvalidRequestError);
        assert.deepEqual([error.statusCode, error.param, error.code], [400, param, code]);
      }
      const missing = await failureOf(stripe.checkout.sessions.retrieve('cs_test_none'));
      assert.deepEqual([missing.statusCode, missing.code], [404, 'resource_missing']);
      const stranger = new Stripe('sk_live_x', { host: '127.0.0.1', port: twin.port, protocol: 'http' });
      assert.ok((await failureOf(stranger.events.list())) instanceof Stripe.errors.StripeAuthenticationError);
    });

    it('show what was really paid where that is not what was asked for', async () => {
      const { id } = await stripe.checkout.sessions.create(order());
      await control.steer(`sessions/${id}/pay`, { amount_total: 1_500, currency: 'eur' });
      const session = await stripe.checkout.sessions.retrieve(id, { expand: ['payment_intent'] });
      assert.deepEqual([session.amount_subtotal, session.amount_total, session.currency], [2_000, 1_500, 'eur']);
      assert.equal((session.payment_intent as Stripe.PaymentIntent).amount_received, 1_500);
    });
  });

  describe('the checkout page', () => {
    it('takes a plain form post and sends the browser to the success page', async () => {
      const session = await stripe.checkout.sessions.create(order());
      const page = await (await fetch(session.url!)).text();
      for (const part of ['Credit &amp; &lt;more&gt;', '$20.00', '4242 4242 4242 4242', 'Cancel']) {
        assert.ok(page.includes(part), part);
      }
      const answer = await submit(session.id, { card_number: '4242 4242 4242 4242', action: 'pay' });
      assert.deepEqual([answer.status, answer.headers.get('location')], [303, session.success_url]);
      assert.equal((await stripe.checkout.sessions.retrieve(session.id)).payment_status, 'paid');
      const again = await submit(session.id, { card_number: '4242 4242 4242 4242' });
      assert.match(await again.text(), /has been made/);
      assert.equal((await stripe.charges.list()).data.length, 1);
    });

    it('says why a card was declined, and the next card pays the same PaymentIntent', async () => {
      const session = await stripe.checkout.sessions.create(order());
      for (const [number, message] of [
        ['4000000000000002', 'Your card was declined.'],
        ['4000000000009995', 'insufficient funds'],
        ['1234', 'Your card number is incorrect.'],
      ] as const) {
        const answer = await submit(session.id, { card_number: number });
        assert.equal(answer.status, 402);
        const page = await answer.text();
        assert.ok(page.includes('role="alert"') && page.includes(message), message);
      }
      const open = await stripe.checkout.sessions.retrieve(session.id, { expand: ['payment_intent'] });
      const intent = open.payment_intent as Stripe.PaymentIntent;
      assert.deepEqual(
        [open.status, intent.status, intent.last_payment_error?.decline_code],
        ['open', 'requires_payment_method', 'insufficient_funds'],
      );
      assert.equal((await submit(session.id, { card_number: '4242424242424242' })).status, 303);
      const complete = await stripe.checkout.sessions.retrieve(session.id);
      assert.equal(complete.payment_intent, intent.id);
      assert.equal((await stripe.events.list({ type: 'payment_intent.payment_failed' })).data.length, 2);
    });

    it('leads through the bank’s page where the card needs it', async () => {
      const session = await stripe.checkout.sessions.create(order());
      const card_number = '4000 0025 0000 3155';
      assert.match(await (await submit(session.id, { card_number })).text(), /Complete authentication/);
      const failed = await submit(session.id, { card_number, action: 'refuse' });
      assert.match(await failed.text(), /unable to authenticate/);
      await submit(session.id, { card_number });
      assert.equal((await submit(session.id, { card_number, action: 'authenticate' })).status, 303);
      assert.equal((await stripe.checkout.sessions.retrieve(session.id)).payment_status, 'paid');
      assert.equal((await stripe.events.list({ type: 'payment_intent.requires_action' })).data.length, 2);
    });

    it('cancels without ending the session', async () => {
      const session = await stripe.checkout.sessions.create(order());
      const answer = await submit(session.id, { card_number: '', action: 'cancel' });
      assert.deepEqual([answer.status, answer.headers.get('location')], [303, 'http://seller.test/cancelled']);
      assert.equal((await stripe.checkout.sessions.retrieve(session.id)).status, 'open');
      assert.equal((await fetch(`${twin.url}/pay/cs_test_none`)).status, 404);
    });
  });

  describe('delayed payments', () => {
    for (const succeed of [true, false]) {
      it(`complete unpaid and ${succeed ? 'succeed' : 'fail'} later`, async () => {
        const session = await paid(twin, 'async_success');
        assert.deepEqual([session.status, session.payment_status], ['complete', 'unpaid']);
        assert.equal((await stripe.paymentIntents.retrieve(session.payment_intent)).status, 'processing');
        await control.steer(`async/${session.id}`, { succeed });
        const settled = await stripe.checkout.sessions.retrieve(session.id, { expand: ['payment_intent'] });
        const intent = settled.payment_intent as Stripe.PaymentIntent;
        assert.deepEqual(
          [settled.payment_status, intent.status],
          succeed ? ['paid', 'succeeded'] : ['unpaid', 'requires_payment_method'],
        );
        const type = `checkout.session.async_payment_${succeed ? 'succeeded' : 'failed'}` as const;
        assert.equal((await stripe.events.list({ type })).data.length, 1);
        assert.equal((await control.call('POST', `async/${session.id}`, { succeed })).status, 409);
      });
    }

    it('payments end automatically when the delay has passed', async () => {
      await twin.close();
      twin = await startTwin({ asyncDelayMs: 60_000 });
      stripe = clientOf(twin);
      const [good, bad] = [await paid(twin, 'async_success'), await paid(twin, 'async_failure')];
      twin.advanceClock(60);
      assert.equal((await stripe.checkout.sessions.retrieve(good.id)).payment_status, 'paid');
      assert.equal((await stripe.paymentIntents.retrieve(bad.payment_intent)).status, 'requires_payment_method');
    });
  });
});
