/**
 * Money. One unit everywhere: pico-USD (1e-12 USD) as a branded bigint. Prices have at most six
 * decimals per million tokens, so one token costs a whole number of pico-USD and every cost is exact.
 *
 * On the wire, in SQL and in Temporal payloads an amount is a decimal string with twelve decimals;
 * this file is the only codec. No function here rounds: text that is finer than a pico-USD is refused.
 */

declare const picoAmountBrand: unique symbol;
declare const picoUsdBrand: unique symbol;

/**
 * An amount in 1e-12 of one unit of some currency, which is said beside it. Good for shares of itself only: an amount
 * in another currency than USD is no sum of USD without a rate, so it does not pass for a `PicoUsd`.
 */
export type PicoAmount = bigint & { readonly [picoAmountBrand]: true };

/** An amount in 1e-12 USD. Made only by the constructors and parsers of this file. */
export type PicoUsd = PicoAmount & { readonly [picoUsdBrand]: true };

export const PICO_PER_USD = 1_000_000_000_000n;

/** The bound of `DOMAIN usd` in SQL (1e20 USD, exclusive), so that no value exists that the ledger cannot store. */
export const PICO_USD_BOUND = 10n ** 32n;

export const ZERO_USD = 0n as PicoUsd;

const DECIMAL = /^(-?)(\d{1,20})(?:\.(\d{1,12}))?$/;

/** Brands a bigint that is already in pico-USD. Throws when it is beyond what the ledger can store. */
export function picoUsd(value: bigint): PicoUsd {
  if (value <= -PICO_USD_BOUND || value >= PICO_USD_BOUND) throw new RangeError('amount is beyond 1e20 USD');
  return value as PicoUsd;
}

/**
 * Reads a decimal USD string (`"5"`, `"0.000123"`, `"-1.5"`) exactly. Returns null for anything else:
 * more than twelve decimals, exponents, signs other than a leading minus, blanks, or a value beyond the bound.
 */
export function parseUsd(text: string): PicoUsd | null {
  const match = DECIMAL.exec(text);
  if (match === null) return null;
  const [, sign, whole = '', fraction = ''] = match;
  const value = BigInt(whole) * PICO_PER_USD + BigInt(fraction.padEnd(12, '0'));
  return (sign === '-' ? -value : value) as PicoUsd;
}

/** `parseUsd` for text that our own code or database wrote: anything unreadable is a bug. */
export function usd(text: string): PicoUsd {
  const value = parseUsd(text);
  if (value === null) throw new Error(`invariant broken: "${text}" is not a USD amount`);
  return value;
}

/** `usd` for an amount in any currency: a decimal string in its units, as our own code or database wrote it. */
export function picoAmount(text: string): PicoAmount {
  return usd(text);
}

/** The one printed form: a decimal USD string with exactly twelve decimals, `"0.000123450000"`. */
export function formatUsd(amount: PicoUsd): string {
  const value: bigint = amount;
  const negative = value < 0n;
  const digits = (negative ? -value : value).toString().padStart(13, '0');
  const split = digits.length - 12;
  return `${negative ? '-' : ''}${digits.slice(0, split)}.${digits.slice(split)}`;
}

/** `formatUsd` for an amount in any currency: a decimal string in its units with twelve decimals, for storing. */
export function formatPico(amount: PicoAmount): string {
  return formatUsd(picoUsd(amount));
}

/** The shortest exact decimal (`"0.0015"`), for places where a JSON number is expected (`usage.cost`). */
export function formatUsdShort(amount: PicoUsd): string {
  const text = formatUsd(amount).replace(/0+$/, '');
  return text.endsWith('.') ? text.slice(0, -1) : text;
}

/** Sum of amounts, exact. */
export function addUsd(...amounts: PicoUsd[]): PicoUsd {
  return picoUsd(amounts.reduce<bigint>((sum, amount) => sum + amount, 0n));
}

/** The smaller of two amounts. */
export function minUsd(a: PicoUsd, b: PicoUsd): PicoUsd {
  return a < b ? a : b;
}

/** The larger of two amounts. */
export function maxUsd(a: PicoUsd, b: PicoUsd): PicoUsd {
  return a > b ? a : b;
}
