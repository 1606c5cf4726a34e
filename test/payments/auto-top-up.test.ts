/**
 * Automatic top-ups end to end, before Stripe's twin: a saved card is charged once per reason, at most once per slot,
 * never above the cap, never after consent is gone; declines pause, faults do not; what a bank warns of is frozen.
 * Slots last seconds here instead of an hour.
 */
import assert from 'node:assert/strict';
import type Stripe from 'stripe';
import { formatUsd, usd } from '../../domain/money.ts';
import { autoTopUpWorkflowId, type AutoTopUpStatus } from '../../contract/index.ts';
import { startCardStack, type CardStack } from '../support/card-stack.ts';
import { post } from '../support/gateway-client.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer, TopUpView } from '../support/people.ts';
import { until } from '../support/until.ts';

const SLOT_SECONDS = 3;

interface AutoTopUpView {
  readonly state: string;
  readonly pause_reason: string | null;
  readonly frozen_for: readonly { readonly reason: string; readonly since: string | null }[];
  readonly spent_this_month_usd: string;
  readonly declines_in_a_row: number;
  readonly card: { readonly brand: string; readonly last4: string } | null;
  readonly consent: { readonly version: string; readonly text: string; readonly given_version: string | null };
  readonly last_attempt: { readonly top_up_id: string; readonly state: string; readonly failure: string | null } | null;
  readonly next_attempt_at: string | null;
}

describe('automatic top-ups by card', function () {
  this.timeout(60_000);
  let cards: CardStack;
  let customer: Customer;
  let key: string;

  before(async () => {
    cards = await startCardStack({
      name: 'auto-top-up',
      env: { AUTO_TOP_UP_SLOT_SECONDS: String(SLOT_SECONDS) },
    });
  });
  after(() => cards.stop());
  beforeEach(async () => {
    customer = await cards.people.customer();
    key = (await cards.stack.createKey(customer)).secret;
  });
  afterEach('no rule is broken', async () => {
    cards.heal();
    assert.deepEqual(await brokenRules(cards.stack.admin), []);
  });

  const view = async (): Promise<AutoTopUpView> => (await customer.call<AutoTopUpView>('GET', '/api/auto-top-up')).body;

  const put = (change: object = {}) =>
    customer.call<AutoTopUpView & { error: { param: string; message: string } }>('PUT', '/api/auto-top-up', {
      ...{ threshold_usd: '9.995', amount_usd: '10', monthly_cap_usd: '100', consent: true },
      ...change,
    });

  /** Ten dollars on the account, and the card kept that paid them; its id at Stripe. */
  async function withCard(card = 'ok'): Promise<string> {
    const order = await customer.order('card', { save_card: true });
    await cards.pay(order.id, { card });
    await customer.untilState(order.id, 'credited');
    await until('the card to be kept', async () => (await view()).card !== null);
    const { rows } = await cards.stack.admin.query<{ payment_method: string }>(
      'select payment_method from saved_card where account_id = $1 and removed_at is null',
      [customer.uuid],
    );
    return rows[0]!.payment_method;
  }

  async function ordered(change: object = {}): Promise<void> {
    const { status, body } = await put(change);
    assert.equal(status, 200, JSON.stringify(body));
  }

  /** A request that costs one cent. */
  async function spend(): Promise<number> {
    const request = { model: 'test/per-call', messages: [{ role: 'user', content: 'hi' }], max_tokens: 5 };
    const response = await post(cards.stack, key, request);
    await response.text();
    return response.status;
  }

  async function charges(): Promise<Stripe.PaymentIntent[]> {
    const { rows } = await cards.stack.admin.query<{ customer_id: string }>(
      'select customer_id from payment_customer where account_id = $1 order by n limit 1',
      [customer.uuid],
    );
    const { data } = await cards.stripe.paymentIntents.list({ customer: rows[0]!.customer_id, limit: 100 });
    // The first payment, which left the card, is of the checkout.
    return data.filter((intent) => intent.setup_future_usage === null);
  }

  const untilShown = (what: string, isSo: (now: AutoTopUpView) => boolean): Promise<AutoTopUpView> =>
    until(what, async () => {
      const now = await view();
      return isSo(now) && now;
    });

  const untilAttempt = (state: string): Promise<AutoTopUpView> =>
    untilShown(`an attempt to be ${state}`, ({ last_attempt }) => last_attempt?.state === state);

  const untilPaused = (reason: string): Promise<AutoTopUpView> =>
    untilShown(`a pause: ${reason}`, ({ state, pause_reason }) => state === 'paused' && pause_reason === reason);

  async function notices(): Promise<string[]> {
    const { rows } = await cards.stack.admin.query<{ kind: string }>(
      "select kind from notice where account_id = $1 and kind like 'auto%' order by id",
      [customer.uuid],
    );
    return rows.map(({ kind }) => kind);
  }

  async function autoTopUps(): Promise<TopUpView[]> {
    const { body } = await customer.call<{ data: TopUpView[] }>('GET', '/api/top-ups');
    return body.data.filter(({ method }) => method === 'auto');
  }

  /** Whatever would wrongly charge again has had its slot by then. */
  const nextSlot = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, (SLOT_SECONDS + 1) * 1000));

  it('keep a card, not its number, for one customer object per account', async () => {
    assert.deepEqual([(await view()).state, (await view()).card], ['off', null]);
    await withCard();
    const { card, consent } = await view();
    assert.deepEqual([card?.brand, card?.last4], ['visa', '4242']);
    assert.ok(consent.text.length > 0 && consent.given_version === null);
    await withCard('refund_pending');
    await untilShown('the newer card to replace the older one', ({ card: shown }) => shown?.last4 === '7726');
    const { rows } = await cards.stack.admin.query<{ n: string; dump: string }>(
      `select count(distinct customer_id) as n, string_agg((to_jsonb(s) - 'fingerprint')::text, ' ') as dump from saved_card s where account_id = $1`,
      [customer.uuid],
    );
    assert.equal(Number(rows[0]!.n), 1);
    assert.doesNotMatch(rows[0]!.dump, /4242424242424242|4000000000007726/);
  });

  it('are refused by name: no card, no consent, amounts outside the limits', async () => {
    assert.equal((await put()).status, 409);
    await withCard();
    for (const [change, param] of [
      [{ consent: false }, 'consent'],
      [{ amount_usd: '4.99' }, 'amount_usd'],
      [{ amount_usd: '1000.01' }, 'amount_usd'],
      [{ amount_usd: '10.001' }, 'amount_usd'],
      [{ threshold_usd: '0' }, 'threshold_usd'],
      [{ threshold_usd: '1000.01' }, 'threshold_usd'],
      [{ monthly_cap_usd: '9.99' }, 'monthly_cap_usd'],
      [{ monthly_cap_usd: '2000.01' }, 'monthly_cap_usd'],
      [{ monthly_cap_usd: 100 }, 'monthly_cap_usd'],
    ] as const) {
      const { status, body } = await put(change);
      assert.deepEqual([status, body.error.param], [422, param], JSON.stringify(body));
    }
    const wanted = { method: 'auto', amount_usd: '10' };
    const byOther = await customer.call<{ error: { param: string } }>('POST', '/api/top-ups', wanted);
    assert.deepEqual([byOther.status, byOther.body.error.param], [422, 'method']);
  });

  it('S16: many charges at once below the threshold are one attempt, credited once, and told', async () => {
    await withCard();
    await ordered();
    assert.deepEqual(await Promise.all(Array.from({ length: 10 }, spend)), Array<number>(10).fill(200));
    const now = await untilAttempt('succeeded');
    await customer.untilBalance('19.9');
    await nextSlot();
    const made = await charges();
    assert.deepEqual(
      made.map(({ status, amount }) => [status, amount]),
      [['succeeded', 1050]],
    );
    const [topUp, ...others] = await autoTopUps();
    assert.equal(others.length, 0);
    assert.deepEqual([topUp!.id, topUp!.state], [now.last_attempt!.top_up_id, 'credited']);
    assert.equal((await view()).spent_this_month_usd, '10.000000000000');
    const run = cards.temporal.workflow.getHandle(autoTopUpWorkflowId(customer.id));
    const { steps } = (await run.result()) as AutoTopUpStatus;
    assert.match(steps.map(({ what }) => what).join('; '), /beginning top_.*visa ····4242; succeeded/);
  });

  it('are charged at once when they are ordered below the threshold, and refunds take them back', async () => {
    await withCard();
    await ordered({ threshold_usd: '50' });
    await untilAttempt('succeeded');
    await customer.call('DELETE', '/api/auto-top-up');
    assert.equal((await view()).state, 'off');
    await customer.untilBalance('20');
    const [intent] = await charges();
    await cards.stripe.refunds.create({ payment_intent: intent!.id });
    await customer.untilBalance('10');
  });

  it('S16: authentication required pauses at once, with a notice, and leaves nothing open at Stripe', async () => {
    await withCard('authentication_required');
    await ordered();
    await spend();
    await untilPaused('authentication_required');
    assert.deepEqual(await notices(), ['auto_top_up_paused']);
    await spend();
    await nextSlot();
    const made = await charges();
    assert.deepEqual(
      made.map(({ status }) => status),
      ['canceled'],
    );
    assert.equal(await customer.balance(), usd('9.98'));
  });

  it('S16: a storm of charges on a declining card is one attempt per slot, three in all', async () => {
    const card = await withCard();
    await ordered();
    await cards.control.steer(`payment-methods/${card}`, { card: 'decline' });
    let isOver = false;
    const storm = (async () => {
      while (!isOver) await Promise.all(Array.from({ length: 3 }, spend));
    })();
    try {
      await untilPaused('card_declined');
    } finally {
      isOver = true;
      await storm;
    }
    const { rows } = await cards.stack.admin.query<{ slot: Date; failure: string }>(
      'select slot, failure from auto_top_up_attempt where account_id = $1 order by slot',
      [customer.uuid],
    );
    assert.deepEqual(
      rows.map(({ failure }) => failure),
      ['generic_decline', 'generic_decline', 'generic_decline'],
    );
    assert.equal((await charges()).length, 3);
    assert.deepEqual(await notices(), ['auto_top_up_failed', 'auto_top_up_failed', 'auto_top_up_paused']);
    await cards.control.steer(`payment-methods/${card}`, { card: 'ok' });
    await ordered();
    await untilAttempt('succeeded');
  });

  it('S16: the cap holds, and the wait for the next month is shown', async () => {
    await withCard();
    await ordered({ threshold_usd: '900', monthly_cap_usd: '25' });
    const now = await untilShown(
      'the cap',
      ({ next_attempt_at: at }) => at !== null && at.endsWith('-01T00:00:00.000Z'),
    );
    assert.equal(now.spent_this_month_usd, '20.000000000000');
    await spend();
    await nextSlot();
    assert.equal((await charges()).length, 2);
    assert.equal((await notices()).filter((kind) => kind === 'auto_top_up_cap_reached').length, 1);
  });

  it('a worker killed between charge and record: one charge, credited once', async function () {
    this.timeout(90_000);
    await withCard();
    await ordered();
    cards.twin.faults.add({
      on: 'api',
      match: { method: 'POST', path: '/v1/payment_intents' },
      fault: { hang_ms: 1000 },
    });
    await spend();
    await until('the charge to reach Stripe', () => cards.twin.faults.list().length === 0);
    const dying = cards.stack.worker;
    dying.signal('SIGKILL');
    await dying.exited;
    await until('the charge to be made', async () => (await charges()).length === 1);
    await cards.stack.startWorker();
    await customer.untilBalance('19.99');
    await untilAttempt('succeeded');
    assert.equal((await charges()).length, 1);
  });

  for (const [what, fault] of [
    ['an answer that is lost after the charge', { drop_response_after_commit: true }],
    ['an error of Stripe’s after the charge, which it repeats', { fail_status: 500, after_commit: true }],
    ['an error of Stripe’s without a charge, which it repeats', { fail_status: 503 }],
    ['a rate limit', { rate_limit: true }],
  ] as const) {
    it(`${what} is no decline: one charge`, async () => {
      await withCard();
      await ordered();
      cards.twin.faults.add({ on: 'api', match: { method: 'POST', path: '/v1/payment_intents' }, fault });
      await spend();
      const { declines_in_a_row } = await untilAttempt('succeeded');
      await customer.untilBalance('19.99');
      assert.equal(declines_in_a_row, 0);
      assert.equal((await charges()).filter(({ status }) => status === 'succeeded').length, 1);
    });
  }

  it('ended while Stripe is away: what was not charged is not charged any more', async () => {
    await withCard();
    await ordered();
    cards.twin.faults.add({
      on: 'api',
      match: { method: 'POST', path: '/v1/payment_intents' },
      count: null,
      fault: { rate_limit: true },
    });
    await spend();
    await untilAttempt('open');
    await customer.call('DELETE', '/api/auto-top-up');
    cards.heal();
    await untilAttempt('abandoned');
    await nextSlot();
    assert.deepEqual(await charges(), []);
    assert.equal(formatUsd(await customer.balance()), '9.990000000000');
  });

  it('whose run is lost are brought to their end by the sweep, also when nobody spends any more', async () => {
    await withCard();
    await ordered();
    cards.twin.faults.add({
      on: 'api',
      match: { method: 'POST', path: '/v1/payment_intents' },
      count: null,
      fault: { rate_limit: true },
    });
    await spend();
    await untilAttempt('open');
    await cards.temporal.workflow.getHandle(autoTopUpWorkflowId(customer.id)).terminate('lost');
    cards.heal();
    await untilAttempt('succeeded');
    assert.equal((await charges()).length, 1);
  });

  describe('a saved card that is gone', () => {
    it('by its event pauses them', async () => {
      const card = await withCard();
      await ordered();
      await cards.stripe.paymentMethods.detach(card);
      const { card: shown } = await untilPaused('card_removed');
      assert.equal(shown, null);
      assert.deepEqual(await notices(), ['auto_top_up_paused']);
    });

    it('with its customer object pauses them; the next card is kept for a new one', async () => {
      await withCard();
      await ordered();
      const { rows } = await cards.stack.admin.query<{ customer_id: string }>(
        'select customer_id from payment_customer where account_id = $1',
        [customer.uuid],
      );
      await cards.stripe.customers.del(rows[0]!.customer_id);
      await untilPaused('card_removed');
      await withCard();
      await ordered();
      assert.equal((await view()).state, 'active');
    });

    it('without any event is noticed when it is to be charged', async () => {
      const card = await withCard();
      await ordered();
      cards.twin.configureWebhooks({ url: null });
      await cards.stripe.paymentMethods.detach(card);
      await spend();
      const { last_attempt } = await untilPaused('card_removed');
      assert.equal(last_attempt?.failure, 'card_removed');
      assert.deepEqual(await charges(), []);
    });
  });

  describe('after a dispute or the refund of a whole payment', () => {
    /** The payment that left the card. */
    async function firstPayment(): Promise<string> {
      const { data } = (await customer.call<{ data: TopUpView[] }>('GET', '/api/top-ups')).body;
      return cards.paymentIntentOf(data.at(-1)!.id);
    }
    const disputed = async (change: object = { withdraw: true }): Promise<string> =>
      (await cards.control.steer<{ id: string }>('disputes', { payment_intent: await firstPayment(), ...change })).id;
    const untilFrozen = (): Promise<AutoTopUpView> => untilShown('frozen', ({ state }) => state === 'frozen');

    it('the balance is low and the card is not charged, 10 USD each slot, until a person frees it', async () => {
      await withCard();
      await ordered();
      await disputed();
      await customer.untilBalance('0');
      const { frozen_for, next_attempt_at } = await untilFrozen();
      assert.deepEqual([frozen_for.map(({ reason }) => reason), next_attempt_at], [['dispute'], null]);
      assert.ok((await notices()).includes('auto_top_up_frozen'));
      await nextSlot();
      assert.deepEqual(await charges(), []);
      assert.equal((await put()).status, 409, 'a new order does not unfreeze it');

      const operator = await cards.people.staff('ops');
      const path = `/admin/accounts/${customer.id}/auto-top-up/unfreeze`;
      const support = await cards.people.staff('sue', 'support');
      assert.equal((await support.call('POST', path, { reason: 'asked nicely' })).status, 403);
      assert.equal((await operator.call('POST', path, { reason: 'the holder called' })).status, 200);
      await untilAttempt('succeeded');
      const { body } = await operator.call<{ data: { action: string; details: { reason: string } }[] }>(
        'GET',
        `/admin/actions?subject=${customer.id}&action=auto_top_up.unfreeze`,
      );
      assert.deepEqual(
        body.data.map(({ details }) => details.reason),
        ['the holder called'],
      );
    });

    it('also of a payment that waits for a person and is no credit yet: the card is not charged again', async () => {
      await withCard();
      await ordered();
      const { id } = await customer.order('card');
      await cards.pay(id, { amount_total: 700 });
      await customer.untilState(id, 'quarantined');
      await cards.control.steer('disputes', { payment_intent: await cards.paymentIntentOf(id), withdraw: true });
      const { frozen_for } = await untilFrozen();
      assert.deepEqual(
        frozen_for.map(({ reason }) => reason),
        ['dispute'],
      );
      await spend();
      await nextSlot();
      assert.deepEqual(await charges(), []);
    });

    it('a won dispute unfreezes automatic top-up', async () => {
      await withCard();
      await ordered();
      const dispute = await disputed();
      await untilFrozen();
      await cards.control.steer(`disputes/${dispute}`, { status: 'won', reinstate: true });
      const { state, frozen_for } = await untilShown('free', (now) => now.state !== 'frozen');
      assert.deepEqual([state, frozen_for], ['active', []]);
      await customer.untilBalance('10');
    });

    it('one of two disputes that is won frees nothing', async () => {
      await withCard();
      await ordered();
      const first = await disputed();
      await untilFrozen();
      const other = await cards.paidOrder(customer);
      await cards.control.steer('disputes', { payment_intent: await cards.paymentIntentOf(other.id), withdraw: true });
      await untilShown('two causes', ({ frozen_for }) => frozen_for.length === 2);
      await cards.control.steer(`disputes/${first}`, { status: 'won', reinstate: true });
      const { state } = await untilShown('one cause', ({ frozen_for }) => frozen_for.length === 1);
      assert.equal(state, 'frozen');
    });

    it('a refund of the whole payment freezes it, one of a part does not', async () => {
      await withCard();
      await ordered();
      const paymentIntent = await firstPayment();
      await cards.stripe.refunds.create({ payment_intent: paymentIntent, amount: 1 });
      await until('the part to be taken back', async () => (await customer.balance()) < usd('10'));
      assert.notEqual((await view()).state, 'frozen');
      await cards.stripe.refunds.create({ payment_intent: paymentIntent });
      const { frozen_for } = await untilFrozen();
      assert.deepEqual(
        frozen_for.map(({ reason }) => reason),
        ['refund'],
      );
    });

    it('an inquiry, which takes nothing, freezes it as well', async () => {
      await withCard();
      await ordered();
      await disputed({ status: 'warning_needs_response' });
      const { frozen_for } = await untilFrozen();
      assert.equal(frozen_for[0]!.reason, 'dispute');
      assert.equal(await customer.balance(), usd('10'));
    });
  });

  describe('an early fraud warning', () => {
    it('freezes what is left and automatic top-ups until a person has looked, and holds the commission', async () => {
      await withCard('fraud_warning_later');
      await untilShown('frozen', ({ state }) => state === 'frozen');
      assert.equal(await spend(), 403);
      assert.equal((await put()).status, 409);
      const operator = await cards.people.staff('ops');
      const { body } = await operator.call<{ data: { kind: string; evidence: Record<string, string> }[] }>(
        'GET',
        '/admin/cases?state=open',
      );
      const found = body.data.find(
        ({ kind, evidence }) => kind === 'early_fraud_warning' && evidence['account'] === customer.id,
      );
      assert.equal(found?.evidence['left_usd'], '10.000000000000');
      const { rows } = await cards.stack.admin.query<{ warned: boolean }>(
        'select warned_at is not null as warned from payment where account_id = $1',
        [customer.uuid],
      );
      assert.deepEqual(rows, [{ warned: true }]);

      for (const path of ['unfreeze', 'auto-top-up/unfreeze']) {
        const reason = { reason: 'the card holder called' };
        const done = await operator.call('POST', `/admin/accounts/${customer.id}/${path}`, reason);
        assert.equal(done.status, 200, `${path}: ${JSON.stringify(done.body)}`);
      }
      const [topUp] = (await customer.call<{ data: TopUpView[] }>('GET', '/api/top-ups')).body.data;
      await operator.recheck(topUp!.id);
      assert.equal((await view()).state, 'off', 'a warning that was looked into freezes nothing again');
    });

    it('an inquiry takes nothing; the dispute that it becomes does', async () => {
      const paid = await cards.paidOrder(customer);
      const inquiry = await cards.control.steer<{ id: string }>('disputes', {
        payment_intent: await cards.paymentIntentOf(paid.id),
        status: 'warning_needs_response',
      });
      await until('the inquiry to be seen', async () => {
        const { rowCount } = await cards.stack.admin.query(
          `select from provider_event where payload -> 'data' -> 'object' ->> 'id' = $1 and handled_at is not null`,
          [inquiry.id],
        );
        return rowCount !== 0;
      });
      assert.equal(await customer.balance(), usd('10'));
      await cards.control.steer(`disputes/${inquiry.id}`, { status: 'needs_response' });
      await customer.untilBalance('0');
    });
  });
});
