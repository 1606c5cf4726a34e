/**
 * Manual credit end to end: by the interface and from Temporal, with a second person where one is needed, also on an
 * order that has ended; reversed like any other credit. And the orders of events in which a payment must win over an
 * expiry.
 */
import assert from 'node:assert/strict';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { usd } from '../../domain/money.ts';
import { parseId } from '../../domain/ids.ts';
import { requestManualCreditUpdate, topUpStatusQuery, topUpWorkflowId } from '../../contract/index.ts';
import { startCardStack, stripeEvent, type CardStack } from '../support/card-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer, Staff, TopUpView } from '../support/people.ts';
import { currentDetailsOf } from '../support/workflow-environment.ts';
import { until } from '../support/until.ts';
import { ADA } from '../support/staff.ts';

interface ManualCreditView {
  readonly id: string;
  readonly state: string;
  readonly known_to_provider: boolean;
  readonly requested_by: string;
  readonly decided_by: string | null;
  readonly payment_id: string;
  readonly shown: { readonly amount: string; readonly currency: string } | null;
  readonly error?: { readonly code: string; readonly param: string | null; readonly message: string };
}

interface PaymentView {
  readonly payment_id: string;
  readonly status: string;
  readonly amount: string;
  readonly currency: string;
  readonly received_usd: string | null;
  readonly other_ids: readonly string[];
  readonly credited_usd: string | null;
}

describe('manual credit', function () {
  this.timeout(60_000);
  let cards: CardStack;
  let customer: Customer;
  let ada: Staff;
  let bob: Staff;

  before(async () => {
    cards = await startCardStack({ name: 'hand-credit' });
    ada = await cards.people.staff('ada');
    bob = await cards.people.staff('bob', 'finance');
  });
  after(() => cards.stop());
  beforeEach(async () => {
    customer = await cards.people.customer();
  });
  afterEach('no rule is broken', async () => {
    cards.heal();
    assert.deepEqual(await brokenRules(cards.stack.admin), []);
  });

  const run = (topUpId: string) => cards.temporal.workflow.getHandle(topUpWorkflowId(topUpId));

  const credit = (by: Staff, topUpId: string, body: object) =>
    by.call<ManualCreditView>('POST', `/admin/top-ups/${topUpId}/credit`, { reason: 'bank letter', ...body });

  const decide = (by: Staff, id: string, what: 'approve' | 'reject') =>
    by.call<ManualCreditView>('POST', `/admin/hand-credits/${id}/${what}`, {});

  /** An order of 10 (asked: 10.50) that was paid with 7. */
  async function quarantined(): Promise<{ topUpId: string; paymentId: string }> {
    const order = await customer.order('card');
    await cards.pay(order.id, { amount_total: 700 });
    await customer.untilState(order.id, 'quarantined');
    return { topUpId: order.id, paymentId: await cards.paymentIntentOf(order.id) };
  }

  it('S6: credits a quarantined payment at once by the automatic credit’s own key, and everybody can read who and why', async () => {
    const { topUpId, paymentId } = await quarantined();
    const { status, body } = await credit(ada, topUpId, { payment_id: paymentId, amount_usd: '7' });
    assert.deepEqual([status, body.state], [201, 'posted'], JSON.stringify(body));
    await customer.untilBalance('7');
    assert.equal((await customer.untilState(topUpId, 'credited')).credited_usd, '7.000000000000');
    await run(topUpId).result();
    const { steps } = await run(topUpId).query(topUpStatusQuery);
    assert.match(
      steps.map(({ what }) => what).join('; '),
      /manual credit of 7\.0* USD for pi_.*requested by ada.*credited/,
    );
    assert.match(await currentDetailsOf(run(topUpId)), /Credited 7\.0* USD\. manual credit of 7/i);
    const { body: shown } = await bob.call<{ hand_credits: ManualCreditView[] }>('GET', `/admin/top-ups/${topUpId}`);
    assert.deepEqual(
      shown.hand_credits.map(({ id, state }) => [id, state]),
      [[body.id, 'posted']],
    );
    assert.match(shown.hand_credits[0]!.requested_by, /^ada/);
    const again = await credit(bob, topUpId, { payment_id: paymentId, amount_usd: '7' });
    assert.equal(again.status, 409);
    assert.equal(await customer.balance(), usd('7'));
  });

  it('above what was received needs a second person; it is listed, and who asked may only reject', async () => {
    const { topUpId, paymentId } = await quarantined();
    const asked = await credit(ada, topUpId, { payment_id: paymentId, amount_usd: '10' });
    assert.deepEqual([asked.status, asked.body.state], [202, 'waiting']);
    const { body: list } = await bob.call<{ data: { kind: string; id: string; top_up_id?: string }[] }>(
      'GET',
      '/admin/approvals',
    );
    const waiting = list.data.find(({ id }) => id === asked.body.id);
    assert.deepEqual([waiting?.kind, waiting?.top_up_id], ['hand_credit', topUpId]);
    await until('the run to say so', async () =>
      /waits for a second person/.test(await currentDetailsOf(run(topUpId))),
    );
    assert.equal((await decide(ada, asked.body.id, 'approve')).status, 403);
    assert.equal(await customer.balance(), usd('0'));
    const approved = await Promise.all([decide(bob, asked.body.id, 'approve'), decide(bob, asked.body.id, 'approve')]);
    assert.deepEqual(
      approved.map(({ status, body }) => [status, body.state]),
      [
        [200, 'posted'],
        [200, 'posted'],
      ],
    );
    await customer.untilBalance('10');
    await run(topUpId).result();
    assert.match(await currentDetailsOf(run(topUpId)), /approved by bob/);
    assert.equal((await decide(ada, asked.body.id, 'reject')).status, 409);
  });

  it('works on an order that has ended, for money that the provider does not know', async () => {
    const order = await customer.order('card');
    await cards.control.steer(`sessions/${await cards.sessionOf(order.id)}/expire`);
    await customer.untilState(order.id, 'expired');
    await run(order.id).result();
    const wire = { payment_id: 'outside/Wire 2026-11-24/17', amount_usd: '10' };
    const asked = await credit(ada, order.id, wire);
    assert.deepEqual([asked.body.state, asked.body.known_to_provider], ['waiting', false], 'nothing was seen to come');
    assert.deepEqual([asked.body.payment_id, asked.body.shown], ['outside/wire-2026-11-24-17', null]);
    const { topUpId: another } = await quarantined();
    const again = await credit(bob, another, { ...wire, payment_id: 'outside/WIRE 2026 11 24 - 17' });
    assert.deepEqual(
      [again.status, again.body.error?.code],
      [409, 'conflict'],
      'one wire is one credit, on whichever order',
    );
    assert.equal((await decide(bob, asked.body.id, 'approve')).status, 200);
    await customer.untilBalance('10');
    await until('a run to show it', async () => /approved by bob/.test(await currentDetailsOf(run(order.id))));
  });

  it('of a payment that the provider does not show is refused with what to choose', async () => {
    const { topUpId, paymentId } = await quarantined();
    for (const text of ['pi_3OfNobody', 'wire 2026-11-24/17', `0x${'5e'.repeat(32)}`, 'in_1NInvoice', topUpId]) {
      const { status, body } = await credit(ada, topUpId, { payment_id: text, amount_usd: '7' });
      assert.deepEqual([status, body.error?.param], [422, 'payment_id'], text);
      assert.match(body.error?.message ?? '', new RegExp(`choose one of ${paymentId}.*outside/<reference>`), text);
    }
    assert.equal(await customer.balance(), usd('0'));
  });

  it('by any other id of a payment is the credit of that payment: 200 are credited once, not 400', async () => {
    const { topUpId, paymentId } = await quarantined();
    const { latest_charge: charge } = await cards.stripe.paymentIntents.retrieve(paymentId);
    const session = await cards.sessionOf(topUpId);
    const { data: events } = await cards.stripe.events.list({ type: 'charge.succeeded', limit: 1 });
    // An event's id means its payment once the event has come, which may be after the page has shown the payment.
    await until('the event to have come', () =>
      cards.twin.deliveries().some(({ id, state }) => id === events[0]!.id && state === 'delivered'),
    );
    const { body: shown } = await ada.call<{ payments: PaymentView[] }>('GET', `/admin/top-ups/${topUpId}`);
    const [payment, ...others] = shown.payments;
    assert.deepEqual(others, []);
    assert.deepEqual(
      [payment?.payment_id, payment?.status, payment?.received_usd, payment?.credited_usd],
      [paymentId, 'paid', '7.000000000000', null],
    );
    assert.ok(payment?.other_ids.includes((charge as string).toLowerCase()));
    const forms = [
      charge as string,
      session,
      events[0]!.id,
      paymentId.toUpperCase(),
      `${paymentId}_secret_abc123`,
      `https://dashboard.stripe.com/test/payments/${paymentId}`,
      `https://checkout.stripe.com/c/pay/${session}#fidkdWxOYHwnPyd1`,
    ];
    const [first, ...rest] = await Promise.all(
      forms.map((text) => credit(ada, topUpId, { payment_id: text, amount_usd: '7' })),
    ).then((answers) => answers.sort((a, b) => a.status - b.status));
    assert.deepEqual([first?.status, first?.body.payment_id], [201, paymentId], JSON.stringify(first?.body));
    for (const { status, body } of rest) assert.deepEqual([status, body.error?.code], [409, 'conflict']);
    await customer.untilBalance('7');
    await cards.settleDown();
    assert.equal(await customer.balance(), usd('7'));
  });

  it('of another order’s payment is refused with that order', async () => {
    const { topUpId } = await quarantined();
    const other = await quarantined();
    const { latest_charge: charge } = await cards.stripe.paymentIntents.retrieve(other.paymentId);
    for (const text of [other.paymentId, charge as string, await cards.sessionOf(other.topUpId)]) {
      const { status, body } = await credit(ada, topUpId, { payment_id: text, amount_usd: '7' });
      assert.deepEqual([status, body.error?.param], [409, 'payment_id']);
      assert.match(body.error?.message ?? '', new RegExp(`the order ${other.topUpId}, not of this one`));
    }
  });

  it('before the automatic one, by the charge: a payment without any event is credited once', async () => {
    const order = await customer.order('card');
    cards.twin.configureWebhooks({ url: null });
    await run(order.id).terminate('it sees nothing for a while');
    await cards.pay(order.id);
    const paymentId = await cards.paymentIntentOf(order.id);
    const { latest_charge: charge } = await cards.stripe.paymentIntents.retrieve(paymentId);
    const early = await credit(ada, order.id, { payment_id: charge as string, amount_usd: '10' });
    assert.ok([422, 201, 409].includes(early.status), JSON.stringify(early.body));
    await customer.untilState(order.id, 'credited');
    const late = await credit(ada, order.id, { payment_id: charge as string, amount_usd: '10' });
    assert.equal(late.status, 409);
    await cards.settleDown();
    assert.equal(await customer.balance(), usd('10'));
  });

  for (const [currency, minor, amount] of [
    ['jpy', 1500, '1500'],
    ['eur', 1500, '15.00'],
    ['kwd', 15_000, '15.000'],
  ] as const) {
    it(`of ${amount} ${currency}: a second person, who reads the sum in its own currency, though both say 15`, async () => {
      const order = await customer.order('card');
      await cards.pay(order.id, { amount_total: minor, currency });
      await customer.untilState(order.id, 'quarantined');
      const paymentId = await cards.paymentIntentOf(order.id);
      await until('the run to say what came', async () =>
        new RegExp(`received 0\\.0* USD and ${amount} ${currency.toUpperCase()}`).test(
          await currentDetailsOf(run(order.id)),
        ),
      );
      const asked = await credit(ada, order.id, { payment_id: paymentId, amount_usd: '0.01' });
      assert.deepEqual([asked.status, asked.body.state, asked.body.known_to_provider], [202, 'waiting', false]);
      assert.deepEqual(asked.body.shown, { amount, currency });
      const { body: list } = await bob.call<{ data: { id: string; shown?: object }[] }>('GET', '/admin/approvals');
      assert.deepEqual(list.data.find(({ id }) => id === asked.body.id)?.shown, { amount, currency });
      assert.equal(await customer.balance(), usd('0'));
      assert.equal((await decide(bob, asked.body.id, 'approve')).status, 200);
      await customer.untilBalance('0.01');
      // Half of it back is half of the credit, whatever it is worth.
      await cards.stripe.refunds.create({ payment_intent: paymentId, amount: minor / 2 });
      await customer.untilBalance('0.005');
    });
  }

  it('is taken back like any other credit, pro rata of what the provider says was paid', async () => {
    const { topUpId, paymentId } = await quarantined();
    await credit(ada, topUpId, { payment_id: paymentId, amount_usd: '6' });
    await cards.stripe.refunds.create({ payment_intent: paymentId, amount: 350 });
    await customer.untilBalance('3');
    await cards.stripe.refunds.create({ payment_intent: paymentId });
    await customer.untilBalance('0');
  });

  it('from Temporal: validated there, once per payment, without a requester under any signature, and needs two persons', async () => {
    const { topUpId, paymentId } = await quarantined();
    const sound = { by: ADA, paymentId, amountUsd: '7', reason: 'bank letter' };
    const ask = (change: object = {}) =>
      run(topUpId).executeUpdate(requestManualCreditUpdate, { args: [{ ...sound, ...change }] });
    for (const [change, fault] of [
      [{ paymentId: '' }, /^paymentId:/],
      [{ amountUsd: '-1' }, /^amountUsd:/],
      [{ amountUsd: '0' }, /^amountUsd:/],
      [{ amountUsd: 'ten' }, /^amountUsd:/],
      [{ reason: 'x' }, /^reason:/],
    ] as const) {
      await assert.rejects(
        ask(change),
        (error) => error instanceof WorkflowUpdateFailedError && fault.test(error.cause?.message ?? ''),
      );
    }
    await assert.rejects(
      ask({ paymentId: 'ch_3OfNobody' }),
      (error) =>
        error instanceof WorkflowUpdateFailedError &&
        new RegExp(`paymentId: .*choose one of ${paymentId}`).test(error.cause?.message ?? ''),
    );
    const { latest_charge: charge } = await cards.stripe.paymentIntents.retrieve(paymentId);
    const waiting = await ask({ paymentId: charge });
    assert.deepEqual([waiting.state, waiting.requestedBy, waiting.paymentId], ['waiting', null, paymentId]);
    await assert.rejects(
      ask(),
      (error) => error instanceof WorkflowUpdateFailedError && /credit_waits/.test(error.cause?.message ?? ''),
    );
    assert.equal((await decide(ada, waiting.id, 'reject')).status, 200);
    const again = await ask({ by: 'bob' });
    const first = await decide(ada, again.id, 'approve');
    assert.deepEqual([first.status, first.body.state], [202, 'waiting']);
    assert.equal((await decide(ada, again.id, 'approve')).status, 403, 'once each');
    assert.equal(await customer.balance(), usd('0'));
    assert.equal((await decide(bob, again.id, 'approve')).status, 200);
    await customer.untilBalance('7');
    await run(topUpId).result();
  });

  it('is refused by name, and to who may not', async () => {
    const { topUpId, paymentId } = await quarantined();
    for (const [body, param] of [
      [{ payment_id: paymentId, amount_usd: '0' }, 'amount_usd'],
      [{ payment_id: paymentId, amount_usd: '-1' }, 'amount_usd'],
      [{ payment_id: '', amount_usd: '1' }, 'payment_id'],
      [{ payment_id: paymentId, amount_usd: '1', reason: 'x' }, 'reason'],
    ] as const) {
      const answer = await credit(ada, topUpId, body);
      assert.deepEqual([answer.status, answer.body.error?.param], [422, param]);
    }
    const support = await cards.people.staff('sue', 'support');
    assert.equal((await credit(support, topUpId, { payment_id: paymentId, amount_usd: '1' })).status, 403);
    const nobody = `top_${'0'.repeat(32)}`;
    assert.equal((await credit(ada, nobody, { payment_id: paymentId, amount_usd: '1' })).status, 404);
  });

  describe('S13: a payment wins over an expiry', () => {
    const expired = async (order: TopUpView): Promise<void> => {
      const session = await cards.stripe.checkout.sessions.retrieve(await cards.sessionOf(order.id));
      const { id, client_reference_id } = session;
      const object = { object: 'checkout.session', id, client_reference_id, status: 'expired' };
      assert.equal(await cards.deliver(stripeEvent('checkout.session.expired', object).text), 200);
    };

    it('whose event comes first', async () => {
      const order = await cards.paidOrder(customer);
      await expired(order);
      await cards.untilEventsAreHandled();
      await customer.untilState(order.id, 'credited');
      assert.equal(await customer.balance(), usd('10'));
    });

    it('whose event comes last', async () => {
      const order = await customer.order('card');
      cards.twin.configureWebhooks({ url: null });
      await cards.pay(order.id);
      await expired(order);
      await customer.untilState(order.id, 'credited');
      await cards.untilEventsAreHandled();
      assert.equal(await customer.balance(), usd('10'));
    });

    it('that we have taken for final before', async () => {
      const order = await customer.order('card');
      // What a look between the end of the session and a payment under way has seen.
      await cards.stack.admin.query("update top_up set state = 'expired' where id = $1", [parseId('topUp', order.id)]);
      await run(order.id).terminate('its end was seen');
      await cards.pay(order.id);
      await customer.untilState(order.id, 'credited');
      await cards.untilEventsAreHandled();
      assert.equal(await customer.balance(), usd('10'));
    });
  });
});
