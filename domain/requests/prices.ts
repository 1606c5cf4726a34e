/**
 * Price versions: what a model costs, from when. A version is immutable; a change of price is a new version.
 *
 * Token prices are decimal USD per million tokens with at most six decimals, so a token costs a whole number of
 * pico-USD. Unit prices are decimal USD per unit with at most twelve. A tier by input length or a time window is
 * a complete price row of its own inside the version, never a factor applied at charge time.
 */
import { parseUsd, type PicoUsd } from '../money.ts';

export const TOKEN_DIMENSIONS = [
  'input',
  'cached_input',
  'cache_write_5m',
  'cache_write_1h',
  'output',
  'reasoning',
  'audio_in',
  'audio_out',
  'image_in',
  'image_out',
] as const;
export const UNIT_DIMENSIONS = ['request', 'image', 'web_search', 'second'] as const;

export type TokenDimension = (typeof TOKEN_DIMENSIONS)[number];
export type UnitDimension = (typeof UNIT_DIMENSIONS)[number];
export type Dimension = TokenDimension | UnitDimension;

/** Prices as written in the catalogue and stored: decimal strings. An absent dimension is not priced. */
export type PriceText = Partial<Record<Dimension, string>>;

export interface TierText {
  /** The tier applies from this many real input tokens on (inclusive). */
  readonly min_input_tokens: number;
  readonly prices: PriceText;
}

export interface WindowText {
  /**
   * ISO weekdays, 1 = Monday … 7 = Sunday (UTC); all days when absent. A window that crosses midnight belongs to the
   * day it begins.
   */
  readonly days?: readonly number[];
  /** UTC, `HH:MM`, inclusive. */
  readonly from: string;
  /** UTC, `HH:MM`, exclusive. */
  readonly to: string;
  readonly prices: PriceText;
  readonly tiers?: readonly TierText[];
}

export interface PriceVersionText {
  readonly prices: PriceText;
  readonly tiers?: readonly TierText[];
  readonly windows?: readonly WindowText[];
  /** False where the provider reports reasoning tokens beside its output total. Default true. */
  readonly reasoning_in_output?: boolean;
}

/** Pico-USD per token or per unit. */
export type PriceRow = Readonly<Partial<Record<Dimension, PicoUsd>>>;

export interface Tier {
  readonly minInputTokens: number;
  readonly prices: PriceRow;
}

interface Window {
  readonly days: ReadonlySet<number> | null;
  readonly fromMinute: number;
  readonly toMinute: number;
  readonly tiers: readonly Tier[];
}

/** A compiled price version. `tiers` are sorted by length, the first one from 0 tokens. */
export interface PriceVersion {
  readonly tiers: readonly Tier[];
  readonly windows: readonly Window[];
  readonly reasoningInOutput: boolean;
}

export type PriceProblem = { readonly field: string; readonly message: string };

const TOKENS_PER_PRICE = 1_000_000n;
const CLOCK = /^([01]\d|2[0-3]):([0-5]\d)$/;

/**
 * Compiles a price version exactly, or says which field is wrong. Refuses negative prices, prices finer than a
 * pico-USD, and unknown dimensions: a mistake in a price must never become a free or a negative one.
 */
export function compilePrices(text: PriceVersionText): PriceVersion | PriceProblem {
  try {
    const tiers = compileTiers(text.prices, text.tiers, '', {});
    const standard = tiers[0]!.prices;
    return {
      tiers,
      windows: (text.windows ?? []).map((window, index) => compileWindow(window, `windows[${index}].`, standard)),
      reasoningInOutput: text.reasoning_in_output ?? true,
    };
  } catch (error) {
    if (error instanceof PriceError) return { field: error.field, message: error.message };
    throw error;
  }
}

export function isPriceProblem(result: PriceVersion | PriceProblem): result is PriceProblem {
  return 'field' in result;
}

class PriceError extends Error {
  readonly field: string;
  constructor(field: string, message: string) {
    super(message);
    this.field = field;
  }
}

function compileTiers(
  base: PriceText,
  tiers: readonly TierText[] | undefined,
  path: string,
  standard: PriceRow,
): Tier[] {
  const baseRow = compileRow(base, `${path}prices`, standard);
  const compiled: Tier[] = [{ minInputTokens: 0, prices: baseRow }];
  let previous = 0;
  for (const [index, tier] of (tiers ?? []).entries()) {
    const field = `${path}tiers[${index}]`;
    if (!Number.isSafeInteger(tier.min_input_tokens) || tier.min_input_tokens <= previous) {
      throw new PriceError(`${field}.min_input_tokens`, 'must be a whole number above the tier before it');
    }
    previous = tier.min_input_tokens;
    compiled.push({ minInputTokens: previous, prices: compileRow(tier.prices, `${field}.prices`, baseRow) });
  }
  return compiled;
}

/** `replaced` is the row that this one stands in for: a dimension it forgot would be free while it applies. */
function compileRow(prices: PriceText, path: string, replaced: PriceRow): PriceRow {
  const row: Partial<Record<Dimension, PicoUsd>> = {};
  for (const [dimension, text] of Object.entries(prices)) {
    const field = `${path}.${dimension}`;
    const amount = parseUsd(text);
    if (amount === null) throw new PriceError(field, 'must be a decimal USD string');
    if (amount < 0n) throw new PriceError(field, 'must not be negative');
    if ((TOKEN_DIMENSIONS as readonly string[]).includes(dimension)) {
      if (amount % TOKENS_PER_PRICE !== 0n) throw new PriceError(field, 'a token price has at most six decimals');
      row[dimension as TokenDimension] = (amount / TOKENS_PER_PRICE) as PicoUsd;
    } else if ((UNIT_DIMENSIONS as readonly string[]).includes(dimension)) {
      row[dimension as UnitDimension] = amount;
    } else {
      throw new PriceError(field, 'is not a priced dimension');
    }
  }
  for (const dimension of Object.keys(replaced)) {
    if (!Object.hasOwn(row, dimension)) throw new PriceError(`${path}.${dimension}`, 'must be priced here as well');
  }
  return row;
}

function compileWindow(window: WindowText, path: string, standard: PriceRow): Window {
  const days = window.days === undefined ? null : new Set(window.days);
  if (days !== null && (days.size === 0 || [...days].some((day) => !Number.isInteger(day) || day < 1 || day > 7))) {
    throw new PriceError(`${path}days`, 'must be ISO weekdays from 1 to 7');
  }
  const fromMinute = minuteOfDay(window.from, `${path}from`);
  const toMinute = minuteOfDay(window.to, `${path}to`);
  if (fromMinute === toMinute) throw new PriceError(`${path}to`, 'must differ from `from`');
  return { days, fromMinute, toMinute, tiers: compileTiers(window.prices, window.tiers, path, standard) };
}

function minuteOfDay(text: string, field: string): number {
  const match = CLOCK.exec(text);
  if (match === null) throw new PriceError(field, 'must be a UTC time HH:MM');
  return Number(match[1]) * 60 + Number(match[2]);
}

/**
 * The tiers in force for a request held at `at`: those of the first window that contains it, else the standard ones.
 */
export function tiersAt(version: PriceVersion, at: Date): readonly Tier[] {
  return version.windows.find((window) => contains(window, at))?.tiers ?? version.tiers;
}

const DAYS_OF_WEEK = 7;
const DAY_MS = 86_400_000;
const A_MONDAY = Date.UTC(2024, 0, 1);

/**
 * Moments of a week between which no window of these versions begins or ends: what holds at them holds at all others.
 */
export function momentsOf(versions: readonly PriceVersion[]): Date[] {
  const bounds = versions.flatMap(({ windows }) =>
    windows.flatMap(({ fromMinute, toMinute }) => [fromMinute, toMinute]),
  );
  const minutes = [...new Set([0, ...bounds])];
  return Array.from({ length: DAYS_OF_WEEK }, (_, day) => A_MONDAY + day * DAY_MS).flatMap((day) =>
    minutes.map((minute) => new Date(day + minute * 60_000)),
  );
}

function contains(window: Window, at: Date): boolean {
  const minute = at.getUTCHours() * 60 + at.getUTCMinutes();
  const weekday = at.getUTCDay() === 0 ? 7 : at.getUTCDay();
  if (window.fromMinute < window.toMinute) {
    return minute >= window.fromMinute && minute < window.toMinute && isDay(window, weekday);
  }
  if (minute >= window.fromMinute) return isDay(window, weekday);
  const dayBefore = weekday === 1 ? 7 : weekday - 1;
  return minute < window.toMinute && isDay(window, dayBefore);
}

function isDay(window: Window, weekday: number): boolean {
  return window.days === null || window.days.has(weekday);
}

/** The price row for the real input length. */
export function priceRowFor(tiers: readonly Tier[], inputTokens: number): PriceRow {
  let chosen = tiers[0]!.prices;
  for (const tier of tiers) {
    if (tier.minInputTokens > inputTokens) break;
    chosen = tier.prices;
  }
  return chosen;
}

/** True when at least one dimension of the standard row has a price (a price of "0" counts: it was meant). */
export function isPriced(version: PriceVersion): boolean {
  return Object.keys(version.tiers[0]!.prices).length > 0;
}
