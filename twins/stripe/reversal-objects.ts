/** New refunds, disputes and fraud warnings, typed by the SDK; see `objects.ts`. */
import type Stripe from 'stripe';

import { idOf, newId } from './store.ts';

/** Stripe's fee for a dispute, kept whatever its outcome. */
const DISPUTE_FEE_CENTS = 1500;
/** How long a seller may answer. */
const EVIDENCE_SECONDS = 7 * 86_400;

export interface RefundFacts {
  readonly now: number;
  readonly charge: Stripe.Charge;
  readonly amount: number;
  readonly status: string;
  readonly reason: Stripe.Refund.Reason | null;
  readonly metadata: Record<string, string>;
}

export function newRefund({ now, charge, amount, status, reason, metadata }: RefundFacts): Stripe.Refund {
  return {
    id: newId('re'),
    object: 'refund',
    amount,
    balance_transaction: newId('txn'),
    charge: charge.id,
    created: now,
    currency: charge.currency,
    customer: charge.customer,
    customer_account: null,
    destination_details: { type: 'card' },
    metadata,
    payment_intent: charge.payment_intent,
    payment_method: charge.payment_method,
    reason,
    receipt_number: null,
    source_transfer_reversal: null,
    status,
    transfer_reversal: null,
  };
}

export interface DisputeFacts {
  readonly now: number;
  readonly charge: Stripe.Charge;
  readonly amount: number;
  /** A bank may dispute in another currency than the charge's. */
  readonly currency: string;
  readonly reason: string;
  readonly status: Stripe.Dispute.Status;
}

export function newDispute({ now, charge, amount, currency, reason, status }: DisputeFacts): Stripe.Dispute {
  return {
    id: newId('dp'),
    object: 'dispute',
    amount,
    balance_transactions: [],
    charge: charge.id,
    created: now,
    currency,
    enhanced_eligibility_types: [],
    evidence: {
      access_activity_log: null,
      billing_address: null,
      cancellation_policy: null,
      cancellation_policy_disclosure: null,
      cancellation_rebuttal: null,
      customer_communication: null,
      customer_email_address: null,
      customer_name: null,
      customer_purchase_ip: null,
      customer_signature: null,
      duplicate_charge_documentation: null,
      duplicate_charge_explanation: null,
      duplicate_charge_id: null,
      enhanced_evidence: {},
      product_description: null,
      receipt: null,
      refund_policy: null,
      refund_policy_disclosure: null,
      refund_refusal_explanation: null,
      service_date: null,
      service_documentation: null,
      shipping_address: null,
      shipping_carrier: null,
      shipping_date: null,
      shipping_documentation: null,
      shipping_tracking_number: null,
      uncategorized_file: null,
      uncategorized_text: null,
    },
    evidence_details: {
      due_by: now + EVIDENCE_SECONDS,
      enhanced_eligibility: {},
      has_evidence: false,
      past_due: false,
      submission_count: 0,
      submission_method: 'not_submitted',
    },
    intended_submission_method: null,
    is_charge_refundable: status.startsWith('warning_'),
    livemode: false,
    metadata: {},
    payment_intent: charge.payment_intent,
    reason,
    status,
  };
}

/** The seller's balance paying for a dispute, or being paid back after a won one. */
export function disputeMovement(
  now: number,
  dispute: Stripe.Dispute,
  direction: 'withdrawn' | 'reinstated',
): Stripe.BalanceTransaction {
  const isWithdrawn = direction === 'withdrawn';
  const amount = isWithdrawn ? -dispute.amount : dispute.amount;
  const fee = isWithdrawn ? DISPUTE_FEE_CENTS : 0;
  const feeDetail = { amount: fee, application: null, currency: dispute.currency, description: 'Dispute fee' };
  return {
    id: newId('txn'),
    object: 'balance_transaction',
    amount,
    available_on: now,
    balance_type: 'payments',
    created: now,
    currency: dispute.currency,
    description: `Chargeback ${isWithdrawn ? 'withdrawal' : 'reversal'} for ${idOf(dispute.charge)}`,
    exchange_rate: null,
    fee,
    fee_details: fee === 0 ? [] : [{ ...feeDetail, type: 'stripe_fee' }],
    net: amount - fee,
    reporting_category: isWithdrawn ? 'dispute' : 'dispute_reversal',
    source: dispute.id,
    status: 'available',
    type: 'adjustment',
  };
}

export function newWarning(now: number, charge: Stripe.Charge): Stripe.Radar.EarlyFraudWarning {
  return {
    id: newId('issfr'),
    object: 'radar.early_fraud_warning',
    actionable: !charge.refunded && !charge.disputed,
    charge: charge.id,
    created: now,
    fraud_type: 'unauthorized_use_of_card',
    livemode: false,
    ...(charge.payment_intent !== null && { payment_intent: charge.payment_intent }),
  };
}
