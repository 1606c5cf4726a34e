/**
 * The configuration of payments: what is half configured stops a process at its start, and no value is ever printed.
 */
import assert from 'node:assert/strict';
import { z } from 'zod';
import { usd } from '../../../domain/money.ts';
import { ConfigError, parseEnvironment, type Environment } from '../../../runtime/environment.ts';
import {
  describePayments,
  PAYMENT_SCHEMA,
  paymentSettings,
  type PaymentSettings,
} from '../../../providers/payment-settings.ts';

const SECRET = 'whsec_0123456789abcdef0123';
const STRIPE = { STRIPE_SECRET_KEY: 'sk_test_abc', STRIPE_WEBHOOK_SECRETS: SECRET };
const CREEM = { CREEM_API_KEY: 'creem_test_abc', CREEM_WEBHOOK_SECRETS: SECRET, CREEM_PRODUCT_ID: 'prod_abc' };

const settings = (environment: Environment): PaymentSettings =>
  paymentSettings(parseEnvironment(environment, z.object(PAYMENT_SCHEMA)));

describe('payment settings', () => {
  it('payment settings without a provider offer no method', () => {
    const { stripe, methods } = settings({});
    assert.deepEqual([stripe, methods], [null, []]);
    assert.equal(describePayments(settings({})), 'no payment provider is configured: top-ups are off');
  });

  it('payment settings with a key of Stripe offer cards, in the key’s own mode', () => {
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

  it('payment settings take several webhook secrets, for a rotation', () => {
    const { stripe } = settings({ ...STRIPE, STRIPE_WEBHOOK_SECRETS: ` ${SECRET} , whsec_fedcba98765432100000,` });
    assert.deepEqual(stripe?.webhookSecrets, [SECRET, 'whsec_fedcba98765432100000']);
  });

  it('payment settings with a key of Creem offer its method, with its own minimum and fee', () => {
    const { methods, creem } = settings({
      ...CREEM,
      TOP_UP_CREEM_MIN_USD: '1',
      TOP_UP_CREEM_FEE_PPM: '39000',
      TOP_UP_CREEM_FEE_FIXED_USD: '0.40',
      TOP_UP_MAX_USD: '10',
    });
    assert.deepEqual(methods, [
      {
        method: 'creem',
        provider: 'creem',
        min: usd('1'),
        max: usd('10'),
        presets: ['5', '10'].map(usd),
        fee: { ppm: 39_000, fixed: usd('0.40') },
        currencies: ['usd'],
        live: false,
      },
    ]);
    assert.equal(creem?.productId, 'prod_abc');
    const both = settings({ ...STRIPE, ...CREEM });
    assert.deepEqual(
      both.methods.map(({ method }) => method),
      ['card', 'creem'],
    );
  });

  it('the mode of a key of Creem follows from its mark, or is stated', () => {
    const live = { ...CREEM, CREEM_API_KEY: 'creem_abc' };
    assert.equal(settings(live).creem?.live, true);
    assert.equal(settings({ ...live, CREEM_MODE: 'test' }).creem?.live, false);
    assert.equal(settings({ ...live, ...STRIPE, STRIPE_SECRET_KEY: 'sk_live_abc' }).methods.length, 2);
  });

  const wrong: readonly [string, Environment, RegExp][] = [
    [
      'a key of Creem without a webhook secret',
      { ...CREEM, CREEM_WEBHOOK_SECRETS: '' },
      /CREEM_WEBHOOK_SECRETS: must n/,
    ],
    [
      'an empty webhook secret of Creem',
      { ...CREEM, CREEM_WEBHOOK_SECRETS: ' , ' },
      /CREEM_WEBHOOK_SECRETS: must name/,
    ],
    [
      'a webhook secret that can be guessed',
      { ...CREEM, CREEM_WEBHOOK_SECRETS: 'secretvalue' },
      /CREEM_WEBHOOK_SECRETS/,
    ],
    ['a key of Creem without a product', { ...CREEM, CREEM_PRODUCT_ID: '' }, /CREEM_PRODUCT_ID: must be set/],
    ['a key that is none of Creem’s', { ...CREEM, CREEM_API_KEY: 'secret-value' }, /CREEM_API_KEY/],
    ['a test key of Creem as a live one', { ...CREEM, CREEM_MODE: 'live' }, /CREEM_MODE: must not be live/],
    ['less than Creem takes', { ...CREEM, TOP_UP_CREEM_MIN_USD: '0.99' }, /TOP_UP_CREEM_MIN_USD: must be at least 1/],
    ['more than Creem takes', { ...CREEM, TOP_UP_MAX_USD: '1000000' }, /TOP_UP_MAX_USD: must not be above 999999.99/],
    [
      'limits of Creem the wrong way round',
      { ...CREEM, TOP_UP_CREEM_MIN_USD: '1001' },
      /TOP_UP_CREEM_MIN_USD: must not/,
    ],
    [
      'test and live money side by side',
      { ...STRIPE, ...CREEM, CREEM_API_KEY: 'creem_abc' },
      /of test mode and CREEM_API_/,
    ],
    [
      'live and test money side by side',
      { ...STRIPE, ...CREEM, STRIPE_SECRET_KEY: 'sk_live_abc' },
      /STRIPE_SECRET_KEY: is of live mode and CREEM_API_KEY of test mode/,
    ],
    ['a key without a webhook secret', { STRIPE_SECRET_KEY: 'sk_test_abc' }, /STRIPE_WEBHOOK_SECRETS: must name/],
    ['an empty webhook secret', { ...STRIPE, STRIPE_WEBHOOK_SECRETS: ' , ' }, /STRIPE_WEBHOOK_SECRETS: must name/],
    [
      'a secret that is none of Stripe’s',
      { ...STRIPE, STRIPE_WEBHOOK_SECRETS: 'secret-value' },
      /STRIPE_WEBHOOK_SECRETS/,
    ],
    ['neither yes nor no', { ...STRIPE, FRAUD_WARNING_FREEZES: 'yes' }, /FRAUD_WARNING_FREEZES: must be true or false/],
    ['slots of no length', { ...STRIPE, AUTO_TOP_UP_SLOT_SECONDS: '0' }, /AUTO_TOP_UP_SLOT_SECONDS/],
    ['a cap in parts of a cent', { ...STRIPE, AUTO_TOP_UP_MONTHLY_MAX_USD: '0.001' }, /AUTO_TOP_UP_MONTHLY_MAX_USD/],
    ['a publishable key', { ...STRIPE, STRIPE_SECRET_KEY: 'pk_test_secretvalue' }, /STRIPE_SECRET_KEY/],
    ['limits the wrong way round', { ...STRIPE, TOP_UP_MIN_USD: '10', TOP_UP_MAX_USD: '9' }, /TOP_UP_MAX_USD/],
    ['a minimum of nothing', { ...STRIPE, TOP_UP_MIN_USD: '0' }, /TOP_UP_MIN_USD/],
    ['a fraction of a cent', { ...STRIPE, TOP_UP_CARD_FEE_FIXED_USD: '0.001' }, /TOP_UP_CARD_FEE_FIXED_USD/],
    ['a checkout that Stripe would refuse', { ...STRIPE, TOP_UP_EXPIRY_SECONDS: '60' }, /TOP_UP_EXPIRY_SECONDS/],
  ];
  for (const [name, environment, message] of wrong) {
    it(`payment settings refuse ${name}`, () => {
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
