/**
 * Reversals of a Creem payment. Creem's API has no list of refunds or disputes: a transaction says how much of it is
 * refunded and whether it was charged back, and that is the truth. Which refund or dispute it was is told by events
 * alone, which may be lost, may come twice for one reversal, and are never followed by one of the end. So the sum comes
 * from the transaction and is shared out among what the events have named; what nobody has named gets a name made of
 * the transaction's id and the sum.
 */
import type { CreemReversal } from '../../db/payments/creem-events.ts';
import { picoUsd, ZERO_USD, type PicoAmount } from '../../domain/money.ts';
import { reversalStepKey, type ReversalFacts } from '../../domain/payments/top-up.ts';
import type { CreemTransaction } from './answers.ts';

/** The outcome of a transaction. An unlisted status is checked again, and moves nothing meanwhile. */
export type CreemOutcome = 'pending' | 'paid' | 'refunded' | 'charged_back' | 'void' | 'unknown';

/** The SDK knows `chargedBack`, the documentation's samples say `chargeback`. */
const OUTCOMES: Readonly<Record<string, CreemOutcome>> = {
  pending: 'pending',
  paid: 'paid',
  partialRefund: 'paid',
  refunded: 'refunded',
  chargedBack: 'charged_back',
  chargeback: 'charged_back',
  void: 'void',
  canceled: 'void',
  declined: 'void',
  uncollectible: 'void',
};

export function outcomeOf(status: string): CreemOutcome {
  return Object.hasOwn(OUTCOMES, status) ? OUTCOMES[status]! : 'unknown';
}

const DAY_MS = 86_400_000;
/** Card networks give both sides months, and Creem tells neither of the end nor of a second round. */
const DISPUTE_DAYS = 180;
/** How long a refund that was not through when its event was written may still change. */
const REFUND_DAYS = 30;

export interface CreemReversalInput {
  readonly transaction: CreemTransaction;
  /** The counted part of the payment, in its currency: without tax. */
  readonly received: PicoAmount;
  /** The oldest first. */
  readonly named: readonly CreemReversal[];
  /** `<object id>/<direction>` of every recorded step of the payment. */
  readonly steps: ReadonlySet<string>;
  readonly now: Date;
}

/** Taken ones first, so that a credit goes to its share before anything is said to be given back. */
export function creemReversals({ transaction, received, named, steps, now }: CreemReversalInput): ReversalFacts[] {
  const outcome = outcomeOf(transaction.status);
  const total = takenCents(transaction, outcome);
  if (total === null) return [];
  const paid = Math.max(transaction.paidCents ?? 0, 0);
  let shared = 0;
  const share = (cents: number): PicoAmount => {
    // Differences of running sums, so that the parts add up to the whole to the last fraction.
    const before = shareOf(received, shared, paid);
    shared += cents;
    return picoUsd(shareOf(received, shared, paid) - before);
  };

  // Refunds first: a dispute that was turned into one hands its share over.
  const inOrder = [...named].sort((a, b) => Number(a.kind === 'dispute') - Number(b.kind === 'dispute'));
  const facts = inOrder.map((reversal): ReversalFacts => {
    // A reversal that has gone and come back is done; later movements belong to another.
    const isDone = steps.has(reversalStepKey(reversal.id, 'out')) && steps.has(reversalStepKey(reversal.id, 'in'));
    const cents = !isDone && canBeTaken(reversal, outcome) ? Math.min(reversal.cents, total - shared) : 0;
    const isTaken = cents > 0;
    return {
      objectId: reversal.id,
      kind: reversal.kind,
      amount: isTaken ? share(cents) : shareOf(received, reversal.cents, paid),
      isTaken,
      isOpen: isOpen(reversal, outcome, isTaken, now),
    };
  });
  const unnamed = total - shared;
  const kind = outcome === 'charged_back' ? 'dispute' : 'refund';
  const current = unnamed > 0 ? unnamedId(transaction.id, kind, total) : null;
  if (current !== null) {
    const isStillOpen = kind === 'dispute' && isWithin(transaction.createdAt ?? now, DISPUTE_DAYS, now);
    facts.push({ objectId: current, kind, amount: share(unnamed), isTaken: true, isOpen: isStillOpen });
  }
  for (const objectId of unnamedBefore(transaction.id, steps)) {
    if (objectId === current) continue;
    const was = objectId.startsWith(unnamedId(transaction.id, 'dispute', '')) ? 'dispute' : 'refund';
    facts.push({ objectId, kind: was, amount: ZERO_USD, isTaken: false, isOpen: false });
  }
  return facts.sort((a, b) => Number(b.isTaken) - Number(a.isTaken));
}

/** How much of what was paid has gone back; null where that cannot be told now. */
function takenCents({ status, paidCents, refundedCents }: CreemTransaction, outcome: CreemOutcome): number | null {
  const paid = Math.max(paidCents ?? 0, 0);
  switch (outcome) {
    case 'refunded':
    case 'charged_back':
    case 'void':
      // With any sums: a share of nothing counts as the whole.
      return Math.max(paid, 1);
    case 'paid':
      if (refundedCents === null) return status === 'partialRefund' ? null : 0;
      return paidCents === null && refundedCents > 0 ? null : Math.max(refundedCents, 0);
    case 'pending':
    case 'unknown':
      return null;
  }
}

/** Rounded down; the whole for the whole. */
function shareOf(received: PicoAmount, cents: number, paid: number): PicoAmount {
  if (cents <= 0) return ZERO_USD;
  if (cents >= paid) return received;
  return picoUsd((received * BigInt(cents)) / BigInt(paid));
}

function canBeTaken({ kind, status }: CreemReversal, outcome: CreemOutcome): boolean {
  if (kind === 'refund') return status !== 'failed' && status !== 'canceled';
  // A dispute takes only while the transaction is charged back, or after it was turned into a refund.
  return outcome !== 'paid';
}

function isOpen({ kind, status, createdAt }: CreemReversal, outcome: CreemOutcome, taken: boolean, now: Date): boolean {
  const isAllGone = outcome === 'refunded' || outcome === 'void';
  if (kind === 'dispute') return !isAllGone && isWithin(createdAt, DISPUTE_DAYS, now);
  if (status === 'failed' || status === 'canceled') return false;
  // A refund that was complete when reported does not change; a pending one may still fail.
  return (status !== 'succeeded' || !(taken || isAllGone)) && isWithin(createdAt, REFUND_DAYS, now);
}

function isWithin(since: Date, days: number, now: Date): boolean {
  return now.getTime() < since.getTime() + days * DAY_MS;
}

/** The sum is in the name, since a later, larger one is another movement. */
function unnamedId(transactionId: string, kind: 'refund' | 'dispute', total: number | string): string {
  return `${transactionId}:${kind}:${total}`;
}

/** Names made earlier for this transaction, which steps were recorded under. */
function unnamedBefore(transactionId: string, steps: ReadonlySet<string>): string[] {
  const out = reversalStepKey('', 'out');
  return [...steps]
    .filter((step) => step.startsWith(`${transactionId}:`) && step.endsWith(out))
    .map((step) => step.slice(0, -out.length));
}
