/**
 * The worst case of a request as a straight line over its output tokens: input, units and everything else is due
 * whatever it writes, and each output token costs at most the same.
 */
import { picoUsd, type PicoUsd } from '../../../../domain/money.ts';
import type { Tier } from '../../../../domain/requests/prices.ts';
import { worstCase, type Reach } from '../../../../domain/requests/rating.ts';

export interface CostLine {
  /** Without any output. */
  readonly base: PicoUsd;
  readonly perOutputToken: PicoUsd;
}

/** The line of a request with this reach, whatever output tokens the reach has. */
export function costLine(tiers: readonly Tier[], reach: Reach): CostLine {
  const base = worstCase(tiers, { ...reach, outputTokens: 0 });
  const withOne = worstCase(tiers, { ...reach, outputTokens: 1 });
  return { base, perOutputToken: picoUsd(withOne - base) };
}

/** The most that so many output tokens (rounded up) can cost, with all the rest. */
export function costOf({ base, perOutputToken }: CostLine, outputTokens: number): PicoUsd {
  return picoUsd(base + BigInt(Math.ceil(outputTokens)) * perOutputToken);
}

/** Whole output tokens that an amount covers; Infinity where they cost nothing. */
export function tokensCovered({ base, perOutputToken }: CostLine, amount: PicoUsd): number {
  return perOutputToken === 0n ? Infinity : Number((amount - base) / perOutputToken);
}
