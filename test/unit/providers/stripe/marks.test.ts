/**
 * The payer of a Stripe charge, by the details of every kind of method, and of a card that is charged
 * without its holder.
 */
import assert from 'node:assert/strict';
import Stripe from 'stripe';
import { inspectCharge } from '../../../../providers/stripe/cards.ts';
import { payerMarksOf } from '../../../../providers/stripe/marks.ts';

describe('marks of a payer', () => {
  const chargeBy = (type: string, details: object): Stripe.Charge =>
    ({ payment_method_details: { type, [type]: details } }) as unknown as Stripe.Charge;

  for (const [type, details, marks] of [
    ['card', { fingerprint: 'F1', wallet: { type: 'apple_pay' } }, [['card_fingerprint', 'F1']]],
    ['card_present', { fingerprint: 'F1' }, [['card_fingerprint', 'F1']]],
    ['interac_present', { fingerprint: 'F1' }, [['card_fingerprint', 'F1']]],
    ['us_bank_account', { fingerprint: 'B1' }, [['bank_fingerprint', 'B1']]],
    ['sepa_debit', { fingerprint: 'B1' }, [['bank_fingerprint', 'B1']]],
    ['revolut_pay', { funding: { type: 'card', card: { fingerprint: 'F1' } } }, [['card_fingerprint', 'F1']]],
    ['paypal', { payer_id: 'P1', payer_email: 'a@b.c' }, [['payer_account', 'paypal P1']]],
    ['cashapp', { buyer_id: 'C1' }, [['payer_account', 'cashapp C1']]],
    ['crypto', { buyer_address: '0xAbC' }, [['funding_address', '0xabc']]],
    ['card', { fingerprint: null }, []],
    ['card', {}, []],
    ['oxxo', { number: '1' }, []],
    ['a_method_of_tomorrow', { fingerprint: 'X1' }, [['bank_fingerprint', 'X1']]],
    ['card', { fingerprint: 'x'.repeat(1000) }, []],
    ['card', { fingerprint: 7 }, []],
  ] as const) {
    it(`the marks of ${type} ${JSON.stringify(details).slice(0, 60)}`, () => {
      const found = payerMarksOf(chargeBy(type, details));
      assert.deepEqual(
        found.map(({ kind, value }) => [kind, value]),
        marks,
      );
    });
  }

  it('a charge that was not read, or has no details, has no marks', () => {
    for (const charge of [
      null,
      'ch_1',
      { payment_method_details: null },
      { payment_method_details: { type: 'card' } },
    ]) {
      assert.deepEqual(payerMarksOf(charge as Stripe.Charge), []);
    }
  });
});

describe('a saved card that was charged', () => {
  const statusOf = async (intent: object): Promise<string | undefined> => {
    const paymentIntents = {
      retrieve: () =>
        Promise.resolve({
          id: 'pi_1',
          amount_received: 0,
          currency: 'usd',
          livemode: false,
          latest_charge: null,
          ...intent,
        }),
    };
    const { payments } = await inspectCharge({ paymentIntents } as unknown as Stripe, 'pi_1');
    return payments[0]?.status;
  };

  it('a saved card fails where its holder would have to authenticate, as nobody is there', async () => {
    for (const type of ['use_stripe_sdk', 'redirect_to_url']) {
      assert.equal(await statusOf({ status: 'requires_action', next_action: { type } }), 'failed');
    }
  });

  it('a charge is processing while its bank only tells the holder before it pays', async () => {
    const next_action = { type: 'card_await_notification' };
    assert.equal(await statusOf({ status: 'requires_action', next_action }), 'processing');
    assert.equal(await statusOf({ status: 'processing', next_action: null }), 'processing');
  });

  it('a charged card is shown though the key may not read its charge', async () => {
    const asked: unknown[] = [];
    const intent = { id: 'pi_1', status: 'processing', amount_received: 0, currency: 'usd', livemode: false };
    const paymentIntents = {
      retrieve: (_id: string, options?: object) => {
        asked.push(options);
        if (options === undefined) return Promise.resolve({ ...intent, latest_charge: 'ch_1' });
        return Promise.reject(
          new Stripe.errors.StripePermissionError({ type: 'invalid_request_error', message: 'no' }),
        );
      },
    };
    const { payments } = await inspectCharge({ paymentIntents } as unknown as Stripe, 'pi_1');
    assert.deepEqual([payments[0]?.status, asked], ['processing', [{ expand: ['latest_charge'] }, undefined]]);
  });
});
