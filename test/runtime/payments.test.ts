/** The configuration of payments: what is half configured stops a process at its start, and no value is ever printed. */
import assert from 'node:assert/strict';
import { z } from 'zod';
import { usd } from '../../domain/money.ts';
import { ConfigError, parseEnvironment, type Environment } from '../../runtime/environment.ts';
import { describePayments, PAYMENT_SCHEMA, paymentSettings, type PaymentSettings } from '../../runtime/payments.ts';

const SECRET = 'whsec_0123456789abcdef0123';
const STRIPE = { STRIPE_SECRET_KEY: 'sk_test_abc', STRIPE_WEBHOOK_SECRETS: SECRET };

const settings = (environment: Environment): PaymentSettings =>
  paymentSettings(parseEnvironment(environment, z.object(PAYMENT_SCHEMA)));

describe('payment settings', () => {
  it('without a provider offer no method', () => {
    const { stripe, methods } = settings({});
    assert.deepEqual([stripe, methods], [null, []]);
    assert.equal(describePayments(settings({})), 'no payment provider is configured: top-ups are off');
  });

  it('with a key of Stripe offer cards, in the key’s own mode', () => {
    const test = settings({
      ...STRIPE,
      TOP_UP_CARD_FEE_PPM: '29000',
      TOP_UP_CARD_FEE_FIXED_USD: '0.30',
      TOP_UP_MAX_USD: '50',
    });
    assert.deepEqual(test.methods, [
      {
        method: 'card',
        provider: 'stripe',
        min: usd('5'),
        max: usd('50'),
        presets: ['5', '10', '25', '50'].map(usd),
        fee: { ppm: 29_000, fixed: usd('0.30') },
        currencies: ['usd'],
        live: false,
      },
    ]);
    assert.equal(settings({ ...STRIPE, STRIPE_SECRET_KEY: 'rk_live_abc' }).stripe?.live, true);
    assert.match(describePayments(test), /test mode/);
  });

  it('take several webhook secrets, for a rotation', () => {
    const { stripe } = settings({ ...STRIPE, STRIPE_WEBHOOK_SECRETS: ` ${SECRET} , whsec_fedcba98765432100000,` });
    assert.deepEqual(stripe?.webhookSecrets, [SECRET, 'whsec_fedcba98765432100000']);
  });

  const wrong: readonly [string, Environment, RegExp][] = [
    ['a key without a webhook secret', { STRIPE_SECRET_KEY: 'sk_test_abc' }, /STRIPE_WEBHOOK_SECRETS: must name/],
    ['an empty webhook secret', { ...STRIPE, STRIPE_WEBHOOK_SECRETS: ' , ' }, /STRIPE_WEBHOOK_SECRETS: must name/],
    [
      'a secret that is none of Stripe’s',
      { ...STRIPE, STRIPE_WEBHOOK_SECRETS: 'secret-value' },
      /STRIPE_WEBHOOK_SECRETS/,
    ],
    ['a publishable key', { ...STRIPE, STRIPE_SECRET_KEY: 'pk_test_secretvalue' }, /STRIPE_SECRET_KEY/],
    ['limits the wrong way round', { ...STRIPE, TOP_UP_MIN_USD: '10', TOP_UP_MAX_USD: '9' }, /TOP_UP_MAX_USD/],
    ['a minimum of nothing', { ...STRIPE, TOP_UP_MIN_USD: '0' }, /TOP_UP_MIN_USD/],
    ['a fraction of a cent', { ...STRIPE, TOP_UP_CARD_FEE_FIXED_USD: '0.001' }, /TOP_UP_CARD_FEE_FIXED_USD/],
    ['a checkout that Stripe would refuse', { ...STRIPE, TOP_UP_EXPIRY_SECONDS: '60' }, /TOP_UP_EXPIRY_SECONDS/],
  ];
  for (const [name, environment, message] of wrong) {
    it(`refuse ${name}`, () => {
      assert.throws(
        () => settings(environment),
        (error) => {
          assert.ok(error instanceof ConfigError);
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /secret-?value|whsec_0/);
          return true;
        },
      );
    });
  }
});
