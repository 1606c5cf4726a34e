/**
 * What the rest of the system may know of the workflows: namespaces, task queues, ids, inputs, signals, updates and
 * queries. Clients import this file, never a workflow body and never a string of their own.
 *
 * A workflow id is an address, not a lock: what must happen once is keyed in PostgreSQL. Amounts travel as decimal
 * USD strings, durations as inputs, so a history records what applied.
 */
import { defineSearchAttributeKey } from '@temporalio/common';
import type { ReversalFacts, TopUpState } from '../domain/payments/top-up.ts';
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import { REWARD_WORKFLOW_TYPES } from './rewards.ts';

export interface Namespaces {
  /** Requests: settlement, sweep, orphans. Short retention; also the task queue's name. */
  readonly requests: string;
  /** Everything else. Long retention; also the task queue's name. */
  readonly processes: string;
}

export const DEFAULT_NAMESPACES: Namespaces = { requests: 'holdfast-requests', processes: 'holdfast' };

export const RETENTION_DAYS = { requests: 3, processes: 90 } as const;

/** Search attributes, all KEYWORD; registered by the worker at start. `Stuck` holds the reason code and is unset when not stuck. */
export const SEARCH_ATTRIBUTES = {
  accountId: defineSearchAttributeKey('AccountId', 'KEYWORD'),
  provider: defineSearchAttributeKey('Provider', 'KEYWORD'),
  paymentState: defineSearchAttributeKey('PaymentState', 'KEYWORD'),
  stuck: defineSearchAttributeKey('Stuck', 'KEYWORD'),
  runPeriod: defineSearchAttributeKey('RunPeriod', 'KEYWORD'),
};

/** `meter/<first request id>`; ids are the wire form (`req_…`). */
export function meterWorkflowId(firstRequestId: string): string {
  return `meter/${firstRequestId}`;
}

export function sweepMeterWorkflowId(sweepRunId: string, n: number): string {
  return `meter/sweep/${sweepRunId}/${n}`;
}

export function orphanWorkflowId(requestId: string): string {
  return `orphan/${requestId}`;
}

export function refundWorkflowId(requestId: string, n: number): string {
  return `refund/${requestId}/${n}`;
}

export function lowBalanceWorkflowId(accountId: string): string {
  return `low-balance/${accountId}`;
}

export function topUpWorkflowId(topUpId: string): string {
  return `top-up/${topUpId}`;
}

export function reversalWorkflowId(provider: string, objectId: string): string {
  return `reversal/${provider}/${objectId}`;
}

export const SWEEP_EVENTS_SCHEDULE_ID = 'sweep-events';
export const SWEEP_SCHEDULE_ID = 'sweep-requests';
export const MAINTENANCE_SCHEDULE_ID = 'maintain-ledger';

export interface MeterInput {
  /** Ids of finished requests (`req_…`), at most 256. */
  readonly requestIds: readonly string[];
}

export interface MeterResult {
  /** How many this run settled; the others were settled before it came. */
  readonly settled: number;
  readonly settleErrors: number;
}

export interface SweepInput {
  readonly finishedAgeSeconds: number;
  readonly gatewayGoneSeconds: number;
  /** A gap between two sweeps longer than this means the database may have been out of reach. */
  readonly reachabilityGapSeconds: number;
  readonly rowsPerRun: number;
  readonly orphansPerRun: number;
  readonly rowsPerMeter: number;
  readonly evidenceSeconds: number;
}

export interface SweepResult {
  readonly settledLate: number;
  readonly released: number;
  readonly resolving: number;
}

export interface OrphanInput {
  readonly requestId: string;
  /** True when the client had left before its gateway was lost: the one orphan that may be billed. */
  readonly clientLeft: boolean;
  /** How long to look for evidence before an estimate (billable) or giving up (not billable). */
  readonly evidenceSeconds: number;
}

/** Names the refund; everything else is read from its row. */
export interface RefundInput {
  readonly requestId: string;
  readonly n: number;
  /** How long one run waits before it continues as new, so that no old code stays in use. Not given: a day. */
  readonly runSeconds?: number;
  /** How often the row is read without being told to. Not given: every 15 minutes. */
  readonly pollSeconds?: number;
}

export interface RefundStatus {
  readonly state: 'waiting' | 'posted' | 'rejected';
  readonly amountUsd: string;
  readonly reason: string;
  readonly requestedBy: string;
  readonly decidedBy: string | null;
  readonly postingId: string | null;
}

/** Null until the row is read for the first time. */
export const refundStatusQuery = defineQuery<RefundStatus | null>('status');
/** Read the row now: the interface has decided. */
export const recheckRefundUpdate = defineUpdate<RefundStatus | null, []>('recheckNow');
/** Always refused, with where to decide. */
export const decideRefundUpdate = defineUpdate<never, [unknown]>('decideRefund');

export interface LowBalanceInput {
  readonly accountId: string;
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
  readonly handCredits?: readonly HandCreditView[];
}

/** A credit by hand as its row tells it. */
export interface HandCreditView {
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

/** A credit that is asked for in Temporal. Nobody is authenticated there, so it always waits for two persons of the interface. */
export interface HandCreditAction {
  readonly paymentId: string;
  readonly amountUsd: string;
  readonly reason: string;
}

export interface HandCreditInput extends HandCreditAction {
  readonly topUpId: string;
  /** What tells this wish from others; the update's id. */
  readonly action: string;
}

export interface TopUpInput {
  readonly topUpId: string;
  /** Events that this run is to mark as handled. */
  readonly events?: readonly string[];
  /** The first wait between two looks at the provider; each further one is twice as long, up to `pollMaxSeconds`. */
  readonly pollSeconds: number;
  readonly pollMaxSeconds: number;
  /** How long one run goes on before it continues as new. */
  readonly runSeconds: number;
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
  readonly topUp: Omit<TopUpInput, 'topUpId' | 'events'>;
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
/** Something may have changed at the provider. Carries the event that said so, which is marked as handled afterwards. */
export const pokeSignal = defineSignal<[{ readonly eventId: string | null }]>('poke');
/** What may come with an update, for the run's story: who sends it says so, and nobody checks it. */
export interface Signature {
  readonly by?: unknown;
}

/** Waits until the checkout can be opened, or the provider refuses it. Null while the provider has not answered once. */
export const checkoutUpdate = defineUpdate<TopUpSnapshot | null, [Signature]>('checkout');
/** An operator: look at the provider now. */
export const recheckUpdate = defineUpdate<TopUpSnapshot | null, [Signature]>('recheckNow');
/** Always refused, with where to give an order up. */
export const abandonUpdate = defineUpdate<never, [unknown]>('abandon');

/** An operator: ask to credit a payment that is not credited by itself, once; two persons decide in the interface. */
export const creditByHandUpdate = defineUpdate<HandCreditView, [HandCreditAction]>('creditByHand');

/** Names of the workflow types, for starting them without importing their bodies. */
export const WORKFLOW_TYPES = {
  meterRequests: 'meterRequests',
  sweepRequests: 'sweepRequests',
  resolveOrphan: 'resolveOrphan',
  refundRequest: 'refundRequest',
  noticeLowBalance: 'noticeLowBalance',
  maintainLedger: 'maintainLedger',
  topUp: 'topUp',
  reverseTopUp: 'reverseTopUp',
  sweepEvents: 'sweepEvents',
  autoTopUp: 'autoTopUp',
  commissionRun: 'commissionRun',
  checkCommissions: 'checkCommissions',
  monthlyCommissions: 'monthlyCommissions',
  watchChain: 'watchChain',
  reconcile: 'reconcile',
  ...REWARD_WORKFLOW_TYPES,
} as const;

export * from './auto-top-up.ts';
export * from './commissions.ts';
export * from './watch-chain.ts';
export * from './reconcile.ts';
export * from './rewards.ts';
