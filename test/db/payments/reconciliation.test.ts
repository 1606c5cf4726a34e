/**
 * The bulk comparison of a provider's statement with the ledger says the same as asking about each order would: an
 * entry that it lets pass has no gap by the rules that book payments, and one unit of difference is enough to be looked
 * at.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  bookedPayments,
  compareEntries,
  type EntryToCompare,
  type RunPage,
} from '../../../db/payments/reconciliation.ts';
import { creditPayment, paymentsOf, reversePayment } from '../../../db/payments/payments.ts';
import { beginCheckout, createTopUp } from '../../../db/payments/top-ups.ts';
import { uuidOf, type AccountUuid, type Uuid } from '../../../domain/ids.ts';
import { addUsd, picoUsd, usd, ZERO_USD, type PicoUsd } from '../../../domain/money.ts';
import { gapsOf } from '../../../domain/payments/reconciliation.ts';
import {
  planReversals,
  type PaymentFacts,
  type ReversalFacts,
  type TopUpOrder,
} from '../../../domain/payments/top-up.ts';
import { createCustomer, createLedgerDatabase, uuidAt, type LedgerDatabase } from '../../support/ledger-database.ts';

const ORDER: TopUpOrder = {
  state: 'credited',
  amount: usd('10'),
  charge: usd('10.53'),
  currency: 'usd',
  live: true,
  accepts: 'exact',
  leastReceived: ZERO_USD,
};

describe('comparing statements in bulk', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  let pages = 0;

  before(async () => {
    ledger = await createLedgerDatabase('bulk-comparison');
    accountId = await createCustomer(ledger, '0');
  });
  after(() => ledger.database.drop());

  /** A credited order and its payment's own id. */
  async function credited(paymentId: string): Promise<{ id: Uuid<'topUp'>; payment: string }> {
    const { id } = await createTopUp(ledger.management, {
      ...{
        id: uuidOf('topUp', uuidAt(Date.now())),
        accountId,
        method: 'card',
        provider: 'stripe',
        amount: ORDER.amount,
      },
      ...{ fee: usd('0.53'), currency: 'usd', live: true, expiresInSeconds: 3600 },
    });
    await beginCheckout(ledger.worker, id, { providerId: `cs_${paymentId}`, url: null, expiresAt: null });
    await creditPayment(ledger.worker, {
      ...{
        topUpId: id,
        paymentId,
        received: ORDER.charge,
        credit: ORDER.amount,
        isFinal: true,
        creditedBy: 'provider',
      },
    });
    const [made] = await paymentsOf(ledger.worker, id);
    return { id, payment: made!.id };
  }

  /** How many of the entries are to be looked at. */
  async function differing(entries: readonly EntryToCompare[]): Promise<number> {
    const run: RunPage = { provider: 'stripe', run: new Date(), page: pages++ };
    return (await compareEntries(ledger.worker, run, entries, [])).length;
  }

  const refundOf = (amount: PicoUsd, isTaken = true): ReversalFacts => ({
    ...{ objectId: `re_${randomUUID()}`, kind: 'refund', amount, isTaken, isOpen: false },
  });

  for (const [name, cents] of [
    ['none', []],
    ['one cent', [1]],
    ['a sum that does not divide', [337]],
    ['two of them', [1, 336]],
    ['three thirds', [351, 351, 351]],
    ['all but a cent', [1052]],
  ] as const) {
    it(`a statement agrees exactly after refunds were booked: ${name}`, async () => {
      const paymentId = `pi_${randomUUID()}`;
      const { id, payment } = await credited(paymentId);
      const reversals: ReversalFacts[] = [];
      for (const amount of cents) {
        reversals.push(refundOf(picoUsd(BigInt(amount) * 10_000_000_000n)));
        const [booked] = await bookedPayments(ledger.worker, id);
        const truth = { credited: ORDER.amount, received: ORDER.charge, reversals };
        for (const step of planReversals(truth, booked!).steps) {
          assert.ok(await reversePayment(ledger.worker, payment, step, booked!.reversed));
        }
      }
      const facts: PaymentFacts = {
        ...{ paymentId, status: 'paid', received: ORDER.charge, currency: 'usd', live: true, isFinal: true, reversals },
      };
      const booked = await bookedPayments(ledger.worker, id);
      assert.deepEqual(gapsOf(ORDER, { checkout: 'complete', payments: [facts] }, booked), []);

      const taken = picoUsd(reversals.reduce((sum, { amount }) => sum + amount, 0n));
      const entry = { paymentId, topUp: id, received: ORDER.charge, currency: 'usd', taken, reversal: null };
      const told = reversals.map(({ objectId, isTaken }) => ({
        ...{ paymentId, topUp: null, received: null, currency: null, taken: null, reversal: { objectId, isTaken } },
      }));
      assert.equal(await differing([entry, ...told]), 0);
      const cent = usd('0.01');
      assert.equal(
        await differing([
          // More than all of it is all of it.
          { ...entry, taken: picoUsd(taken < ORDER.charge ? taken + cent : taken - cent) },
          { ...entry, received: addUsd(ORDER.charge, cent) },
          { ...entry, topUp: uuidOf('topUp', uuidAt(Date.now())) },
          { ...entry, taken: null },
          { ...entry, paymentId: 'pi_of_nobody' },
          { ...entry, currency: 'eur' },
        ]),
        6,
      );
    });
  }

  it('a refund that failed after it was booked is looked at until it is given back', async () => {
    const paymentId = `pi_${randomUUID()}`;
    const { payment } = await credited(paymentId);
    const { objectId, kind } = refundOf(usd('5'));
    const entry = {
      ...{ paymentId, topUp: null, received: ORDER.charge, currency: 'usd', taken: ZERO_USD, reversal: null },
    };
    const failed = { ...entry, received: null, taken: null, reversal: { objectId, isTaken: false } };
    await reversePayment(ledger.worker, payment, { objectId, kind, direction: 'out', amount: usd('5') }, ZERO_USD);
    assert.equal(await differing([entry, failed]), 2);
    await reversePayment(ledger.worker, payment, { objectId, kind, direction: 'in', amount: usd('5') }, usd('5'));
    assert.equal(await differing([entry, failed]), 0);
    // It has gone and come back: if it is said to be taken again, a person has to look.
    assert.equal(await differing([{ ...failed, reversal: { objectId, isTaken: true } }]), 1);
  });
});
