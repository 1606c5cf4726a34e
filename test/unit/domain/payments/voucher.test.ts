/** Voucher codes: whatever people do to one while typing it, it is either the same code or found to be none. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  formatVoucherCode,
  parseVoucherCode,
  shownVoucherPrefix,
  voucherCodeOf,
  VOUCHER_CODE_BITS,
  type VoucherCode,
} from '../../../../domain/payments/voucher.ts';

/** Crockford's symbols, those of the check included. */
const CHECK = [...'0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U'];
const LIMIT = 1n << BigInt(VOUCHER_CODE_BITS);

const code = fc
  .bigInt({ min: 0n, max: LIMIT - 1n })
  .map(voucherCodeOf)
  .filter((made) => made !== null);

describe('voucher codes', () => {
  it('a voucher code has more than 80 random bits, and a list of codes hides 80 of them', () => {
    assert.equal(VOUCHER_CODE_BITS, 95);
    fc.assert(fc.property(code, (made) => VOUCHER_CODE_BITS - 5 * shownVoucherPrefix(made).length >= 80));
  });

  it('a voucher code is Crockford base32 with its check symbol', () => {
    assert.equal(voucherCodeOf(0n), '0'.repeat(20));
    assert.equal(voucherCodeOf(36n), `${'0'.repeat(17)}14U`);
    // 14SC0PJ in base32, 27 modulo 37.
    assert.equal(voucherCodeOf(1_234_567_890n), `${'0'.repeat(12)}14SC0PJV`);
  });

  it('the check symbol of a voucher code is always a letter or digit', () => {
    for (let value = 0n; value < 37n; value++) {
      assert.equal(voucherCodeOf(value) === null, value >= 32n && value < 36n, String(value));
    }
  });

  it('differ for different numbers', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: LIMIT - 1n }), fc.bigInt({ min: 0n, max: LIMIT - 1n }), (a, b) => {
        fc.pre(a !== b && voucherCodeOf(a) !== null);
        assert.notEqual(voucherCodeOf(a), voucherCodeOf(b));
      }),
    );
  });

  it('a voucher code is read in every spelling', () => {
    const typed = fc.record({
      made: code,
      blanks: fc.array(fc.constantFrom('-', ' ', '–', '\t', ''), { minLength: 20, maxLength: 20 }),
      lower: fc.boolean(),
      one: fc.constantFrom('1', 'i', 'I', 'l', 'L'),
      zero: fc.constantFrom('0', 'o', 'O'),
    });
    fc.assert(
      fc.property(typed, ({ made, blanks, lower, one, zero }) => {
        const spelt = [...made].map((symbol, at) => symbol + blanks[at]!).join('');
        const text = (lower ? spelt.toLowerCase() : spelt).replaceAll('1', one).replaceAll('0', zero);
        assert.equal(parseVoucherCode(text), made);
        assert.equal(parseVoucherCode(formatVoucherCode(made)), made);
      }),
    );
  });

  it('a voucher code with one mistyped symbol is refused', () => {
    fc.assert(
      fc.property(code, fc.nat(19), fc.constantFrom(...CHECK.slice(0, 32)), (made, at, symbol) => {
        fc.pre(made[at] !== symbol);
        assert.equal(parseVoucherCode(made.slice(0, at) + symbol + made.slice(at + 1)), null);
      }),
    );
  });

  it('a voucher code with two swapped neighbours is refused', () => {
    fc.assert(
      fc.property(code, fc.nat(17), (made, at) => {
        fc.pre(made[at] !== made[at + 1]);
        const swapped = made.slice(0, at) + made[at + 1]! + made[at]! + made.slice(at + 2);
        assert.equal(parseVoucherCode(swapped), null);
      }),
    );
  });

  for (const text of ['', '-', '0'.repeat(19), '0'.repeat(21), `${'0'.repeat(18)}U0`, 'ÄÄÄÄÄ-ÄÄÄÄÄ-ÄÄÄÄÄ-ÄÄÄÄÄ']) {
    it(`"${text}" is none`, () => assert.equal(parseVoucherCode(text), null));
  }

  it('voucher codes are handed out in four groups of five', () => {
    assert.equal(formatVoucherCode('0123456789ABCDEFGHJK' as VoucherCode), '01234-56789-ABCDE-FGHJK');
  });
});
