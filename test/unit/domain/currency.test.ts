/**
 * Minor units by currency: what a provider counts, what people read. A wrong decimal is a factor of 10, 100 or 1,000.
 */
import assert from 'node:assert/strict';
import { amountOfMinor, amountText, formatAmount } from '../../../domain/currency.ts';
import { usd } from '../../../domain/money.ts';

describe('sums in other currencies', () => {
  for (const [minor, currency, amount] of [
    [1500, 'usd', '15.00'],
    [1500, 'EUR', '15.00'],
    [1500, 'jpy', '1500'],
    [1500, 'KRW', '1500'],
    [1500, 'clp', '1500'],
    [1500, 'vnd', '1500'],
    [1500, 'xof', '1500'],
    // Stripe counts these two in hundredths although nobody else does.
    [1500, 'isk', '15'],
    [1500, 'ugx', '15'],
    [1550, 'isk', '15.5'],
    // Without decimals in payouts only.
    [1500, 'huf', '15.00'],
    [1500, 'twd', '15.00'],
    [1500, 'kwd', '1.500'],
    [1500, 'BHD', '1.500'],
    [1500, 'jod', '1.500'],
    [1500, 'omr', '1.500'],
    [1500, 'tnd', '1.500'],
    [-1500, 'jpy', '-1500'],
    [0, 'kwd', '0.000'],
    // What is no currency's code is counted as it is.
    [1500, 'unknown', '1500'],
  ] as const) {
    it(`${minor} minor units of ${currency} are shown as ${amount}`, () => {
      assert.equal(formatAmount(amountOfMinor(minor, currency), currency), amount);
    });
  }

  it('a sum is exact, and the same as USD for USD', () => {
    assert.equal(amountOfMinor(1050, 'usd'), usd('10.5'));
    assert.equal(amountText(amountOfMinor(Number.MAX_SAFE_INTEGER, 'jpy'), 'jpy'), '9007199254740991 JPY');
  });

  it('a sum that is no whole number of minor units is refused', () => {
    for (const minor of [1.5, Number.NaN, Number.MAX_SAFE_INTEGER + 1]) {
      assert.throws(() => amountOfMinor(minor, 'jpy'), /invariant/);
    }
  });
});
