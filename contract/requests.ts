/** Processes of requests as others may know them: settlement, sweep, orphans, notices of low balance, upkeep of the ledger. */
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
