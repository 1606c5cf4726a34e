/**
 * Rating: usage × price row → exact cost, and the worst case a request can reach → its hold.
 *
 * Only multiplication and addition, no division, no rounding. A dimension without a price of its own is charged
 * as the class it belongs to: cached, cache-write, audio and image input as input; reasoning, audio and image
 * output as output. The one exception is a model that has neither input nor output price (flat price per call).
 */
import { assert, assertNever } from '../assert.ts';
import { picoUsd, type PicoUsd } from '../money.ts';
import {
  priceRowFor,
  TOKEN_DIMENSIONS,
  UNIT_DIMENSIONS,
  type Dimension,
  type PriceRow,
  type Tier,
  type TokenDimension,
  type UnitDimension,
} from './prices.ts';
import type { Usage } from '../usage/usage.ts';

/** One line of a receipt: `quantity × unitPrice = amount`. */
export interface RatedLine {
  readonly dimension: Dimension;
  readonly quantity: bigint;
  readonly unitPrice: PicoUsd;
  readonly amount: PicoUsd;
}

export interface Rated {
  readonly cost: PicoUsd;
  readonly lines: readonly RatedLine[];
}

/** Which base class a dimension is charged as when it has no price of its own. */
const BASE_CLASS: Readonly<Record<TokenDimension, 'input' | 'output'>> = {
  input: 'input',
  cached_input: 'input',
  cache_write_5m: 'input',
  cache_write_1h: 'input',
  audio_in: 'input',
  image_in: 'input',
  output: 'output',
  reasoning: 'output',
  audio_out: 'output',
  image_out: 'output',
};

/** Pico-USD per token of a dimension; 0 only where neither it nor its base class is priced. */
export function tokenPrice(row: PriceRow, dimension: TokenDimension): PicoUsd {
  return row[dimension] ?? row[BASE_CLASS[dimension]] ?? picoUsd(0n);
}

function tokensOf(usage: Usage, dimension: TokenDimension): number {
  switch (dimension) {
    case 'input':
      return (
        usage.inputTokens -
        usage.cachedInputTokens -
        usage.cacheWrite5mTokens -
        usage.cacheWrite1hTokens -
        usage.audioInputTokens -
        usage.imageInputTokens
      );
    case 'cached_input':
      return usage.cachedInputTokens;
    case 'cache_write_5m':
      return usage.cacheWrite5mTokens;
    case 'cache_write_1h':
      return usage.cacheWrite1hTokens;
    case 'audio_in':
      return usage.audioInputTokens;
    case 'image_in':
      return usage.imageInputTokens;
    case 'output':
      return usage.outputTokens - usage.reasoningTokens - usage.audioOutputTokens - usage.imageOutputTokens;
    case 'reasoning':
      return usage.reasoningTokens;
    case 'audio_out':
      return usage.audioOutputTokens;
    case 'image_out':
      return usage.imageOutputTokens;
    default:
      return assertNever(dimension, 'token dimension');
  }
}

function unitsOf(usage: Usage, dimension: UnitDimension): number {
  switch (dimension) {
    case 'request':
      return 1 + (usage.furtherAnswers ?? 0);
    case 'image':
      return usage.images;
    case 'web_search':
      return usage.webSearches;
    case 'second':
      return usage.seconds;
    default:
      return assertNever(dimension, 'unit dimension');
  }
}

/**
 * The exact cost of `usage` at the tier its real input length reaches.
 * Throws RangeError when the cost is beyond what the ledger can store (1e20 USD).
 */
export function rate(tiers: readonly Tier[], usage: Usage): Rated {
  const row = priceRowFor(tiers, usage.inputTokens);
  const lines: RatedLine[] = [];
  let cost = 0n;
  const add = (dimension: Dimension, quantity: number, unitPrice: PicoUsd): void => {
    if (quantity === 0 || unitPrice === 0n) return;
    assert(quantity > 0, `${dimension} is counted, not credited`);
    const amount = BigInt(quantity) * unitPrice;
    cost += amount;
    lines.push({ dimension, quantity: BigInt(quantity), unitPrice, amount: picoUsd(amount) });
  };
  for (const dimension of TOKEN_DIMENSIONS) add(dimension, tokensOf(usage, dimension), tokenPrice(row, dimension));
  for (const dimension of UNIT_DIMENSIONS) {
    const unitPrice = row[dimension];
    if (unitPrice !== undefined) add(dimension, unitsOf(usage, dimension), unitPrice);
  }
  return { cost: picoUsd(cost), lines };
}

/** The most a request can consume, by what its body allows. */
export interface Reach {
  /** Upper bound of input tokens; never below the real count. */
  readonly inputTokens: number;
  /** Upper bound of output tokens over all answers, or the slice of them that is held first. */
  readonly outputTokens: number;
  readonly audioInput: boolean;
  readonly imageInput: boolean;
  readonly audioOutput: boolean;
  readonly imageOutput: boolean;
  /** Answers beyond the first. Absent: none. */
  readonly furtherAnswers?: number;
  readonly images: number;
  readonly webSearches: number;
  readonly seconds: number;
}

/**
 * The hold for a request: every dimension it can reach, each at the most expensive class and tier. At least `rate` of
 * any usage within the reach, which is property-tested.
 */
export function worstCase(tiers: readonly Tier[], reach: Reach): PicoUsd {
  const reachable = tiers.filter((tier) => tier.minInputTokens <= reach.inputTokens);
  const highest = (dimensions: readonly TokenDimension[]): bigint =>
    maxOf(reachable.flatMap((tier) => dimensions.map((dimension) => tokenPrice(tier.prices, dimension))));
  const highestUnit = (dimension: UnitDimension): bigint =>
    maxOf(reachable.map((tier) => tier.prices[dimension] ?? 0n));

  const inputClasses: TokenDimension[] = ['input', 'cached_input', 'cache_write_5m', 'cache_write_1h'];
  if (reach.audioInput) inputClasses.push('audio_in');
  if (reach.imageInput) inputClasses.push('image_in');
  const outputClasses: TokenDimension[] = ['output', 'reasoning'];
  if (reach.audioOutput) outputClasses.push('audio_out');
  if (reach.imageOutput) outputClasses.push('image_out');

  return picoUsd(
    BigInt(reach.inputTokens) * highest(inputClasses) +
      BigInt(reach.outputTokens) * highest(outputClasses) +
      BigInt(1 + (reach.furtherAnswers ?? 0)) * highestUnit('request') +
      BigInt(reach.images) * highestUnit('image') +
      BigInt(reach.webSearches) * highestUnit('web_search') +
      BigInt(reach.seconds) * highestUnit('second'),
  );
}

function maxOf(values: readonly bigint[]): bigint {
  return values.reduce((most, value) => (value > most ? value : most), 0n);
}
