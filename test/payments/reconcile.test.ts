/**
 * Reconciliation end to end: payments that nobody told us of, credits without a payment, breaches of the ledger's own
 * rules. Each becomes a case with its evidence; what looking once more closes is closed, the rest waits for a person.
 */
import assert from 'node:assert/strict';
import { usd } from '../../domain/money.ts';
import { RECONCILE_SCHEDULE_ID, WORKFLOW_TYPES, type ReconcileResult } from '../../contract/index.ts';
import { startCardStack, type CardStack } from '../support/card-stack.ts';
import type { Customer, Staff, TopUpView } from '../support/people.ts';
import { until } from '../support/until.ts';

const STACK_START_MS = 60_000;

interface CaseView {
  readonly kind: string;
  readonly subject: string;
  readonly evidence: Readonly<Record<string, unknown>>;
  readonly closed_by: string | null;
}

describe('reconciliation', () => {
  let cards: CardStack;
  let operator: Staff;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    cards = await startCardStack({
      name: 'reconcile',
      env: {
        // Neither polls nor sweeps may find what only reconciliation is to find here.
        TOP_UP_POLL_SECONDS: '3600',
        TOP_UP_POLL_MAX_SECONDS: '3600',
        EVENT_AGE_SECONDS: '3600',
        RECONCILE_GRACE_SECONDS: '0.001',
        RECONCILE_FIX_MAX_USD: '50',
        RECONCILE_LOOK_SECONDS: '1',
      },
    });
    cards.twin.configureWebhooks({ url: null });
    operator = await cards.people.staff('ops');
  });
  after(() => cards.stop());
  beforeEach(async () => {
    customer = await cards.people.customer();
  });

  /** An order that is paid after its run has looked for the first time, so that nobody has noticed. */
  async function unnoticedOrder(amountUsd: string): Promise<TopUpView> {
    const made = await customer.order('card', { amount_usd: amountUsd });
    await operator.recheck(made.id);
    await cards.pay(made.id);
    return made;
  }

  async function paidOrder(amountUsd: string): Promise<TopUpView> {
    const made = await unnoticedOrder(amountUsd);
    await operator.recheck(made.id);
    return customer.untilState(made.id, 'credited');
  }

  /** Runs the schedule once, as an operator would from the Temporal UI, and waits for its end. */
  async function reconcileNow(): Promise<ReconcileResult> {
    const before = new Set(await runs());
    await cards.temporal.schedule.getHandle(RECONCILE_SCHEDULE_ID).trigger();
    const runId = await until('a run of reconciliation', async () => (await runs()).find((id) => !before.has(id)));
    const { workflow } = cards.temporal;
    for await (const { workflowId } of workflow.list({ query: `RunId = '${runId}'` })) {
      return workflow.getHandle(workflowId, runId).result() as Promise<ReconcileResult>;
    }
    throw new Error(`run ${runId} is gone`);
  }

  async function runs(): Promise<string[]> {
    const found: string[] = [];
    const query = `WorkflowType = '${WORKFLOW_TYPES.reconcile}'`;
    for await (const { runId } of cards.temporal.workflow.list({ query })) found.push(runId);
    return found;
  }

  const comparison = (result: ReconcileResult) => result.providers.find(({ provider }) => provider === 'stripe')!;

  async function casesAbout(subject: string): Promise<CaseView[]> {
    const { body } = await operator.call<{ data: CaseView[] }>('GET', '/admin/cases?limit=200');
    return body.data.filter((found) => found.subject === subject);
  }

  it('finds a payment that no event reported, has its order look again, and closes the case', async function () {
    this.timeout(60_000);
    const made = await unnoticedOrder('10');
    const result = await reconcileNow();
    assert.deepEqual([comparison(result).gaps, comparison(result).fixed], [1, 1]);
    assert.equal(await customer.balance(), usd('10'));
    const [found] = await casesAbout(await cards.paymentIntentOf(made.id));
    assert.equal(found?.kind, 'reconcile/payment_not_credited');
    assert.equal(found.closed_by, 'reconcile');
    assert.equal(comparison(await reconcileNow()).gaps, 0);
  });

  it('finds a refund that no event reported and takes the credit back', async function () {
    this.timeout(60_000);
    const made = await paidOrder('10');
    await cards.stripe.refunds.create({ payment_intent: await cards.paymentIntentOf(made.id), amount: 525 });
    assert.equal(comparison(await reconcileNow()).fixed, 1);
    assert.equal(await customer.balance(), usd('5'));
  });

  it('waits while the provider is asked too often, and compares in the same run', async function () {
    this.timeout(60_000);
    const made = await paidOrder('10');
    await cards.stripe.refunds.create({ payment_intent: await cards.paymentIntentOf(made.id), amount: 525 });
    for (const path of ['/v1/payment_intents', '/v1/refunds', '/v1/checkout/sessions']) {
      cards.twin.faults.add({ on: 'api', match: { method: 'GET', path }, fault: { rate_limit: true }, count: 2 });
    }
    assert.equal(comparison(await reconcileNow()).fixed, 1);
    assert.deepEqual(cards.twin.faults.list(), []);
    assert.equal(await customer.balance(), usd('5'));
  });

  it('asks Stripe about no order that its statement and the ledger agree about', async function () {
    this.timeout(60_000);
    await paidOrder('10');
    await reconcileNow();
    const again = comparison(await reconcileNow());
    assert.deepEqual([again.gaps, again.asked, again.compared >= 1], [0, 0, true]);
  });

  it('leaves a gap above the limit to a person, and says by how much the account is off', async function () {
    this.timeout(60_000);
    const made = await unnoticedOrder('60');
    const result = await reconcileNow();
    assert.deepEqual([comparison(result).gaps, comparison(result).fixable], [1, []]);
    assert.equal(await customer.balance(), usd('0'));
    const [found] = await casesAbout(await cards.paymentIntentOf(made.id));
    assert.deepEqual([found?.closed_by, found?.evidence['off_by_usd']], [null, '60.000000000000']);
    await operator.recheck(made.id);
    await reconcileNow();
    assert.equal((await casesAbout(found!.subject))[0]?.closed_by, 'reconcile');
  });

  it('after a restore without the order: the payment is a case, and nothing is booked', async function () {
    this.timeout(60_000);
    const intent = await cards.stripe.paymentIntents.create({
      amount: 1050,
      currency: 'usd',
      confirm: true,
      payment_method: 'pm_card_visa',
      metadata: { topup_id: 'top_0190000000007000800000000000abcd' },
    });
    const { gaps, fixable } = comparison(await reconcileNow());
    assert.deepEqual([gaps >= 1, fixable], [true, []]);
    const [found] = await casesAbout(intent.id);
    assert.deepEqual(
      [found?.kind, found?.evidence['received_usd']],
      ['reconcile/payment_without_order', '10.500000000000'],
    );
  });

  it('makes a case of a broken rule and closes it once the rule holds again', async function () {
    this.timeout(60_000);
    await paidOrder('10');
    const change = 'update account set balance = balance + $2 where id = $1';
    await cards.stack.admin.query(change, [customer.uuid, '1']);
    const subject = `balance_equals_entries ${customer.uuid}`;
    assert.equal((await reconcileNow()).breaches, 1);
    assert.deepEqual(
      (await casesAbout(subject)).map(({ kind, closed_by }) => [kind, closed_by]),
      [['violation', null]],
    );
    await cards.stack.admin.query(change, [customer.uuid, '-1']);
    assert.equal((await reconcileNow()).breaches, 0);
    assert.equal((await casesAbout(subject))[0]?.closed_by, 'reconcile');
  });

  it('fails, naming the provider and why, when its statement cannot be read', async function () {
    this.timeout(90_000);
    cards.twin.faults.add({
      on: 'api',
      match: { path: '/v1/payment_intents' },
      fault: { fail_status: 500 },
      count: 100,
    });
    await assert.rejects(reconcileNow(), (error: Error) => {
      assert.match(String(error.cause), /not compared: stripe \(.+\)/);
      return true;
    });
    cards.twin.faults.clear();
  });
});
