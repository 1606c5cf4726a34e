/**
 * Which prices one person may not publish alone: those at which something that was paid for costs nothing, or almost
 * nothing, any more. Judged by what a dimension is really charged at, at each moment of the week and each length of
 * input: a price that is left out falls back to its class, and with its class it is free; a price that is low for an
 * hour of the night is none for the whole day.
 */
import type { PicoUsd } from '../money.ts';
import {
  momentsOf,
  priceRowFor,
  tiersAt,
  TOKEN_DIMENSIONS,
  UNIT_DIMENSIONS,
  type Dimension,
  type PriceRow,
  type PriceVersion,
  type Tier,
} from './prices.ts';
import { tokenPrice } from './rating.ts';

const PPM = 1_000_000n;

/** How long a former price is still compared with a new one, so that small steps do not evade the check. */
export const STANDING_DAYS = 30;

/**
 * Why a version takes a second person, in words; null when it does not. `standing` are the versions that were in force
 * in the last `STANDING_DAYS`, or will be; `cutPpm` is the largest cut that one person may make.
 */
export function causeOfPriceReview(
  next: PriceVersion,
  standing: readonly PriceVersion[],
  cutPpm: number,
): string | null {
  if (standing.length === 0) {
    const free = rowsOf(next).flatMap((row) => gifts(row))[0];
    return free === undefined ? null : `${free} would cost nothing`;
  }
  if (next.reasoningInOutput && standing.some(({ reasoningInOutput }) => !reasoningInOutput)) {
    return 'reasoning beside the output would cost nothing';
  }
  const least = BigInt(1_000_000 - cutPpm);
  let cut: Dimension | null = null;
  for (const [before, after] of standing.flatMap((version) => rowPairs(version, next))) {
    for (const dimension of [...TOKEN_DIMENSIONS, ...UNIT_DIMENSIONS]) {
      const [was, is] = [chargedAt(before, dimension), chargedAt(after, dimension)];
      if (was > 0n && is === 0n) return `${dimension} would cost nothing`;
      if (is * PPM < was * least) cut ??= dimension;
    }
  }
  return cut === null ? null : `${cut} would cost less than it may at once`;
}

/** Free dimensions of first prices: those written as 0, and omitted tokens where the request itself has no price. */
function gifts(row: PriceRow): Dimension[] {
  const isPaidByRequest = (row.request ?? 0n) > 0n;
  const left = isPaidByRequest
    ? []
    : (['input', 'output'] as const).filter((dimension) => row[dimension] === undefined);
  return [...TOKEN_DIMENSIONS, 'request' as const].filter((dimension) => row[dimension] === 0n).concat(left);
}

function rowsOf({ tiers, windows }: PriceVersion): PriceRow[] {
  return [...tiers, ...windows.flatMap((window) => window.tiers)].map(({ prices }) => prices);
}

/** The prices of two versions at the same moment and length of input: every such pair. */
function rowPairs(before: PriceVersion, after: PriceVersion): [PriceRow, PriceRow][] {
  const seen = new Map<readonly Tier[], Set<readonly Tier[]>>();
  const pairs: [PriceRow, PriceRow][] = [];
  for (const moment of momentsOf([before, after])) {
    const [was, is] = [tiersAt(before, moment), tiersAt(after, moment)];
    const together = seen.get(was) ?? new Set();
    if (together.has(is)) continue;
    seen.set(was, together.add(is));
    const lengths = new Set([...was, ...is].map(({ minInputTokens }) => minInputTokens));
    for (const length of lengths) pairs.push([priceRowFor(was, length), priceRowFor(is, length)]);
  }
  return pairs;
}

function chargedAt(row: PriceRow, dimension: Dimension): PicoUsd {
  const unit = UNIT_DIMENSIONS.find((known) => known === dimension);
  return unit === undefined
    ? tokenPrice(row, dimension as (typeof TOKEN_DIMENSIONS)[number])
    : (row[unit] ?? (0n as PicoUsd));
}
