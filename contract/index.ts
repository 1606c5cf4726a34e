/**
 * What the rest of the system may know of the workflows: namespaces, task queues, ids, inputs, signals, updates and
 * queries. Clients import this file, never a workflow body and never a string of their own.
 *
 * A workflow id is an address, not a lock: what must happen once is keyed in PostgreSQL. Amounts travel as decimal
 * USD strings, durations as inputs, so a history records what applied.
 */
import { REWARD_WORKFLOW_TYPES } from './rewards.ts';

export interface Namespaces {
  /** Requests: settlement, sweep, orphans. Short retention; also the task queue's name. */
  readonly requests: string;
  /** Everything else. Long retention; also the task queue's name. */
  readonly processes: string;
}

export const DEFAULT_NAMESPACES: Namespaces = { requests: 'holdfast-requests', processes: 'holdfast' };

export const RETENTION_DAYS = { requests: 3, processes: 90 } as const;

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

export function lowBalanceWorkflowId(accountId: string): string {
  return `low-balance/${accountId}`;
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

export * from './search-attributes.ts';
export * from './wake.ts';
export * from './refund.ts';
export * from './top-up.ts';
export * from './auto-top-up.ts';
export * from './commissions.ts';
export * from './watch-chain.ts';
export * from './reconcile.ts';
export * from './rewards.ts';
