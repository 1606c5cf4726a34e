/** What the rest of the system may know of reconciliation. */

export const RECONCILE_SCHEDULE_ID = 'reconcile';

export interface ReconcileInput {
  /** How far back a provider's books are read. */
  readonly periodSeconds: number;
  /** What is younger than this may still be under way. */
  readonly graceSeconds: number;
  /** Gaps up to this sum are closed by asking the order's process to look again; larger ones wait for a person. Decimal USD. */
  readonly fixLimitUsd: string;
  /** What the orders that are asked to look again are given before they are compared once more. */
  readonly lookSeconds: number;
  /** How the runs that are asked to look go on; see `TopUpInput`. */
  readonly topUp: { readonly pollSeconds: number; readonly pollMaxSeconds: number; readonly runSeconds: number };
}

/** Where a comparison goes on: the part it is in, and what of that part is behind it. */
export interface ComparisonCursor {
  /** Orders that wait for a person, the provider's books, then what of the ledger the books have not listed. */
  readonly part: 'waiting' | 'books' | 'ledger';
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
  /** Entries on the provider's books. */
  readonly listed: number;
  /** Payments that agreed by their entry, and orders that were looked at. */
  readonly compared: number;
  /** Orders whose provider was asked about them. */
  readonly asked: number;
  readonly gaps: number;
  /** Orders whose gaps close when their own process looks again, and how many those are. */
  readonly fixable: readonly { readonly topUpId: string; readonly gaps: number }[];
}

export interface ProviderComparison {
  readonly provider: string;
  readonly pages: number;
  /** Entries on the provider's books. */
  readonly listed: number;
  /** Payments that agreed by their entry, and orders that were looked at. */
  readonly compared: number;
  /** Orders whose provider was asked about them. */
  readonly asked: number;
  readonly gaps: number;
  /** Orders that are asked to look again, since that closes their gaps; those beyond a run's limit are for the next run. */
  readonly fixable: readonly string[];
  /** How many gaps those have. */
  readonly fixableGaps: number;
}

export interface ReconcileResult {
  readonly providers: readonly (ProviderComparison & { readonly fixed: number })[];
  /** Breaches of the ledger's own rules. */
  readonly breaches: number;
}
