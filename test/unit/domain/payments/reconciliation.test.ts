/** Reconciliation: what counts as a gap between the ledger and a provider, and who may close it. */
import assert from 'node:assert/strict';
import { usd, ZERO_USD } from '../../../../domain/money.ts';
import { gapsOf, type BookedPayment, type GapKind } from '../../../../domain/payments/reconciliation.ts';
import type { CheckoutFacts, PaymentFacts, TopUpOrder } from '../../../../domain/payments/top-up.ts';

const ORDER: TopUpOrder = {
  state: 'credited',
  amount: usd('10'),
  charge: usd('10.50'),
  currency: 'usd',
  live: false,
  accepts: 'exact',
  leastReceived: ZERO_USD,
};
const PAID: PaymentFacts = {
  paymentId: 'pi_1',
  status: 'paid',
  received: usd('10.50'),
  currency: 'usd',
  live: false,
  isFinal: true,
  reversals: [],
};
const BOOKED: BookedPayment = {
  paymentId: 'pi_1',
  received: usd('10.50'),
  credited: usd('10'),
  reversed: ZERO_USD,
  creditedBy: 'provider',
  steps: new Set(),
};
const REFUND = { objectId: 're_1', kind: 'refund', amount: usd('5.25'), isTaken: true, isOpen: false } as const;

describe('reconciliation', () => {
  const cases: readonly {
    name: string;
    payments?: readonly PaymentFacts[];
    booked?: readonly BookedPayment[];
    gaps: readonly [GapKind, string, 'safe' | 'for a person'][];
  }[] = [
    { name: 'an order whose payment is booked has no gap', gaps: [] },
    { name: 'an order that nobody paid has no gap', payments: [], booked: [], gaps: [] },
    {
      name: 'a payment that is not credited',
      booked: [],
      gaps: [['payment_not_credited', '10', 'safe']],
    },
    {
      name: 'a second payment of one order that is not credited',
      payments: [PAID, { ...PAID, paymentId: 'pi_2' }],
      gaps: [['payment_not_credited', '10', 'safe']],
    },
    {
      name: 'a payment that waits in quarantine is no gap: it has its own case',
      payments: [{ ...PAID, received: usd('3') }],
      booked: [],
      gaps: [],
    },
    {
      name: 'a credit without a payment at the provider',
      payments: [],
      gaps: [['payment_not_at_provider', '-10', 'for a person']],
    },
    {
      name: 'a credit whose payment failed at the provider',
      payments: [{ ...PAID, status: 'failed' }],
      gaps: [['payment_not_at_provider', '-10', 'for a person']],
    },
    {
      name: 'a manual credit needs no payment at the provider',
      payments: [],
      booked: [{ ...BOOKED, creditedBy: 'tok_1' }],
      gaps: [],
    },
    {
      name: 'a credit that was taken back whole needs none either',
      payments: [],
      booked: [{ ...BOOKED, reversed: usd('10') }],
      gaps: [],
    },
    {
      name: 'a manual credit under the charge of a payment that is credited as well',
      payments: [{ ...PAID, otherIds: ['ch_1', 'cs_1'] }],
      booked: [BOOKED, { ...BOOKED, paymentId: 'CH_1', creditedBy: 'tok_1', reversed: usd('4') }],
      gaps: [['payment_credited_twice', '-6', 'for a person']],
    },
    {
      name: 'two manual credits under two other ids of a payment that is not credited by its own',
      payments: [{ ...PAID, otherIds: ['ch_1', 'cs_1'] }],
      booked: [
        { ...BOOKED, paymentId: 'ch_1', creditedBy: 'tok_1' },
        { ...BOOKED, paymentId: 'cs_1', creditedBy: 'tok_1' },
      ],
      gaps: [
        ['payment_not_credited', '10', 'safe'],
        ['payment_credited_twice', '-10', 'for a person'],
      ],
    },
    {
      name: 'a payment in another currency that a person has credited',
      payments: [{ ...PAID, received: usd('1500'), currency: 'jpy' }],
      booked: [{ ...BOOKED, creditedBy: 'tok_1' }],
      gaps: [],
    },
    {
      name: 'half of a payment in another currency that went back: half of its credit',
      payments: [{ ...PAID, received: usd('1500'), currency: 'jpy', reversals: [{ ...REFUND, amount: usd('750') }] }],
      booked: [{ ...BOOKED, creditedBy: 'tok_1' }],
      gaps: [['reversal_not_booked', '-5', 'safe']],
    },
    {
      name: 'another sum than the provider has',
      payments: [{ ...PAID, received: usd('9.50') }],
      gaps: [['amount_differs', '-1', 'for a person']],
    },
    {
      name: 'a refund that was not taken back',
      payments: [{ ...PAID, reversals: [REFUND] }],
      gaps: [['reversal_not_booked', '-5', 'safe']],
    },
    {
      name: 'a refund that failed and was not given back',
      payments: [{ ...PAID, reversals: [{ ...REFUND, isTaken: false }] }],
      booked: [{ ...BOOKED, reversed: usd('5'), steps: new Set(['re_1/out']) }],
      gaps: [['reversal_not_booked', '5', 'safe']],
    },
    {
      name: 'a refund of a manual credit is measured by the amount the provider shows as paid, as when it is booked',
      payments: [{ ...PAID, received: usd('20'), reversals: [{ ...REFUND, amount: usd('10') }] }],
      booked: [
        { ...BOOKED, received: usd('10'), creditedBy: 'tok_1', reversed: usd('5'), steps: new Set(['re_1/out']) },
      ],
      gaps: [],
    },
    {
      name: 'a refund that changed its mind twice',
      payments: [{ ...PAID, reversals: [REFUND] }],
      booked: [{ ...BOOKED, steps: new Set(['re_1/out', 're_1/in']) }],
      gaps: [['reversal_unexplained', '-5', 'for a person']],
    },
  ];
  for (const { name, payments = [PAID], booked = [BOOKED], gaps } of cases) {
    it(name, () => {
      const facts: CheckoutFacts = { checkout: 'complete', payments };
      assert.deepEqual(
        gapsOf(ORDER, facts, booked).map(({ kind, amount, isSafe }) => [kind, amount, isSafe]),
        gaps.map(([kind, amount, who]) => [kind, usd(amount), who === 'safe']),
      );
    });
  }
});
