/**
 * The ceiling of commissions, which no number of persons exceeds: the highest rate and the shortest hold of the
 * configuration.
 */
import { invalidField } from '../../../http/errors.ts';

export interface CommissionBounds {
  /** The highest rate of a rule or an affiliate, in parts per million. */
  readonly rateMaxPpm: number;
  /** The shortest time from credit to maturity where a payment can be charged back, in days. */
  readonly holdMinDays: number;
}

/** Refuses what lies outside, naming the field. */
export function requireCommissionBounds(
  bounds: CommissionBounds,
  { rate_ppm: rate, hold_days: hold }: { readonly rate_ppm: number | null; readonly hold_days?: number },
): void {
  if (rate !== null && rate > bounds.rateMaxPpm) throw invalidField('rate_ppm', `must be at most ${bounds.rateMaxPpm}`);
  if (hold !== undefined && hold < bounds.holdMinDays) {
    throw invalidField('hold_days', `must be at least ${bounds.holdMinDays}`);
  }
}
