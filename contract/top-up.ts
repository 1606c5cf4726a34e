/**
 * Top-ups, their refunds and disputes, and the sweep of their events, as others may know them. See contract.ts, which
 * exports this file. Amounts are decimal USD.
 */
import { defineQuery, defineUpdate } from '@temporalio/workflow';
import type { ReversalFacts, TopUpState } from '../domain/payments/top-up.ts';
import { SEARCH_ATTRIBUTES } from './search-attributes.ts';
import type { Signature } from './wake.ts';

export function topUpWorkflowId(topUpId: string): string {
  return `top-up/${topUpId}`;
}

export function reversalWorkflowId(provider: string, objectId: string): string {
  return `reversal/${provider}/${objectId}`;
}

/** An order as its row and its provider tell it. Amounts are decimal USD. */
export interface TopUpSnapshot {
  readonly topUpId: string;
  readonly accountId: string;
  readonly provider: string;
  readonly state: TopUpState;
  readonly amountUsd: string;
  /** What the customer pays: amount and fee. */
  readonly chargeUsd: string;
  readonly receivedUsd: string;
  /** What is seen to be paid in other currencies, as `1500 JPY`; absent when nothing is. */
  readonly receivedOther?: readonly string[];
  readonly creditedUsd: string;
  /** Why a person has to look; null when nobody has to. */
  readonly stuck: string | null;
  /** What an open payment waits for, in words, where its provider says. */
  readonly waitsFor?: string;
  readonly checkoutUrl: string | null;
  readonly expiresAt: string;
  readonly reversals: readonly {
    readonly objectId: string;
    readonly kind: ReversalFacts['kind'];
    /** Absent where the payment is in another currency; then `amount` says it, as `1500 JPY`. */
    readonly amountUsd?: string;
    readonly amount?: string;
    readonly isTaken: boolean;
    readonly isOpen: boolean;
  }[];
  /** Warnings of fraud by the payer's bank; absent when there are none. */
  readonly warnings?: readonly string[];
  /** Credits that people asked for, oldest first; absent when there are none. */
  readonly manualCredits?: readonly ManualCreditView[];
}

/** A manual credit as its row tells it. */
export interface ManualCreditView {
  readonly id: string;
  /** The provider's id of the money. */
  readonly paymentId: string;
  readonly amountUsd: string;
  readonly reason: string;
  readonly state: 'waiting' | 'posted' | 'rejected' | 'superseded';
  /** False where the provider did not show the payment when the credit was asked for. */
  readonly isKnown: boolean;
  /** Null: it was asked for in Temporal. */
  readonly requestedBy: string | null;
  readonly decidedBy: string | null;
}

/**
 * A credit that is asked for in Temporal. Nobody is authenticated there, so it always waits for two persons of the
 * interface.
 */
export interface ManualCreditAction {
  readonly paymentId: string;
  readonly amountUsd: string;
  readonly reason: string;
}

export interface ManualCreditInput extends ManualCreditAction {
  readonly topUpId: string;
  /** The update's id, which tells this request from others. */
  readonly action: string;
}

/** How the run of an order checks its provider. */
export interface TopUpTiming {
  /** The first wait between two checks of the provider; each further one is twice as long, up to `pollMaxSeconds`. */
  readonly pollSeconds: number;
  readonly pollMaxSeconds: number;
  /** How long one run goes on before it continues as new. */
  readonly runSeconds: number;
}

export interface TopUpInput extends TopUpTiming {
  readonly topUpId: string;
  /** Events that this run is to mark as handled. */
  readonly events?: readonly string[];
}

export interface TopUpStatus {
  readonly snapshot: TopUpSnapshot | null;
  /** What happened, oldest first, each with its time. */
  readonly steps: readonly { readonly at: string; readonly what: string }[];
}

export interface ReversalInput extends TopUpInput {
  readonly provider: string;
  readonly objectId: string;
}

export interface SweepEventsInput {
  readonly eventAgeSeconds: number;
  readonly rowsPerRun: number;
  readonly topUp: TopUpTiming;
}

export interface SweepEventsResult {
  readonly delivered: number;
  readonly restarted: number;
}

/** Where a provider's event belongs: a refund's or dispute's own process, or the order's. */
export interface EventRoute {
  readonly provider: string;
  readonly eventId: string;
  readonly topUpId: string;
  readonly reversalId: string | null;
}

/** A refund or dispute whose run may be gone. */
export interface QuietReversal {
  readonly provider: string;
  readonly objectId: string;
  readonly topUpId: string;
}

export const topUpStatusQuery = defineQuery<TopUpStatus>('status');

/**
 * Waits until the checkout can be opened, or the provider refuses it. Null while the provider has not answered once.
 */
export const checkoutUpdate = defineUpdate<TopUpSnapshot | null, [Signature]>('checkout');
/** An operator: ask the provider now. */
export const checkTopUpUpdate = defineUpdate<TopUpSnapshot | null, [Signature]>('checkNow');
/** Always refused, with the route that gives an order up. */
export const abandonUpdate = defineUpdate<never, [unknown]>('abandon');

/**
 * An operator: ask to credit a payment that was not credited automatically, once; two persons decide in the
 * interface.
 */
export const requestManualCreditUpdate = defineUpdate<ManualCreditView, [ManualCreditAction]>('requestManualCredit');

/** What the starter of a run knows of its order. */
export interface TopUpStart {
  readonly topUpId: string;
  /** Account and provider, by which the run is found from its first moment. Without them, its first check sets them. */
  readonly found?: { readonly accountId: string; readonly provider: string };
  /** What an operator reads beside the run. */
  readonly summary: string;
  readonly events?: readonly string[];
}

/** How the run of an order is started, by whatever sees that the order may need one. */
export function topUpStart({ topUpId, found, summary, events }: TopUpStart, taskQueue: string, timing: TopUpTiming) {
  const args: [TopUpInput] = [{ topUpId, ...(events === undefined ? {} : { events }), ...pick(timing) }];
  return {
    workflowId: topUpWorkflowId(topUpId),
    taskQueue,
    args,
    typedSearchAttributes: attributesOf(found),
    staticSummary: summary,
  };
}

/** How the run of a refund or dispute is started. */
export function reversalStart(
  { topUpId, provider, objectId, found, summary, events }: TopUpStart & Pick<ReversalInput, 'provider' | 'objectId'>,
  taskQueue: string,
  timing: TopUpTiming,
) {
  const args: [ReversalInput] = [
    { topUpId, provider, objectId, ...(events === undefined ? {} : { events }), ...pick(timing) },
  ];
  return {
    workflowId: reversalWorkflowId(provider, objectId),
    taskQueue,
    args,
    typedSearchAttributes: attributesOf(found),
    staticSummary: summary,
  };
}

/** Settings may have more members; a history holds what applies. */
function pick({ pollSeconds, pollMaxSeconds, runSeconds }: TopUpTiming): TopUpTiming {
  return { pollSeconds, pollMaxSeconds, runSeconds };
}

function attributesOf(found: TopUpStart['found']) {
  if (found === undefined) return [];
  return [
    { key: SEARCH_ATTRIBUTES.accountId, value: found.accountId },
    { key: SEARCH_ATTRIBUTES.provider, value: found.provider },
  ];
}
