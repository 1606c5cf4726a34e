/**
 * The test cards. Numbers and token names are Stripe's where it has one for the case; the delayed payments stand for
 * bank debits, and those that wait for their payer for vouchers and bank transfers, which Stripe has no card number
 * for. Spaces in a number do not matter.
 */
import type { TaskKind } from './store.ts';

export interface CardDecline {
  readonly code: string;
  readonly decline_code: string;
  readonly message: string;
}

export interface TestCard {
  readonly number: string;
  /** Its name in the control API. */
  readonly name: string;
  /** Its name in Stripe's API, instead of a payment method's id. */
  readonly token: string | null;
  readonly decline: CardDecline | null;
  readonly needsAuthentication: boolean;
  /** The later change of the payment that no call causes. */
  readonly later: TaskKind | null;
  /** The payer's step after the checkout, as Stripe names it in `next_action`; null where there is none. */
  readonly outside: 'oxxo_display_details' | 'konbini_display_details' | 'display_bank_transfer_instructions' | null;
  /** The course of its refunds. */
  readonly refundLater: 'refund_succeeds' | 'refund_fails' | null;
}

const DECLINED: CardDecline = {
  code: 'card_declined',
  decline_code: 'generic_decline',
  message: 'Your card was declined.',
};
const INSUFFICIENT: CardDecline = {
  code: 'card_declined',
  decline_code: 'insufficient_funds',
  message: 'Your card has insufficient funds.',
};
export const AUTHENTICATION_REQUIRED: CardDecline = {
  code: 'authentication_required',
  decline_code: 'authentication_required',
  message: 'Your card was declined. This transaction requires authentication.',
};
export const AUTHENTICATION_FAILED: CardDecline = {
  code: 'payment_intent_authentication_failure',
  decline_code: 'generic_decline',
  message: 'We are unable to authenticate your payment method. Please choose a different payment method and try again.',
};
export const ASYNC_FAILED: CardDecline = {
  code: 'payment_method_provider_decline',
  decline_code: 'generic_decline',
  message: 'The payment was refused by the bank.',
};

/** Why a voucher that nobody paid in time has failed. */
export const VOUCHER_EXPIRED: CardDecline = {
  code: 'payment_intent_payment_attempt_expired',
  decline_code: 'generic_decline',
  message: 'The payment was not completed in time.',
};

const plain = {
  token: null,
  decline: null,
  needsAuthentication: false,
  later: null,
  outside: null,
  refundLater: null,
} as const;

export const TEST_CARDS: readonly TestCard[] = [
  { ...plain, number: '4242424242424242', name: 'ok', token: 'pm_card_visa' },
  {
    ...plain,
    number: '4000000000000002',
    name: 'decline',
    token: 'pm_card_visa_chargeDeclined',
    decline: DECLINED,
  },
  {
    ...plain,
    number: '4000000000009995',
    name: 'insufficient_funds',
    token: 'pm_card_visa_chargeDeclinedInsufficientFunds',
    decline: INSUFFICIENT,
  },
  {
    ...plain,
    number: '4000002500003155',
    name: 'authentication_required',
    token: 'pm_card_authenticationRequired',
    needsAuthentication: true,
  },
  {
    ...plain,
    number: '4000000000000259',
    name: 'dispute_later',
    token: 'pm_card_createDispute',
    later: 'open_dispute',
  },
  {
    ...plain,
    number: '4000000000001976',
    name: 'inquiry_later',
    token: 'pm_card_createDisputeInquiry',
    later: 'open_inquiry',
  },
  {
    ...plain,
    number: '4000000000005423',
    name: 'fraud_warning_later',
    token: 'pm_card_createIssuerFraudRecord',
    later: 'warn_of_fraud',
  },
  {
    ...plain,
    number: '4000000000007726',
    name: 'refund_pending',
    token: 'pm_card_pendingRefund',
    refundLater: 'refund_succeeds',
  },
  {
    ...plain,
    number: '4000000000005126',
    name: 'refund_fails',
    token: 'pm_card_refundFail',
    refundLater: 'refund_fails',
  },
  { ...plain, number: '4000000000000101', name: 'async_success', later: 'async_succeeds' },
  { ...plain, number: '4000000000000119', name: 'async_failure', later: 'async_fails' },
  { ...plain, number: '4000000000000127', name: 'voucher', outside: 'oxxo_display_details' },
  { ...plain, number: '4000000000000135', name: 'convenience_store', outside: 'konbini_display_details' },
  { ...plain, number: '4000000000000143', name: 'bank_transfer', outside: 'display_bank_transfer_instructions' },
];

/** By number or by the control API's name. */
export function findCard(numberOrName: string): TestCard | undefined {
  const number = numberOrName.replaceAll(/[\s-]/g, '');
  return TEST_CARDS.find((card) => card.number === number || card.name === numberOrName);
}

export function cardOfToken(token: string): TestCard | undefined {
  return TEST_CARDS.find((card) => card.token === token);
}
