/**
 * Where the ledger and a provider tell different stories about an order. A gap is what booking the provider's truth
 * would change now, found by the same rules that book it (domain/payments/top-up.ts), so the two cannot disagree about
 * what is right.
 */
import { amountText } from '../currency.ts';
import { formatUsd, picoUsd, ZERO_USD, type PicoUsd } from '../money.ts';
import { decideTopUp, planReversals, takenOf, usdReceived, type CheckoutFacts, type TopUpOrder } from './top-up.ts';

export const GAP_KINDS = [
  'payment_not_credited',
  'payment_not_at_provider',
  'payment_credited_twice',
  'amount_differs',
  'reversal_not_booked',
  'reversal_unexplained',
  'payment_without_order',
] as const;
export type GapKind = (typeof GAP_KINDS)[number];

export interface Gap {
  readonly kind: GapKind;
  /** The provider's id of the payment. */
  readonly paymentId: string;
  /** By how much the account is off: above zero where it has too little. */
  readonly amount: PicoUsd;
  /**
   * True when the order's own process closes it by looking at the provider once more; false when a person has to
   * decide.
   */
  readonly isSafe: boolean;
  readonly ledger: Readonly<Record<string, string>>;
  readonly provider: Readonly<Record<string, string>>;
}

/** A payment as the ledger has it. */
export interface BookedPayment {
  readonly paymentId: string;
  readonly received: PicoUsd;
  readonly credited: PicoUsd;
  readonly reversed: PicoUsd;
  /** `provider`, or the person who credited it by hand: then the provider need not know it. */
  readonly creditedBy: string;
  readonly steps: ReadonlySet<string>;
}

/** Every difference between an order's bookings and the provider's present truth. */
export function gapsOf(order: TopUpOrder, facts: CheckoutFacts, booked: readonly BookedPayment[]): Gap[] {
  const gaps: Gap[] = [];
  for (const { payment, amount } of decideTopUp(order, facts).credit) {
    if (booked.some(({ paymentId }) => paymentId === payment.paymentId)) continue;
    gaps.push({
      kind: 'payment_not_credited',
      paymentId: payment.paymentId,
      amount,
      isSafe: true,
      ledger: { credited_usd: formatUsd(picoUsd(0n)) },
      provider: { received_usd: formatUsd(usdReceived(order, payment) ?? ZERO_USD) },
    });
  }
  for (const payment of booked) gaps.push(...gapsOfPayment(order, payment, facts));
  gaps.push(...creditedTwice(facts, booked));
  return gaps;
}

/** Credits under another id of a payment that is credited by its own key, or under a second one of its other ids. */
function creditedTwice({ payments }: CheckoutFacts, booked: readonly BookedPayment[]): Gap[] {
  return payments.flatMap(({ paymentId, otherIds = [] }) => {
    const names = [paymentId, ...otherIds].map((name) => name.toLowerCase());
    const credits = booked.filter((payment) => names.includes(payment.paymentId.toLowerCase()));
    const right = credits.find((payment) => payment.paymentId === paymentId) ?? credits[0];
    return credits
      .filter((payment) => payment !== right)
      .map(({ paymentId: creditedAs, credited, reversed, creditedBy }): Gap => ({
        kind: 'payment_credited_twice',
        paymentId: creditedAs,
        amount: picoUsd(reversed - credited),
        isSafe: false,
        ledger: { credited_usd: formatUsd(credited), reversed_usd: formatUsd(reversed), credited_by: creditedBy },
        provider: { payment_id: paymentId },
      }));
  });
}

function gapsOfPayment(order: TopUpOrder, booked: BookedPayment, facts: CheckoutFacts): Gap[] {
  const truth = facts.payments.find(({ paymentId }) => paymentId === booked.paymentId);
  const { paymentId } = booked;
  const left = picoUsd(booked.credited - booked.reversed);
  const ledger = {
    received_usd: formatUsd(booked.received),
    credited_usd: formatUsd(booked.credited),
    reversed_usd: formatUsd(booked.reversed),
    credited_by: booked.creditedBy,
  };
  if (truth === undefined || (truth.status !== 'paid' && truth.reversals.length === 0)) {
    if (booked.creditedBy !== 'provider' || left === 0n) return [];
    const status = truth?.status ?? 'unknown';
    return [
      {
        kind: 'payment_not_at_provider',
        paymentId,
        amount: picoUsd(0n - left),
        isSafe: false,
        ledger,
        provider: { status },
      },
    ];
  }
  const inUsd = usdReceived(order, truth);
  const taken = takenOf(truth.reversals);
  const provider =
    inUsd === null
      ? { received: amountText(truth.received, truth.currency), taken: amountText(taken, truth.currency) }
      : { received_usd: formatUsd(inUsd), taken_usd: formatUsd(picoUsd(taken)) };
  const gaps: Gap[] = [];
  if (inUsd !== booked.received && booked.creditedBy === 'provider') {
    const amount = picoUsd((inUsd ?? ZERO_USD) - booked.received);
    gaps.push({ kind: 'amount_differs', paymentId, amount, isSafe: false, ledger, provider });
  }
  // By the provider's own number, as when they are booked: of a manual credit the ledger has the amount that a person
  // stated.
  const { credited } = booked;
  const { received, reversals } = truth;
  const { steps, unexplained } = planReversals({ credited, received, reversals }, booked);
  const moves = steps.reduce((sum, step) => sum + (step.direction === 'out' ? 0n - step.amount : step.amount), 0n);
  if (steps.length > 0) {
    gaps.push({ kind: 'reversal_not_booked', paymentId, amount: picoUsd(moves), isSafe: true, ledger, provider });
  }
  if (unexplained !== 0n) {
    const amount = picoUsd(0n - unexplained);
    gaps.push({ kind: 'reversal_unexplained', paymentId, amount, isSafe: false, ledger, provider });
  }
  return gaps;
}
