/** Top-ups in SQL: credits and reversals happen once, for any number of calls; state and money move together. */
import assert from 'node:assert/strict';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import { findUnhandledEvents, handleEvent, storeEvent } from '../../../db/payments/provider-events.ts';
import {
  creditPayment,
  findQuietReversals,
  keepOpenReversals,
  paymentsOf,
  reversePayment,
} from '../../../db/payments/payments.ts';
import {
  beginCheckout,
  createTopUp,
  noteTopUpLook,
  noteTopUpStuck,
  findQuietTopUps,
  moveTopUp,
  paidTopUp,
  topUpById,
  type TopUp,
} from '../../../db/payments/top-ups.ts';
import { uuidOf, type AccountUuid } from '../../../domain/ids.ts';
import { usd, ZERO_USD, type PicoUsd } from '../../../domain/money.ts';
import type { ReversalStep } from '../../../domain/payments/top-up.ts';
import { createCustomer, createLedgerDatabase, uuidAt, type LedgerDatabase } from '../../support/ledger-database.ts';
import { brokenRules } from '../../support/ledger-database.ts';

const CALLERS = 24;

describe('top-ups', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  let order: TopUp;
  let payments = 0;

  before(async () => {
    ledger = await createLedgerDatabase('top-ups', 8);
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '0');
    order = await newOrder();
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  const newPayment = (): string => `pi_${++payments}`;

  function newOrder(): Promise<TopUp> {
    return createTopUp(ledger.management, {
      id: uuidOf('topUp', uuidAt(Date.now())),
      accountId,
      method: 'card',
      provider: 'stripe',
      amount: usd('10'),
      fee: usd('0.50'),
      currency: 'usd',
      live: false,
      expiresInSeconds: 3600,
    });
  }

  async function balance(): Promise<PicoUsd> {
    const { rows } = await ledger.admin.query<{ balance: string }>('select balance from account where id = $1', [
      accountId,
    ]);
    return usd(rows[0]!.balance);
  }

  const credit = (topUp: TopUp, paymentId: string): Promise<boolean> =>
    creditPayment(ledger.worker, {
      topUpId: topUp.id,
      paymentId,
      received: usd('10.50'),
      credit: topUp.amount,
      isFinal: true,
      creditedBy: 'provider',
    });

  const step = (objectId: string, direction: 'out' | 'in', amount: string): ReversalStep => ({
    objectId,
    kind: 'refund',
    direction,
    amount: usd(amount),
  });

  it('an order is created once per id; other content under the same id is refused', async () => {
    const again = { ...order, expiresInSeconds: 60 };
    assert.deepEqual(await createTopUp(ledger.management, again), order);
    await assert.rejects(
      createTopUp(ledger.management, { ...again, amount: usd('11') }),
      (error) => ledgerRefusal(error)?.code === 'id_reused',
    );
  });

  it('the first checkout of an order counts', async () => {
    const first = { providerId: `cs_${order.id}`, url: 'http://pay/1', expiresAt: null };
    assert.equal((await beginCheckout(ledger.worker, order.id, first)).state, 'waiting');
    const second = await beginCheckout(ledger.worker, order.id, {
      ...first,
      providerId: 'cs_other',
      url: 'http://pay/2',
    });
    assert.deepEqual([second.providerId, second.checkoutUrl], [first.providerId, 'http://pay/1']);
  });

  it('S4: a payment is credited once by many at once, in the transaction that closes the order', async () => {
    const paymentId = newPayment();
    await Promise.all(Array.from({ length: CALLERS }, () => credit(order, paymentId)));
    assert.equal(await balance(), usd('10'));
    const { state, credited, received } = (await topUpById(ledger.worker, order.id))!;
    assert.deepEqual([state, credited, received], ['credited', usd('10'), usd('10.50')]);
    assert.equal((await paidTopUp(ledger.management, 'stripe', paymentId))?.id, order.id);
  });

  it('two payments of one order are two credits', async () => {
    const paid = [newPayment(), newPayment()];
    await Promise.all(paid.map((paymentId) => credit(order, paymentId)));
    assert.equal(await balance(), usd('20'));
    assert.equal((await topUpById(ledger.worker, order.id))!.received, usd('21'));
  });

  it('a payment cannot be credited to a second order', async () => {
    const paymentId = newPayment();
    const other = await newOrder();
    const results = await Promise.all([credit(order, paymentId), credit(other, paymentId)]);
    assert.deepEqual(results.sort(), [false, true], 'the second one is told so, and does not fail for good');
    assert.equal(await balance(), usd('10'));
  });

  it('expiry and payment at once: the payment wins, whichever comes first', async () => {
    for (let n = 0; n < 10; n++) {
      const raced = await newOrder();
      const expire = moveTopUp(ledger.worker, {
        id: raced.id,
        from: 'created',
        to: 'expired',
        stuck: null,
        received: ZERO_USD,
      });
      await Promise.all(n % 2 === 0 ? [expire, credit(raced, newPayment())] : [credit(raced, newPayment()), expire]);
      assert.equal((await topUpById(ledger.worker, raced.id))!.state, 'credited');
    }
  });

  it('the received sum never falls', async () => {
    const move = (received: string) =>
      moveTopUp(ledger.worker, {
        id: order.id,
        from: 'created',
        to: 'created',
        stuck: 'amount_mismatch',
        received: usd(received),
      });
    assert.equal((await move('7')).received, usd('7'));
    assert.equal((await move('3')).received, usd('7'));
  });

  it('a reversal moves once per object and direction, by many at once, and may leave a debt', async () => {
    await credit(order, newPayment());
    const [payment] = await paymentsOf(ledger.worker, order.id);
    const out = step(`re_${payment!.id}`, 'out', '10');
    await ledger.admin.query(
      `select post_transfer('adjustment_spent', uuidv7(), $1, system_account('adjustment'), 8, null, false)`,
      [accountId],
    );
    const done = await Promise.all(
      Array.from({ length: CALLERS }, () => reversePayment(ledger.worker, payment!.id, out, ZERO_USD)),
    );
    assert.ok(done.every(Boolean));
    assert.equal(await balance(), usd('-8'));
    assert.equal(await reversePayment(ledger.worker, payment!.id, step(out.objectId, 'in', '10'), usd('10')), true);
    assert.equal(await balance(), usd('2'));
    const [after] = await paymentsOf(ledger.worker, order.id);
    assert.deepEqual(
      [after!.reversed, [...after!.steps].toSorted()],
      [ZERO_USD, [`${out.objectId}/in`, `${out.objectId}/out`]],
    );
  });

  it('a step planned on what is no longer so is not taken', async () => {
    await credit(order, newPayment());
    const [payment] = await paymentsOf(ledger.worker, order.id);
    const both = ['a', 'b'].map((name) =>
      reversePayment(ledger.worker, payment!.id, step(`re_${name}_${payment!.id}`, 'out', '6'), ZERO_USD),
    );
    assert.deepEqual((await Promise.all(both)).toSorted(), [false, true]);
    assert.equal(await balance(), usd('4'));
  });

  it('an event is stored once and found until somebody has handled it', async () => {
    const event = { provider: 'stripe', eventId: `evt_${order.id}`, type: 'x', payload: { data: { n: 1 } } };
    const stored = await Promise.all(Array.from({ length: CALLERS }, () => storeEvent(ledger.management, event)));
    assert.equal(stored.filter(Boolean).length, 1);
    const find = async (): Promise<string[]> =>
      (await findUnhandledEvents(ledger.worker, 0, 100))
        .map(({ eventId }) => eventId)
        .filter((id) => id === event.eventId);
    assert.deepEqual(await find(), [event.eventId]);
    await handleEvent(ledger.worker, 'stripe', event.eventId, 'credited');
    assert.deepEqual(await find(), []);
  });

  it('events that cannot be placed do not keep those after them from being found', async () => {
    const mine = Array.from({ length: 5 }, (_, n) => `evt_${n}_${order.id}`);
    for (const eventId of mine) {
      await storeEvent(ledger.management, { provider: 'stripe', eventId, type: 'x', payload: {} });
    }
    const find = async (): Promise<string[]> =>
      (await findUnhandledEvents(ledger.worker, 0, 2)).map(({ eventId }) => eventId);
    const found = new Set([...(await find()), ...(await find()), ...(await find())]);
    assert.deepEqual([...found].toSorted(), mine);
    for (const eventId of mine) await handleEvent(ledger.worker, 'stripe', eventId, 'not ours');
  });

  it('reversals that can still change are found once their order has been quiet', async () => {
    await credit(order, newPayment());
    const [payment] = await paymentsOf(ledger.worker, order.id);
    const objectId = `du_${payment!.id}`;
    const find = async (ageSeconds: number, pollSeconds: number): Promise<string[]> =>
      (await findQuietReversals(ledger.worker, { ageSeconds, pollSeconds, limit: 1000 }))
        .filter(({ topUpId }) => topUpId === order.id)
        .map(({ provider, objectId: found }) => `${provider} ${found}`);
    assert.deepEqual(await find(0, 0), [], 'nothing is taken back');
    await keepOpenReversals(ledger.worker, payment!.id, [objectId, 're_1']);
    await keepOpenReversals(ledger.worker, payment!.id, [objectId]);
    assert.deepEqual(await find(0, 0), [`stripe ${objectId}`]);
    assert.deepEqual(await find(0, 60), [], 'its run waits for the provider');
    await noteTopUpLook(ledger.worker, order.id);
    assert.deepEqual(await find(0.5, 0), [], 'its run has just asked');
    await ledger.admin.query(`update open_reversal set seen_at = now() - interval '181 days' where payment = $1`, [
      payment!.id,
    ]);
    assert.deepEqual(await find(0, 0), [], 'no provider takes that long');
    await keepOpenReversals(ledger.worker, payment!.id, []);
    const { rowCount } = await ledger.admin.query('select from open_reversal where payment = $1', [payment!.id]);
    assert.equal(rowCount, 0);
  });

  describe('open orders of an account', () => {
    const MAX = 3;
    const ordered = (id = uuidOf('topUp', uuidAt(Date.now()))): Promise<TopUp> =>
      createTopUp(ledger.management, { ...order, id, expiresInSeconds: 3600, openMax: MAX });
    const isRefused = (error: unknown): boolean => ledgerRefusal(error)?.code === 'too_many_open_top_ups';

    it('open orders of an account are no more than allowed, by many at once', async () => {
      const results = await Promise.allSettled(Array.from({ length: CALLERS }, () => ordered()));
      const refused = results.filter((result) => result.status === 'rejected');
      assert.ok(refused.every(({ reason }) => isRefused(reason)));
      assert.equal(CALLERS - refused.length, MAX - 1, 'one was open before');
    });

    it('ended orders do not count as open, and an existing order can be requested again', async () => {
      const last = (await Promise.all([ordered(), ordered()]))[1];
      await assert.rejects(ordered(), isRefused);
      assert.equal((await ordered(last.id)).id, last.id);
      await credit(order, newPayment());
      assert.equal((await ordered()).state, 'created');
      await assert.rejects(ordered(), isRefused);
    });

    it('open orders of other accounts do not count', async () => {
      await Promise.all([ordered(), ordered()]);
      const other = { ...order, id: uuidOf('topUp', uuidAt(Date.now())), accountId: await createCustomer(ledger, '0') };
      assert.equal(
        (await createTopUp(ledger.management, { ...other, expiresInSeconds: 60, openMax: 1 })).state,
        'created',
      );
    });
  });

  it('open orders are found once they have been quiet, closed ones are not', async () => {
    const closed = await newOrder();
    await credit(closed, newPayment());
    const find = (ageSeconds: number, pollSeconds: number): Promise<string[]> =>
      findQuietTopUps(ledger.worker, { ageSeconds, pollSeconds, limit: 1000 });
    const open = await find(0, 60);
    assert.ok(open.includes(order.id) && !open.includes(closed.id));
    assert.ok(!(await find(60, 0)).includes(order.id));
    await beginCheckout(ledger.worker, order.id, { providerId: `cs_${order.id}`, url: null, expiresAt: null });
    assert.ok(!(await find(0, 60)).includes(order.id), 'its run waits for the customer');
    assert.ok((await find(0, 0)).includes(order.id));
    await noteTopUpLook(ledger.worker, order.id);
    assert.ok(!(await find(0.5, 0)).includes(order.id), 'its run has just asked');
  });

  it('a credited one of which the provider would not tell all is looked at once an hour, until it does', async () => {
    const unread = await newOrder();
    await credit(unread, newPayment());
    const find = async (): Promise<boolean> => {
      const quiet = await findQuietTopUps(ledger.worker, { ageSeconds: 0, pollSeconds: 0, limit: 1000 });
      return quiet.includes(unread.id);
    };
    await noteTopUpStuck(ledger.worker, unread.id, 'permission_missing');
    assert.equal((await topUpById(ledger.worker, unread.id))?.stuck, 'permission_missing');
    assert.equal(await find(), false);
    await ledger.admin.query(`update top_up set looked_at = looked_at - interval '61 minutes' where id = $1`, [
      unread.id,
    ]);
    assert.equal(await find(), true);
    await noteTopUpStuck(ledger.worker, unread.id, null);
    assert.equal(await find(), false);
  });
});
