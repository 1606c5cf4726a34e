/** What the rest of the system may know of reconciliation. */
import type { TopUpTiming } from './top-up.ts';

export const RECONCILE_SCHEDULE_ID = 'reconcile';

export interface ReconcileInput {
  /** How far back a provider's statement is read. */
  readonly periodSeconds: number;
  /** What is younger than this may still be under way. */
  readonly graceSeconds: number;
  /** Gaps up to this sum are closed by a check of the order's process; larger ones wait for a person. Decimal USD. */
  readonly fixLimitUsd: string;
  /** How long the checks of those orders may take before the orders are compared once more. */
  readonly checkSeconds: number;
  /** How the runs of those orders go on. */
  readonly topUp: TopUpTiming;
}

/** Where a comparison goes on: the part it is in, and what of that part is behind it. */
export interface ComparisonCursor {
  /** Orders that wait for a person, the provider's statement, then what of the ledger the statement has not listed. */
  readonly part: 'waiting' | 'statement' | 'ledger';
  readonly after: string | null;
}

export interface ComparePageInput {
  readonly provider: string;
  /** When the run began, and which of its pages this is. ISO 8601. */
  readonly run: string;
  readonly page: number;
  readonly since: string;
  readonly until: string;
  readonly fixLimitUsd: string;
  readonly cursor: ComparisonCursor;
}

export interface PageComparison {
  /** Null after the last page. */
  readonly next: ComparisonCursor | null;
  /** Entries on the provider's statement. */
  readonly listed: number;
  /** Payments that agreed by their entry, and orders that were looked at. */
  readonly compared: number;
  /** Orders whose provider was asked about them. */
  readonly asked: number;
  readonly gaps: number;
  /** Orders whose gaps close when their own process checks again, and how many those are. */
  readonly fixable: readonly { readonly topUpId: string; readonly gaps: number }[];
}

export interface ProviderComparison {
  readonly provider: string;
  readonly pages: number;
  /** Entries on the provider's statement. */
  readonly listed: number;
  /** Payments that agreed by their entry, and orders that were looked at. */
  readonly compared: number;
  /** Orders whose provider was asked about them. */
  readonly asked: number;
  readonly gaps: number;
  /**
   * Orders whose processes are woken, since their check closes the gaps; those beyond a run's limit are for the next
   * run.
   */
  readonly fixable: readonly string[];
  /** How many gaps those have. */
  readonly fixableGaps: number;
}

export interface ReconcileResult {
  readonly providers: readonly (ProviderComparison & { readonly fixed: number })[];
  /** Breaches of the ledger's own rules. */
  readonly breaches: number;
}
