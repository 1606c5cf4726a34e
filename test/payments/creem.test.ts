/**
 * Top-ups by Creem end to end: api, worker, PostgreSQL and Temporal as they run, before Creem's twin, which the product
 * reaches by the real SDK. Peculiar to Creem: tax on top, a sum of refunds where others have a list, no event
 * of how a refund or dispute ends. `creem-faults` is the same while events and answers are lost.
 */
import assert from 'node:assert/strict';
import { usd } from '../../domain/money.ts';
import { PAID_CENTS, PRICE_CENTS, startCreemStack, type CreemStack } from '../support/creem-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer, Staff } from '../support/people.ts';
import { until } from '../support/until.ts';

describe('top-ups by Creem', function () {
  // Several waits for polls in a row.
  this.timeout(60_000);
  let shop: CreemStack;
  let customer: Customer;
  let operator: Staff;

  before(async () => {
    shop = await startCreemStack({ name: 'top-ups-creem' });
    operator = await shop.people.staff('ops');
  });
  after(() => shop.stop());
  beforeEach(async () => {
    customer = await shop.people.customer();
  });
  afterEach('no rule is broken', async () => {
    shop.heal();
    assert.deepEqual(await brokenRules(shop.stack.admin), []);
  });

  it('says what it costs before, and credits the amount without fee and tax after', async () => {
    const { body } = await customer.call<{ data: { method: string; min_usd: string; fee: { ppm: number } }[] }>(
      'GET',
      '/api/top-ups/methods',
    );
    assert.deepEqual(
      body.data.map(({ method, min_usd, fee }) => [method, min_usd, fee.ppm]),
      [['creem', '2.000000000000', 50_000]],
    );
    const made = await customer.order('creem');
    assert.equal(made.state, 'waiting');
    assert.match(made.checkout_url ?? '', /^http:\/\/127\.0\.0\.1:\d+\/checkout\/ch_/);
    await shop.pay(made.id);
    const paid = await customer.untilState(made.id, 'credited');
    assert.deepEqual([paid.received_usd, paid.credited_usd], ['10.500000000000', '10.000000000000']);
    assert.equal(await customer.balance(), usd('10'));
    const { order: sold, requestId } = await shop.creem.checkouts.retrieve(await shop.checkoutOf(made.id));
    assert.deepEqual([sold?.subTotal, sold?.amountPaid, requestId], [PRICE_CENTS, PAID_CENTS, made.id]);
  });

  it('is paid on the page that the customer is sent to, who comes back to us', async () => {
    const made = await customer.order('creem');
    const page = await fetch(made.checkout_url!);
    assert.match(await page.text(), /\$12\.71/);
    const paying = await fetch(made.checkout_url!, { method: 'POST', redirect: 'manual' });
    assert.equal(paying.status, 303);
    assert.match(paying.headers.get('location') ?? '', new RegExp(`/top-ups/${made.id}\\?checkout_id=ch_`));
    await customer.untilState(made.id, 'credited');
  });

  it('refuses an amount below its own minimum', async () => {
    const wanted = { method: 'creem', amount_usd: '1.99' };
    const answer = await customer.call<{ error: { param: string } }>('POST', '/api/top-ups', wanted);
    assert.deepEqual([answer.status, answer.body.error.param], [422, 'amount_usd']);
  });

  it('an order that nobody paid expires, and nothing is credited', async () => {
    const made = await customer.order('creem');
    await shop.control.steer(`checkouts/${await shop.checkoutOf(made.id)}/expire`);
    await customer.untilState(made.id, 'expired');
    assert.equal(await customer.balance(), usd('0'));
  });

  for (const [what, how, stuck, received] of [
    ['another price', { sub_total: 700 }, 'amount_mismatch', '7.000000000000'],
    ['a discount', { discount_amount: 500 }, 'amount_mismatch', '5.500000000000'],
    ['real money for a test order', { mode: 'prod' }, 'mode_mismatch', '10.500000000000'],
  ] as const) {
    it(`S17: ${what} waits for a person, with what was received on record`, async () => {
      const made = await customer.order('creem');
      await shop.pay(made.id, how);
      const now = await customer.untilState(made.id, 'quarantined');
      assert.deepEqual([now.received_usd, now.credited_usd], [received, '0.000000000000']);
      assert.equal(await operator.whyStuck(made.id), stuck);
    });
  }

  it('S17: another currency waits for a person, and is no sum of USD', async () => {
    const made = await customer.order('creem');
    await shop.pay(made.id, { currency: 'EUR' });
    const now = await customer.untilState(made.id, 'quarantined');
    assert.deepEqual(
      [now.received_usd, now.received_other],
      ['0.000000000000', [{ amount: '10.50', currency: 'eur' }]],
    );
    assert.equal(await operator.whyStuck(made.id), 'currency_mismatch');
  });

  for (const without of [
    ['order.mode', 'order.currency'],
    ['order.sub_total'],
    ['order.sub_total', 'order.tax_amount'],
    ['order.sub_total', 'order.tax_amount', 'order.amount_paid'],
    // As the order in Creem's documentation has it: an amount, and nothing else of money.
    ['order.sub_total', 'order.tax_amount', 'order.amount_paid', 'order.amount_due', 'order.discount_amount'],
    ['order.tax_amount', 'transaction.tax_amount'],
    ['order.amount_paid', 'transaction.amount_paid', 'order.transaction'],
    ['order.sub_total', 'order.amount_paid', 'transaction.amount_paid', 'transaction.tax_amount'],
  ]) {
    const isNull = without.includes('transaction.tax_amount');
    const what = isNull ? 'whose fields are null' : 'without';
    it(`an order ${what}: ${without.join(', ')} is credited with its price, and taken back whole`, async () => {
      const made = await customer.order('creem');
      await shop.pay(made.id, isNull ? { nulled: without } : { without });
      const paid = await customer.untilState(made.id, 'credited');
      assert.deepEqual([paid.received_usd, paid.credited_usd], ['10.500000000000', '10.000000000000']);
      await shop.control.steer(`transactions/${await shop.transactionFor(made.id)}/set`, { status: 'refunded' });
      await operator.recheck(made.id);
      assert.equal(await customer.balance(), usd('0'));
    });
  }

  it('an order that nowhere says its currency waits for a person', async () => {
    const made = await customer.order('creem');
    await shop.pay(made.id, { without: ['order.currency', 'transaction.currency'] });
    const now = await customer.untilState(made.id, 'quarantined');
    assert.deepEqual(
      [now.received_usd, now.received_other],
      ['0.000000000000', [{ amount: '1050', currency: 'unknown' }]],
    );
  });

  it('an order without sub_total that was paid short is never credited with more than came', async () => {
    const made = await customer.order('creem');
    await shop.pay(made.id, { sub_total: 700, without: ['order.sub_total', 'order.tax_amount'] });
    const now = await customer.untilState(made.id, 'quarantined');
    assert.deepEqual([now.received_usd, now.credited_usd], ['7.000000000000', '0.000000000000']);
  });

  it('sums that contradict each other count as the least of them', async () => {
    const made = await customer.order('creem');
    // The price says 10.50, and only what was paid says that there was a discount.
    await shop.pay(made.id, { tax_amount: 0, discount_amount: 500, without: ['order.discount_amount'] });
    const now = await customer.untilState(made.id, 'quarantined');
    assert.deepEqual([now.received_usd, now.credited_usd], ['5.500000000000', '0.000000000000']);
  });

  it('a product with the tax inside its price opens no checkout: what is left would never pay an order', async () => {
    await shop.control.steer('product', { tax_mode: 'inclusive' });
    try {
      const made = await customer.order('creem');
      assert.deepEqual([made.state, made.checkout_url], ['created', null]);
    } finally {
      await shop.control.steer('product', { tax_mode: 'exclusive' });
    }
  });

  it('a status that nobody knows is no success, and takes nothing back', async () => {
    const made = await customer.order('creem');
    shop.twin.configureWebhooks({ url: null });
    await shop.pay(made.id);
    const transaction = await shop.transactionOf(made.id);
    await shop.control.steer(`transactions/${transaction}/set`, { status: 'onHold' });
    await customer.untilState(made.id, 'processing');
    await shop.control.steer(`transactions/${transaction}/set`, { status: 'paid' });
    await customer.untilState(made.id, 'credited');
    await shop.control.steer(`transactions/${transaction}/set`, { status: 'onHold' });
    await operator.recheck(made.id);
    assert.equal(await customer.balance(), usd('10'));
    // The SDK refuses an answer with this word, which is the one of Creem's own samples.
    await shop.control.steer(`transactions/${transaction}/set`, { status: 'chargeback' });
    await operator.recheck(made.id);
    assert.equal(await customer.balance(), usd('0'));
  });

  it('two paid checkouts of one request id: each is refunded on its own', async () => {
    const made = await shop.paidOrder(customer);
    const second = await shop.makeCheckout(made.id);
    const paid = await shop.control.steer<{ order: { transaction: string } }>(`checkouts/${second}/pay`);
    await customer.untilBalance('20');
    await shop.creem.transactions.refund({ transactionId: paid.order.transaction });
    await customer.untilBalance('10');
    await shop.creem.transactions.refund({ transactionId: await shop.transactionOf(made.id) });
    await customer.untilBalance('0');
    await shop.settleDown();
    assert.equal((await customer.postings('top_up_reversal')).length, 2);
  });

  it('S8, S11: partial refunds are taken back once each, tax left out; the balance may fall below zero', async () => {
    const paid = await shop.paidOrder(customer);
    const transaction = await shop.transactionOf(paid.id);
    await customer.spend('9');
    // 635.5 cents would be half of what was paid; the share is rounded down to a trillionth.
    await shop.control.steer(`transactions/${transaction}/refund`, { amount: 636 });
    await until('half to be taken back', async () => {
      const left = await customer.balance();
      return left < usd('-3.99') && left > usd('-4.01');
    });
    await shop.control.steer(`transactions/${transaction}/refund`, { amount: PAID_CENTS - 636 });
    await customer.untilBalance('-9');
    await shop.settleDown();
    assert.equal(await customer.balance(), usd('-9'));
    assert.equal((await customer.postings('top_up_reversal')).length, 2);
  });

  it('a refund that fails is given back, though no event says so', async () => {
    const paid = await shop.paidOrder(customer);
    const path = `transactions/${await shop.transactionOf(paid.id)}/refund`;
    const pending = await shop.control.steer<{ id: string }>(path, { status: 'pending' });
    await shop.settleDown();
    assert.equal(await customer.balance(), usd('10'), 'nothing has gone back yet');
    await shop.control.steer(`refunds/${pending.id}/end`, { status: 'succeeded' });
    await customer.untilBalance('0', 15_000);
    await shop.control.steer(`refunds/${pending.id}/end`, { status: 'failed' });
    await customer.untilBalance('10', 15_000);
  });

  it('S9, S10: a dispute takes the credit back, winning restores it without an event, a later refund takes it again', async () => {
    const paid = await shop.paidOrder(customer);
    const dispute = await disputed(paid.id);
    await shop.control.steer(`disputes/${dispute}/end`, { outcome: 'won' });
    await customer.untilBalance('10', 15_000);
    await shop.creem.transactions.refund({ transactionId: await shop.transactionOf(paid.id) });
    await customer.untilBalance('0');
    await shop.settleDown();
    assert.equal(await customer.balance(), usd('0'));
  });

  it('a dispute that is lost leaves the credit taken', async () => {
    const dispute = await disputed((await shop.paidOrder(customer)).id);
    await shop.control.steer(`disputes/${dispute}/end`, { outcome: 'lost' });
    await shop.settleDown();
    assert.equal(await customer.balance(), usd('0'));
    assert.equal((await customer.postings('top_up_reversal')).length, 1);
  });

  it('S12: a dispute that is turned into a refund is taken back once', async () => {
    const dispute = await disputed((await shop.paidOrder(customer)).id);
    await shop.control.steer(`disputes/${dispute}/end`, { outcome: 'refunded' });
    await shop.settleDown();
    assert.equal(await customer.balance(), usd('0'));
    assert.equal((await customer.postings('top_up_reversal')).length, 1);
    assert.equal((await customer.postings('top_up_reversal_undone')).length, 0);
  });

  it('a chargeback after a partial refund takes back the rest', async () => {
    const paid = await shop.paidOrder(customer);
    await shop.control.steer(`transactions/${await shop.transactionOf(paid.id)}/refund`, { amount: 400 });
    await until('a part to be taken back', async () => (await customer.balance()) < usd('7'));
    await disputed(paid.id);
    assert.equal((await customer.postings('top_up_reversal')).length, 2);
  });

  /** Disputes an order's payment, which takes all of its credit back; the dispute's id. */
  async function disputed(topUpId: string): Promise<string> {
    const transaction = await shop.transactionOf(topUpId);
    const { id } = await shop.control.steer<{ id: string }>(`transactions/${transaction}/dispute`);
    await customer.untilBalance('0');
    return id;
  }
});
