/**
 * Reversals of a payment: refunds, disputes, and the warning before them. `amount_refunded` of a charge is the sum of
 * its refunds that have not failed; a dispute's money moves apart from its status, each direction at most once.
 */
import type Stripe from 'stripe';

import { findCard } from './cards.ts';
import { invalidRequest } from './errors.ts';
import { disputeMovement, newDispute, newRefund, newWarning } from './reversal-objects.ts';
import { type DisputeRow, idOf } from './store.ts';
import type { World } from './world.ts';

export const REFUND_STATUSES = ['pending', 'requires_action', 'succeeded', 'failed'] as const;
export type RefundStatus = (typeof REFUND_STATUSES)[number];

const CLOSED = ['won', 'lost', 'warning_closed', 'prevented'];

export interface RefundRequest {
  /** Absent: all that is left. */
  readonly amount: number | undefined;
  /** Absent: what the card's refunds do. */
  readonly status?: RefundStatus | undefined;
  readonly reason?: Stripe.Refund.Reason | undefined;
  readonly metadata?: Record<string, string>;
}

export function refundCharge(world: World, charge: Stripe.Charge, request: RefundRequest): Stripe.Refund {
  const { store, clock, events, agenda, options } = world;
  const left = charge.amount - charge.amount_refunded;
  const amount = request.amount ?? left;
  if (charge.disputed && store.disputes.find((row) => row.dispute.charge === charge.id && row.isWithdrawn)) {
    throw invalidRequest(
      `Charge ${charge.id} has been charged back; cannot issue a refund.`,
      undefined,
      'charge_disputed',
    );
  }
  if (charge.refunded) {
    throw invalidRequest(`Charge ${charge.id} has already been refunded.`, undefined, 'charge_already_refunded');
  }
  if (amount < 1) {
    throw invalidRequest('Invalid positive integer', 'amount', 'parameter_invalid_integer');
  }
  if (amount > left) {
    throw invalidRequest(
      `Refund amount (${dollars(amount)}) is greater than unrefunded amount on charge (${dollars(left)})`,
      'amount',
    );
  }

  const later = refundLaterOf(world, charge);
  const status = request.status ?? (later === 'refund_succeeds' ? 'pending' : 'succeeded');
  const { reason = null, metadata = {} } = request;
  const refund = newRefund({
    ...{ now: clock.now(), charge, amount, reason, metadata },
    status: status === 'failed' ? 'pending' : status,
  });
  store.refunds.put(refund);
  const before = charge.amount_refunded;
  countRefunds(world, charge);
  events.emit('refund.created', refund);
  events.emit('charge.refunded', charge, { amount_refunded: before });
  if (status === 'failed') changeRefund(world, refund, 'failed');
  else if (request.status === undefined && later !== null) {
    agenda.plan(later, refund.id, clock.nowMs() + options.laterDelayMs);
  }
  return refund;
}

/** A failed refund gives the money back to the seller: the charge counts as less refunded again. */
export function changeRefund(world: World, refund: Stripe.Refund, status: RefundStatus): void {
  const { store, events } = world;
  if (refund.status === status) return;
  const previous = { status: refund.status };
  refund.status = status;
  if (status === 'failed') {
    refund.failure_reason = 'expired_or_canceled_card';
    refund.failure_balance_transaction = `txn_failed_${refund.id}`;
  }
  store.refunds.put(refund);
  const charge = store.charges.get(idOf(refund.charge));
  if (charge !== undefined) countRefunds(world, charge);
  events.emit('refund.updated', refund, previous);
  events.emit('charge.refund.updated', refund, previous);
  if (status === 'failed') events.emit('refund.failed', refund);
}

export interface DisputeRequest {
  readonly amount?: number | undefined;
  /** Absent: the charge's. */
  readonly currency?: string | undefined;
  readonly status?: string | undefined;
  readonly reason?: string | undefined;
  /** Absent: unless it is an inquiry or `prevented`. */
  readonly withdraw?: boolean | undefined;
}

export function openDispute(world: World, charge: Stripe.Charge, request: DisputeRequest): Stripe.Dispute {
  const { store, clock, events } = world;
  const { status = 'needs_response', reason = 'fraudulent', currency = charge.currency } = request;
  // A charge that was refunded can still be disputed.
  const left = charge.amount - charge.amount_refunded;
  const amount = request.amount ?? (left > 0 ? left : charge.amount);
  const dispute = newDispute({ now: clock.now(), charge, amount, currency, reason, status });
  const row = store.disputes.put({ id: dispute.id, dispute, isWithdrawn: false });
  charge.disputed = true;
  store.charges.put(charge);
  events.emit('charge.dispute.created', dispute);
  if (request.withdraw ?? takesFunds(status)) moveFunds(world, row, 'withdrawn');
  if (CLOSED.includes(status)) events.emit('charge.dispute.closed', dispute);
  return dispute;
}

export interface DisputeChange {
  readonly status?: string | undefined;
  /** Absent: when an inquiry becomes a dispute. */
  readonly withdraw?: boolean | undefined;
  /** Absent: when the dispute is won. */
  readonly reinstate?: boolean | undefined;
}

export function changeDispute(world: World, row: DisputeRow, change: DisputeChange): void {
  const { dispute } = row;
  const before = dispute.status;
  const status = change.status ?? before;
  const isEscalated = !takesFunds(before) && takesFunds(status);
  dispute.status = status;
  dispute.is_charge_refundable = status.startsWith('warning_');
  if (status === 'under_review' || status === 'warning_under_review') {
    dispute.evidence_details.has_evidence = true;
    dispute.evidence_details.submission_count = 1;
    dispute.evidence_details.submission_method = 'manual';
  }
  world.store.disputes.put(row);
  if (change.withdraw ?? isEscalated) moveFunds(world, row, 'withdrawn');
  if (change.reinstate ?? status === 'won') moveFunds(world, row, 'reinstated');
  if (status === before) return;
  const type = CLOSED.includes(status) ? 'charge.dispute.closed' : 'charge.dispute.updated';
  world.events.emit(type, dispute, { status: before });
}

export function warnOfFraud(world: World, charge: Stripe.Charge): Stripe.Radar.EarlyFraudWarning {
  const warning = world.store.warnings.put(newWarning(world.clock.now(), charge));
  world.events.emit('radar.early_fraud_warning.created', warning);
  return warning;
}

/** Inquiries, and disputes settled before they began, leave the money where it is. */
function takesFunds(status: string): boolean {
  return !status.startsWith('warning_') && status !== 'prevented';
}

/** Nothing happens when the money is already where it should go. */
function moveFunds(world: World, row: DisputeRow, direction: 'withdrawn' | 'reinstated'): void {
  const isWithdrawn = direction === 'withdrawn';
  if (row.isWithdrawn === isWithdrawn) return;
  row.isWithdrawn = isWithdrawn;
  row.dispute.balance_transactions.push(disputeMovement(world.clock.now(), row.dispute, direction));
  world.store.disputes.put(row);
  world.events.emit(isWithdrawn ? 'charge.dispute.funds_withdrawn' : 'charge.dispute.funds_reinstated', row.dispute);
}

function countRefunds(world: World, charge: Stripe.Charge): void {
  const counted = world.store.refunds
    .oldestFirst()
    .filter((refund) => refund.charge === charge.id && refund.status !== 'failed' && refund.status !== 'canceled');
  charge.amount_refunded = counted.reduce((sum, refund) => sum + refund.amount, 0);
  charge.refunded = charge.amount_refunded === charge.amount;
  world.store.charges.put(charge);
}

function refundLaterOf(world: World, charge: Stripe.Charge): 'refund_succeeds' | 'refund_fails' | null {
  const method = world.store.methods.get(charge.payment_method ?? '');
  return method === undefined ? null : (findCard(method.number)?.refundLater ?? null);
}

function dollars(cents: number): string {
  return `$${(cents / 100).toFixed(2)}`;
}
