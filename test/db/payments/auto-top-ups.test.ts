/**
 * Automatic top-ups and manual credits in SQL: one attempt per account and slot, never more than the cap, one credit
 * per payment for any requester and order, and what a fraud warning freezes.
 */
import assert from 'node:assert/strict';
import { pino } from 'pino';
import type { Client } from '@temporalio/client';
import { createAutoTopUpActivities, type AutoTopUpActivities } from '../../../activities/payments/auto-top-up.ts';
import {
  autoTopUpIsWanted,
  autoTopUpOf,
  endAutoTopUp,
  findQuietAutoTopUps,
  savePaymentCustomer,
  paymentCustomerOf,
  removeCards,
  saveCard,
  setAutoTopUp,
  unfreezeAutoTopUp,
  warnPayment,
  type AutoTopUp,
} from '../../../db/payments/auto-top-ups.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import {
  decideManualCredit,
  manualCreditsOf,
  requestManualCredit,
  type ManualCredit,
} from '../../../db/payments/manual-credits.ts';
import { finishRequests, placeHold } from '../../../db/requests/requests.ts';
import { accountsToFollowUp, settleRequests } from '../../../db/requests/settlement.ts';
import { notePayments } from '../../../db/payments/known-payments.ts';
import { creditPayment, noteDisputes, paymentsOf, reversePayment } from '../../../db/payments/payments.ts';
import { createTopUp, moveTopUp, topUpById, type TopUp } from '../../../db/payments/top-ups.ts';
import { CONSENT } from '../../../domain/payments/auto-top-up.ts';
import { formatId, parseId, uuidOf, type AccountUuid } from '../../../domain/ids.ts';
import { usd, ZERO_USD, type PicoUsd } from '../../../domain/money.ts';
import type { PaymentFacts } from '../../../domain/payments/top-up.ts';
import type { PaymentSettings } from '../../../providers/payment-settings.ts';
import type { AutoTopUpStep } from '../../../contract/index.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  credit as move,
  endOf,
  holdOf,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { ADA, BOB, EVE, upTo } from '../../support/staff.ts';

const CALLERS = 16;
const HOUR_MS = 3_600_000;
const NOON = Date.parse('2026-11-24T12:00:00Z');

describe('automatic top-ups', () => {
  let ledger: LedgerDatabase;
  let activities: AutoTopUpActivities;
  let accountId: AccountUuid;
  let cards = 0;

  before(async () => {
    ledger = await createLedgerDatabase('auto-top-ups', 8);
    activities = createAutoTopUpActivities({
      pool: ledger.worker,
      logger: pino({ level: 'silent' }),
      rails: [],
      payments: {
        stripe: { autoTopUp: { slotSeconds: 3600, monthlyMax: usd('2000') } },
        methods: [
          {
            method: 'card',
            provider: 'stripe',
            fee: { ppm: 50_000, fixed: ZERO_USD },
            currencies: ['usd'],
            live: false,
          },
        ],
      } as unknown as PaymentSettings,
      processes: { client: {} as Client, taskQueue: 'none' },
    });
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '1');
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  async function keepCard(): Promise<string> {
    const paymentMethod = `pm_${++cards}`;
    await saveCard(ledger.worker, {
      ...{ accountId, provider: 'stripe', paymentMethod, customerId: `cus_${accountId}`, brand: 'visa', last4: '4242' },
      ...{ expMonth: 12, expYear: 2034, fingerprint: 'print' },
    });
    return paymentMethod;
  }

  const order = (change: { threshold?: string; amount?: string; cap?: string } = {}): Promise<void> =>
    setAutoTopUp(ledger.management, {
      accountId,
      threshold: usd(change.threshold ?? '5'),
      amount: usd(change.amount ?? '10'),
      monthlyCap: usd(change.cap ?? '100'),
      consentVersion: CONSENT.version,
      givenBy: 'me',
    });

  const now = async (): Promise<AutoTopUp> => (await autoTopUpOf(ledger.management, accountId, new Date(NOON)))!;

  const begin = (atMs: number): Promise<AutoTopUpStep> =>
    activities.beginAutoTopUp({ accountId: formatId('account', accountId), at: new Date(atMs).toISOString() });

  async function begunAt(atMs: number): Promise<TopUp> {
    const step = await begin(atMs);
    assert.equal(step.kind, 'charge', JSON.stringify(step));
    return (await topUpById(ledger.worker, parseId('topUp', (step as { topUpId: string }).topUpId)!))!;
  }

  async function paid(topUp: TopUp): Promise<void> {
    await creditPayment(ledger.worker, {
      topUpId: topUp.id,
      paymentId: `pi_${topUp.id}`,
      received: usd('10.50'),
      credit: topUp.amount,
      isFinal: true,
      creditedBy: 'provider',
    });
    await finish(topUp);
  }

  /** As the activity ends it, without asking a provider: the order is never made there. */
  async function declined(topUp: TopUp): Promise<void> {
    await moveTopUp(ledger.worker, { id: topUp.id, from: 'created', to: 'failed', stuck: null, received: ZERO_USD });
    await ledger.admin.query(
      `select finish_auto_top_up_attempt($1, 'failed', 'generic_decline', (select strikes + 1 from auto_top_up where account_id = $2),
        case when (select strikes + 1 from auto_top_up where account_id = $2) >= 3 then 'card_declined' end)`,
      [topUp.id, accountId],
    );
  }

  async function finish(topUp: TopUp): Promise<void> {
    await ledger.admin.query(`select finish_auto_top_up_attempt($1, 'succeeded', null, 0, null)`, [topUp.id]);
  }

  async function notices(): Promise<string[]> {
    const { rows } = await ledger.admin.query<{ kind: string }>(
      'select kind from notice where account_id = $1 order by id',
      [accountId],
    );
    return rows.map(({ kind }) => kind);
  }

  const refusedWith = (code: string) => (error: unknown) => ledgerRefusal(error)?.code === code;

  it('automatic top-ups need a saved card', async () => {
    await assert.rejects(order(), refusedWith('no_saved_card'));
    await keepCard();
    await order();
    const rule = await now();
    assert.deepEqual([rule.state, rule.consent?.version, rule.card?.last4], ['active', CONSENT.version, '4242']);
  });

  it('an account has one customer object, and never a deleted one', async () => {
    const first = { accountId, provider: 'stripe', n: 1 };
    const kept = await Promise.all(
      Array.from({ length: CALLERS }, (_, n) =>
        savePaymentCustomer(ledger.worker, { ...first, customerId: `cus_${accountId}_${n}` }),
      ),
    );
    assert.equal(new Set(kept).size, 1);
    await removeCards(ledger.worker, { provider: 'stripe', paymentMethod: null, customerId: kept[0]!, reason: 'x' });
    assert.deepEqual(await paymentCustomerOf(ledger.worker, accountId, 'stripe'), { customerId: null, nextN: 2 });
  });

  it('a card is kept once, replaces the one before, and does not come back once it is gone', async () => {
    const [first, second] = [await keepCard(), await keepCard()];
    assert.equal((await now()).card?.paymentMethod, second);
    const gone = { provider: 'stripe', customerId: null, reason: 'detached' };
    assert.equal(await removeCards(ledger.worker, { ...gone, paymentMethod: first }), 0, 'it was replaced before');
    assert.equal(await removeCards(ledger.worker, { ...gone, paymentMethod: second }), 1);
    const again = { ...(await cardLike(second)), accountId, provider: 'stripe' };
    assert.equal(await saveCard(ledger.worker, again), false);
    assert.equal((await now()).card, null);
  });

  const cardLike = (paymentMethod: string) =>
    Promise.resolve({
      ...{ paymentMethod, customerId: `cus_${accountId}`, brand: 'visa', last4: '4242', expMonth: 12, expYear: 2034 },
      fingerprint: null,
    });

  it('a card that is gone pauses them and tells the customer', async () => {
    const paymentMethod = await keepCard();
    await order();
    await removeCards(ledger.worker, { provider: 'stripe', paymentMethod, customerId: null, reason: 'detached' });
    assert.deepEqual([(await now()).state, (await now()).pauseReason], ['paused', 'card_removed']);
    assert.deepEqual(await notices(), ['auto_top_up_paused']);
    assert.deepEqual(await begin(NOON), { kind: 'rest', why: 'paused' });
  });

  it('S16: many triggers at once are one attempt', async () => {
    await keepCard();
    await order();
    const steps = await Promise.all(Array.from({ length: CALLERS }, () => begin(NOON)));
    assert.equal(new Set(steps.map((step) => (step as { topUpId: string }).topUpId)).size, 1);
    const { rowCount } = await ledger.admin.query('select from top_up where account_id = $1', [accountId]);
    assert.equal(rowCount, 1);
  });

  it('S16: a storm of charges on a declining card is one attempt per hour, then a pause', async () => {
    await keepCard();
    await order();
    for (let hour = 0; hour < 5; hour++) {
      for (let minute = 0; minute < 60; minute += 10) {
        const step = await begin(NOON + hour * HOUR_MS + minute * 60_000);
        if (step.kind === 'charge') await declined((await topUpById(ledger.worker, parseId('topUp', step.topUpId)!))!);
      }
    }
    const { rows } = await ledger.admin.query<{ slot: Date; state: string }>(
      'select slot, state from auto_top_up_attempt where account_id = $1 order by slot',
      [accountId],
    );
    assert.deepEqual(
      rows.map(({ slot, state }) => [slot.getTime(), state]),
      [0, 1, 2].map((hour) => [NOON + hour * HOUR_MS, 'failed']),
    );
    assert.deepEqual([(await now()).state, (await now()).pauseReason], ['paused', 'card_declined']);
    assert.deepEqual(await notices(), ['auto_top_up_failed', 'auto_top_up_failed', 'auto_top_up_paused']);
    await order();
    assert.deepEqual([(await now()).state, (await now()).consecutiveDeclines], ['active', 0]);
    assert.equal((await begin(NOON + 2 * HOUR_MS)).kind, 'wait', 'a new order gives no slot back');
  });

  it('a success ends a row of declines', async () => {
    await keepCard();
    await order();
    await declined(await begunAt(NOON));
    assert.equal((await now()).consecutiveDeclines, 1);
    await paid(await begunAt(NOON + HOUR_MS));
    assert.equal((await now()).consecutiveDeclines, 0);
  });

  it('S16: the cap holds by many at once, and is told once a month', async () => {
    await keepCard();
    await order({ threshold: '1000', cap: '25' });
    // What was credited counts by the ledger's clock, so the slots are hours of its month.
    const thisHour = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
    const monthOf = (at: number): number => new Date(at).getUTCMonth();
    const isMonthOver = monthOf(thisHour + 3 * HOUR_MS) !== monthOf(thisHour);
    const first = isMonthOver ? thisHour - 3 * HOUR_MS : thisHour;
    for (let hour = 0; hour < 4; hour++) {
      const steps = await Promise.all(Array.from({ length: CALLERS }, () => begin(first + hour * HOUR_MS)));
      const ids = new Set(steps.flatMap((step) => (step.kind === 'charge' ? [step.topUpId] : [])));
      assert.ok(ids.size <= 1);
      for (const id of ids) await paid((await topUpById(ledger.worker, parseId('topUp', id)!))!);
    }
    const { rows } = await ledger.admin.query<{ credited: string }>(
      'select sum(credited) as credited from payment where account_id = $1',
      [accountId],
    );
    assert.equal(usd(rows[0]!.credited), usd('20'));
    assert.deepEqual(await notices(), ['auto_top_up_cap_reached']);
  });

  it('a charge that is not sent yet is not wanted any more once its reason is gone', async () => {
    await keepCard();
    await order();
    const attempt = await begunAt(NOON);
    const wanted = (): Promise<boolean> => autoTopUpIsWanted(ledger.worker, attempt.id);
    assert.equal(await wanted(), true);
    await move(ledger.management, accountId, '50');
    assert.equal(await wanted(), false, 'the money came otherwise');
    await move(ledger.management, accountId, '-50');
    assert.equal(await wanted(), true);
    await endAutoTopUp(ledger.management, accountId);
    assert.equal(await wanted(), false, 'consent was withdrawn');
    assert.equal((await begin(NOON)).kind, 'charge', 'an attempt that has begun is still finished');
  });

  it('automatic top-ups are triggered by level, and only where a charge can follow', async () => {
    const keyId = await createKey(ledger, accountId);
    const hold = holdOf({ accountId, keyId }, '0.5');
    await placeHold(ledger.gateway, hold);
    await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.1')]);
    await settleRequests(ledger.worker, [hold.requestId], 'meter/test');
    const triggered = async (): Promise<boolean> =>
      (await accountsToFollowUp(ledger.worker, [hold.requestId])).toTopUp.includes(accountId);
    assert.equal(await triggered(), false, 'nobody ordered it');
    await keepCard();
    await order();
    assert.equal(await triggered(), true);
    assert.equal(await triggered(), true, 'a level, not an edge');
    const attempt = await begunAt(Date.now());
    assert.equal(await triggered(), false, 'it is under way');
    await declined(attempt);
    await begin(Date.now());
    assert.equal(await triggered(), false, 'its slot is used up');
    await ledger.admin.query(
      "update auto_top_up set next_attempt_at = now() - interval '1 second' where account_id = $1",
      [accountId],
    );
    assert.equal(await triggered(), true);
    await begin(Date.now());
    await move(ledger.management, accountId, '50');
    assert.deepEqual(await begin(Date.now()), { kind: 'rest', why: 'enough' });
    await move(ledger.management, accountId, '-50');
    assert.equal(await triggered(), true, 'no run waits for the slot any more, so that the next charge starts one');
    await order({ threshold: '0.5' });
    assert.equal(await triggered(), false, 'there is enough');
  });

  it('orders that must have a run are found, and those with nothing to wait for are not', async () => {
    const isFound = async (): Promise<boolean> =>
      (await findQuietAutoTopUps(ledger.worker, { ageSeconds: 0, limit: 1000 })).includes(accountId);
    await keepCard();
    await order();
    assert.equal(await isFound(), true, 'nobody has looked yet');
    const attempt = await begunAt(Date.now());
    await endAutoTopUp(ledger.management, accountId);
    assert.equal(await isFound(), true, 'an attempt is not over');
    await declined(attempt);
    assert.equal(await isFound(), false, 'it was ended');
    await order();
    assert.equal((await begin(Date.now())).kind, 'wait');
    assert.equal(await isFound(), false, 'its slot is used up');
    await order({ threshold: '0.5' });
    assert.equal(await isFound(), false, 'there is enough');
  });

  describe('a fraud warning', () => {
    async function warned(spent: string, freeze = true): Promise<void> {
      await keepCard();
      await order({ threshold: '2' });
      await paid(await begunAt(NOON));
      if (usd(spent) > 0n) {
        const hold = holdOf({ accountId, keyId: await createKey(ledger, accountId) }, spent);
        await placeHold(ledger.gateway, hold);
        await finishRequests(ledger.gateway, [endOf(hold.requestId, spent)]);
        await settleRequests(ledger.worker, [hold.requestId], 'meter/test');
      }
      const { rows } = await ledger.admin.query<{ id: string }>('select id from payment where account_id = $1', [
        accountId,
      ]);
      const warning = { paymentId: rows[0]!.id, evidence: { warning: 'issfr_1' }, freeze };
      const done = await Promise.all(Array.from({ length: 4 }, () => warnPayment(ledger.worker, warning)));
      assert.equal(done.filter(Boolean).length, 1);
    }

    const frozen = async (): Promise<string | null> =>
      (
        await ledger.admin.query<{ frozen_reason: string | null }>('select frozen_reason from account where id = $1', [
          accountId,
        ])
      ).rows[0]!.frozen_reason;

    it('a fraud warning freezes the rest of the payment and automatic top-ups, with evidence for staff', async () => {
      await warned('4');
      assert.match((await frozen()) ?? '', /early fraud warning/);
      assert.match((await now()).frozenReason ?? '', /^fraud_warning stripe pi_/);
      const { rows } = await ledger.admin.query<{ evidence: Record<string, string> }>(
        `select evidence from review_case where kind = 'early_fraud_warning' and evidence ->> 'account' = $1`,
        [formatId('account', accountId)],
      );
      const { warning, credited_usd, spent_since_usd, left_usd } = rows[0]!.evidence;
      assert.deepEqual(
        [warning, credited_usd, spent_since_usd, left_usd],
        ['issfr_1', '10.000000000000', '4.000000000000', '6.000000000000'],
      );
      await assert.rejects(order(), refusedWith('auto_top_up_frozen'));
      assert.equal(await unfreezeAutoTopUp(ledger.management, accountId, ADA), true);
      assert.equal(await unfreezeAutoTopUp(ledger.management, accountId, ADA), false);
      await order();
    });

    it('a fraud warning freezes no account whose payment is spent, nor where that is switched off', async () => {
      await warned('10');
      assert.equal(await frozen(), null);
      accountId = await createCustomer(ledger, '1');
      await warned('0', false);
      assert.equal(await frozen(), null);
      assert.deepEqual(await begin(NOON + HOUR_MS), { kind: 'rest', why: 'frozen' });
    });
  });

  describe('a dispute that was freed', () => {
    const CREDIT = usd('10');
    let payment: string;

    beforeEach(async () => {
      await keepCard();
      await order();
      await paid(await begunAt(NOON));
      const { rows } = await ledger.admin.query<{ id: string }>('select id from payment where account_id = $1', [
        accountId,
      ]);
      payment = rows[0]!.id;
    });

    const opened = () => noteDisputes(ledger.worker, { accountId, provider: 'stripe' }, { open: ['dp_1'], won: [] });
    const won = () => noteDisputes(ledger.worker, { accountId, provider: 'stripe' }, { open: [], won: ['dp_1'] });
    const taken = (objectId: string, kind: 'dispute' | 'refund', amount: PicoUsd, before: PicoUsd) =>
      reversePayment(ledger.worker, payment, { objectId, kind, direction: 'out', amount }, before);
    const isFrozen = async (): Promise<boolean> => (await now()).frozenReason !== null;

    it('a freeze lifted by a person for an inquiry returns when it takes money: the card is not charged 10 again', async () => {
      await opened();
      assert.ok(await isFrozen());
      assert.equal(await unfreezeAutoTopUp(ledger.management, accountId, ADA), true);
      await opened();
      assert.equal(await isFrozen(), false, 'the same inquiry, seen again');
      await taken('dp_1', 'dispute', CREDIT, ZERO_USD);
      assert.ok(await isFrozen());
      assert.deepEqual(await begin(NOON + HOUR_MS), { kind: 'rest', why: 'frozen' });
      assert.equal(await unfreezeAutoTopUp(ledger.management, accountId, ADA), true);
      await taken('dp_1', 'dispute', CREDIT, ZERO_USD);
      await opened();
      assert.equal(await isFrozen(), false, 'what a person has freed after that stays free');
      assert.equal((await notices()).filter((kind) => kind === 'auto_top_up_frozen').length, 2);
    });

    it('a freeze lifted by the provider returns when the provider opens the dispute again', async () => {
      await opened();
      await won();
      assert.equal(await isFrozen(), false);
      await opened();
      assert.ok(await isFrozen());
      await won();
      assert.equal(await isFrozen(), false);
    });

    it('a freed dispute and refunds of parts freeze when together they are the whole, in any order', async () => {
      await taken('re_1', 'refund', usd('4'), ZERO_USD);
      await taken('re_2', 'refund', usd('5.999999999999'), usd('4'));
      assert.equal(await isFrozen(), false);
      await taken('re_3', 'refund', usd('0.000000000001'), usd('9.999999999999'));
      assert.ok(await isFrozen());
    });
  });

  describe('manual credit', () => {
    interface AskChange {
      readonly action?: string;
      readonly by?: string;
      readonly reason?: string;
      readonly shown?: Partial<PaymentFacts> | null;
    }
    let topUp: TopUp;
    let payments = 0;
    let paymentId: string;

    beforeEach(async () => {
      paymentId = `pi_hand_${++payments}`;
      topUp = await createTopUp(ledger.management, {
        ...{
          id: uuidOf('topUp', uuidAt(Date.now())),
          accountId,
          method: 'card',
          provider: 'stripe',
          amount: usd('10'),
        },
        ...{ fee: usd('0.50'), currency: 'usd', live: false, expiresInSeconds: 3600 },
      });
      await received('7');
    });

    const received = (amount: string): Promise<TopUp> =>
      moveTopUp(ledger.worker, {
        ...{ id: topUp.id, from: 'created', to: 'quarantined', stuck: 'amount_mismatch', received: usd(amount) },
      });

    const shown = (shownId: string, change: Partial<PaymentFacts> = {}): Promise<void> =>
      notePayments(ledger.worker, topUp.id, [
        {
          ...{ paymentId: shownId, status: 'paid', received: usd('10.50'), currency: 'usd', live: false },
          ...change,
        },
      ]);

    /** For a payment that the provider has shown as paid, unless `shown` says otherwise. */
    const ask = async (amount: string, change: AskChange = {}): Promise<ManualCredit> => {
      if (change.shown !== null) await shown(paymentId, change.shown);
      return requestManualCredit(ledger.management, {
        action: change.action ?? `${paymentId}/1`,
        topUpId: topUp.id,
        paymentId,
        amount: usd(amount),
        reason: change.reason ?? 'paid too little',
        requestedBy: change.by ?? ADA,
        limits: upTo('100'),
      });
    };

    const automatic = (): Promise<boolean> =>
      creditPayment(ledger.worker, {
        ...{ topUpId: topUp.id, paymentId, received: usd('10.50'), credit: usd('10'), isFinal: true },
        creditedBy: 'provider',
      });

    async function credited(): Promise<PicoUsd> {
      return (await topUpById(ledger.worker, topUp.id))!.credited;
    }

    it('a manual credit within the received sum is posted at once, once per action by many at once', async () => {
      const asked = await Promise.all(Array.from({ length: CALLERS }, () => ask('7')));
      assert.deepEqual(new Set(asked.map(({ state, id }) => `${state} ${id}`)).size, 1);
      assert.equal(asked[0]!.state, 'posted');
      const order = (await topUpById(ledger.worker, topUp.id))!;
      assert.deepEqual([order.state, order.credited, order.stuck], ['credited', usd('7'), null]);
      const [payment] = await paymentsOf(ledger.worker, topUp.id);
      assert.equal(payment!.paymentId, paymentId);
    });

    it('a manual credit is refused for a credited payment, in any order, and for another credit under one action', async () => {
      await automatic();
      await assert.rejects(ask('7'), refusedWith('payment_credited'));
      paymentId = `pi_hand_${++payments}`;
      await ask('0.5');
      await automatic();
      assert.equal(
        await credited(),
        usd('10.5'),
        'the automatic credit of a payment that was credited by hand does nothing',
      );
      await assert.rejects(ask('3'), refusedWith('id_reused'));
      await assert.rejects(ask('3', { action: `${paymentId}/2` }), refusedWith('payment_credited'));
    });

    it('a manual and an automatic credit at once are one credit', async () => {
      for (let n = 0; n < 6; n++) {
        paymentId = `pi_hand_${++payments}`;
        const before = await credited();
        const results = await Promise.allSettled(n % 2 === 0 ? [ask('1'), automatic()] : [automatic(), ask('1')]);
        assert.ok(results.some(({ status }) => status === 'fulfilled'));
        const { rowCount } = await ledger.admin.query('select from payment where payment_id = $1', [paymentId]);
        assert.equal(rowCount, 1);
        assert.ok((await credited()) > before);
      }
    });

    it('a manual credit above the received sum waits for a second person other than its requester', async () => {
      const waiting = await ask('7.01');
      assert.equal(waiting.state, 'waiting');
      assert.equal(await credited(), ZERO_USD);
      await assert.rejects(ask('1', { action: `${paymentId}/2` }), refusedWith('credit_waits'));
      const decide = (approve: boolean, decidedBy: string) =>
        decideManualCredit(ledger.management, { id: waiting.id, approve, decidedBy });
      await assert.rejects(decide(true, ADA), refusedWith('second_person_needed'));
      const decided = await Promise.all([BOB, EVE, BOB, EVE].map((who) => decide(true, who)));
      assert.ok(decided.every(({ state }) => state === 'posted'));
      assert.equal(decided.filter(({ decidedNow }) => decidedNow).length, 1);
      assert.equal(await credited(), usd('7.01'));
    });

    it('a manual credit counts the earlier credits of the order', async () => {
      assert.equal((await ask('4')).state, 'posted');
      paymentId = `pi_hand_${++payments}`;
      assert.equal((await ask('4')).state, 'waiting', '4 + 4 is more than the 7 that came');
    });

    it('a manual credit of a payment that the last look did not show as paid waits, and says so', async () => {
      const waiting = await ask('1', { shown: { status: 'failed' } });
      assert.deepEqual([waiting.state, waiting.isKnown], ['waiting', false]);
      const approved = await decideManualCredit(ledger.management, { id: waiting.id, approve: true, decidedBy: BOB });
      assert.deepEqual([approved.state, approved.decidedBy, approved.decidedNow], ['posted', BOB, true]);
      paymentId = `pi_hand_${++payments}`;
      const posted = await ask('1');
      assert.deepEqual([posted.state, posted.isKnown], ['posted', true]);
    });

    it('a manual credit of a payment that the provider has never shown, or shows no more, is refused', async () => {
      await assert.rejects(ask('1', { shown: null }), refusedWith('payment_unknown'));
      await shown(paymentId);
      await shown(`another than ${paymentId}`);
      await assert.rejects(ask('1', { shown: null }), refusedWith('payment_unknown'));
      const waiting = await ask('8');
      await shown(`another than ${paymentId}`);
      const decision = { id: waiting.id, approve: true, decidedBy: BOB };
      await assert.rejects(decideManualCredit(ledger.management, decision), refusedWith('payment_unknown'));
      assert.equal(await credited(), ZERO_USD);
    });

    it('a manual credit above the sum of its own payment waits, though the order has received more', async () => {
      assert.equal((await ask('5', { shown: { received: usd('4.99') } })).state, 'waiting');
      paymentId = `pi_hand_${++payments}`;
      assert.equal((await ask('5', { shown: { received: usd('5') } })).state, 'posted');
    });

    it('a manual credit above the threshold waits, also within the received sum', async () => {
      const much = { received: usd('500') };
      await ledger.admin.query('update top_up set received = 500 where id = $1', [topUp.id]);
      assert.equal((await ask('100.01', { shown: much })).state, 'waiting');
      paymentId = `pi_hand_${++payments}`;
      assert.equal((await ask('100', { shown: much })).state, 'posted');
    });

    it('a manual credit may be rejected by its requester and requested again', async () => {
      const waiting = await ask('50');
      const rejected = await decideManualCredit(ledger.management, { id: waiting.id, approve: false, decidedBy: ADA });
      assert.equal(rejected.state, 'rejected');
      assert.equal((await ask('7', { action: `${paymentId}/2` })).state, 'posted');
      assert.deepEqual(
        (await manualCreditsOf(ledger.worker, topUp.id)).map(({ state }) => state),
        ['rejected', 'posted'],
      );
    });

    it('a waiting manual credit is superseded once the payment is credited automatically', async () => {
      const waiting = await ask('50');
      await automatic();
      const decided = await decideManualCredit(ledger.management, { id: waiting.id, approve: true, decidedBy: BOB });
      assert.equal(decided.state, 'superseded');
      assert.equal(await credited(), usd('10'));
    });
  });
});
