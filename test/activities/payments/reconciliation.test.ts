/**
 * Comparisons with a provider's statement that does not fit: which entries are payments without an order, which only
 * look like it, and what looking again can close. Providers are made up here; the ledger is real.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { MockActivityEnvironment } from '@temporalio/testing';
import { RailRefusal, type PaymentRail } from '../../../providers/rail.ts';
import { createCreemStatement, type StatementEntry, type StatementPage } from '../../../providers/statements.ts';
import {
  createReconciliationActivities,
  type ReconciliationActivities,
} from '../../../activities/payments/reconciliation.ts';
import { listCases } from '../../../db/accounts/cases.ts';
import { requestManualCredit } from '../../../db/payments/manual-credits.ts';
import { creditPayment } from '../../../db/payments/payments.ts';
import { createTopUp, moveTopUp, type TopUp } from '../../../db/payments/top-ups.ts';
import { formatId, uuidOf, type AccountUuid } from '../../../domain/ids.ts';
import { usd, ZERO_USD } from '../../../domain/money.ts';
import type { PaymentFacts } from '../../../domain/payments/top-up.ts';
import { createCreem } from '../../../providers/creem/client.ts';
import { createLogger } from '../../../runtime/logger.ts';
import { startCreemTwin } from '../../../twins/creem/twin.ts';
import {
  brokenRules,
  createCustomer,
  createLedgerDatabase,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import type { ComparePageInput, ComparisonCursor, PageComparison } from '../../../contract/index.ts';
import { creditedTopUp, reverse, waitingTopUp } from '../../support/paid-top-ups.ts';
import { ADA, upTo } from '../../support/staff.ts';

/** An entry of a payment of which nothing has gone back. */
const entry = (change: Partial<StatementEntry>): StatementEntry => ({
  paymentId: 'pi_a',
  topUpId: null,
  received: usd('10.50'),
  currency: 'usd',
  taken: ZERO_USD,
  reversal: null,
  ...change,
});

describe('reconciliation activities', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  let entries: StatementEntry[];
  let pageSize: number;
  /** The checkouts that the provider was asked about, and what it fails with first. */
  let inspected: string[];
  let faults: Error[];
  /** What the provider says of each order, by its checkout. */
  let payments: Map<string, PaymentFacts[]>;
  let activities: ReconciliationActivities;

  before(async () => {
    ledger = await createLedgerDatabase('reconciliation-activities');
    const rail = {
      provider: 'stripe',
      accepts: 'exact',
      leastReceived: ZERO_USD,
      inspect: (order: TopUp) => {
        inspected.push(order.providerId!);
        const fault = faults.shift();
        if (fault !== undefined) return Promise.reject(fault);
        return Promise.resolve({ checkout: 'complete' as const, payments: payments.get(order.providerId!) ?? [] });
      },
    } satisfies Partial<PaymentRail>;
    activities = createReconciliationActivities({
      pool: ledger.worker,
      slowPool: ledger.worker,
      logger: createLogger('test', 'silent'),
      rails: [rail as unknown as PaymentRail],
      statements: [
        {
          provider: 'stripe',
          page: (_, cursor) => {
            const at = Number(cursor ?? 0);
            const next = at + pageSize < entries.length ? String(at + pageSize) : null;
            return Promise.resolve({ entries: entries.slice(at, at + pageSize), next });
          },
        },
      ],
    });
  });
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '0');
    // What the tests before have left is of no interest to this one.
    await ledger.admin.query(`update payment set credited_at = now() - interval '1 day'`);
    await ledger.admin.query(`update top_up set state = 'abandoned' where state = 'quarantined'`);
    entries = [];
    pageSize = 100;
    inspected = [];
    faults = [];
    payments = new Map();
  });
  afterEach(async () => assert.deepEqual(await brokenRules(ledger.admin), []));
  after(() => ledger.database.drop());

  const running = <T>(work: () => Promise<T>): Promise<T> =>
    new MockActivityEnvironment().run<[], T, () => Promise<T>>(work);

  /** All pages of a run, each of them `times` times, as after crashes that lost what a page had found. */
  async function compare(times = 1) {
    const now = Date.now();
    const of = {
      provider: 'stripe',
      run: new Date(now).toISOString(),
      since: new Date(now - 3_600_000).toISOString(),
      // The database has written what is compared a moment ago, by its own clock.
      until: new Date(now + 60_000).toISOString(),
      fixLimitUsd: '50',
    };
    const pages: PageComparison[] = [];
    for (let cursor: ComparisonCursor | null = { part: 'waiting', after: null }; cursor !== null;) {
      const input: ComparePageInput = { ...of, page: pages.length, cursor };
      for (let n = 1; n < times; n++) await running(() => activities.comparePage(input));
      pages.push(await running(() => activities.comparePage(input)));
      cursor = pages.at(-1)!.next;
    }
    const total = (count: (page: PageComparison) => number): number =>
      pages.reduce((sum, page) => sum + count(page), 0);
    const fixable = pages.flatMap((page) => page.fixable);
    return {
      pages: pages.length,
      listed: total(({ listed }) => listed),
      compared: total(({ compared }) => compared),
      asked: total(({ asked }) => asked),
      gaps: total(({ gaps }) => gaps),
      fixable: fixable.map(({ topUpId }) => topUpId),
      fixableGaps: fixable.reduce((sum, { gaps }) => sum + gaps, 0),
    };
  }
  const compareOrder = (topUpId: string) => running(() => activities.compareTopUps([topUpId]));

  const openCasesAbout = async (subject: string) =>
    (await listCases(ledger.management, true, { after: null, limit: 200 })).rows.filter(
      (row) => row.subject === subject,
    );

  const payment = (change: Partial<PaymentFacts>): PaymentFacts => ({
    paymentId: 'pi_a',
    status: 'paid',
    received: usd('10.50'),
    currency: 'usd',
    live: true,
    isFinal: true,
    reversals: [],
    ...change,
  });

  it('a payment that waits in quarantine is no payment without an order, though its provider names none', async () => {
    const order = await waitingTopUp(ledger, { accountId });
    payments.set(order.providerId!, [payment({ paymentId: 'pi_short', received: usd('3') })]);
    const move = { id: order.id, from: order.state, to: 'quarantined', stuck: 'amount_mismatch' } as const;
    await moveTopUp(ledger.worker, { ...move, received: usd('3') });
    entries = [entry({ paymentId: 'pi_short', received: usd('3') })];
    assert.equal((await compare()).gaps, 0);
    assert.deepEqual(await openCasesAbout('pi_short'), []);
  });

  it('a payment of nobody is a case, once, with what the provider says of it', async () => {
    entries = [entry({ paymentId: 'pi_stray', received: usd('3') })];
    assert.deepEqual([(await compare()).gaps, (await compare()).gaps], [1, 1]);
    const [found, ...more] = await openCasesAbout('pi_stray');
    assert.deepEqual(
      [found?.kind, found?.evidence['received_usd'], more],
      ['reconcile/payment_without_order', '3.000000000000', []],
    );
  });

  it('a payment of nobody can be credited by hand from then on, by two persons; its sum is in its own currency', async () => {
    entries = [entry({ paymentId: 'pi_yen', received: usd('1500'), currency: 'jpy' })];
    assert.deepEqual([(await compare()).gaps, (await compare()).fixable], [1, []]);
    const [found] = await openCasesAbout('pi_yen');
    assert.deepEqual([found?.evidence['received'], found?.evidence['received_usd']], ['1500 JPY', undefined]);
    const order = await waitingTopUp(ledger, { accountId });
    const wanted = { action: 'yen', topUpId: order.id, paymentId: 'pi_yen', amount: usd('1'), reason: 'a test' };
    const asked = await requestManualCredit(ledger.management, { ...wanted, requestedBy: ADA, limits: upTo('100') });
    assert.deepEqual(
      [asked.state, asked.isKnown, asked.shown],
      ['waiting', false, { currency: 'jpy', amount: usd('1500') }],
    );
  });

  it('a payment of an order that knows no checkout is a gap, until the order has found it', async () => {
    const { id } = await createTopUp(ledger.management, {
      ...{ id: uuidOf('topUp', uuidAt(Date.now())), accountId, method: 'card', provider: 'stripe', amount: usd('10') },
      ...{ fee: usd('0.50'), currency: 'usd', live: true, expiresInSeconds: 3600 },
    });
    const topUpId = formatId('topUp', id);
    entries = [entry({ paymentId: 'pi_lost', topUpId })];
    const { gaps, fixable, fixableGaps } = await compare();
    assert.deepEqual([gaps, fixable, fixableGaps], [1, [topUpId], 1]);
    const [found] = await openCasesAbout('pi_lost');
    assert.deepEqual([found?.kind, found?.evidence['top_up']], ['reconcile/payment_not_credited', topUpId]);
    assert.equal(await compareOrder(topUpId), 1);

    payments.set('pi_lost', [payment({ paymentId: 'pi_lost' })]);
    await ledger.admin.query(`select holdfast.begin_checkout($1, 'pi_lost', null, null)`, [id]);
    await creditPayment(ledger.worker, {
      ...{ topUpId: id, paymentId: 'pi_lost', received: usd('10.50'), credit: usd('10') },
      ...{ isFinal: true, creditedBy: 'provider' },
    });
    assert.equal(await compareOrder(topUpId), 0);
    assert.deepEqual(await openCasesAbout('pi_lost'), []);
  });

  it('a payment that names an order which does not know it is a case, and looking again does not help', async () => {
    const order = await waitingTopUp(ledger, { accountId });
    const topUpId = formatId('topUp', order.id);
    entries = [entry({ paymentId: 'pi_other', topUpId })];
    const { gaps, fixable, fixableGaps } = await compare();
    assert.deepEqual([gaps, fixable, fixableGaps], [1, [], 0]);
    const [found] = await openCasesAbout('pi_other');
    assert.deepEqual([found?.kind, found?.evidence['top_up']], ['reconcile/payment_not_credited', topUpId]);
  });

  it('says how many gaps the orders that can close theirs have, not how many orders', async () => {
    const order = await waitingTopUp(ledger, { accountId });
    payments.set(order.providerId!, [payment({ paymentId: 'pi_1a' }), payment({ paymentId: 'pi_1b' })]);
    entries = ['pi_1a', 'pi_1b'].map((paymentId) => entry({ paymentId, topUpId: formatId('topUp', order.id) }));
    for (pageSize of [1, 2]) {
      const { gaps, fixable, fixableGaps } = await compare();
      assert.deepEqual([gaps, fixable.length, fixableGaps], [2, 1, 2]);
    }
  });

  /** Orders with a payment each that ledger and provider agree about. */
  async function agreedOrders(count: number): Promise<{ order: TopUp; paymentId: string }[]> {
    const orders: { order: TopUp; paymentId: string }[] = [];
    for (let n = 0; n < count; n++) {
      const credited = await creditedTopUp(ledger, { accountId, paymentId: `pi_${randomUUID()}` });
      const { order, paymentId } = credited;
      entries.push(entry({ paymentId, topUpId: formatId('topUp', order.id) }));
      payments.set(order.providerId!, [payment({ paymentId })]);
      orders.push(credited);
    }
    return orders;
  }

  const refund = (amount: string, isTaken = true) =>
    ({ objectId: `re_${randomUUID()}`, kind: 'refund', amount: usd(amount), isTaken, isOpen: false }) as const;

  it('asks about no order whose entry agrees with the ledger', async () => {
    await agreedOrders(5);
    pageSize = 2;
    const { pages, listed, compared, asked, gaps } = await compare();
    assert.deepEqual([pages, listed, compared, asked, gaps], [5, 5, 5, 0, 0]);
    assert.deepEqual(inspected, []);
  });

  it('finds the gap of the second page, and asks about that order alone', async () => {
    const orders = await agreedOrders(5);
    const { order, paymentId } = orders[3]!;
    const taken = refund('5.25');
    entries[3] = entry({ paymentId, topUpId: formatId('topUp', order.id), taken: usd('5.25') });
    payments.set(order.providerId!, [payment({ paymentId, reversals: [taken] })]);
    pageSize = 2;
    const { asked, gaps, fixable } = await compare();
    assert.deepEqual([asked, gaps, fixable], [1, 1, [formatId('topUp', order.id)]]);
    assert.deepEqual(inspected, [order.providerId]);
    assert.equal((await openCasesAbout(paymentId))[0]?.kind, 'reconcile/reversal_not_booked');

    await reverse(ledger, order, { objectId: taken.objectId, kind: 'refund', direction: 'out', amount: '5' });
    // The statement agrees now, but the case is open until somebody has asked.
    assert.deepEqual([(await compare()).asked, (await openCasesAbout(paymentId)).length], [1, 0]);
    assert.equal((await compare()).asked, 0);
  });

  it('a page that is repeated finds what it has found before, once', async () => {
    const orders = await agreedOrders(4);
    const { order, paymentId } = orders[3]!;
    payments.set(order.providerId!, [payment({ paymentId, reversals: [refund('5.25')] })]);
    entries[3] = entry({ paymentId, topUpId: formatId('topUp', order.id), taken: usd('5.25') });
    entries.push(entry({ paymentId: `pi_${randomUUID()}` }));
    pageSize = 2;
    const { listed, compared, asked, gaps, fixableGaps } = await compare(3);
    assert.deepEqual([listed, compared, asked, gaps, fixableGaps], [5, 4, 1, 2, 1]);
  });

  it('a page that fails half way is found in full by its repeat', async () => {
    const orders = await agreedOrders(3);
    for (const [n, { order, paymentId }] of orders.entries()) {
      payments.set(order.providerId!, [payment({ paymentId, reversals: [refund('1')] })]);
      entries[n] = entry({ paymentId, taken: usd('1') });
    }
    faults = [new Error('the connection was lost')];
    await assert.rejects(compare(), /the connection was lost/);
    assert.equal((await compare()).gaps, 3);
  });

  it('an order that its provider refuses to show is a case, and the others are compared', async () => {
    const orders = await agreedOrders(2);
    for (const [n, { order, paymentId }] of orders.entries()) {
      payments.set(order.providerId!, [payment({ paymentId, reversals: [refund('1')] })]);
      entries[n] = entry({ paymentId, taken: usd('1') });
    }
    faults = [new RailRefusal('stripe', 'No such checkout session')];
    assert.equal((await compare()).gaps, 1);
    const refused = async (): Promise<boolean[]> => {
      const { rows } = await listCases(ledger.management, null, { limit: 200, after: null });
      const ids = orders.map(({ order }) => formatId('topUp', order.id) as string);
      return rows
        .filter(({ kind, subject }) => kind === 'reconcile/refused_by_provider' && ids.includes(subject))
        .map(({ closedAt }) => closedAt === null);
    };
    assert.deepEqual(await refused(), [true]);
    await compare();
    assert.deepEqual(await refused(), [false], 'it is closed once the provider tells');
  });

  it('waits while the provider is asked too often, and then goes on with the same order', async () => {
    const [only] = await agreedOrders(1);
    const { order, paymentId } = only!;
    payments.set(order.providerId!, [payment({ paymentId, reversals: [refund('1')] })]);
    entries = [entry({ paymentId, taken: usd('1') })];
    faults = [Object.assign(new Error('too many requests'), { statusCode: 429 })];
    assert.equal((await compare()).gaps, 1);
    assert.equal(inspected.length, 2);
  });

  it('asks about facts that the statement lacks: a dispute, a refund that is under way or not on record', async () => {
    const [disputed, pending, unbooked, booked] = await agreedOrders(4);
    entries[0] = entry({ paymentId: disputed!.paymentId, taken: null });
    await reverse(ledger, booked!.order, { objectId: 're_booked', kind: 'refund', direction: 'out', amount: '5' });
    entries[3] = entry({ paymentId: booked!.paymentId, taken: usd('5.25') });
    const told = (paymentId: string, objectId: string, isTaken: boolean | null): StatementEntry =>
      entry({ paymentId, received: null, taken: null, reversal: { objectId, isTaken } });
    entries.push(
      told(pending!.paymentId, 're_pending', null),
      told(unbooked!.paymentId, 're_unbooked', true),
      told(booked!.paymentId, 're_booked', true),
      told(booked!.paymentId, 're_failed', false),
      told('pi_of_another_shop', 're_other', true),
    );
    await compare();
    assert.deepEqual(
      inspected.toSorted(),
      [disputed, pending, unbooked].map((asked) => asked!.order.providerId!).toSorted(),
    );
  });

  it('a credit that the statement does not list is asked about, on any page where its provider would have listed it', async () => {
    const [missing] = await agreedOrders(3);
    entries.shift();
    payments.set(missing!.order.providerId!, []);
    pageSize = 1;
    assert.deepEqual([(await compare(2)).gaps, (await openCasesAbout(missing!.paymentId)).length], [1, 1]);
    assert.equal((await openCasesAbout(missing!.paymentId))[0]?.kind, 'reconcile/payment_not_at_provider');
  });

  it('Creem: only payments of our product are in the statement', async () => {
    const twin = await startCreemTwin({ productId: 'prod_ours' });
    try {
      const settings = {
        apiKey: 'creem_test_x',
        webhookSecrets: [],
        productId: 'prod_ours',
        apiUrl: twin.url,
        live: false,
      };
      const creem = createCreem(settings);
      const { id } = await creem.checkouts.create({ productId: 'prod_ours', customPrice: 1050 });
      const paid = await fetch(`${twin.url}/_twin/checkouts/${id}/pay`, { method: 'POST', body: '{}' });
      assert.ok(paid.ok);
      const period = { since: new Date(Date.now() - 60_000), until: new Date(Date.now() + 60_000) };
      const listed = async (productId: string): Promise<number> => {
        let n = 0;
        const statement = createCreemStatement(creem, productId);
        for (let cursor: string | null = null, isFirst = true; isFirst || cursor !== null; isFirst = false) {
          const { entries: found, next }: StatementPage = await statement.page(period, cursor);
          n += found.filter(({ received }) => received !== null).length;
          cursor = next;
        }
        return n;
      };
      assert.deepEqual([await listed('prod_ours'), await listed('prod_of_another_shop')], [1, 0]);
    } finally {
      await twin.close();
    }
  });
});
