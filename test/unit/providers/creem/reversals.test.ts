/**
 * Reversals of a Creem payment: the sum is the transaction's, the names are the events'. Together with
 * `planReversals` each history must end where the transaction stands, whatever events came, and with each movement
 * once.
 */
import assert from 'node:assert/strict';
import { creemReversals, outcomeOf } from '../../../../providers/creem/reversals.ts';
import type { CreemTransaction } from '../../../../providers/creem/answers.ts';
import type { CreemReversal } from '../../../../db/payments/creem-events.ts';
import { picoUsd, usd, ZERO_USD } from '../../../../domain/money.ts';
import { planReversals, reversalStepKey, type ReversalFacts } from '../../../../domain/payments/top-up.ts';

const NOW = new Date('2026-06-01T00:00:00Z');
const DAY_MS = 86_400_000;
const RECEIVED = usd('10.50');
/** With 21 % tax. */
const PAID = 1271;

const transaction = (status: string, refundedCents: number | null = null): CreemTransaction => ({
  id: 'tran_1',
  orderId: 'ord_1',
  status,
  amountCents: 1050,
  discountCents: 0,
  currency: 'usd',
  paidCents: PAID,
  taxCents: 221,
  refundedCents,
  createdAt: NOW,
});

const refund = (id: string, cents: number, status = 'succeeded', daysAgo = 0): CreemReversal => ({
  id,
  kind: 'refund',
  cents,
  status,
  createdAt: new Date(NOW.getTime() - daysAgo * DAY_MS),
});

const dispute = (id: string, daysAgo = 0): CreemReversal => ({
  id,
  kind: 'dispute',
  cents: PAID,
  status: null,
  createdAt: new Date(NOW.getTime() - daysAgo * DAY_MS),
});

const facts = (
  now: CreemTransaction,
  named: readonly CreemReversal[] = [],
  steps: Iterable<string> = [],
): ReversalFacts[] => creemReversals({ transaction: now, received: RECEIVED, named, steps: new Set(steps), now: NOW });

/** A credited payment that is looked at again and again. */
class Payment {
  reversed = ZERO_USD;
  readonly steps = new Set<string>();
  movements = 0;

  look(now: CreemTransaction, named: readonly CreemReversal[] = []): this {
    const credited = usd('10');
    const reversals = facts(now, named, this.steps);
    const plan = planReversals({ credited, received: RECEIVED, reversals }, this);
    for (const { objectId, direction, amount } of plan.steps) {
      this.steps.add(reversalStepKey(objectId, direction));
      this.reversed = picoUsd(direction === 'out' ? this.reversed + amount : this.reversed - amount);
      if (amount > 0n) this.movements++;
    }
    assert.equal(plan.unexplained, 0n);
    return this;
  }
}

describe('reversals of a Creem payment', () => {
  it('a reversal takes the part without tax, to the last fraction in any split', () => {
    const parts = facts(transaction('refunded', PAID), [
      refund('ref_1', 333),
      refund('ref_2', 333),
      refund('ref_3', 605),
    ]);
    assert.deepEqual(
      parts.map(({ objectId, isTaken }) => [objectId, isTaken]),
      [
        ['ref_1', true],
        ['ref_2', true],
        ['ref_3', true],
      ],
    );
    assert.equal(
      parts.reduce((sum, { amount }) => sum + amount, 0n),
      RECEIVED,
    );
  });

  it('an unknown status, a part of unknown size and a payment under way have no reversals', () => {
    assert.equal(outcomeOf('onHold'), 'unknown');
    assert.equal(outcomeOf('constructor'), 'unknown');
    for (const status of ['onHold', 'partialRefund', 'pending']) {
      assert.deepEqual(facts(transaction(status), [dispute('disp_1')]), []);
    }
  });

  it('a payment without a refund has no reversals', () => {
    assert.deepEqual(facts(transaction('paid', 0)), []);
  });

  for (const status of ['refunded', 'chargedBack', 'chargeback', 'void', 'canceled']) {
    it(`a reversal takes everything where the transaction is ${status}, with any sums`, () => {
      assert.equal(new Payment().look(transaction(status)).reversed, usd('10'));
    });
  }

  it('reversals without events are named by the sum, each sum once', () => {
    const payment = new Payment().look(transaction('partialRefund', 400)).look(transaction('partialRefund', 400));
    assert.equal(payment.movements, 1);
    payment.look(transaction('partialRefund', 900)).look(transaction('refunded', PAID));
    assert.deepEqual([payment.reversed, payment.movements], [usd('10'), 3]);
  });

  it('reversals named by their sum do not move again when their event comes late', () => {
    const named = [refund('ref_1', 400)];
    const payment = new Payment()
      .look(transaction('partialRefund', 400))
      .look(transaction('partialRefund', 400), named);
    assert.equal(payment.movements, 1);
    payment.look(transaction('refunded', PAID), [...named, refund('ref_2', PAID - 400)]);
    assert.deepEqual([payment.reversed, payment.movements], [usd('10'), 2]);
  });

  it('a reversal is restored when the sum falls again, with and without an event', () => {
    const unnamed = new Payment().look(transaction('refunded', PAID)).look(transaction('paid', 0));
    assert.deepEqual([unnamed.reversed, unnamed.movements], [ZERO_USD, 2]);
    const named = [refund('ref_1', PAID, 'pending')];
    const payment = new Payment().look(transaction('refunded', PAID), named).look(transaction('paid', 0), named);
    assert.deepEqual([payment.reversed, payment.movements], [ZERO_USD, 2]);
  });

  it('a won dispute is reversed again with the next dispute, or without an event', () => {
    const first = [dispute('disp_1')];
    const won = (): Payment =>
      new Payment().look(transaction('chargedBack', PAID), first).look(transaction('paid', 0), first);
    assert.equal(won().reversed, ZERO_USD);
    assert.equal(won().look(transaction('chargedBack', PAID), [...first, dispute('disp_2')]).reversed, usd('10'));
    assert.equal(won().look(transaction('chargedBack', PAID), first).reversed, usd('10'));
  });

  it('a dispute that became a refund is one movement, in either order of the events', () => {
    const both = [dispute('disp_1'), refund('ref_1', PAID)];
    for (const first of both) {
      const payment = new Payment()
        .look(transaction('chargedBack', PAID), [first])
        .look(transaction('refunded', PAID), both);
      assert.deepEqual([payment.reversed, payment.movements], [usd('10'), 1]);
    }
  });

  it('stay open while Creem may still change its mind, and no longer', () => {
    const isOpen = (now: CreemTransaction, named: CreemReversal): boolean => facts(now, [named])[0]!.isOpen;
    assert.equal(isOpen(transaction('chargedBack', PAID), dispute('disp_1', 179)), true);
    assert.equal(isOpen(transaction('paid', 0), dispute('disp_1', 179)), true);
    assert.equal(isOpen(transaction('chargedBack', PAID), dispute('disp_1', 180)), false);
    assert.equal(isOpen(transaction('refunded', PAID), dispute('disp_1')), false);
    assert.equal(isOpen(transaction('refunded', PAID), refund('ref_1', PAID)), false);
    assert.equal(isOpen(transaction('refunded', PAID), refund('ref_1', PAID, 'pending')), true);
    assert.equal(isOpen(transaction('paid', 0), refund('ref_1', PAID)), true);
    assert.equal(isOpen(transaction('paid', 0), refund('ref_1', PAID, 'pending', 30)), false);
    assert.equal(isOpen(transaction('paid', 0), refund('ref_1', PAID, 'failed')), false);
  });
});
