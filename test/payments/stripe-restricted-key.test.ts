/**
 * Top-ups by card with a restricted key of Stripe that lacks permissions: what is not needed to know that a payment is
 * paid keeps no credit back; what is needed says on the order what is wrong, and all is made up for once the key may.
 */
import assert from 'node:assert/strict';
import { usd } from '../../domain/money.ts';
import { topUpStatusQuery, topUpWorkflowId } from '../../contract/index.ts';
import { startCardStack, type CardStack } from '../support/card-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer, Staff } from '../support/people.ts';
import { until } from '../support/until.ts';

const READ = ['checkout_session', 'payment_intent', 'charge', 'dispute', 'early_fraud_warning', 'payment_method'].map(
  (resource) => `rak_${resource}_read`,
);
/** All that docs/operations.md asks for. */
const ALL = [...READ, 'rak_checkout_session_write', 'rak_payment_intent_write', 'rak_customer_write'];

describe('top-ups with a restricted key', function () {
  this.timeout(90_000);
  let cards: CardStack;
  let customer: Customer;
  let operator: Staff;

  before(async () => {
    cards = await startCardStack({
      name: 'top-ups-restricted-key',
      env: { STRIPE_SECRET_KEY: 'rk_test_tests', SWEEP_INTERVAL_SECONDS: '1' },
    });
    operator = await cards.people.staff('ops');
  });
  after(() => cards.stop());
  beforeEach(async () => {
    customer = await cards.people.customer();
    await grant(ALL);
  });
  afterEach('no rule is broken', async () => {
    cards.heal();
    await grant(null);
    assert.deepEqual(await brokenRules(cards.stack.admin), []);
  });

  const grant = (granted: readonly string[] | null) => cards.control.steer('permissions', { granted });
  const without = (...names: string[]) => grant(ALL.filter((name) => !names.some((part) => name.includes(part))));
  const caseOf = async (subject: string): Promise<Record<string, unknown> | undefined> => {
    const { rows } = await cards.stack.admin.query<{ evidence: Record<string, unknown> }>(
      `select evidence from review_case where kind = 'provider_permission' and subject = $1 and closed_at is null`,
      [subject],
    );
    return rows[0]?.evidence;
  };

  it('that has what the documentation asks for, cards are kept, charged back and warned of', async () => {
    const made = await customer.order('card', { save_card: true });
    await cards.pay(made.id);
    await customer.untilState(made.id, 'credited');
    await cards.stripe.refunds.create({ payment_intent: await cards.paymentIntentOf(made.id) });
    await customer.untilBalance('0');
    const { rows } = await cards.stack.admin.query('select from saved_card where account_id = $1', [customer.uuid]);
    assert.equal(rows.length, 1);
    assert.equal(await operator.whyStuck(made.id), undefined);
  });

  for (const [missing, part] of [
    ['early_fraud_warning', 'early fraud warnings'],
    ['payment_intent_', 'payment'],
  ] as const) {
    it(`a payment is credited without ${missing}, which a case names`, async () => {
      const made = await customer.order('card');
      await without(missing);
      await cards.pay(made.id);
      const paid = await customer.untilState(made.id, 'credited');
      assert.equal(paid.credited_usd, '10.000000000000');
      const evidence = await until('a case', () => caseOf(`stripe ${part}`));
      assert.match(String(evidence['refusal']), /Having the 'rak_\w+_read' permission would allow/);
      assert.equal(evidence['needed_for_money'], false);
      assert.equal(await operator.whyStuck(made.id), undefined);
    });
  }

  it('a fraud warning is recorded by its event, without the permission to read it', async () => {
    const paid = await cards.paidOrder(customer);
    await without('early_fraud_warning');
    await cards.control.steer('early-fraud-warnings', { payment_intent: await cards.paymentIntentOf(paid.id) });
    await until('the warning to be recorded', async () => {
      const { rows } = await cards.stack.admin.query(
        'select from payment where account_id = $1 and warned_at is not null',
        [customer.uuid],
      );
      return rows.length === 1;
    });
  });

  for (const [missing, part, take] of [
    ['charge', 'refunds', (id: string) => cards.stripe.refunds.create({ payment_intent: id })],
    ['dispute', 'disputes', (id: string) => cards.control.steer('disputes', { payment_intent: id, withdraw: true })],
  ] as const) {
    it(`${part} that may not be read keep no credit back, say so on the order, and are taken back later`, async () => {
      const made = await customer.order('card');
      await without(missing);
      await cards.pay(made.id);
      await customer.untilState(made.id, 'credited');
      assert.equal(await customer.balance(), usd('10'));
      await until('the order to say so', async () => (await operator.whyStuck(made.id)) === 'permission_missing');
      assert.equal((await until('a case', () => caseOf(`stripe ${part}`)))['needed_for_money'], true);
      await take(await cards.paymentIntentOf(made.id));
      await cards.settleDown();
      assert.equal(await customer.balance(), usd('10'));
      await grant(ALL);
      await customer.untilBalance('0', 20_000);
      await until('the order to be well', async () => (await operator.whyStuck(made.id)) === undefined);
      await until('the case to be closed', async () => (await caseOf(`stripe ${part}`)) === undefined);
      assert.equal((await customer.postings('top_up_reversal')).length, 1);
      await cards.untilEventsAreHandled();
    });
  }

  it('checkouts that may not be read say so on the order and in its run; granted, the payment is credited', async () => {
    const made = await customer.order('card');
    await without('checkout_session');
    await cards.pay(made.id);
    await until('the order to say so', async () => (await operator.whyStuck(made.id)) === 'permission_missing');
    const run = cards.temporal.workflow.getHandle(topUpWorkflowId(made.id));
    const { snapshot, steps } = await run.query(topUpStatusQuery);
    assert.equal(snapshot?.stuck, 'permission_missing');
    assert.match(JSON.stringify(steps), /rak_checkout_session_read/);
    await grant(ALL);
    await customer.untilState(made.id, 'credited');
    assert.equal(await operator.whyStuck(made.id), undefined);
  });

  it('a checkout that may not be opened says so, and is there once the key may', async () => {
    await without('checkout_session');
    const { id } = await customer.order('card');
    await until('the order to say so', async () => (await operator.whyStuck(id)) === 'permission_missing');
    await grant(ALL);
    await customer.untilState(id, 'waiting');
    await until('the order to be well', async () => (await operator.whyStuck(id)) === undefined);
  });

  it('a key that is taken back says so on the order; with a good one the payment is credited', async () => {
    const { id } = await customer.order('card');
    const path = '/v1/checkout/sessions/';
    cards.twin.faults.add({ on: 'api', match: { method: 'GET', path }, count: null, fault: { fail_status: 401 } });
    await cards.pay(id);
    await until('the order to say so', async () => (await operator.whyStuck(id)) === 'key_refused');
    cards.twin.faults.clear();
    await customer.untilState(id, 'credited');
    assert.equal(await operator.whyStuck(id), undefined);
  });

  it('without customer objects the card is not saved, and the payment still works', async () => {
    await without('customer');
    const made = await customer.order('card', { save_card: true });
    await cards.pay(made.id);
    await customer.untilState(made.id, 'credited');
    const { rows } = await cards.stack.admin.query('select from saved_card where account_id = $1', [customer.uuid]);
    assert.equal(rows.length, 0);
  });

  it('a list that is away for a while keeps no credit back either, and is read once it is there', async () => {
    for (const path of ['/v1/radar/early_fraud_warnings', '/v1/refunds', '/v1/disputes']) {
      const other = await cards.people.customer();
      const made = await other.order('card');
      cards.twin.faults.add({ on: 'api', match: { path }, count: null, fault: { fail_status: 500 } });
      await cards.pay(made.id);
      await other.untilState(made.id, 'credited');
      assert.equal(await other.balance(), usd('10'), path);
      cards.twin.faults.clear();
      await cards.untilEventsAreHandled();
    }
  });
});
