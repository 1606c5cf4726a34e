/**
 * Which prices one person may not publish alone: those at which something that was paid for costs nothing, or almost nothing, any
 * more. Judged by what a dimension is really charged at, the cheapest of all tiers and windows: a price that is left out falls back to
 * its class, and with its class it is free.
 */
import type { PicoUsd } from './money.ts';
import { TOKEN_DIMENSIONS, UNIT_DIMENSIONS, type Dimension, type PriceRow, type PriceVersion } from './prices.ts';
import { tokenPrice } from './rating.ts';

const PPM = 1_000_000n;

/** How long a price that was once in force is what a new one is compared with, so that small steps do not pass for none. */
export const STANDING_DAYS = 30;

/**
 * Why a version takes a second person, in words; null when it does not. `standing` are the versions that were in force in the last
 * `STANDING_DAYS`, or will be; `cutPpm` is the largest cut that one person may make.
 */
export function causeOfPriceReview(
  next: PriceVersion,
  standing: readonly PriceVersion[],
  cutPpm: number,
): string | null {
  if (standing.length === 0) {
    const free = [...TOKEN_DIMENSIONS, 'request' as const].find((dimension) =>
      rowsOf(next).some((row) => row[dimension] === 0n),
    );
    return free === undefined ? null : `${free} would cost nothing`;
  }
  if (next.reasoningInOutput && standing.some(({ reasoningInOutput }) => !reasoningInOutput)) {
    return 'reasoning beside the output would cost nothing';
  }
  for (const dimension of [...TOKEN_DIMENSIONS, ...UNIT_DIMENSIONS]) {
    const before = standing.map((version) => cheapest(version, dimension)).reduce((a, b) => (a > b ? a : b));
    const after = cheapest(next, dimension);
    if (before === 0n) continue;
    if (after === 0n) return `${dimension} would cost nothing`;
    if (after * PPM < before * (PPM - BigInt(cutPpm))) return `${dimension} would cost less than it may at once`;
  }
  return null;
}

function rowsOf({ tiers, windows }: PriceVersion): PriceRow[] {
  return [...tiers, ...windows.flatMap((window) => window.tiers)].map(({ prices }) => prices);
}

function cheapest(version: PriceVersion, dimension: Dimension): PicoUsd {
  const prices = rowsOf(version).map((row) => chargedAt(row, dimension));
  return prices.reduce((least, price) => (price < least ? price : least));
}

function chargedAt(row: PriceRow, dimension: Dimension): PicoUsd {
  const unit = UNIT_DIMENSIONS.find((known) => known === dimension);
  return unit === undefined
    ? tokenPrice(row, dimension as (typeof TOKEN_DIMENSIONS)[number])
    : (row[unit] ?? (0n as PicoUsd));
}
