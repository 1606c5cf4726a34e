/**
 * The money codec: decimal text ⇄ pico-USD without any rounding, and sums that are exact or refused.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  addUsd,
  formatUsd,
  formatUsdShort,
  maxUsd,
  minUsd,
  parseUsd,
  PICO_PER_USD,
  PICO_USD_BOUND,
  picoUsd,
  usd,
  ZERO_USD,
} from '../../../domain/money.ts';

/** Every amount the ledger can store, small ones as often as those at the bounds. */
const amounts = fc
  .oneof(
    fc.bigInt({ min: -(PICO_USD_BOUND - 1n), max: PICO_USD_BOUND - 1n }),
    fc.bigInt({ min: -10n * PICO_PER_USD, max: 10n * PICO_PER_USD }),
    fc.constantFrom(0n, 1n, -1n, PICO_PER_USD, PICO_USD_BOUND - 1n, 1n - PICO_USD_BOUND),
  )
  .map(picoUsd);

/** Two of these can always be added within the bound. */
const halfAmounts = fc.bigInt({ min: -(PICO_USD_BOUND / 3n), max: PICO_USD_BOUND / 3n }).map(picoUsd);

const digits = (minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...'0123456789'), minLength, maxLength });

describe('money: codec', () => {
  const exact: readonly [text: string, pico: bigint, printed: string, short: string][] = [
    ['0', 0n, '0.000000000000', '0'],
    ['-0', 0n, '0.000000000000', '0'],
    ['5', 5_000_000_000_000n, '5.000000000000', '5'],
    ['100', 100_000_000_000_000n, '100.000000000000', '100'],
    ['1.5', 1_500_000_000_000n, '1.500000000000', '1.5'],
    ['-1.5', -1_500_000_000_000n, '-1.500000000000', '-1.5'],
    ['0.000000000001', 1n, '0.000000000001', '0.000000000001'],
    ['-0.000000000001', -1n, '-0.000000000001', '-0.000000000001'],
    ['0.000123450000', 123_450_000n, '0.000123450000', '0.00012345'],
    ['007.10', 7_100_000_000_000n, '7.100000000000', '7.1'],
    [
      '99999999999999999999.999999999999',
      10n ** 32n - 1n,
      '99999999999999999999.999999999999',
      '99999999999999999999.999999999999',
    ],
    [
      '-99999999999999999999.999999999999',
      1n - 10n ** 32n,
      '-99999999999999999999.999999999999',
      '-99999999999999999999.999999999999',
    ],
  ];
  for (const [text, pico, printed, short] of exact) {
    it(`"${text}" is exactly ${pico} pico-USD and prints as "${printed}"`, () => {
      const amount = parseUsd(text);
      assert.equal(amount, pico);
      assert.equal(formatUsd(picoUsd(pico)), printed);
      assert.equal(formatUsdShort(picoUsd(pico)), short);
    });
  }

  const refused: readonly [text: string, why: string][] = [
    ['', 'empty'],
    [' ', 'blank'],
    [' 1', 'leading blank'],
    ['1 ', 'trailing blank'],
    ['1\n', 'trailing line end'],
    ['+1', 'plus sign'],
    ['--1', 'two signs'],
    ['-', 'sign alone'],
    ['.', 'point alone'],
    ['.5', 'no digit before the point'],
    ['5.', 'no digit after the point'],
    ['1.2.3', 'two points'],
    ['1,5', 'decimal comma'],
    ['1_000', 'digit separator'],
    ['1,000.00', 'thousands separator'],
    ['$1', 'currency sign'],
    ['1e3', 'exponent'],
    ['1E-3', 'exponent'],
    ['1.5e-7', 'exponent'],
    ['0x10', 'hexadecimal'],
    ['1n', 'bigint literal'],
    ['NaN', 'not a number'],
    ['Infinity', 'infinite'],
    ['-Infinity', 'infinite'],
    ['null', 'null as text'],
    ['１', 'full-width digit'],
    ['٣', 'Arabic-Indic digit'],
    ['0.0000000000001', 'thirteen decimals'],
    ['1.0000000000000', 'thirteen decimals, all zero'],
    ['0.30000000000000004', 'the decimals of a float sum'],
    ['100000000000000000000', 'the bound itself'],
    ['-100000000000000000000', 'the bound itself, negative'],
    ['999999999999999999999999', 'beyond the bound'],
  ];
  for (const [text, why] of refused) {
    it(`${JSON.stringify(text)} is refused (${why}), and is a bug where our own code wrote it`, () => {
      assert.equal(parseUsd(text), null);
      assert.throws(() => usd(text), /invariant broken/);
    });
  }

  it('every amount survives printing and reading', () => {
    fc.assert(
      fc.property(amounts, (amount) => {
        assert.equal(parseUsd(formatUsd(amount)), amount);
        assert.equal(usd(formatUsdShort(amount)), amount);
      }),
    );
  });

  it('the printed form has exactly twelve decimals, the short form no needless zero', () => {
    fc.assert(
      fc.property(amounts, (amount) => {
        assert.match(formatUsd(amount), /^-?\d+\.\d{12}$/);
        assert.match(formatUsdShort(amount), /^-?(0|[1-9]\d*)(\.\d*[1-9])?$/);
      }),
    );
  });

  it('the short form stands as a number in JSON', () => {
    fc.assert(
      fc.property(amounts, (amount) => {
        assert.equal(typeof JSON.parse(formatUsdShort(amount)), 'number');
      }),
    );
  });

  it('text of up to 20 digits and 12 decimals is read digit by digit', () => {
    fc.assert(
      fc.property(fc.boolean(), digits(1, 20), digits(1, 12), (negative, whole, fraction) => {
        const pico = BigInt(whole + fraction.padEnd(12, '0'));
        assert.equal(parseUsd(`${negative ? '-' : ''}${whole}.${fraction}`), negative ? -pico : pico);
      }),
    );
  });

  it('more than twelve decimals are refused, never rounded', () => {
    fc.assert(
      fc.property(digits(1, 20), digits(13, 40), (whole, fraction) => {
        assert.equal(parseUsd(`${whole}.${fraction}`), null);
      }),
    );
  });

  it('an exponent is refused wherever it stands', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), fc.constantFrom('e', 'E'), fc.integer(), (mantissa, e, exponent) => {
        assert.equal(parseUsd(`${mantissa}${e}${exponent}`), null);
      }),
    );
  });

  it('any other text is refused, or is an amount that prints as the same decimal', () => {
    const nearlyMoney = fc.string({ unit: fc.constantFrom(...'0123456789.-+eE, '), maxLength: 36 });
    fc.assert(
      fc.property(fc.oneof(fc.string(), nearlyMoney), (text) => {
        const amount = parseUsd(text);
        if (amount === null) return;
        const [, sign = '', whole = '', fraction = ''] = /^(-?)0*(\d+?)(?:\.(\d+))?$/.exec(text) ?? [];
        const zero = amount === 0n;
        assert.equal(formatUsd(amount), `${zero ? '' : sign}${whole}.${fraction.padEnd(12, '0')}`);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('money: amounts', () => {
  it('a bigint beyond what the ledger can store is never money', () => {
    assert.throws(() => picoUsd(PICO_USD_BOUND), RangeError);
    assert.throws(() => picoUsd(-PICO_USD_BOUND), RangeError);
    assert.equal(picoUsd(PICO_USD_BOUND - 1n), PICO_USD_BOUND - 1n);
    assert.equal(picoUsd(1n - PICO_USD_BOUND), 1n - PICO_USD_BOUND);
  });

  it('a plain bigint does not compile where money is asked', () => {
    // @ts-expect-error only the constructors and parsers make money
    assert.equal(formatUsd(1n), '0.000000000001');
  });

  it('order is that of the decimals', () => {
    const decimal = fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 99 }));
    fc.assert(
      fc.property(decimal, decimal, ([wholeA, centsA], [wholeB, centsB]) => {
        const a = usd(`${wholeA}.${String(centsA).padStart(2, '0')}`);
        const b = usd(`${wholeB}.${String(centsB).padStart(2, '0')}`);
        const less = wholeA < wholeB || (wholeA === wholeB && centsA < centsB);
        assert.equal(a < b, less);
        assert.equal(minUsd(a, b), less ? a : b);
        assert.equal(maxUsd(a, b), less ? b : a);
      }),
      { numRuns: 500 },
    );
  });

  it('a negative amount is below zero, and zero below a pico-USD', () => {
    const sorted = [usd('0.000000000001'), ZERO_USD, usd('-5'), usd('-0.000000000001'), usd('10'), usd('9')].toSorted(
      (a, b) => (a < b ? -1 : 1),
    );
    assert.deepEqual(sorted, [usd('-5'), usd('-0.000000000001'), ZERO_USD, usd('0.000000000001'), usd('9'), usd('10')]);
  });

  it('0.1 + 0.2 is 0.3', () => {
    assert.equal(formatUsd(addUsd(usd('0.1'), usd('0.2'))), '0.300000000000');
  });

  it('no amounts add up to zero', () => {
    assert.equal(addUsd(), ZERO_USD);
  });

  it('addition is exact: each part can be taken out again, in any order and grouping', () => {
    fc.assert(
      fc.property(halfAmounts, halfAmounts, fc.bigInt({ min: -PICO_PER_USD, max: PICO_PER_USD }), (a, b, pico) => {
        const c = picoUsd(pico);
        assert.equal(addUsd(a, b) - b, a);
        assert.equal(addUsd(a, b), addUsd(b, a));
        assert.equal(addUsd(addUsd(a, b), c), addUsd(a, addUsd(b, c)));
        assert.equal(addUsd(a, ZERO_USD), a);
      }),
    );
  });

  it('a million additions of the smallest amount lose nothing', () => {
    const parts = Array.from({ length: 1_000 }, () => usd('0.000000000001'));
    let sum = ZERO_USD;
    for (let i = 0; i < 1_000; i += 1) sum = addUsd(sum, ...parts);
    assert.equal(formatUsd(sum), '0.000001000000');
  });

  it('a sum beyond what the ledger can store is refused, not wrapped', () => {
    const most = picoUsd(PICO_USD_BOUND - 1n);
    const least = picoUsd(1n - PICO_USD_BOUND);
    assert.throws(() => addUsd(most, usd('0.000000000001')), RangeError);
    assert.throws(() => addUsd(least, usd('-0.000000000001')), RangeError);
    assert.equal(addUsd(most, least), ZERO_USD);
  });
});
