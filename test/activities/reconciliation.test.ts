/**
 * What a comparison makes of a provider's books that do not fit: which entries are payments without an order, which only
 * look like it, and what looking again can close. Providers are made up here; the ledger is real.
 */
import assert from 'node:assert/strict';
import { MockActivityEnvironment } from '@temporalio/testing';
import type { PaymentRail } from '../../activities/rails/rail.ts';
import { createCreemBooks, type BookEntry } from '../../activities/rails/provider-books.ts';
import { createReconciliationActivities, type ReconciliationActivities } from '../../activities/reconciliation.ts';
import { listCases } from '../../db/cases.ts';
import { createTopUp, creditPayment, moveTopUp, type TopUp } from '../../db/top-ups.ts';
import { formatId, uuidOf, type AccountUuid } from '../../domain/ids.ts';
import { usd, ZERO_USD } from '../../domain/money.ts';
import type { PaymentFacts } from '../../domain/top-up.ts';
import { createCreem } from '../../runtime/creem.ts';
import { createLogger } from '../../runtime/logger.ts';
import { startCreemTwin } from '../../sandbox/twins/creem/twin.ts';
import {
  brokenRules,
  createCustomer,
  createLedgerDatabase,
  uuidAt,
  type LedgerDatabase,
} from '../support/ledger-database.ts';
import { waitingTopUp } from '../support/paid-top-ups.ts';

const INPUT = {
  periodSeconds: 3600,
  // Of what the database has written a moment ago by its own clock.
  graceSeconds: -60,
  fixLimitUsd: '50',
  lookSeconds: 1,
  topUp: { pollSeconds: 1, pollMaxSeconds: 1, runSeconds: 1 },
};

describe('reconciliation activities', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  let entries: BookEntry[];
  /** What the provider says of each order, by its checkout. */
  let payments: Map<string, PaymentFacts[]>;
  let activities: ReconciliationActivities;

  before(async () => {
    ledger = await createLedgerDatabase('reconciliation-activities');
    const rail = {
      provider: 'stripe',
      accepts: 'exact',
      leastReceived: ZERO_USD,
      inspect: (order: TopUp) =>
        Promise.resolve({ checkout: 'complete' as const, payments: payments.get(order.providerId!) ?? [] }),
    } satisfies Partial<PaymentRail>;
    activities = createReconciliationActivities({
      pool: ledger.worker,
      slowPool: ledger.worker,
      logger: createLogger('test', 'silent'),
      rails: [rail as unknown as PaymentRail],
      books: [
        {
          provider: 'stripe',
          async *entries() {
            await Promise.resolve();
            yield* entries;
          },
        },
      ],
    });
  });
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '0');
    // What the tests before have left is of no interest to this one.
    await ledger.admin.query(`update payment set credited_at = now() - interval '1 day'`);
    entries = [];
    payments = new Map();
  });
  afterEach(async () => assert.deepEqual(await brokenRules(ledger.admin), []));
  after(() => ledger.database.drop());

  const running = <T>(work: () => Promise<T>): Promise<T> =>
    new MockActivityEnvironment().run<[], T, () => Promise<T>>(work);
  const compare = () => running(() => activities.compareProvider({ ...INPUT, provider: 'stripe' }));
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
    entries = [{ paymentId: 'pi_short', topUpId: null, received: usd('3') }];
    assert.equal((await compare()).gaps, 0);
    assert.deepEqual(await openCasesAbout('pi_short'), []);
  });

  it('a payment of nobody is a case, once, with what the provider says of it', async () => {
    entries = [{ paymentId: 'pi_stray', topUpId: null, received: usd('3') }];
    assert.deepEqual([(await compare()).gaps, (await compare()).gaps], [1, 1]);
    const [found, ...more] = await openCasesAbout('pi_stray');
    assert.deepEqual(
      [found?.kind, found?.evidence['received_usd'], more],
      ['reconcile/payment_without_order', '3.000000000000', []],
    );
  });

  it('a payment of an order that knows no checkout is a gap, until the order has found it', async () => {
    const { id } = await createTopUp(ledger.management, {
      ...{ id: uuidOf('topUp', uuidAt(Date.now())), accountId, method: 'card', provider: 'stripe', amount: usd('10') },
      ...{ fee: usd('0.50'), currency: 'usd', live: true, expiresInSeconds: 3600 },
    });
    const topUpId = formatId('topUp', id);
    entries = [{ paymentId: 'pi_lost', topUpId, received: usd('10.50') }];
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
    entries = [{ paymentId: 'pi_other', topUpId, received: usd('10.50') }];
    const { gaps, fixable, fixableGaps } = await compare();
    assert.deepEqual([gaps, fixable, fixableGaps], [1, [], 0]);
    const [found] = await openCasesAbout('pi_other');
    assert.deepEqual([found?.kind, found?.evidence['top_up']], ['reconcile/payment_not_credited', topUpId]);
  });

  it('says how many gaps the orders that can close theirs have, not how many orders', async () => {
    const order = await waitingTopUp(ledger, { accountId });
    payments.set(order.providerId!, [payment({ paymentId: 'pi_1a' }), payment({ paymentId: 'pi_1b' })]);
    entries = ['pi_1a', 'pi_1b'].map((paymentId) => ({
      paymentId,
      topUpId: formatId('topUp', order.id),
      received: usd('10.50'),
    }));
    const { gaps, fixable, fixableGaps } = await compare();
    assert.deepEqual([gaps, fixable.length, fixableGaps], [2, 1, 2]);
  });

  it('Creem: only payments of our product are on our books', async () => {
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
        for await (const entry of createCreemBooks(creem, productId).entries(period)) if (entry.received !== null) n++;
        return n;
      };
      assert.deepEqual([await listed('prod_ours'), await listed('prod_of_another_shop')], [1, 0]);
    } finally {
      await twin.close();
    }
  });
});
