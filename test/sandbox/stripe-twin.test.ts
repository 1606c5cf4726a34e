/**
 * The Stripe twin against the unmodified `stripe` client, its own signature check, and a plain browser's forms. Whatever
 * the twin does differently from Stripe would let a wrong top-up pass every other test.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import Stripe from 'stripe';

import { startStripeTwin, type StripeTwin, type StripeTwinOptions } from '../../sandbox/twins/stripe/twin.ts';

const MAIN = join(import.meta.dirname, '../../sandbox/twins/stripe/main.ts');
const SECRET = 'whsec_new';
const OLD_SECRET = 'whsec_old';
const DAY_SECONDS = 86_400;

interface Received {
  readonly signature: string;
  readonly body: string;
  readonly event: Stripe.Event;
}

/** A webhook endpoint that answers what it is told to. */
interface Endpoint {
  readonly url: string;
  readonly received: Received[];
  status: number;
  types(): string[];
  of(type: string): Received[];
  close(): Promise<void>;
}

async function startEndpoint(): Promise<Endpoint> {
  const received: Received[] = [];
  const server: Server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const body = Buffer.concat(parts).toString('utf8');
      const event = JSON.parse(body) as Stripe.Event;
      received.push({ signature: String(request.headers['stripe-signature']), body, event });
      response.writeHead(endpoint.status).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint: Endpoint = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`,
    received,
    status: 200,
    types: () => received.map(({ event }) => event.type),
    of: (type) => received.filter(({ event }) => event.type === type),
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return endpoint;
}

describe('stripe twin', () => {
  let twin: StripeTwin;
  let endpoint: Endpoint;
  let stripe: Stripe;

  beforeEach(async () => {
    endpoint = await startEndpoint();
    twin = await start();
    stripe = clientOf(twin.port);
  });
  afterEach(async () => {
    await twin.close();
    await endpoint.close();
  });

  function start(options: StripeTwinOptions = {}): Promise<StripeTwin> {
    return startStripeTwin({
      webhookUrl: endpoint.url,
      webhookSecrets: [SECRET],
      retryLadderMs: [5, 10],
      asyncDelayMs: null,
      ...options,
    });
  }

  function clientOf(port: number, maxNetworkRetries = 0): Stripe {
    return new Stripe('sk_test_twin', { host: '127.0.0.1', port, protocol: 'http', maxNetworkRetries, timeout: 5_000 });
  }

  function order(change: Partial<Stripe.Checkout.SessionCreateParams> = {}): Stripe.Checkout.SessionCreateParams {
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

  async function control<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }> {
    const response = await fetch(`${twin.url}/_twin/${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }

  async function steer<T>(path: string, body: object = {}): Promise<T> {
    const answer = await control<T>('POST', path, body);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body;
  }

  /** A session that was paid, as the API shows it. */
  async function paid(
    card = 'ok',
    change: Partial<Stripe.Checkout.SessionCreateParams> = {},
  ): Promise<Stripe.Checkout.Session & { payment_intent: string }> {
    const { id } = await stripe.checkout.sessions.create(order(change));
    await steer(`sessions/${id}/pay`, { card });
    const session = await stripe.checkout.sessions.retrieve(id);
    assert.ok(typeof session.payment_intent === 'string');
    return session as Stripe.Checkout.Session & { payment_intent: string };
  }

  function chargeOf(paymentIntent: string): Promise<Stripe.Charge> {
    return stripe.paymentIntents
      .retrieve(paymentIntent, { expand: ['latest_charge'] })
      .then(({ latest_charge }) => latest_charge as Stripe.Charge);
  }

  async function submit(sessionId: string, form: Record<string, string>): Promise<Response> {
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

    it('give the PaymentIntent and the charge only the metadata of payment_intent_data', async () => {
      const session = await paid();
      assert.deepEqual([session.status, session.payment_status, session.url], ['complete', 'paid', null]);
      assert.deepEqual(session.metadata, { where: 'session' });
      const expanded = await stripe.checkout.sessions.retrieve(session.id, {
        expand: ['payment_intent', 'payment_intent.latest_charge'],
      });
      const intent = expanded.payment_intent as Stripe.PaymentIntent;
      assert.deepEqual(intent.metadata, { where: 'intent' });
      assert.deepEqual((intent.latest_charge as Stripe.Charge).metadata, { where: 'intent' });
      await until('all events', () => endpoint.of('checkout.session.completed')[0]);
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
      const first = await paid('ok', { customer: customer.id });
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
      await steer('clock', { advance_seconds: DAY_SECONDS });
      assert.equal((await stripe.checkout.sessions.retrieve(byClock.id)).status, 'expired');
      const events = await stripe.events.list({ type: 'checkout.session.expired' });
      assert.equal(events.data.length, 2);
      assert.equal((await control('POST', `sessions/${byClock.id}/pay`)).status, 409);
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
      await steer(`sessions/${id}/pay`, { amount_total: 1_500, currency: 'eur' });
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
        const session = await paid('async_success');
        assert.deepEqual([session.status, session.payment_status], ['complete', 'unpaid']);
        assert.equal((await stripe.paymentIntents.retrieve(session.payment_intent)).status, 'processing');
        await steer(`async/${session.id}`, { succeed });
        const settled = await stripe.checkout.sessions.retrieve(session.id, { expand: ['payment_intent'] });
        const intent = settled.payment_intent as Stripe.PaymentIntent;
        assert.deepEqual(
          [settled.payment_status, intent.status],
          succeed ? ['paid', 'succeeded'] : ['unpaid', 'requires_payment_method'],
        );
        const type = `checkout.session.async_payment_${succeed ? 'succeeded' : 'failed'}` as const;
        assert.equal((await stripe.events.list({ type })).data.length, 1);
        assert.equal((await control('POST', `async/${session.id}`, { succeed })).status, 409);
      });
    }

    it('end by themselves when the delay has passed', async () => {
      await twin.close();
      twin = await start({ asyncDelayMs: 60_000 });
      stripe = clientOf(twin.port);
      const [good, bad] = [await paid('async_success'), await paid('async_failure')];
      twin.advanceClock(60);
      assert.equal((await stripe.checkout.sessions.retrieve(good.id)).payment_status, 'paid');
      assert.equal((await stripe.paymentIntents.retrieve(bad.payment_intent)).status, 'requires_payment_method');
    });
  });

  describe('saved cards', () => {
    async function saved(card = 'ok'): Promise<{ customer: string; payment_method: string }> {
      const session = await paid(card, {
        customer_creation: 'always',
        payment_intent_data: { setup_future_usage: 'off_session' },
      });
      const charge = await chargeOf(session.payment_intent);
      assert.ok(typeof session.customer === 'string' && charge.payment_method !== null);
      return { customer: session.customer, payment_method: charge.payment_method };
    }
    const offSession = { amount: 1_000, currency: 'usd', confirm: true, off_session: true } as const;

    it('are charged without their owner', async () => {
      const card = await saved();
      const method = await stripe.paymentMethods.retrieve(card.payment_method);
      assert.deepEqual([method.customer, method.card?.last4], [card.customer, '4242']);
      const intent = await stripe.paymentIntents.create({ ...offSession, ...card, error_on_requires_action: true });
      assert.deepEqual([intent.status, intent.amount_received], ['succeeded', 1_000]);
      const listed = await stripe.paymentIntents.list({ customer: card.customer });
      assert.equal(listed.data.length, 2);
      assert.equal(listed.data[0]?.id, intent.id);
    });

    it('fail with authentication_required where the bank wants to see their owner', async () => {
      const card = await saved('authentication_required');
      const error = await failureOf(
        stripe.paymentIntents.create({ ...offSession, ...card, error_on_requires_action: true }),
      );
      assert.ok(error instanceof Stripe.errors.StripeCardError);
      assert.deepEqual([error.statusCode, error.code], [402, 'authentication_required']);
      assert.equal(error.payment_intent?.status, 'requires_payment_method');
      const onSession = await stripe.paymentIntents.create({ ...offSession, ...card, off_session: false });
      assert.equal(onSession.status, 'requires_action');
    });

    it('say why they were declined', async () => {
      const error = await failureOf(
        stripe.paymentIntents.create({
          ...offSession,
          payment_method: 'pm_card_visa_chargeDeclinedInsufficientFunds',
        }),
      );
      assert.ok(error instanceof Stripe.errors.StripeCardError);
      assert.deepEqual([error.code, error.decline_code], ['card_declined', 'insufficient_funds']);
    });

    it('are treated by their bank as it says from now on, and take parameters that mean nothing here', async () => {
      const card = await saved();
      await steer(`payment-methods/${card.payment_method}`, { card: 'decline' });
      const charge = { ...offSession, ...card, allowed_payment_method_types: ['card' as const] };
      const error = await failureOf(stripe.paymentIntents.create(charge));
      assert.ok(error instanceof Stripe.errors.StripeCardError);
      assert.equal(error.decline_code, 'generic_decline');
      await steer(`payment-methods/${card.payment_method}`, { card: 'ok' });
      assert.equal((await stripe.paymentIntents.create(charge)).status, 'succeeded');
    });

    it('are of no use once detached, nor when their owner is deleted', async () => {
      const [detached, orphaned] = [await saved(), await saved()];
      await stripe.paymentMethods.detach(detached.payment_method);
      assert.deepEqual(await deletionOf(orphaned.customer), { id: orphaned.customer, deleted: true });
      for (const card of [detached, orphaned]) {
        const error = await failureOf(stripe.paymentIntents.create({ ...offSession, ...card }));
        assert.ok(error instanceof Stripe.errors.StripeInvalidRequestError);
      }
      assert.equal((await stripe.customers.retrieve(orphaned.customer)).deleted, true);
      await until('both events', () => endpoint.of('payment_method.detached')[0] && endpoint.of('customer.deleted')[0]);
    });

    async function deletionOf(customer: string): Promise<object> {
      const { id, deleted } = await stripe.customers.del(customer);
      return { id, deleted };
    }
  });

  describe('refunds', () => {
    it('add up on the charge, and more than was paid is refused', async () => {
      const { payment_intent } = await paid();
      const first = await stripe.refunds.create({ payment_intent, amount: 500 });
      assert.equal(first.status, 'succeeded');
      const tooMuch = await failureOf(stripe.refunds.create({ payment_intent, amount: 1_501 }));
      assert.deepEqual([tooMuch.statusCode, tooMuch.param], [400, 'amount']);
      const charge = await chargeOf(payment_intent);
      assert.deepEqual([charge.amount_refunded, charge.refunded], [500, false]);
      await stripe.refunds.create({ charge: charge.id });
      const again = await failureOf(stripe.refunds.create({ payment_intent }));
      assert.equal(again.code, 'charge_already_refunded');
      const { data } = await stripe.refunds.list({ payment_intent });
      assert.deepEqual(
        data.map(({ amount }) => amount),
        [1_500, 500],
      );
      await until('both events', () => endpoint.of('charge.refunded')[1]);
      const cumulative = endpoint
        .of('charge.refunded')
        .map(({ event }) => (event.data.object as Stripe.Charge).amount_refunded);
      assert.deepEqual(
        cumulative.sort((a, b) => a - b),
        [500, 2_000],
      );
    });

    it('can wait, and give the money back when they fail', async () => {
      const { payment_intent } = await paid();
      const refund = await steer<Stripe.Refund>('refunds', { payment_intent, status: 'pending' });
      assert.equal((await stripe.refunds.retrieve(refund.id)).status, 'pending');
      await steer(`refunds/${refund.id}`, { status: 'failed' });
      assert.equal((await chargeOf(payment_intent)).amount_refunded, 0);
      const types = (await stripe.events.list({ types: ['refund.created', 'refund.updated', 'refund.failed'] })).data;
      assert.deepEqual(
        types.map(({ type }) => type),
        ['refund.failed', 'refund.updated', 'refund.created'],
      );
      const pending = await paid('refund_pending');
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
      const { payment_intent } = await paid();
      const { id } = await steer<Stripe.Dispute>('disputes', { payment_intent, amount: 1_200, reason: 'duplicate' });
      const open = await stripe.disputes.retrieve(id);
      assert.deepEqual([open.amount, open.reason, open.status], [1_200, 'duplicate', 'needs_response']);
      assert.equal(open.balance_transactions[0]?.amount, -1_200);
      const refund = await failureOf(stripe.refunds.create({ payment_intent }));
      assert.equal(refund.code, 'charge_disputed');
      await steer(`disputes/${id}`, { status: 'under_review' });
      await steer(`disputes/${id}`, { status: 'won' });
      const { data } = await stripe.disputes.list({ payment_intent });
      assert.deepEqual([data.length, data[0]?.status], [1, 'won']);
      assert.deepEqual(typesOf(), ['created', 'funds_withdrawn', 'updated', 'funds_reinstated', 'closed']);
    });

    it('may begin as an inquiry, which moves no money until it becomes a dispute', async () => {
      const { payment_intent } = await paid();
      const { id } = await steer<Stripe.Dispute>('disputes', { payment_intent, status: 'warning_needs_response' });
      assert.deepEqual(typesOf(), ['created']);
      await steer(`disputes/${id}`, { status: 'needs_response' });
      await steer(`disputes/${id}`, { withdraw: true });
      await steer(`disputes/${id}`, { status: 'lost' });
      assert.deepEqual(typesOf(), ['created', 'funds_withdrawn', 'updated', 'closed']);
    });

    it('come by themselves with the card made for it, and after a warning', async () => {
      const session = await paid('dispute_later');
      await steer('early-fraud-warnings', { payment_intent: session.payment_intent });
      twin.advanceClock(60);
      assert.deepEqual(typesOf(), ['created', 'funds_withdrawn']);
      const warnings = await stripe.radar.earlyFraudWarnings.list({ payment_intent: session.payment_intent });
      assert.equal(warnings.data.length, 1);
      await until('the warning', () => endpoint.of('radar.early_fraud_warning.created')[0]);
    });
  });

  describe('idempotency keys', () => {
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
      await until('the first call', () => twin.faults.list().length === 0 || undefined);
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
        await steer('faults', rule);
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
      const intent = await clientOf(twin.port, 2).paymentIntents.create({
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

  describe('deliveries', () => {
    const verify = ({ body, signature }: Received, secret = SECRET): Stripe.Event =>
      stripe.webhooks.constructEvent(body, signature, secret);

    /** One event, of which exactly one delivery is expected. */
    async function newCustomer(): Promise<string> {
      await stripe.customers.create({ name: 'Zoë' });
      return twin.events().at(-1)!.id;
    }

    it('carry a signature that the client’s own check accepts, and the event of the API', async () => {
      const id = await newCustomer();
      const delivered = await until('the event', () => endpoint.received[0]);
      const event = verify(delivered);
      assert.deepEqual([event.id, event.type, event.livemode], [id, 'customer.created', false]);
      const { lastResponse, ...read } = await stripe.events.retrieve(id);
      assert.equal(lastResponse.statusCode, 200);
      assert.deepEqual({ ...event }, read);
      assert.match(event.request?.id ?? '', /^req_/);
    });

    it('are signed with both secrets while one is rotated out', async () => {
      await steer('webhooks', { secrets: [SECRET, OLD_SECRET] });
      await newCustomer();
      const delivered = await until('the event', () => endpoint.received[0]);
      assert.equal(delivered.signature.match(/v1=/g)?.length, 2);
      for (const secret of [SECRET, OLD_SECRET]) verify(delivered, secret);
      assert.throws(() => verify(delivered, 'whsec_other'), Stripe.errors.StripeSignatureVerificationError);
    });

    it('are repeated until a 2xx', async () => {
      endpoint.status = 503;
      const id = await newCustomer();
      await until('three attempts', () => endpoint.received[2]);
      endpoint.status = 204;
      await until('the end', () => twin.deliveries()[0]?.state === 'delivered' || undefined);
      const { body } = await control<{ data: { id: string; attempts: { answers: unknown[] }[] }[] }>(
        'GET',
        'deliveries',
      );
      assert.equal(body.data[0]?.id, id);
      assert.deepEqual(body.data[0]?.attempts[0]?.answers, [503]);
      assert.deepEqual(body.data[0]?.attempts.at(-1)?.answers, [204]);
      const ended = endpoint.received.length;
      await steer(`deliveries/${id}/redeliver`);
      assert.equal(endpoint.received.length, ended + 1);
    });

    it('are not repeated once a redelivery on request has succeeded', async () => {
      await twin.close();
      twin = await start({ retryLadderMs: [60_000] });
      stripe = clientOf(twin.port);
      endpoint.status = 500;
      const id = await newCustomer();
      await until('the attempt', () => twin.deliveries()[0]?.attempts[0]);
      endpoint.status = 200;
      await steer(`deliveries/${id}/redeliver`);
      twin.advanceClock(60);
      await newCustomer();
      await until('the next event', () => endpoint.received[2]);
      assert.deepEqual(
        endpoint.received.map(({ event }) => event.id === id),
        [true, true, false],
      );
    });

    it('end after three days, and events.list still has the event', async () => {
      endpoint.status = 500;
      const id = await newCustomer();
      await until('an attempt', () => endpoint.received[0]);
      twin.advanceClock(3 * DAY_SECONDS);
      await until('the end', () => twin.deliveries()[0]?.state === 'given_up' || undefined);
      assert.equal((await stripe.events.list({ created: { gte: 1 } })).data[0]?.id, id);
      twin.advanceClock(30 * DAY_SECONDS);
      assert.deepEqual((await stripe.events.list()).data, []);
    });

    it('can be dropped, doubled and held back behind the next one', async () => {
      await steer('faults', { on: 'delivery', fault: { drop: true } });
      await newCustomer();
      await until('the drop', () => twin.deliveries()[0]?.state === 'dropped' || undefined);
      await steer('faults', { on: 'delivery', fault: { duplicate: 3 } });
      const doubled = await newCustomer();
      await until('three copies', () => endpoint.received[2]);
      assert.deepEqual(new Set(endpoint.received.map(({ event }) => event.id)), new Set([doubled]));

      endpoint.received.length = 0;
      await steer('faults', { on: 'delivery', match: { event_type: 'customer.created' }, fault: { reorder: true } });
      const [first, second] = [await newCustomer(), await newCustomer()];
      await until('both', () => endpoint.received[1]);
      assert.deepEqual(
        endpoint.received.map(({ event }) => event.id),
        [second, first],
      );
      await steer('faults', { on: 'delivery', fault: { delay_ms: 60_000 } });
      const late = await newCustomer();
      await newCustomer();
      await until('the one in time', () => endpoint.received[2]);
      twin.advanceClock(60);
      assert.equal((await until('the late one', () => endpoint.received[3])).event.id, late);
    });

    for (const [name, fault] of [
      ['a wrong secret', { wrong_secret: true }],
      ['an altered byte', { altered_byte: true }],
      ['an old timestamp', { stale_seconds: 301 }],
    ] as const) {
      it(`can be forged: ${name} does not pass the client’s check, the repetition does`, async () => {
        endpoint.status = 400;
        twin.faults.add({ on: 'delivery', fault });
        await newCustomer();
        const forged = await until('the forged one', () => endpoint.received[0]);
        endpoint.status = 200;
        assert.throws(() => verify(forged), Stripe.errors.StripeSignatureVerificationError);
        verify(await until('the real one', () => endpoint.received[1]));
      });
    }

    it('can come from the future, which the client’s check lets pass', async () => {
      twin.faults.add({ on: 'delivery', fault: { future_seconds: 3_000 } });
      await newCustomer();
      const delivered = await until('the event', () => endpoint.received[0]);
      assert.ok(Number(/t=(\d+)/.exec(delivered.signature)?.[1]) > Date.now() / 1000 + 2_900);
      verify(delivered);
    });
  });

  it('names the bad field of a control call', async () => {
    const { id } = await stripe.checkout.sessions.create(order());
    const session = await paid();
    const bad: [string, unknown, string][] = [
      [`sessions/${id}/pay`, { card: 'gold' }, 'card'],
      [`sessions/${id}/pay`, { amount_totl: 5 }, 'amount_totl'],
      [`sessions/${id}/pay`, { amount_total: '5' }, 'amount_total'],
      [`async/${id}`, {}, 'succeed'],
      ['refunds', { payment_intent: session.payment_intent, status: 'lost' }, 'status'],
      ['disputes', {}, 'payment_intent'],
      ['clock', { advance_seconds: -1 }, 'advance_seconds'],
      ['webhooks', { url: 'nowhere' }, 'url'],
      ['faults', { on: 'both', fault: {} }, 'on'],
      ['faults', { on: 'api', fault: { fail_status: 200 } }, 'fault.fail_status'],
      ['faults', { on: 'delivery', fault: { hang_ms: 1 } }, 'hang_ms'],
    ];
    for (const [path, body, field] of bad) {
      const answer = await control<{ error: { message: string; field: string } }>('POST', path, body);
      assert.deepEqual([path, answer.status, answer.body.error.field], [path, 400, field]);
      assert.ok(answer.body.error.message.includes(field));
    }
    assert.equal((await control('POST', 'nothing')).status, 404);
    assert.equal((await control('POST', 'sessions/cs_test_none/pay')).status, 404);
  });

  describe('as a process', () => {
    let folder: string;
    let running: ChildProcess | undefined;

    beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'stripe-twin-'))));
    afterEach(async () => {
      if (running?.exitCode === null && running.signalCode === null) await stop('SIGKILL');
      rmSync(folder, { recursive: true });
    });

    async function launch(environment: Record<string, string>): Promise<number> {
      running = spawn(process.execPath, [MAIN], {
        env: { PATH: process.env['PATH'], ...environment },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      assert.ok(running.stdout);
      const [line] = (await once(createInterface(running.stdout), 'line')) as [string];
      return (JSON.parse(line) as { listening: number }).listening;
    }

    async function stop(signal: NodeJS.Signals): Promise<unknown> {
      assert.ok(running);
      const exited = once(running, 'exit');
      running.kill(signal);
      return (await exited)[0];
    }

    it('keeps everything through kill -9, and delivers what was not delivered', async () => {
      endpoint.status = 500;
      const dataFile = join(folder, 'twin.jsonl');
      const environment = {
        TWIN_DATA_FILE: dataFile,
        TWIN_WEBHOOK_URL: endpoint.url,
        TWIN_WEBHOOK_SECRETS: `${SECRET}, ${OLD_SECRET}`,
        TWIN_PUBLIC_URL: 'http://pay.test/',
      };
      const port = await launch(environment);
      const before = clientOf(port);
      const session = await before.checkout.sessions.create(order(), { idempotencyKey: 'k' });
      assert.equal(session.url, `http://pay.test/pay/${session.id}`);
      const paymentId = await settledPayment(port, before);
      await controlOf(port, `sessions/${session.id}/pay`, { card: 'decline' });
      await controlOf(port, 'refunds', { payment_intent: paymentId, amount: 100, status: 'pending' });
      const dispute = await controlOf<Stripe.Dispute>(port, 'disputes', { payment_intent: paymentId, withdraw: false });
      await controlOf(port, `disputes/${dispute.id}`, { status: 'won' });
      await controlOf(port, 'clock', { advance_seconds: 600 });
      const { clock, ...state } = await controlOf<{ clock: { now: number } }>(port, 'state');
      await stop('SIGKILL');
      appendFileSync(dataFile, '["sessions","cs_test_half');
      endpoint.status = 200;
      endpoint.received.length = 0;

      const next = await launch(environment);
      const { clock: clockNow, ...stateNow } = await controlOf<{ clock: { now: number } }>(next, 'state');
      assert.deepEqual(stateNow, state);
      assert.ok(clockNow.now >= clock.now);
      const replayed = await clientOf(next).checkout.sessions.create(order(), { idempotencyKey: 'k' });
      assert.equal(replayed.id, session.id);
      const delivered = await until('the event', () => endpoint.of('payment_intent.succeeded')[0]);
      for (const secret of [SECRET, OLD_SECRET]) {
        stripe.webhooks.constructEvent(delivered.body, delivered.signature, secret, undefined, undefined, clockNow.now);
      }
      assert.equal(await stop('SIGTERM'), 0);
    });

    /** A delayed payment that has succeeded, by a customer who has since been deleted. */
    async function settledPayment(port: number, client: Stripe): Promise<string> {
      const customer = await client.customers.create({ email: 'a@example.com' });
      const { id } = await client.checkout.sessions.create(order({ customer: customer.id }));
      await controlOf(port, `sessions/${id}/pay`, { card: 'async_success' });
      await controlOf(port, `async/${id}`, { succeed: true });
      await client.customers.del(customer.id);
      const { payment_intent } = await client.checkout.sessions.retrieve(id);
      assert.ok(typeof payment_intent === 'string');
      return payment_intent;
    }

    async function controlOf<T>(port: number, path: string, body?: object): Promise<T> {
      const response = await fetch(`http://127.0.0.1:${port}/_twin/${path}`, {
        ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
      });
      assert.equal(response.status, 200);
      return (await response.json()) as T;
    }

    it('exits with 1 and names every bad variable', async () => {
      const child = spawn(process.execPath, [MAIN], {
        env: { TWIN_PORT: '70000', TWIN_WEBHOOK_URL: 'nowhere' },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let stderr = '';
      child.stderr.on('data', (part: Buffer) => (stderr += part.toString()));
      const [code] = (await once(child, 'close')) as [number];
      assert.equal(code, 1);
      assert.match(stderr, /TWIN_PORT.*TWIN_WEBHOOK_URL/);
    });
  });
});

/** The error that a call of the client ends with. */
async function failureOf(call: Promise<unknown>): Promise<Stripe.errors.StripeError> {
  const error: unknown = await call.then(
    () => assert.fail('the call succeeded'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Stripe.errors.StripeError, String(error));
  return error;
}

/** Polls until `probe` returns something; fails after five seconds. */
async function until<T>(what: string, probe: () => T | undefined): Promise<T> {
  const deadline = performance.now() + 5_000;
  for (;;) {
    const found = probe();
    if (found !== undefined) return found;
    if (performance.now() > deadline) assert.fail(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
