/**
 * Texts that people paste for a payment, and their meaning: the one key that a credit must have, or a refusal that says
 * what to choose. Each form that leads anywhere else is money credited twice.
 */
import assert from 'node:assert/strict';
import {
  namedPayment,
  namesIn,
  outsideKey,
  type NamedPayment,
  type PaymentChoice,
} from '../../../../domain/payments/payment-names.ts';

const HEX = '5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060';
const HASH = `0x${HEX}`;
const ORDER = { topUpId: 'top_1', provider: 'stripe' };

const card: PaymentChoice = {
  ...{ provider: 'stripe', paymentId: 'pi_3NabcDEF', topUpId: 'top_1', status: 'paid' },
  names: ['ch_3nabcdef', 'cs_test_a1b2c3', 'pi_3nabcdef'],
};
const deposit = (ordinal: number, topUpId = 'top_1'): PaymentChoice => ({
  ...{ provider: 'crypto', paymentId: `8453/${HASH}/${ordinal}`, topUpId, status: 'paid' },
  names: [`8453/${HASH}/${ordinal}`, HASH],
});

describe('names of payments', () => {
  for (const [text, ...names] of [
    ['pi_3NabcDEF', 'pi_3nabcdef'],
    ['PI_3NABCDEF', 'pi_3nabcdef'],
    ['  "pi_3NabcDEF"\n', 'pi_3nabcdef'],
    ['pi_\u200b3NabcDEF\ufeff', 'pi_3nabcdef'],
    ['pi_3NabcDEF_secret_9xYz8w', 'pi_3nabcdef'],
    ['ch_3NabcDEF', 'ch_3nabcdef'],
    ['py_1Nabcdef', 'py_1nabcdef'],
    ['in_1Nabcdef', 'in_1nabcdef'],
    ['evt_1Nabcdef', 'evt_1nabcdef'],
    ['cs_live_a1B2c3', 'cs_live_a1b2c3'],
    ['https://dashboard.stripe.com/test/payments/pi_3NabcDEF', 'pi_3nabcdef'],
    ['https://dashboard.stripe.com/acct_1032D82eZvKYlo2C/payments/pi_3NabcDEF?tab=x', 'pi_3nabcdef'],
    ['https://checkout.stripe.com/c/pay/cs_test_a1B2c3#fidkdWxOYHwnPyd1_abcdefg', 'cs_test_a1b2c3'],
    ['ord_4aDwWXjMLpes4Kj4XqNnUA', 'ord_4adwwxjmlpes4kj4xqnnua'],
    ['tran_5yMaWzAl3jxuGJMCOrYWwk', 'tran_5ymawzal3jxugjmcorywwk'],
    ['https://www.creem.io/checkout/prod_1Nabcdef/ch_4l0N34kxo16AhRKUHFUuXr', 'ch_4l0n34kxo16ahrkuhfuuxr'],
    [HASH, HASH],
    [HEX, HASH],
    [HASH.toUpperCase(), HASH],
    [`${HASH}:7`, HASH],
    [`${HEX}#eventlog`, HASH],
    [`https://basescan.org/tx/${HASH}#eventlog`, HASH],
    [`https://tronscan.org/#/transaction/${HEX}`, HASH],
    [`https://eth.blockscout.com/tx/${HASH}?tab=token_transfers`, HASH],
    [`8453/${HASH}/3`, `8453/${HASH}/3`],
    [`08453/${HASH.toUpperCase()}/03`, `8453/${HASH}/3`],
    [encodeURIComponent(`8453/${HASH}/3`), `8453/${HASH}/3`],
    ['pi_3NabcDEF ch_3NabcDEF', 'pi_3nabcdef', 'ch_3nabcdef'],
    // A card's, a customer's or an account's id is no payment's; a hash that was cut names nothing.
    ['cus_1Nabcdef pm_1Nabcdef acct_1Nabcdef'],
    ['0x5c504ed4…b22060'],
    [HASH.slice(0, -1)],
    [`${HASH}0`],
    ['0x52908400098527886e0f7030069857d2e4169ee7'],
    ['bank transfer of Monday'],
    ['%E0%A4%A'],
  ] as const) {
    it(`the names in ${JSON.stringify(text)}: ${names.join(', ') || 'none'}`, () =>
      assert.deepEqual(namesIn(text), names));
  }

  const named = (paymentId: string): NamedPayment => ({ verdict: 'named', paymentId });
  const wordsOf = (answer: NamedPayment): string => (answer.verdict === 'refused' ? answer.words : answer.paymentId);

  it('lead to the one payment that they name', () => {
    for (const text of ['pi_3NabcDEF', 'CH_3NABCDEF', 'pi_3NabcDEF ch_3NabcDEF', 'evt_1Nabcdef']) {
      assert.deepEqual(namedPayment(text, ORDER, [card], [card]), named('pi_3NabcDEF'));
    }
    const order = { topUpId: 'top_1', provider: 'crypto' };
    assert.deepEqual(namedPayment(`${HEX}:7`, order, [deposit(3)], [deposit(3)]), named(`8453/${HASH}/3`));
  });

  it('a name that means two transfers of one transaction is refused with both', () => {
    const order = { topUpId: 'top_1', provider: 'crypto' };
    const both = [deposit(3), deposit(4)];
    assert.match(wordsOf(namedPayment(HASH, order, both, both)), /means 2 payments.*\/3, 8453.*\/4/);
    assert.deepEqual(namedPayment(`8453/${HASH}/4`, order, [deposit(4)], both), named(`8453/${HASH}/4`));
  });

  it('a name of another order or provider is refused with its owner', () => {
    const theirs = namedPayment(HASH, { topUpId: 'top_2', provider: 'crypto' }, [deposit(3)], []);
    assert.ok(theirs.verdict === 'refused' && theirs.isAnotherOrders);
    assert.match(theirs.words, /order top_1, not of this one/);
    assert.match(wordsOf(namedPayment(HASH, ORDER, [deposit(3)], [card])), /top_1.*choose one of pi_3NabcDEF/);
  });

  it('an unknown name is refused with the choice and the form for money from outside', () => {
    const words = wordsOf(namedPayment('ch_9Zzzzzz', ORDER, [], [card]));
    assert.match(
      words,
      /stripe has shown no payment ch_9zzzzzz.*choose one of pi_3NabcDEF.*re-check.*outside\/<reference>/,
    );
    assert.match(wordsOf(namedPayment('the money of Monday', ORDER, [], [])), /no payment of this order is known yet/);
    assert.match(wordsOf(namedPayment('pi_3NabcDEF ch_9Zzzzzz', ORDER, [card], [card])), /give one of them/);
  });

  it('a name of a payment that the provider shows no more is refused', () => {
    const gone = { ...card, status: 'gone' };
    for (const text of ['pi_3NabcDEF', 'ch_3NabcDEF']) {
      assert.match(wordsOf(namedPayment(text, ORDER, [gone], [gone])), /any more; no payment of this order/);
    }
  });

  describe('from outside of all providers', () => {
    it('a reference from outside is one key in every spelling', () => {
      for (const text of [
        'outside/Wire 2026-11-24/17',
        'OUTSIDE/wire  2026 11 24 #17',
        ' outside/wire-2026-11-24-17. ',
      ]) {
        assert.deepEqual(outsideKey(text), named('outside/wire-2026-11-24-17'));
      }
    });

    it('a text without `outside/` is no reference from outside', () =>
      assert.equal(outsideKey('wire 2026-11-24/17'), null));

    for (const text of [
      `outside/${HEX}`,
      `outside/0x${HEX.slice(0, 40)}\n  ${HEX.slice(40)}`,
      'outside/see pi_3NabcDEF',
      `outside/8453/${HASH}/3`,
    ]) {
      it(`a reference from outside that is an id of a provider or chain is refused: ${text.slice(0, 30)}`, () =>
        assert.match(wordsOf(outsideKey(text)!), /is an id of a provider or a chain/));
    }

    for (const text of ['outside/', 'outside/ -- ', 'outside/ab', `outside/${'x'.repeat(151)}`]) {
      it(`a reference from outside of an unsound length is refused: ${text.slice(0, 14)}`, () =>
        assert.match(wordsOf(outsideKey(text)!), /from 3 to 150 letters and digits/));
    }
  });
});
