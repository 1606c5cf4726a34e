/**
 * Top-ups by card end to end: api, worker, PostgreSQL and Temporal as they run, before Stripe's twin, which the product
 * reaches by the real SDK. What is ordered, paid and taken back, each payment credited once and each reversal taken
 * back once; `stripe-faults` is the same while events, processes and answers are lost.
 */
import assert from 'node:assert/strict';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { usd } from '../../domain/money.ts';
import { topUpWorkflowId } from '../../contract/index.ts';
import { startCardStack, type CardStack } from '../support/card-stack.ts';
import { post } from '../support/gateway-client.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer, Staff, TopUpView } from '../support/people.ts';

const OPEN_MAX = 3;

describe('top-ups by card', function () {
  this.timeout(60_000);
  let cards: CardStack;
  let customer: Customer;
  let operator: Staff;

  before(async () => {
    cards = await startCardStack({ name: 'top-ups-stripe', env: { TOP_UP_OPEN_MAX: String(OPEN_MAX) } });
    operator = await cards.people.staff('ops');
  });
  after(() => cards.stop());
  beforeEach(async () => {
    customer = await cards.people.customer();
  });
  afterEach('no rule is broken', async () => {
    cards.heal();
    assert.deepEqual(await brokenRules(cards.stack.admin), []);
  });

  it('says what it costs before, and credits the amount without the fee after', async () => {
    const { body } = await customer.call<{ data: { method: string; min_usd: string; fee: { ppm: number } }[] }>(
      'GET',
      '/api/top-ups/methods',
    );
    assert.deepEqual(
      body.data.map(({ method, min_usd, fee }) => [method, min_usd, fee.ppm]),
      [['card', '5.000000000000', 50_000]],
    );
    const made = await customer.order('card');
    assert.equal(made.state, 'waiting');
    assert.equal(made.fee_usd, '0.500000000000');
    assert.match(made.checkout_url ?? '', /^http:\/\/127\.0\.0\.1/);
    const session = await cards.stripe.checkout.sessions.retrieve(await cards.sessionOf(made.id));
    assert.equal(session.amount_total, 1050);
    await cards.pay(made.id);
    const paid = await customer.untilState(made.id, 'credited');
    assert.deepEqual([paid.received_usd, paid.credited_usd], ['10.500000000000', '10.000000000000']);
    assert.equal(await customer.balance(), usd('10'));
  });

  it('refuses amounts outside the limits and methods it does not have, by name', async () => {
    for (const [body, param] of [
      [{ method: 'card', amount_usd: '4.99' }, 'amount_usd'],
      [{ method: 'card', amount_usd: '1000.01' }, 'amount_usd'],
      [{ method: 'card', amount_usd: '10.001' }, 'amount_usd'],
      [{ method: 'cheque', amount_usd: '10' }, 'method'],
      [{ method: 'card', amount_usd: -10 }, 'amount_usd'],
    ] as const) {
      const answer = await customer.call<{ error: { param: string } }>('POST', '/api/top-ups', body);
      assert.deepEqual([answer.status, answer.body.error.param], [422, param]);
    }
  });

  it('refuses an order beyond those that may be open, says what to do, and takes it with the same key afterwards', async () => {
    const ordering = (key: string): Promise<Response> =>
      post(
        cards.stack,
        customer.token,
        { method: 'card', amount_usd: '10' },
        { path: '/api/top-ups', headers: { 'idempotency-key': key } },
      );
    const answers = await Promise.all(Array.from({ length: OPEN_MAX + 2 }, (_, n) => ordering(`order-in-test-${n}`)));
    const statuses = answers.map(({ status }) => status);
    assert.deepEqual(statuses.toSorted(), [...Array<number>(OPEN_MAX).fill(201), 429, 429]);
    const refused = answers.find(({ status }) => status === 429)!;
    assert.ok(Number(refused.headers.get('retry-after')) > 1);
    const { error } = (await refused.json()) as { error: { code: string; message: string } };
    assert.equal(error.code, 'rate_limit_exceeded');
    assert.match(error.message, /Pay one of them, or wait until one expires/);
    const taken = statuses.indexOf(201);
    assert.equal((await ordering(`order-in-test-${taken}`)).status, 201, 'a repeat is no other order');
    const { id } = (await answers[taken]!.json()) as TopUpView;
    await cards.pay(id);
    await customer.untilState(id, 'credited');
    assert.equal((await ordering(`order-in-test-${statuses.indexOf(429)}`)).status, 201);
  });

  it('an order that nobody paid expires, and nothing is credited', async () => {
    const made = await customer.order('card');
    await cards.control.steer(`sessions/${await cards.sessionOf(made.id)}/expire`);
    await customer.untilState(made.id, 'expired');
    assert.equal(await customer.balance(), usd('0'));
  });

  it('S14: a delayed method credits only when it succeeds', async () => {
    const made = await customer.order('card');
    const session = await cards.sessionOf(made.id);
    await cards.pay(made.id, { card: 'async_success' });
    await customer.untilState(made.id, 'processing');
    assert.equal(await customer.balance(), usd('0'));
    await cards.control.steer(`async/${session}`, { succeed: true });
    await customer.untilState(made.id, 'credited');

    const failing = await customer.order('card');
    await cards.pay(failing.id, { card: 'async_failure' });
    await customer.untilState(failing.id, 'processing');
    await cards.control.steer(`async/${await cards.sessionOf(failing.id)}`, { succeed: false });
    await customer.untilState(failing.id, 'failed');
    assert.equal(await customer.balance(), usd('10'));
  });

  it('S17: another amount than was asked for waits for a person, with what was received on record', async () => {
    const made = await customer.order('card');
    await cards.pay(made.id, { amount_total: 700 });
    const now = await customer.untilState(made.id, 'quarantined');
    assert.deepEqual([now.received_usd, now.credited_usd], ['7.000000000000', '0.000000000000']);
    assert.equal(await operator.whyStuck(made.id), 'amount_mismatch');
  });

  it('a dispute in another currency takes the whole credit back: what share it is takes a rate', async () => {
    const paid = await cards.paidOrder(customer);
    const dispute = await cards.control.steer<{ id: string }>('disputes', {
      ...{ payment_intent: await cards.paymentIntentOf(paid.id), amount: 300, currency: 'jpy' },
    });
    await customer.untilBalance('0');
    await cards.control.steer(`disputes/${dispute.id}`, { status: 'won', reinstate: true });
    await customer.untilBalance('10');
  });

  for (const [currency, minor, amount] of [
    ['eur', 1050, '10.50'],
    ['jpy', 1050, '1050'],
    ['kwd', 1050, '1.050'],
    ['isk', 1000, '10'],
  ] as const) {
    it(`S17: ${amount} ${currency} for an order of 10.50 USD wait for a person, and are no sum of USD`, async () => {
      const made = await customer.order('card');
      await cards.pay(made.id, { amount_total: minor, currency });
      const now = await customer.untilState(made.id, 'quarantined');
      assert.deepEqual(
        [now.received_usd, now.received_other, now.credited_usd],
        ['0.000000000000', [{ amount, currency }], '0.000000000000'],
      );
      assert.equal(await operator.whyStuck(made.id), 'currency_mismatch');
    });
  }

  it('an operator can look again and can give up, also when the order has ended', async () => {
    const made = await customer.order('card');
    cards.twin.configureWebhooks({ url: null });
    assert.equal((await operator.recheck(made.id)).state, 'waiting');
    await assert.rejects(
      cards.temporal.workflow.getHandle(topUpWorkflowId(made.id)).executeUpdate('abandon', { args: [{ by: 'ops' }] }),
      (error) =>
        error instanceof WorkflowUpdateFailedError &&
        /POST \/admin\/top-ups\/top_[0-9a-f]{32}\/abandon/.test(error.cause?.message ?? ''),
    );
    const reason = { reason: 'asked by phone' };
    const abandoned = await operator.call<TopUpView>('POST', `/admin/top-ups/${made.id}/abandon`, reason);
    assert.deepEqual([abandoned.status, abandoned.body.state], [200, 'abandoned']);
    assert.equal((await operator.recheck(made.id)).state, 'abandoned');
  });

  it('S8, S11: two partial refunds, each taken back once; the balance may fall below zero', async () => {
    const paid = await cards.paidOrder(customer);
    await customer.spend('9');
    const paymentIntent = await cards.paymentIntentOf(paid.id);
    await cards.stripe.refunds.create({ payment_intent: paymentIntent, amount: 525 });
    await customer.untilBalance('-4');
    await cards.stripe.refunds.create({ payment_intent: paymentIntent, amount: 210 });
    await customer.untilBalance('-6');
    await cards.settleDown();
    assert.equal(await customer.balance(), usd('-6'));
    assert.equal((await customer.postings('top_up_reversal')).length, 2);
  });

  it('a refund that fails is given back', async () => {
    const paid = await cards.paidOrder(customer);
    const refund = await cards.control.steer<{ id: string }>('refunds', {
      payment_intent: await cards.paymentIntentOf(paid.id),
      status: 'succeeded',
    });
    await customer.untilBalance('0');
    await cards.control.steer(`refunds/${refund.id}`, { status: 'failed' });
    await customer.untilBalance('10');
  });

  it('S9, S10: a dispute takes the credit back, winning restores it once, a later refund takes it back again', async () => {
    const paid = await cards.paidOrder(customer);
    const paymentIntent = await cards.paymentIntentOf(paid.id);
    const dispute = await cards.control.steer<{ id: string }>('disputes', {
      payment_intent: paymentIntent,
      withdraw: true,
    });
    await customer.untilBalance('0');
    await cards.control.steer(`disputes/${dispute.id}`, { status: 'won', reinstate: true });
    await customer.untilBalance('10');
    await cards.stripe.refunds.create({ payment_intent: paymentIntent });
    await customer.untilBalance('0');
    await cards.settleDown();
    assert.equal(await customer.balance(), usd('0'));
  });
});
