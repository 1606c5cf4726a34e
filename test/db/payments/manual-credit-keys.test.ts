/**
 * Manual credits under load: for every id that a person gives, every order of requests and looks between, a payment is
 * one credit. And money from outside of all providers, which no order's row can lock.
 */
import assert from 'node:assert/strict';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import { decideManualCredit, requestManualCredit, type ManualCredit } from '../../../db/payments/manual-credits.ts';
import {
  findPayment,
  listKnownPayments,
  noteListedPayment,
  notePayments,
} from '../../../db/payments/known-payments.ts';
import { creditPayment } from '../../../db/payments/payments.ts';
import { storeEvent } from '../../../db/payments/provider-events.ts';
import { topUpById, type TopUp } from '../../../db/payments/top-ups.ts';
import type { AccountUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import type { PaymentFacts } from '../../../domain/payments/top-up.ts';
import {
  brokenRules,
  createCustomer,
  createLedgerDatabase,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { waitingTopUp } from '../../support/paid-top-ups.ts';
import { ADA, BOB, upTo } from '../../support/staff.ts';

const ROUNDS = 20;

describe('keys of manual credits', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  let order: TopUp;
  let made = 0;

  before(async () => {
    ledger = await createLedgerDatabase('hand-credit-keys', 8);
  });
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '0');
    order = await waitingTopUp(ledger, { accountId });
  });
  afterEach(async () => assert.deepEqual(await brokenRules(ledger.admin), []));
  after(() => ledger.database.drop());

  const paid = (n: number, change: Partial<PaymentFacts> = {}): PaymentFacts => ({
    ...{
      paymentId: `pi_3Paid${n}`,
      status: 'paid',
      received: usd('10.50'),
      currency: 'usd',
      live: true,
      isFinal: true,
    },
    ...{ reversals: [], otherIds: [`ch_3Paid${n}`, `cs_test_a1Paid${n}`], ...change },
  });
  const note = (...payments: PaymentFacts[]): Promise<void> => notePayments(ledger.worker, order.id, payments);

  async function ask(text: string, amount: string, of = order): Promise<ManualCredit> {
    const found = await findPayment(ledger.management, of, text);
    assert.ok(found.verdict === 'named', JSON.stringify(found));
    return requestManualCredit(ledger.management, {
      ...{ action: `ask ${++made}`, topUpId: of.id, paymentId: found.paymentId, amount: usd(amount), reason: 'a test' },
      ...{ requestedBy: ADA, limits: upTo('100') },
    });
  }

  const creditsOf = async (): Promise<number> => {
    const { rows } = await ledger.admin.query<{ n: number }>(
      'select count(*)::int as n from payment where account_id = $1',
      [accountId],
    );
    return rows[0]!.n;
  };

  it('requests by every id at once, with looks and the automatic credit between, are one credit, and nobody waits for another', async () => {
    for (let n = 0; n < ROUNDS; n++) {
      order = await waitingTopUp(ledger, { accountId });
      const payment = paid(++made);
      await note(payment);
      await ledger.admin.query('update top_up set received = 10.5 where id = $1', [order.id]);
      const { paymentId, received } = payment;
      const credit = { topUpId: order.id, paymentId, received: usd('10.50'), credit: usd('10'), isFinal: true };
      const results = await Promise.allSettled([
        ...[paymentId, ...payment.otherIds!].map((text) => ask(text, '10')),
        note(payment, paid(++made)),
        creditPayment(ledger.worker, { ...credit, creditedBy: 'provider' }),
        note({ ...payment, otherIds: [`py_3Paid${made}`] }),
      ]);
      assert.equal(received, usd('10.50'));
      for (const result of results) {
        if (result.status === 'fulfilled') continue;
        const code = ledgerRefusal(result.reason)?.code;
        assert.ok(code === 'payment_credited' || code === 'credit_waits', String(result.reason));
      }
      assert.equal(await creditsOf(), n + 1);
      assert.equal((await topUpById(ledger.worker, order.id))?.credited, usd('10'));
    }
  });

  it('an id that was known once leads to its payment for good', async () => {
    await note(paid(++made));
    const n = made;
    await note(paid(n, { otherIds: [`py_3Paid${n}`] }));
    const [known] = await listKnownPayments(ledger.management, order.id);
    assert.deepEqual(known?.otherIds, [`ch_3paid${n}`, `cs_test_a1paid${n}`, `py_3paid${n}`]);
    const found = await findPayment(ledger.worker, order, `ch_3Paid${n}`);
    assert.deepEqual(found, { verdict: 'named', paymentId: `pi_3Paid${n}` });
  });

  it('an event leads to the payment that it is about', async () => {
    const n = ++made;
    await note(paid(n));
    const payload = { data: { object: { object: 'charge', id: `ch_other${n}`, payment_intent: `pi_3Paid${n}` } } };
    const event = { provider: 'stripe', eventId: `evt_3Event${n}`, type: 'charge.succeeded', payload };
    await storeEvent(ledger.management, event);
    for (const text of [event.eventId, `https://dashboard.stripe.com/events/${event.eventId}`]) {
      assert.deepEqual(await findPayment(ledger.management, order, text), {
        verdict: 'named',
        paymentId: `pi_3Paid${n}`,
      });
    }
    const unknown = await findPayment(ledger.management, order, `evt_3Other${n}`);
    assert.equal(unknown.verdict, 'refused');
  });

  it('money from outside is one credit, on whichever order of whichever provider and however it is written', async () => {
    const crypto = await waitingTopUp(ledger, { accountId, method: 'crypto', provider: 'crypto' });
    const text = `outside/Wire 2026-11-24 / ${++made}`;
    const same = [text, text.toUpperCase(), `outside/wire-2026-11-24--${made}`];
    const results = await Promise.allSettled(
      [order, crypto].flatMap((of) => [...same, ...same].map((spelling) => ask(spelling, '5', of))),
    );
    const asked = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    assert.deepEqual(
      asked.map(({ state, shown }) => [state, shown]),
      [['waiting', null]],
    );
    for (const result of results) {
      if (result.status === 'rejected') assert.equal(ledgerRefusal(result.reason)?.code, 'credit_waits');
    }
    await decideManualCredit(ledger.management, { id: asked[0]!.id, approve: true, decidedBy: BOB });
    await assert.rejects(ask(text, '5', crypto), (error) => ledgerRefusal(error)?.code === 'payment_credited');
    assert.equal(await creditsOf(), 1);
  });

  it('a payment of no order, credited by hand on one while another one’s look credits it: one credit', async () => {
    for (let n = 0; n < ROUNDS; n++) {
      const [mine, other] = [order, await waitingTopUp(ledger, { accountId })];
      const paymentId = `pi_3Paid${++made}`;
      const sum = { received: usd('10.50'), currency: 'usd' };
      await noteListedPayment(ledger.worker, { provider: 'stripe', paymentId, topUp: null, ...sum });
      const { id } = await ask(paymentId, '10', other);
      const credit = { topUpId: mine.id, paymentId, received: sum.received, credit: usd('10'), isFinal: true };
      const decision = { id, approve: true, decidedBy: BOB };
      const [byHand, byItself] = await Promise.allSettled([
        decideManualCredit(ledger.management, decision),
        creditPayment(ledger.worker, { ...credit, creditedBy: 'provider' }),
      ]);
      assert.equal(byItself.status, 'fulfilled');
      const isByHand = byHand.status === 'fulfilled' && byHand.value.state === 'posted';
      if (byHand.status === 'rejected') assert.equal(ledgerRefusal(byHand.reason)?.code, 'payment_of_another_order');
      assert.equal(byItself.status === 'fulfilled' && byItself.value, !isByHand);
      assert.equal(await creditsOf(), n + 1);
    }
  });

  it('a payment that the statement lists for an order is that order’s, also before its own look has shown it', async () => {
    const other = await waitingTopUp(ledger, { accountId });
    const n = ++made;
    const listed = { provider: 'stripe', paymentId: `pi_3Paid${n}`, received: usd('10.50'), currency: 'usd' };
    await noteListedPayment(ledger.worker, { ...listed, topUp: order.id });
    const refused = await findPayment(ledger.management, other, `pi_3Paid${n}`);
    assert.ok(refused.verdict === 'refused' && refused.isAnotherOrders);
    assert.equal((await ask(`pi_3Paid${n}`, '1')).state, 'waiting');
    await note();
    assert.equal((await listKnownPayments(ledger.management, order.id))[0]?.status, 'listed');
    await note(paid(n));
    assert.equal((await listKnownPayments(ledger.management, order.id))[0]?.status, 'paid');
    await noteListedPayment(ledger.worker, { ...listed, topUp: null });
    assert.equal((await listKnownPayments(ledger.management, order.id))[0]?.status, 'paid');
  });

  it('payments in other currencies are summed by currency, as long as the provider shows them', async () => {
    const receivedOther = async () => (await topUpById(ledger.worker, order.id))!.receivedOther;
    const yen = { received: usd('1500'), currency: 'jpy' };
    await note(paid(++made, yen), paid(++made, yen), paid(++made, { ...yen, currency: 'eur' }), paid(++made));
    assert.deepEqual(await receivedOther(), [
      { currency: 'eur', amount: usd('1500') },
      { currency: 'jpy', amount: usd('3000') },
    ]);
    await note(paid(made));
    assert.deepEqual(await receivedOther(), []);
  });
});
