/** What the rest of the system may know of the workflows of commissions: ids, inputs, status, updates. */
import { defineQuery, defineUpdate } from '@temporalio/workflow';
import { SEARCH_ATTRIBUTES } from './search-attributes.ts';
import type { Signature } from './wake.ts';

export const COMMISSION_SCHEDULE_ID = 'commission-month';

export function commissionRunWorkflowId(period: string): string {
  return `commission-run/${period}`;
}

export function commissionDryRunWorkflowId(period: string, n: number): string {
  return `commission-dry-run/${period}/${n}`;
}

export function commissionReplayWorkflowId(period: string, n: number): string {
  return `commission-replay/${period}/${n}`;
}

export interface CommissionRunInput {
  /** A month in UTC, `YYYY-MM`. */
  readonly period: string;
  readonly rowsPerChunk: number;
  /** How long a step that keeps failing waits before it is tried again, unless somebody asks for it. */
  readonly retrySeconds: number;
}

/** How far a run is. Amounts are decimal USD. */
export interface CommissionProgress {
  readonly period: string;
  readonly state: 'posting' | 'posted' | 'done';
  readonly accruals: number;
  readonly posted: number;
  /** Sum of all accruals of the run; what is taken back counts negative. */
  readonly totalUsd: string;
  readonly csvSha256: string | null;
}

export interface CommissionRunStatus {
  /** Null until the run has taken its accruals. */
  readonly progress: CommissionProgress | null;
  /** Why a step failed the last time it was tried; null while none does. */
  readonly failure: string | null;
  /** What happened, oldest first, each with its time. */
  readonly steps: readonly { readonly at: string; readonly what: string }[];
}

export const commissionStatusQuery = defineQuery<CommissionRunStatus>('status');
/** An operator: try a failing step again now. `by` is for the run's story; nobody checks it. */
export const retryCommissionUpdate = defineUpdate<CommissionRunStatus, [Signature]>('retryNow');

export interface CommissionCheckInput {
  readonly kind: 'dry_run' | 'replay';
  readonly period: string;
  readonly n: number;
}

/** What a dry run or a replay found. */
export interface CommissionCheckResult {
  readonly kind: CommissionCheckInput['kind'];
  readonly period: string;
  readonly accruals: number;
  readonly totalUsd: string;
  readonly csvSha256: string;
  /** Of a replay: whether it made the same bytes from what is stored. Null for a dry run. */
  readonly identical: boolean | null;
  /** Of a replay: what differs, by name; the first of many. */
  readonly differences: readonly string[];
}

export const commissionCheckQuery = defineQuery<CommissionCheckResult | null>('status');

export interface MonthlyCommissionsInput {
  readonly rowsPerChunk: number;
  readonly retrySeconds: number;
}

export interface MonthlyCommissionsResult {
  readonly period: string;
  /** False when the period's run was under way already. */
  readonly started: boolean;
}

/** How the run of a period is started. */
export function commissionRunStart(input: CommissionRunInput, taskQueue: string) {
  const args: [CommissionRunInput] = [input];
  return {
    workflowId: commissionRunWorkflowId(input.period),
    taskQueue,
    args,
    typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.runPeriod, value: input.period }],
    staticSummary: `Commissions of ${input.period}`,
  };
}

/** How a dry run or a replay is started; each has a number of its own and runs once. */
export function commissionCheckStart(check: CommissionCheckInput, taskQueue: string) {
  const { kind, period, n } = check;
  const args: [CommissionCheckInput] = [check];
  return {
    workflowId: kind === 'dry_run' ? commissionDryRunWorkflowId(period, n) : commissionReplayWorkflowId(period, n),
    workflowIdReusePolicy: 'REJECT_DUPLICATE' as const,
    taskQueue,
    args,
    typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.runPeriod, value: period }],
    staticSummary: `${kind === 'dry_run' ? 'Dry run' : 'Replay'} ${n} of the commissions of ${period}`,
  };
}
