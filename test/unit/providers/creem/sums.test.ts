/**
 * The counted part of a Creem payment, for any fields of the order and its transaction. Every combination of fields of
 * one true payment comes to the same sum, and no contradiction comes to more than the least of what is said.
 */
import assert from 'node:assert/strict';
import { creemSums, creemTransactionSums } from '../../../../providers/creem/sums.ts';

/** A price of 10.50 with 21 % tax on top. */
const ORDER = {
  ...{ subTotalCents: 1050, amountCents: 1050, discountCents: 0, taxCents: 221, paidCents: 1271, currency: 'usd' },
};
const TRANSACTION = { amountCents: 1050, discountCents: 0, taxCents: 221, paidCents: 1271, currency: 'usd' };
const NO_ORDER = { subTotalCents: null, amountCents: null, discountCents: 0, taxCents: null, paidCents: null };
const NO_TRANSACTION = { amountCents: null, discountCents: 0, taxCents: null, paidCents: null };

/** Every choice of some of the fields. */
function* choices<F extends string>(fields: readonly F[]): Generator<F[]> {
  for (let bits = 0; bits < 2 ** fields.length; bits++) yield fields.filter((_, n) => (bits & (1 << n)) !== 0);
}

function without<T extends object>(object: T, fields: readonly (keyof T)[]): T {
  return { ...object, ...Object.fromEntries(fields.map((field) => [field, null])) };
}

describe('sums of Creem', () => {
  it('the sum is the price for every combination of fields that states it', () => {
    let combinations = 0;
    for (const ofOrder of choices(['subTotalCents', 'amountCents', 'taxCents', 'paidCents'] as const)) {
      for (const ofTransaction of choices(['amountCents', 'taxCents', 'paidCents'] as const)) {
        const order = without(ORDER, ofOrder);
        const transaction = without(TRANSACTION, ofTransaction);
        const hasPrice = [order.subTotalCents, order.amountCents, transaction.amountCents].some(
          (cents) => cents !== null,
        );
        const hasTax = order.taxCents !== null || transaction.taxCents !== null;
        const hasPaid = order.paidCents !== null || transaction.paidCents !== null;
        const { receivedCents } = creemSums(order, transaction);
        const said = JSON.stringify({ order, transaction });
        if (hasPrice || (hasTax && hasPaid)) assert.equal(receivedCents, 1050, said);
        // Without a tax, what was paid is all there is: it is no order's price, so a person looks at it.
        else assert.equal(receivedCents, hasPaid ? 1271 : 0, said);
        combinations++;
      }
    }
    assert.equal(combinations, 128);
  });

  for (const [what, order, transaction, cents] of [
    ['tax that was inside the price', { taxCents: 182, paidCents: 1050 }, { taxCents: 182, paidCents: 1050 }, 868],
    [
      'a discount that only the transaction knows',
      { paidCents: 666, taxCents: 116 },
      { discountCents: 500, paidCents: null },
      550,
    ],
    ['a transaction that was paid less than its order says', {}, { paidCents: 500, taxCents: 87 }, 413],
    ['an order that was paid less than its transaction says', { paidCents: 500, taxCents: 87 }, {}, 413],
    ['an amount that is smaller than the price', { amountCents: 700 }, {}, 700],
    ['more tax than was paid', { paidCents: 100, taxCents: 221 }, {}, 0],
    ['nothing paid', { paidCents: 0, taxCents: 0 }, {}, 0],
  ] as const) {
    it(`the sum is the least of the stated ones: ${what}`, () => {
      assert.equal(creemSums({ ...ORDER, ...order }, { ...TRANSACTION, ...transaction }).receivedCents, cents);
    });
  }

  it('the sums of an order without a transaction are its own', () => {
    assert.deepEqual(creemSums(ORDER, null), { receivedCents: 1050, paidCents: 1271 });
    assert.deepEqual(creemSums({ ...NO_ORDER, currency: 'usd' }, null), { receivedCents: 0, paidCents: null });
  });

  it('currencies do not mix: a transaction in another one only sizes its refunds', () => {
    const yen = { ...TRANSACTION, paidCents: 190_000, taxCents: 33_000, amountCents: 157_000, currency: 'jpy' };
    assert.deepEqual(creemSums(ORDER, yen), { receivedCents: 1050, paidCents: 190_000 });
    assert.deepEqual(creemSums({ ...NO_ORDER, currency: 'usd' }, yen), { receivedCents: 0, paidCents: 190_000 });
  });

  it('the sums include the paid amount with tax, also where only the price and the tax are known', () => {
    const { paidCents } = creemSums({ ...ORDER, paidCents: null }, { ...TRANSACTION, paidCents: null });
    assert.equal(paidCents, 1271);
  });

  it('the sums of a transaction alone are those of the statement', () => {
    assert.equal(creemTransactionSums(TRANSACTION).receivedCents, 1050);
    assert.equal(creemTransactionSums({ ...TRANSACTION, paidCents: null }).receivedCents, 1050);
    assert.equal(creemTransactionSums(NO_TRANSACTION).receivedCents, 0);
  });
});
