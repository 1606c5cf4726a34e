/**
 * What the rest of the system may know of the workflows: namespaces, task queues, ids, inputs, signals, updates and
 * queries. Clients import this file, never a workflow body and never a string of their own.
 *
 * A workflow id is an address, not a lock: what must happen once is keyed in PostgreSQL. Amounts travel as decimal
 * USD strings, durations as inputs, so a history records what applied.
 */
import { defineSearchAttributeKey } from '@temporalio/common';
import { defineQuery, defineUpdate } from '@temporalio/workflow';

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

export interface RefundInput {
  readonly requestId: string;
  readonly n: number;
  readonly amountUsd: string;
  readonly reason: string;
  readonly requestedBy: string;
  /** True when the amount is above the threshold, so a second person must approve. */
  readonly needsApproval: boolean;
  /** How long one run waits before it continues as new, so that no old code stays in use. Not given: a day. */
  readonly runSeconds?: number;
}

export interface RefundStatus {
  readonly state: 'waiting' | 'posted' | 'rejected';
  readonly amountUsd: string;
  readonly reason: string;
  readonly requestedBy: string;
  readonly decidedBy: string | null;
  readonly postingId: string | null;
}

export interface RefundDecision {
  readonly approve: boolean;
  readonly decidedBy: string;
}

export const refundStatusQuery = defineQuery<RefundStatus>('status');
/** A second person approves or rejects; the one who asked may only reject. The update id is the action's id. */
export const decideRefundUpdate = defineUpdate<RefundStatus, [RefundDecision]>('decideRefund');

export interface LowBalanceInput {
  readonly accountId: string;
}

/** Names of the workflow types, for starting them without importing their bodies. */
export const WORKFLOW_TYPES = {
  meterRequests: 'meterRequests',
  sweepRequests: 'sweepRequests',
  resolveOrphan: 'resolveOrphan',
  refundRequest: 'refundRequest',
  noticeLowBalance: 'noticeLowBalance',
  maintainLedger: 'maintainLedger',
} as const;
