/**
 * Top-ups by methods whose money comes days after the checkout: vouchers, convenience stores, bank transfers, debits.
 * Such an order is processing and asked about until Stripe says how it ends, with and without an event about it.
 */
import assert from 'node:assert/strict';
import { usd } from '../../domain/money.ts';
import { topUpStatusQuery, topUpWorkflowId } from '../../contract/index.ts';
import { startCardStack, type CardStack } from '../support/card-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer, Staff, TopUpView } from '../support/people.ts';
import { until } from '../support/until.ts';

describe('top-ups by delayed methods', function () {
  this.timeout(60_000);
  let cards: CardStack;
  let customer: Customer;
  let operator: Staff;

  before(async () => {
    cards = await startCardStack({ name: 'top-ups-stripe-delayed' });
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

  const paidBy = async (card: string): Promise<TopUpView> => {
    const made = await customer.order('card');
    await cards.pay(made.id, { card });
    return made;
  };

  for (const card of ['voucher', 'convenience_store', 'bank_transfer', 'async_success']) {
    it(`a ${card} is processing until it is paid, and credited then though no event comes`, async () => {
      const made = await paidBy(card);
      await customer.untilState(made.id, 'processing');
      assert.equal(await customer.balance(), usd('0'));
      cards.twin.configureWebhooks({ url: null });
      await cards.settleDown();
      assert.equal((await customer.view(made.id)).state, 'processing', 'looks in between change nothing');
      await cards.control.steer(`async/${await cards.sessionOf(made.id)}`, { succeed: true });
      await customer.untilState(made.id, 'credited');
      assert.equal(await customer.balance(), usd('10'));
      assert.equal((await customer.postings('top_up')).length, 1);
    });

    it(`a ${card} that nobody pays fails, though no event comes`, async () => {
      const made = await paidBy(card);
      await customer.untilState(made.id, 'processing');
      cards.twin.configureWebhooks({ url: null });
      await cards.control.steer(`async/${await cards.sessionOf(made.id)}`, { succeed: false });
      await customer.untilState(made.id, 'failed');
      assert.equal(await customer.balance(), usd('0'));
    });
  }

  it('a run says what the customer still has to do', async () => {
    const made = await paidBy('voucher');
    await customer.untilState(made.id, 'processing');
    const run = cards.temporal.workflow.getHandle(topUpWorkflowId(made.id));
    await until('the run to say it', async () => {
      const { snapshot } = await run.query(topUpStatusQuery);
      return snapshot?.stuck === null && /still has to pay \(oxxo display details\)/.test(snapshot.waitsFor ?? '');
    });
  });

  it('any status that is no end is waited for, those that no version of the API has had yet included', async () => {
    const made = await paidBy('async_success');
    await customer.untilState(made.id, 'processing');
    const intent = await cards.paymentIntentOf(made.id);
    for (const status of ['requires_capture', 'requires_confirmation', 'succeeded', 'on_its_way_by_pigeon']) {
      await cards.control.steer(`payment-intents/${intent}`, { status });
      assert.equal((await operator.recheck(made.id)).state, 'processing', status);
    }
    await cards.control.steer(`payment-intents/${intent}`, { status: 'canceled' });
    await customer.untilState(made.id, 'failed');
  });

  it('an abandoned order cannot be paid any more', async () => {
    const made = await paidBy('voucher');
    await customer.untilState(made.id, 'processing');
    const answer = await operator.call<TopUpView>('POST', `/admin/top-ups/${made.id}/abandon`, { reason: 'by phone' });
    assert.deepEqual([answer.status, answer.body.state], [200, 'abandoned']);
    const intent = await cards.stripe.paymentIntents.retrieve(await cards.paymentIntentOf(made.id));
    assert.equal(intent.status, 'canceled');
  });
});
