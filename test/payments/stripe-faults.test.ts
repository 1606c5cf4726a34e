/**
 * Top-ups by card while events are repeated, forged or lost, processes die, answers never come, and the database or
 * Temporal is away: real api, worker, PostgreSQL and Temporal before Stripe's twin. Each payment is still credited
 * once, and an event counts only when Stripe has signed it.
 */
import assert from 'node:assert/strict';
import { parseId } from '../../domain/ids.ts';
import { usd } from '../../domain/money.ts';
import { reversalWorkflowId } from '../../contract/index.ts';
import { startCardStack, stripeEvent, WEBHOOK_SECRETS, type CardStack } from '../support/card-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer } from '../support/people.ts';
import { testServices } from '../support/services.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

describe('top-ups by card under faults', function () {
  this.timeout(60_000);
  let cards: CardStack;
  let databaseProxy: TcpProxy;
  let temporalProxy: TcpProxy;
  let customer: Customer;

  before(async () => {
    temporalProxy = await startTcpProxyFor(`http://${testServices().temporalAddress}`);
    cards = await startCardStack({
      name: 'top-ups-stripe-faults',
      temporalAddress: temporalProxy.address,
      databaseUrl: async (url) => {
        databaseProxy = await startTcpProxyFor(url);
        return databaseProxy.through(url);
      },
    });
  });
  after(async () => {
    await cards.stop();
    await Promise.all([databaseProxy.close(), temporalProxy.close()]);
  });
  beforeEach(async () => {
    customer = await cards.people.customer();
  });
  afterEach('no rule is broken', async () => {
    cards.heal();
    assert.deepEqual(await brokenRules(cards.stack.admin), []);
  });

  it('S1: the same event many times, in parallel, is one credit', async () => {
    const made = await customer.order('card');
    cards.twin.faults.add({
      on: 'delivery',
      match: { event_type: 'checkout.session.completed' },
      fault: { duplicate: 10 },
    });
    await cards.pay(made.id);
    await customer.untilState(made.id, 'credited');
    await cards.settleDown();
    assert.equal(await customer.balance(), usd('10'));
    assert.equal((await customer.postings('top_up')).length, 1);
  });

  it('S2: a worker killed at the moment of the credit leaves one credit', async () => {
    const made = await customer.order('card');
    const dying = cards.stack.worker;
    const paying = cards.pay(made.id);
    dying.signal('SIGKILL');
    await paying;
    await dying.exited;
    await cards.stack.startWorker();
    await customer.untilState(made.id, 'credited', 50_000);
    assert.equal((await customer.postings('top_up')).length, 1);
  });

  it('S2: a credit whose answer is lost is one credit', async () => {
    const made = await customer.order('card');
    const lost = databaseProxy.loseAnswerTo('credit_payment');
    await cards.pay(made.id);
    await lost;
    await customer.untilState(made.id, 'credited', 30_000);
    await cards.settleDown();
    assert.equal((await customer.postings('top_up')).length, 1);
  });

  it('S3: with the database away an event is not acknowledged, and credited when it is back', async () => {
    const made = await customer.order('card');
    databaseProxy.refuse();
    try {
      await cards.pay(made.id).catch(() => undefined);
    } finally {
      databaseProxy.accept();
    }
    await customer.untilState(made.id, 'credited', 20_000);
    assert.equal(await customer.balance(), usd('10'));
  });

  it('S15: a checkout whose answer is lost after it was made is one checkout', async () => {
    cards.twin.faults.add({
      on: 'api',
      match: { method: 'POST', path: '/v1/checkout/sessions' },
      fault: { drop_response_after_commit: true },
    });
    const made = await customer.order('card');
    const now = await customer.untilState(made.id, 'waiting');
    assert.ok(now.checkout_url !== null);
    const sessions = await cards.stripe.checkout.sessions.list({ limit: 100 });
    assert.equal(sessions.data.filter((session) => session.client_reference_id === made.id).length, 1);
  });

  it('no event at all: polling credits', async () => {
    cards.twin.configureWebhooks({ url: null });
    const made = await customer.order('card');
    await cards.settleDown();
    await cards.pay(made.id);
    await customer.untilState(made.id, 'credited', 15_000);
    const { rows } = await cards.stack.admin.query('select from provider_event where payload::text like $1', [
      `%${made.id}%`,
    ]);
    assert.equal(rows.length, 0, 'no event has come');
  });

  it('Temporal away while events arrive: they are stored, acknowledged, and credited when it is back', async () => {
    const made = await customer.order('card');
    temporalProxy.refuse();
    try {
      await cards.pay(made.id);
      await until('the event to be acknowledged', () =>
        cards.twin.deliveries().some((delivery) => JSON.stringify(delivery).includes('checkout.session.completed')),
      );
      await cards.settleDown();
      assert.equal(await customer.balance(), usd('0'));
    } finally {
      temporalProxy.accept();
    }
    await customer.untilState(made.id, 'credited', 40_000);
    assert.equal((await customer.postings('top_up')).length, 1);
  });

  it('a dispute whose run is lost gets another one, and is given back though no event says that it was won', async () => {
    const paid = await cards.paidOrder(customer);
    const { id } = await cards.control.steer<{ id: string }>('disputes', {
      payment_intent: await cards.paymentIntentOf(paid.id),
      withdraw: true,
    });
    await customer.untilBalance('0');
    const run = cards.temporal.workflow.getHandle(reversalWorkflowId('stripe', id));
    await cards.untilEventsAreHandled();
    await run.terminate('lost');
    cards.twin.configureWebhooks({ url: null });
    await cards.control.steer(`disputes/${id}`, { status: 'won', reinstate: true });
    await cards.stack.admin.query(`update top_up set looked_at = looked_at - interval '1 hour' where id = $1`, [
      parseId('topUp', paid.id),
    ]);
    await customer.untilBalance('10', 20_000);
    await run.result();
  });

  describe('an event', () => {
    it('is taken with any of the secrets, so that they can be rotated', async () => {
      for (const secret of WEBHOOK_SECRETS) {
        const { text } = stripeEvent('checkout.session.completed');
        assert.equal(await cards.deliver(text, cards.sign(text, { secret })), 200);
      }
    });

    it('an event with characters that PostgreSQL cannot store is stored without them, not refused forever', async () => {
      const { id, text } = stripeEvent('charge.updated', { description: 'a\u0000b\ud800', 'k\u0000ey': 1 });
      assert.equal(await cards.deliver(text), 200);
      const { rows } = await cards.stack.admin.query<{ object: unknown }>(
        `select payload #> '{data,object}' as object from provider_event where event_id = $1`,
        [id],
      );
      assert.deepEqual(rows, [{ object: { description: 'ab\ufffd', key: 1 } }]);
    });

    it('that cannot be placed does not keep the sweep from those after it', async () => {
      const path = '/v1/payment_intents/pi_away';
      cards.twin.faults.add({ on: 'api', match: { path }, count: null, fault: { fail_status: 500 } });
      const lost = stripeEvent('payment_intent.succeeded', { object: 'payment_intent', id: 'pi_away' });
      const next = stripeEvent('payment_intent.succeeded');
      assert.equal(await cards.deliver(lost.text), 200);
      assert.equal(await cards.deliver(next.text), 200);
      await until('the next event to be handled', async () => {
        const { rows } = await cards.stack.admin.query<{ result: string | null }>(
          'select result from provider_event where event_id = $1',
          [next.id],
        );
        return rows[0]?.result === 'foreign: nothing_of_ours';
      });
    });

    it('is refused with a wrong secret, an altered byte, or a time too far from now in either direction', async () => {
      const { text } = stripeEvent('checkout.session.completed');
      assert.equal(await cards.deliver(text, cards.sign(text, { secret: 'whsec_ffffffffffffffffffff' })), 400);
      assert.equal(await cards.deliver(`${text} `, cards.sign(text)), 400);
      assert.equal(await cards.deliver(text, cards.sign(text, { ageSeconds: 301 })), 400);
      assert.equal(await cards.deliver(text, cards.sign(text, { ageSeconds: -310 })), 400);
      assert.equal(await cards.deliver(text, 'nonsense'), 400);
    });
  });
});
