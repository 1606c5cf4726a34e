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

export interface ProviderComparison {
  readonly provider: string;
  /** Entries on the provider's books. */
  readonly listed: number;
  /** Orders that were compared. */
  readonly compared: number;
  readonly gaps: number;
  /** Orders whose gaps close when their own process looks again. */
  readonly fixable: readonly string[];
  /** How many gaps those have. */
  readonly fixableGaps: number;
}

export interface ReconcileResult {
  readonly providers: readonly (ProviderComparison & { readonly fixed: number })[];
  /** Breaches of the ledger's own rules. */
  readonly breaches: number;
}
