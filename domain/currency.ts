/**
 * Sums in the currencies that customers pay in: from the whole minor units that a provider counts to an exact amount,
 * and to the text that people read. Owns how many decimals a currency has, and no rate: nothing here turns one into
 * another.
 */
import { formatPico, PICO_PER_USD, picoUsd, type PicoAmount } from './money.ts';

/** The currency of every order and of the ledger. */
export const USD = 'usd';

/** Currencies without a minor unit: their amounts are whole units. */
const WHOLE_UNITS = new Set([
  ...['bif', 'clp', 'djf', 'gnf', 'jpy', 'kmf', 'krw', 'mga', 'pyg', 'rwf', 'vnd', 'vuv', 'xaf', 'xof', 'xpf'],
]);
/** Currencies of a thousand minor units. */
const THOUSANDTHS = new Set(['bhd', 'iqd', 'jod', 'kwd', 'lyd', 'omr', 'tnd']);
/**
 * Without a minor unit as well, but card providers go on counting them in hundredths, the last two digits always 00.
 */
const WHOLE_UNITS_IN_HUNDREDTHS = new Set(['isk', 'ugx']);
const CODE = /^[a-z]{3}$/;

/** Decimals in which a provider counts a currency; a text that is no currency's code has none. */
function decimalsCounted(currency: string): number {
  if (WHOLE_UNITS.has(currency) || !CODE.test(currency)) return 0;
  return THOUSANDTHS.has(currency) ? 3 : 2;
}

/**
 * Minor units, as a provider counts them, → an exact amount of `currency`. Anything but a whole, safe number is a bug
 * or a broken answer.
 */
export function amountOfMinor(minor: number, currency: string): PicoAmount {
  if (!Number.isSafeInteger(minor)) throw new Error(`invariant broken: ${minor} is not a number of minor units`);
  const perMinor = PICO_PER_USD / 10n ** BigInt(decimalsCounted(currency.toLowerCase()));
  return picoUsd(BigInt(minor) * perMinor);
}

/** An exact decimal in units of `currency`, with its usual decimals: `"1500"` JPY, `"15.00"` EUR, `"1.500"` KWD. */
export function formatAmount(amount: PicoAmount, currency: string): string {
  const code = currency.toLowerCase();
  const decimals = WHOLE_UNITS_IN_HUNDREDTHS.has(code) ? 0 : decimalsCounted(code);
  const [whole = '', fraction = ''] = formatPico(amount).split('.');
  // A provider that breaks its own rule (half a króna) is still shown exactly.
  const digits = fraction.replace(/0+$/, '').padEnd(decimals, '0');
  return digits === '' ? whole : `${whole}.${digits}`;
}

/** A sum as people read it: `"1500 JPY"`. */
export function amountText(amount: PicoAmount, currency: string): string {
  return `${formatAmount(amount, currency)} ${currency.toUpperCase()}`;
}
