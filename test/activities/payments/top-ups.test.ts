/**
 * Looks at payments that fit no order as it is: they are credited to nobody automatically,
 * and none of them may stay unseen. The provider is made up here; the ledger is real.
 */
import assert from 'node:assert/strict';
import { MockActivityEnvironment } from '@temporalio/testing';
import type { PaymentRail } from '../../../providers/rail.ts';
import { createTopUpActivities, type TopUpActivities } from '../../../activities/payments/top-ups.ts';
import { listCases } from '../../../db/accounts/cases.ts';
import { decideManualCredit, requestManualCredit } from '../../../db/payments/manual-credits.ts';
import { noteListedPayment } from '../../../db/payments/known-payments.ts';
import { abandonTopUp, topUpById, type TopUp } from '../../../db/payments/top-ups.ts';
import { formatId, type AccountUuid } from '../../../domain/ids.ts';
import { usd, ZERO_USD } from '../../../domain/money.ts';
import type { PaymentFacts } from '../../../domain/payments/top-up.ts';
import { createLogger } from '../../../runtime/logger.ts';
import {
  brokenRules,
  createCustomer,
  createLedgerDatabase,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { waitingTopUp } from '../../support/paid-top-ups.ts';
import { ADA, BOB, upTo } from '../../support/staff.ts';

describe('top-up activities', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  let activities: TopUpActivities;
  let payments: PaymentFacts[];
  let order: TopUp;

  before(async () => {
    ledger = await createLedgerDatabase('top-up-activities');
    const rail = {
      provider: 'stripe',
      accepts: 'exact',
      leastReceived: ZERO_USD,
      inspect: () => Promise.resolve({ checkout: 'complete' as const, payments }),
      closeCheckout: () => Promise.resolve(),
    } satisfies Partial<PaymentRail>;
    activities = createTopUpActivities({
      pool: ledger.worker,
      logger: createLogger('test', 'silent'),
      rails: [rail as unknown as PaymentRail],
      fraudWarningFreezes: false,
    });
  });
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '0');
    // Asked: 10.50.
    order = await waitingTopUp(ledger, { accountId });
  });
  afterEach(async () => assert.deepEqual(await brokenRules(ledger.admin), []));
  after(() => ledger.database.drop());

  const topUpId = (): string => formatId('topUp', order.id);

  const running = <T>(work: () => Promise<T>): Promise<T> =>
    new MockActivityEnvironment().run<[], T, () => Promise<T>>(work);
  const look = () => running(() => activities.reconcileTopUp({ topUpId: topUpId(), events: [] }));

  const casesOfOrder = async () =>
    (await listCases(ledger.management, true, { after: null, limit: 200 })).rows.filter(
      ({ kind, evidence }) => kind === 'top_up_mismatch' && evidence['top_up'] === topUpId(),
    );

  const payment = (paymentId: string, change: Partial<PaymentFacts> = {}): PaymentFacts => ({
    paymentId: `${paymentId}_${order.id}`,
    status: 'paid',
    received: usd('10.50'),
    currency: 'usd',
    live: true,
    isFinal: true,
    reversals: [],
    ...change,
  });

  it('of a payment beside a credited one that is not credited: one case with what came and what was asked', async () => {
    payments = [payment('first'), payment('second', { received: usd('3') })];
    assert.equal((await look()).state, 'credited');
    await look();
    const [found, ...more] = await casesOfOrder();
    assert.deepEqual(more, []);
    assert.equal(found?.subject, payments[1]!.paymentId);
    const { reason, received, asked, account } = found.evidence;
    assert.deepEqual(
      [reason, received, asked, account],
      ['amount_mismatch', '3.00', '10.500000000000', formatId('account', accountId)],
    );
    assert.equal((await topUpById(ledger.worker, order.id))?.credited, usd('10'));
  });

  it('of the payment that an order was quarantined for: a case once another payment is credited', async () => {
    payments = [payment('short', { received: usd('3') })];
    assert.equal((await look()).state, 'quarantined');
    assert.deepEqual(await casesOfOrder(), [], 'the order itself waits for a person');
    payments.push(payment('whole'));
    assert.equal((await look()).state, 'credited');
    assert.deepEqual(
      (await casesOfOrder()).map(({ subject }) => subject),
      [payments[0]!.paymentId],
    );
  });

  it('no case for a payment that staff credited manually, or that has gone back', async () => {
    payments = [payment('short', { received: usd('3') })];
    await look();
    const wanted = { topUpId: order.id, paymentId: payments[0]!.paymentId, amount: usd('3'), reason: 'bank letter' };
    await requestManualCredit(ledger.management, {
      ...wanted,
      ...{ action: `test ${order.id}`, requestedBy: ADA, limits: upTo('100') },
    });
    const back = {
      objectId: `re_${order.id}`,
      kind: 'refund',
      amount: usd('4'),
      isTaken: true,
      isOpen: false,
    } as const;
    payments.push(payment('refunded', { received: usd('4'), reversals: [back] }));
    assert.equal((await look()).state, 'credited');
    assert.deepEqual(await casesOfOrder(), []);
  });

  it('of a payment that a person has credited to another order: a case, no second credit, and the run does not fail', async () => {
    const other = await waitingTopUp(ledger, { accountId });
    const paymentId = `pi_${order.id}`;
    const listed = { provider: 'stripe', paymentId, topUp: null, received: usd('10.50'), currency: 'usd' };
    await noteListedPayment(ledger.worker, listed);
    const wanted = { action: paymentId, topUpId: other.id, paymentId, amount: usd('10'), reason: 'bank letter' };
    const { id, state } = await requestManualCredit(ledger.management, {
      ...wanted,
      requestedBy: ADA,
      limits: upTo('100'),
    });
    assert.equal(state, 'waiting', 'only the statement shows it');
    await decideManualCredit(ledger.management, { id, approve: true, decidedBy: BOB });
    payments = [{ ...payment('stray'), paymentId }];
    for (let n = 0; n < 2; n++) assert.equal((await look()).state, 'waiting');
    const { rows } = await listCases(ledger.management, true, { after: null, limit: 200 });
    const [found, ...more] = rows.filter(({ subject }) => subject === paymentId);
    assert.deepEqual(more, []);
    assert.deepEqual(
      [found?.kind, found?.evidence['top_up'], found?.evidence['credited_to_top_up']],
      ['payment_credited_elsewhere', topUpId(), formatId('topUp', other.id)],
    );
    assert.equal((await topUpById(ledger.worker, order.id))?.credited, ZERO_USD);
  });

  it('of real money for a test order, or of test money: a person alone credits none of it', async () => {
    payments = [payment('short', { live: false })];
    assert.equal((await look()).stuck, 'mode_mismatch');
    const asked = await requestManualCredit(ledger.management, {
      ...{ action: `mode ${order.id}`, topUpId: order.id, paymentId: payments[0]!.paymentId, amount: usd('0.01') },
      ...{ reason: 'bank letter', requestedBy: ADA, limits: upTo('100') },
    });
    assert.deepEqual([asked.state, asked.isKnown], ['waiting', false]);
  });

  it('of a dispute that can still change: it is found once nobody looks any more, until it is over', async () => {
    const dispute = { objectId: `du_${order.id}`, kind: 'dispute', amount: usd('10.50'), isTaken: true } as const;
    const find = async () => {
      const quiet = await running(() => activities.findQuietReversals({ ageSeconds: 0, pollSeconds: 0, limit: 1000 }));
      return quiet.filter((found) => found.topUpId === topUpId());
    };
    payments = [payment('disputed', { reversals: [{ ...dispute, isOpen: true }] })];
    await look();
    assert.deepEqual(await find(), [{ provider: 'stripe', objectId: dispute.objectId, topUpId: topUpId() }]);
    payments = [payment('disputed', { reversals: [{ ...dispute, isOpen: false }] })];
    await look();
    assert.deepEqual(await find(), []);
  });

  it('a manual credit requested in Temporal has no requester and waits, however small', async () => {
    payments = [payment('short', { received: usd('3') })];
    await look();
    const asked = await running(() =>
      activities.requestManualCredit({
        ...{ topUpId: topUpId(), paymentId: payments[0]!.paymentId, amountUsd: '0.01', reason: 'bank letter' },
        ...{ by: ADA, action: `temporal ${order.id}` },
      }),
    );
    assert.deepEqual([asked.state, asked.isKnown, asked.requestedBy], ['waiting', true, null]);
  });

  it('an order in quarantine can be given up: it waits for nobody any more, its payment is a case', async () => {
    payments = [payment('short', { received: usd('3') })];
    assert.equal((await look()).stuck, 'amount_mismatch');
    assert.equal(await abandonTopUp(ledger.management, { id: order.id, reason: 'a test', by: ADA }), true);
    const { state, stuck } = await look();
    assert.deepEqual([state, stuck], ['abandoned', null]);
    assert.equal((await casesOfOrder()).length, 1);
    // Money that fits still wins.
    payments.push(payment('whole'));
    assert.equal((await look()).state, 'credited');
  });
});
