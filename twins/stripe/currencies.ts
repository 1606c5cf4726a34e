/**
 * How Stripe counts currencies: in hundredths unless a list says otherwise, and not every number of minor units is a
 * sum.
 */
import { invalidRequest } from './errors.ts';

const ZERO_DECIMAL = 'bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf'.split(' ');
/** Their last digit must be 0: card networks settle them in hundredths. */
const THREE_DECIMAL = 'bhd jod kwd omr tnd'.split(' ');
/**
 * Without decimals since some years, yet counted in hundredths for the sake of old callers; the last two digits must be
 * 00.
 */
const HUNDREDTHS_OF_NOTHING = ['isk', 'ugx'];

/** Minor units of one unit of a currency, as a power of ten. */
export function decimalsOf(currency: string): number {
  if (ZERO_DECIMAL.includes(currency)) return 0;
  return THREE_DECIMAL.includes(currency) ? 3 : 2;
}

/** Throws what Stripe answers to a number of minor units that is no sum of the currency. */
export function checkMinorUnits(amount: number, currency: string): void {
  const step = HUNDREDTHS_OF_NOTHING.includes(currency) ? 100 : THREE_DECIMAL.includes(currency) ? 10 : 1;
  if (amount % step === 0) return;
  throw invalidRequest(
    `Invalid amount ${amount} for ${currency}: it must be evenly divisible by ${step}.`,
    'amount',
    'parameter_invalid_integer',
  );
}
