/**
 * Top-ups: from what a payment provider says to what happens here. Pure: the states of an order, which payments are
 * credited, and how much of a credited payment has to be taken back. Every rule is a function of the provider's present
 * truth, never of the event that announced it, so deliveries may come in any order and number. Whether a reversal also
 * freezes automatic top-ups is decided under the payment's lock (db/functions/payments/reversals.sql).
 */
import type { CardFacts } from './auto-top-up.ts';
import { addUsd, formatUsdShort, maxUsd, picoUsd, type PicoAmount, type PicoUsd, ZERO_USD } from '../money.ts';

/**
 * `created` has no provider object yet, `waiting` has one, `processing` is paid by a method that takes days. `credited`
 * is final; `expired`, `failed`, `abandoned` are ends that money can still undo; `quarantined` waits for a person, who
 * may give it up.
 */
export const TOP_UP_STATES = [
  'created',
  'waiting',
  'processing',
  'credited',
  'expired',
  'failed',
  'quarantined',
  'abandoned',
] as const;
export type TopUpState = (typeof TOP_UP_STATES)[number];

/** States in which a top-up needs a workflow of its own. */
export const OPEN_TOP_UP_STATES: readonly TopUpState[] = ['created', 'waiting', 'processing', 'quarantined'];

export function isOpenTopUp(state: TopUpState): boolean {
  return OPEN_TOP_UP_STATES.includes(state);
}

/** Why a payment is not credited automatically. */
export const QUARANTINE_REASONS = ['amount_mismatch', 'currency_mismatch', 'mode_mismatch', 'no_payment'] as const;
export type QuarantineReason = (typeof QUARANTINE_REASONS)[number];

export interface TopUpOrder {
  readonly state: TopUpState;
  /** The credited amount. */
  readonly amount: PicoUsd;
  /** The price for the customer: the amount and the fee. */
  readonly charge: PicoUsd;
  /** ISO code in lower case. */
  readonly currency: string;
  /** True for real money. */
  readonly live: boolean;
  /**
   * `exact`: only a payment of exactly the charge is credited, with the order's amount; another one waits for a person.
   * `any`: each payment is credited with its own share (what a chain transfer brings cannot be refused), once all of
   * them together reach `leastReceived`.
   */
  readonly accepts: 'exact' | 'any';
  readonly leastReceived: PicoUsd;
}

/** A payment as its provider reports it now. */
export interface PaymentFacts {
  /** The provider's id of the money itself, not of the checkout: what a credit is keyed by. */
  readonly paymentId: string;
  readonly status: 'paid' | 'processing' | 'failed' | 'no_payment';
  /** The amount paid, in `currency`: no sum of USD where that is another one (see `usdReceived`). */
  readonly received: PicoAmount;
  /** ISO code in lower case. */
  readonly currency: string;
  /** Other ids under which the provider, its dashboard or a chain explorer shows the same money. */
  readonly otherIds?: readonly string[];
  readonly live: boolean;
  /** False while the payment itself can still vanish (a block that is not final). A later loss is a reversal. */
  readonly isFinal: boolean;
  readonly reversals: readonly ReversalFacts[];
  /** Why a failed one failed, as the provider's code, where it says so. */
  readonly failure?: string;
  /** Fraud warnings of the payer's bank, before any money went back. */
  readonly warnings?: readonly FraudWarning[];
  /** The means of payment, as far as its provider can recognize it again. */
  readonly marks?: readonly PayerMark[];
  /**
   * Parts that the provider does not show now. Where they are essential, `reversals` is incomplete and decides nothing.
   */
  readonly unread?: readonly UnreadPart[];
}

/** A bank's word that a payment of its card is fraud. */
export interface FraudWarning {
  readonly objectId: string;
  readonly fraudType: string;
}

/** A means of payment that its provider recognizes across customers; kinds are rows of `referral_signal`. */
export interface PayerMark {
  readonly kind: 'card_fingerprint' | 'bank_fingerprint' | 'payer_account' | 'funding_address';
  readonly value: string;
}

/** A part of a payment's truth that could not be read. No payment waits for its credit because of one. */
export interface UnreadPart {
  /** In words: "refunds", "early fraud warnings". */
  readonly part: string;
  /** True where money moves by it: then a person has to see to it. */
  readonly isEssential: boolean;
  /** Why: a refusal lasts until somebody acts, any other error may pass. */
  readonly error: Error;
}

/** A refund or dispute of a payment, or the loss of its block, as its provider reports it now. */
export interface ReversalFacts {
  readonly objectId: string;
  readonly kind: 'refund' | 'dispute' | 'reorg';
  /** In the payment's currency. */
  readonly amount: PicoAmount;
  /** True while the provider has taken the money back, or may be about to (a dispute under review). */
  readonly isTaken: boolean;
  /** True while it can still change. */
  readonly isOpen: boolean;
}

export interface CheckoutFacts {
  readonly checkout: 'open' | 'complete' | 'expired';
  readonly payments: readonly PaymentFacts[];
  /** The card that the payment left with the provider for later. */
  readonly card?: CardFacts;
  /** The reason why an open payment waits, in words; `stuck` is a code where it needs staff. */
  readonly remark?: { readonly stuck: string | null; readonly words: string };
}

/** The subject of a provider's event; everything else is read from the provider. */
export interface EventSubject {
  /** The refund or dispute, where the event is about one. */
  readonly reversalId: string | null;
  /** The order (`top_…`), where the event itself names it. */
  readonly topUpId: string | null;
  /** The payment, where it names one. */
  readonly paymentId: string | null;
  /** Cards that can no longer be charged, where the event says so: one card, or all cards of a customer object. */
  readonly gone?: { readonly paymentMethod: string | null; readonly customerId: string | null };
  /** A warning of fraud, which the event itself tells whole. */
  readonly warning?: FraudWarning;
  /** Why it cannot be about anything of ours, where the event alone says so. */
  readonly foreign?: ForeignReason;
}

/**
 * Why an event is closed without an effect: it belongs to another account that the provider serves through ours, it has
 * no object that can be read, it names nothing that is ours, or its provider knows no such payment of ours.
 */
export const FOREIGN_REASONS = ['other_account', 'unreadable', 'nothing_of_ours', 'unknown_at_provider'] as const;
export type ForeignReason = (typeof FOREIGN_REASONS)[number];

export interface TopUpDecision {
  readonly state: TopUpState;
  /** Payments to credit, and with what; crediting is keyed by payment, so a repeat does nothing. */
  readonly credit: readonly { readonly payment: PaymentFacts; readonly amount: PicoUsd }[];
  readonly quarantine: QuarantineReason | null;
  /**
   * Payments that are not credited automatically and whose money has not gone back. An order that is quarantined waits
   * for a person as a whole; in any other state nobody looks at it for their sake, so each of them needs a case of its
   * own.
   */
  readonly mismatched: readonly { readonly payment: PaymentFacts; readonly reason: QuarantineReason }[];
  /**
   * The most that was seen to be paid in the order's currency, credited or not: tells "paid but not credited" from
   * "never paid".
   */
  readonly received: PicoUsd;
}

/** The paid amount in the order's currency; null where it was paid in another one, for which there is no rate. */
export function usdReceived(
  order: Pick<TopUpOrder, 'currency'>,
  payment: Pick<PaymentFacts, 'currency' | 'received'>,
): PicoUsd | null {
  return payment.currency === order.currency ? picoUsd(payment.received) : null;
}

/**
 * The decision that follows from the provider's facts. Money wins over every end: a payment after expiry still credits.
 */
export function decideTopUp(order: TopUpOrder, facts: CheckoutFacts): TopUpDecision {
  const paid = facts.payments.filter((payment) => payment.status === 'paid');
  const received = addUsd(...paid.map((payment) => usdReceived(order, payment) ?? ZERO_USD));
  const credit = paid
    .filter((payment) => received >= order.leastReceived && mismatchOf(order, payment) === null)
    .map((payment) => ({ payment, amount: creditOf(order, usdReceived(order, payment) ?? ZERO_USD) }))
    // The ledger posts nothing below its smallest unit.
    .filter(({ amount }) => amount > 0n);
  const bad = facts.payments.flatMap((payment) => {
    const reason = mismatchOf(order, payment);
    return reason === null ? [] : [{ payment, reason }];
  });
  const quarantine = bad[0]?.reason ?? null;
  const mismatched = bad.filter(({ payment }) => payment.status === 'paid' && !hasGoneBack(payment));
  return { state: nextState(), credit, quarantine, mismatched, received };

  function nextState(): TopUpState {
    if (credit.length > 0 || order.state === 'credited') return 'credited';
    // Before what cannot be credited: else nobody could ever give up an order that has such a payment.
    if (order.state === 'abandoned') return 'abandoned';
    if (quarantine !== null) return 'quarantined';
    if (facts.payments.some((payment) => payment.status === 'processing')) return 'processing';
    if (facts.checkout === 'expired') return 'expired';
    if (facts.checkout === 'complete') return 'failed';
    return 'waiting';
  }
}

function mismatchOf(order: TopUpOrder, payment: PaymentFacts): QuarantineReason | null {
  if (payment.status === 'no_payment') return 'no_payment';
  if (payment.status !== 'paid') return null;
  if (payment.live !== order.live) return 'mode_mismatch';
  if (payment.currency !== order.currency) return 'currency_mismatch';
  if (order.accepts === 'exact' && payment.received !== order.charge) return 'amount_mismatch';
  return null;
}

/** True when all that was paid is with the payer again, or on its way. */
function hasGoneBack({ received, reversals }: PaymentFacts): boolean {
  const taken = takenOf(reversals);
  return taken > 0n && taken >= received;
}

/** How much of a payment its provider has taken back, in the payment's currency. */
export function takenOf(reversals: readonly ReversalFacts[]): PicoAmount {
  return reversals.reduce((sum, { isTaken, amount }) => (isTaken ? sum + amount : sum), 0n) as PicoAmount;
}

/** The credit for a payment: the order's amount for its charge, and pro rata, rounded down, for any other sum. */
function creditOf({ amount, charge }: TopUpOrder, received: PicoUsd): PicoUsd {
  return received === charge ? amount : picoUsd((received * amount) / charge);
}

/** `out` takes credit back, `in` gives it back once the reversal has failed or was won. */
export type ReversalDirection = 'out' | 'in';

export interface ReversalStep {
  readonly objectId: string;
  readonly kind: ReversalFacts['kind'];
  readonly direction: ReversalDirection;
  /** May be zero: the step is still recorded, so that it is not examined again. */
  readonly amount: PicoUsd;
}

/** How much of a credit is to be taken back: pro rata of what was paid, rounded down, and all of it at 100 %. */
export function reversedShare(payment: {
  readonly credited: PicoUsd;
  readonly received: PicoAmount;
  readonly reversals: readonly ReversalFacts[];
}): PicoUsd {
  const taken = takenOf(payment.reversals);
  if (taken >= payment.received) return payment.credited;
  return picoUsd((payment.credited * taken) / payment.received);
}

/**
 * The movements that bring a credited payment to its reversed share, given what was recorded before. Each object moves
 * at most once in each direction, and every step goes to the share and never past it: overlapping refunds and disputes
 * take a credit back once. A difference that no step is left to close (an object that changed its mind twice) is a case
 * for a person.
 */
export function planReversals(
  payment: { readonly credited: PicoUsd; readonly received: PicoAmount; readonly reversals: readonly ReversalFacts[] },
  recorded: { readonly reversed: PicoUsd; readonly steps: ReadonlySet<string> },
): { readonly steps: readonly ReversalStep[]; readonly unexplained: PicoUsd } {
  const target = reversedShare(payment);
  let reversed = recorded.reversed;
  const steps: ReversalStep[] = [];
  for (const { objectId, kind, isTaken } of payment.reversals) {
    const wasTaken = recorded.steps.has(reversalStepKey(objectId, 'out'));
    const direction = isTaken ? 'out' : 'in';
    if (!isTaken && !wasTaken) continue;
    if (recorded.steps.has(reversalStepKey(objectId, direction))) continue;
    const sign = direction === 'out' ? 1n : -1n;
    const amount = maxUsd(picoUsd(sign * (target - reversed)), ZERO_USD);
    reversed = picoUsd(reversed + sign * amount);
    steps.push({ objectId, kind, direction, amount });
  }
  return { steps, unexplained: picoUsd(target - reversed) };
}

export function reversalStepKey(objectId: string, direction: ReversalDirection): string {
  return `${objectId}/${direction}`;
}

/** An order in one line, as an operator reads it beside its run. */
export function summaryOfTopUp(order: {
  readonly amount: PicoUsd;
  readonly fee: PicoUsd;
  readonly method: string;
  readonly provider: string;
}): string {
  const ordered = `${formatUsdShort(order.amount)} USD by ${order.method}`;
  if (order.fee === 0n && order.provider === order.method) return ordered;
  return `${ordered}, ${formatUsdShort(addUsd(order.amount, order.fee))} USD asked at ${order.provider}`;
}

export interface TopUpFee {
  /** Parts per million of the amount. */
  readonly ppm: number;
  readonly fixed: PicoUsd;
}

const PICO_PER_CENT = 10_000_000_000n;

/** The fee of a method for an amount, in whole cents, rounded up. */
export function feeOf(amount: PicoUsd, fee: TopUpFee): PicoUsd {
  const exact = (amount * BigInt(fee.ppm) + 999_999n) / 1_000_000n + fee.fixed;
  return picoUsd(((exact + PICO_PER_CENT - 1n) / PICO_PER_CENT) * PICO_PER_CENT);
}

/** Whole cents; null when the amount has a fraction of one. */
export function centsOf(amount: PicoUsd): number | null {
  return amount % PICO_PER_CENT === 0n ? Number(amount / PICO_PER_CENT) : null;
}
