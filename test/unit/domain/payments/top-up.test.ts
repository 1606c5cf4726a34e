/**
 * Top-ups: which payments credit, where an order stands, and that a credit is taken back exactly as far as money went
 * back.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { picoUsd, usd, ZERO_USD, type PicoUsd } from '../../../../domain/money.ts';
import {
  centsOf,
  decideTopUp,
  feeOf,
  planReversals,
  reversalStepKey,
  reversedShare,
  type CheckoutFacts,
  type PaymentFacts,
  type ReversalFacts,
  type TopUpOrder,
  type TopUpState,
} from '../../../../domain/payments/top-up.ts';

const ORDER: TopUpOrder = {
  state: 'waiting',
  amount: usd('10'),
  charge: usd('10.50'),
  currency: 'usd',
  live: false,
  accepts: 'exact',
  leastReceived: ZERO_USD,
};

function payment(given: Partial<PaymentFacts> = {}): PaymentFacts {
  return {
    paymentId: 'pi_1',
    status: 'paid',
    received: usd('10.50'),
    currency: 'usd',
    live: false,
    isFinal: true,
    reversals: [],
    ...given,
  };
}

function refund(objectId: string, amount: string, given: Partial<ReversalFacts> = {}): ReversalFacts {
  return { objectId, kind: 'refund', amount: usd(amount), isTaken: true, isOpen: false, ...given };
}

describe('top-up', () => {
  describe('an order', () => {
    const cases: readonly {
      name: string;
      order?: Partial<TopUpOrder>;
      facts: Partial<CheckoutFacts>;
      state: TopUpState;
      credited?: readonly string[];
      quarantine?: string;
      /** Payments that are left over, by why. */
      mismatched?: Readonly<Record<string, string>>;
    }[] = [
      { name: 'waits while its checkout is open', facts: {}, state: 'waiting' },
      { name: 'is credited when it is paid', facts: { payments: [payment()] }, state: 'credited', credited: ['pi_1'] },
      {
        name: 'is credited once per payment, also for two payments of one order',
        facts: { payments: [payment(), payment({ paymentId: 'pi_2' })] },
        state: 'credited',
        credited: ['pi_1', 'pi_2'],
      },
      {
        name: 'is not credited while a slow method is under way',
        facts: { checkout: 'complete', payments: [payment({ status: 'processing' })] },
        state: 'processing',
      },
      {
        name: 'has failed when the slow method failed',
        order: { state: 'processing' },
        facts: { checkout: 'complete', payments: [payment({ status: 'failed' })] },
        state: 'failed',
      },
      { name: 'expires when nobody paid', facts: { checkout: 'expired' }, state: 'expired' },
      {
        name: 'that has expired is still credited when money comes',
        order: { state: 'expired' },
        facts: { checkout: 'complete', payments: [payment()] },
        state: 'credited',
        credited: ['pi_1'],
      },
      {
        name: 'stays credited when its checkout says expired',
        order: { state: 'credited' },
        facts: { checkout: 'expired' },
        state: 'credited',
      },
      { name: 'that was given up stays so', order: { state: 'abandoned' }, facts: {}, state: 'abandoned' },
      {
        name: 'that was given up is credited when money comes',
        order: { state: 'abandoned' },
        facts: { payments: [payment()] },
        state: 'credited',
        credited: ['pi_1'],
      },
      {
        name: 'paid with another amount waits for a person',
        facts: { payments: [payment({ received: usd('10.49') })] },
        state: 'quarantined',
        quarantine: 'amount_mismatch',
        mismatched: { pi_1: 'amount_mismatch' },
      },
      {
        name: 'paid in another currency waits for a person',
        facts: { payments: [payment({ currency: 'eur' })] },
        state: 'quarantined',
        quarantine: 'currency_mismatch',
        mismatched: { pi_1: 'currency_mismatch' },
      },
      {
        name: 'paid in the other mode waits for a person',
        facts: { payments: [payment({ live: true })] },
        state: 'quarantined',
        quarantine: 'mode_mismatch',
        mismatched: { pi_1: 'mode_mismatch' },
      },
      {
        name: 'that completed without a payment waits for a person',
        facts: { checkout: 'complete', payments: [payment({ status: 'no_payment', received: ZERO_USD })] },
        state: 'quarantined',
        quarantine: 'no_payment',
      },
      {
        name: 'of which one payment is credited names another one that is not',
        facts: {
          payments: [
            payment(),
            payment({ paymentId: 'pi_2', received: usd('3') }),
            payment({ paymentId: 'pi_3', live: true }),
          ],
        },
        state: 'credited',
        credited: ['pi_1'],
        quarantine: 'amount_mismatch',
        mismatched: { pi_2: 'amount_mismatch', pi_3: 'mode_mismatch' },
      },
      {
        name: 'names no payment whose money has gone back, and one of which a part has',
        order: { state: 'credited' },
        facts: {
          payments: [
            payment({ received: usd('3'), reversals: [refund('re_1', '3')] }),
            payment({ paymentId: 'pi_2', received: usd('3'), reversals: [refund('re_2', '1')] }),
            payment({ paymentId: 'pi_3', received: usd('3'), reversals: [refund('re_3', '3', { isTaken: false })] }),
            payment({ paymentId: 'pi_4', received: ZERO_USD }),
          ],
        },
        state: 'credited',
        quarantine: 'amount_mismatch',
        mismatched: { pi_2: 'amount_mismatch', pi_3: 'amount_mismatch', pi_4: 'amount_mismatch' },
      },
      {
        name: 'that was given up while its payment waited for a person stays so, and names the payment',
        order: { state: 'abandoned' },
        facts: { checkout: 'complete', payments: [payment({ received: usd('3') })] },
        state: 'abandoned',
        quarantine: 'amount_mismatch',
        mismatched: { pi_1: 'amount_mismatch' },
      },
    ];
    for (const { name, order, facts, state, credited = [], quarantine = null, mismatched = {} } of cases) {
      it(name, () => {
        const decision = decideTopUp({ ...ORDER, ...order }, { checkout: 'open', payments: [], ...facts });
        assert.equal(decision.state, state);
        assert.deepEqual(
          decision.credit.map(({ payment: { paymentId } }) => paymentId),
          credited,
        );
        assert.equal(decision.quarantine, quarantine);
        const left = decision.mismatched.map(({ payment: { paymentId }, reason }) => [paymentId, reason]);
        assert.deepEqual(Object.fromEntries(left), mismatched);
      });
    }

    it('an order that accepts any sum credits each payment pro rata, down to the pico-USD', () => {
      const order: TopUpOrder = { ...ORDER, accepts: 'any' };
      const payments = [payment({ received: usd('21') }), payment({ paymentId: 'pi_2', received: usd('0.01') })];
      const { credit, state } = decideTopUp(order, { checkout: 'expired', payments });
      assert.equal(state, 'credited');
      assert.deepEqual(
        credit.map(({ amount }) => amount),
        [usd('20'), usd('0.009523809523')],
      );
    });

    it('an order that accepts any sum credits no payment before all together reach the minimum', () => {
      const order: TopUpOrder = { ...ORDER, accepts: 'any', leastReceived: usd('0.50') };
      const dust = payment({ received: usd('0.25') });
      const facts = (payments: readonly PaymentFacts[]): CheckoutFacts => ({ checkout: 'open', payments });
      const first = decideTopUp(order, facts([dust]));
      assert.deepEqual([first.credit, first.state, first.received], [[], 'waiting', usd('0.25')]);
      const both = decideTopUp(order, facts([dust, { ...dust, paymentId: 'pi_2' }]));
      assert.equal(both.credit.length, 2);
    });

    it('an order that accepts any sum credits no payment below the ledger’s precision', () => {
      const order: TopUpOrder = { ...ORDER, accepts: 'any' };
      const payments = [payment(), payment({ paymentId: 'pi_2', received: picoUsd(1n) })];
      const { credit, state } = decideTopUp(order, { checkout: 'open', payments });
      assert.deepEqual([credit.map(({ payment: { paymentId } }) => paymentId), state], [['pi_1'], 'credited']);
    });

    it('an order shows the received sum also where it is not credited', () => {
      const facts: CheckoutFacts = { checkout: 'complete', payments: [payment({ received: usd('3') })] };
      assert.equal(decideTopUp(ORDER, facts).received, usd('3'));
    });
  });

  describe('a reversal', () => {
    /** Applies a plan as the ledger does. */
    class Ledger {
      reversed = ZERO_USD;
      readonly steps = new Set<string>();
      readonly movements: string[] = [];

      see(reversals: readonly ReversalFacts[], credited: PicoUsd, received: PicoUsd): bigint {
        const plan = planReversals({ credited, received, reversals }, this);
        for (const { objectId, direction, amount } of plan.steps) {
          assert.ok(amount >= 0n);
          const key = reversalStepKey(objectId, direction);
          assert.ok(!this.steps.has(key), `${key} moves once`);
          this.steps.add(key);
          this.reversed = picoUsd(direction === 'out' ? this.reversed + amount : this.reversed - amount);
          this.movements.push(`${key} ${amount}`);
        }
        return plan.unexplained;
      }
    }
    const credited = usd('10');
    const received = usd('10.50');

    it('a reversal takes back pro rata of the paid sum, rounded down, and all of it at 100 %', () => {
      const share = (...reversals: ReversalFacts[]): PicoUsd => reversedShare({ credited, received, reversals });
      assert.equal(share(refund('re_1', '5.25')), usd('5'));
      assert.equal(share(refund('re_1', '1')), usd('0.952380952380'));
      assert.equal(share(refund('re_1', '5.25'), refund('re_2', '5.25')), usd('10'));
    });

    it('two refunds are each taken back once', () => {
      const ledger = new Ledger();
      ledger.see([refund('re_1', '5.25')], credited, received);
      ledger.see([refund('re_1', '5.25'), refund('re_2', '2.10')], credited, received);
      ledger.see([refund('re_1', '5.25'), refund('re_2', '2.10')], credited, received);
      assert.equal(ledger.reversed, usd('7'));
    });

    it('a refund and a dispute at once take the credit back once', () => {
      const ledger = new Ledger();
      ledger.see([refund('du_1', '10.50', { kind: 'dispute' })], credited, received);
      ledger.see([refund('du_1', '10.50', { kind: 'dispute' }), refund('re_1', '10.50')], credited, received);
      assert.equal(ledger.reversed, credited);
    });

    it('a won dispute is restored once, and a refund that it had covered is then taken back', () => {
      const ledger = new Ledger();
      const dispute = refund('du_1', '10.50', { kind: 'dispute' });
      ledger.see([dispute], credited, received);
      ledger.see([{ ...dispute, isTaken: false }], credited, received);
      assert.equal(ledger.reversed, ZERO_USD);
      ledger.see([{ ...dispute, isTaken: false }], credited, received);
      assert.equal(ledger.reversed, ZERO_USD);
      ledger.see([{ ...dispute, isTaken: false }, refund('re_1', '2.10')], credited, received);
      assert.equal(ledger.reversed, usd('2'));
    });

    it('an inquiry takes nothing back', () => {
      const ledger = new Ledger();
      ledger.see([refund('du_1', '10.50', { kind: 'dispute', isTaken: false, isOpen: true })], credited, received);
      assert.deepEqual(ledger.movements, []);
    });

    it('a reversal that changes twice is left to a person', () => {
      const ledger = new Ledger();
      const dispute = refund('du_1', '10.50', { kind: 'dispute' });
      for (const isTaken of [true, false]) assert.equal(ledger.see([{ ...dispute, isTaken }], credited, received), 0n);
      assert.equal(ledger.see([dispute], credited, received), credited);
    });

    it('equals the fold over the present truth, whatever was seen on the way', () => {
      const object = fc.record({
        cents: fc.integer({ min: 1, max: 1050 }),
        // Every object is taken at some step and may be given back at a later one.
        takenAt: fc.nat(6),
        backAfter: fc.option(fc.integer({ min: 1, max: 6 }), { nil: null }),
      });
      fc.assert(
        fc.property(
          fc.array(object, { maxLength: 5 }),
          fc.uniqueArray(fc.nat(12), { maxLength: 13 }),
          (objects, looks) => {
            const truthAt = (step: number): ReversalFacts[] =>
              objects
                .map(({ cents, takenAt, backAfter }, n) => ({
                  objectId: `o${n}`,
                  kind: 'refund' as const,
                  amount: picoUsd(BigInt(cents) * 10_000_000_000n),
                  isTaken: step >= takenAt && (backAfter === null || step < takenAt + backAfter),
                  isOpen: true,
                }))
                .filter((_, n) => step >= objects[n]!.takenAt);
            const ledger = new Ledger();
            for (const step of [...looks.toSorted((a, b) => a - b), 13]) {
              const truth = truthAt(step);
              assert.equal(ledger.see(truth, credited, received), 0n);
              assert.equal(ledger.reversed, reversedShare({ credited, received, reversals: truth }));
              assert.ok(ledger.reversed >= 0n && ledger.reversed <= credited);
            }
          },
        ),
      );
    });
  });

  it('the fee of a method is in whole cents, rounded up', () => {
    assert.equal(feeOf(usd('10'), { ppm: 0, fixed: ZERO_USD }), ZERO_USD);
    assert.equal(feeOf(usd('10'), { ppm: 29_000, fixed: usd('0.30') }), usd('0.59'));
    assert.equal(feeOf(usd('5.01'), { ppm: 10_000, fixed: ZERO_USD }), usd('0.06'));
  });

  it('converts cents exactly, and says when an amount has a fraction of one', () => {
    assert.equal(centsOf(usd('10.50')), 1050);
    assert.equal(centsOf(usd('10.501')), null);
  });
});
