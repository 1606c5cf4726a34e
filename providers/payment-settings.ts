/**
 * The configuration of payments, read by api (checkout, webhooks) and worker (providers). A method whose provider has
 * no key is not offered; a provider that is half configured stops the process at its start. Settings of one provider
 * are in its own file.
 */
import { z } from 'zod';
import { addUsd, formatUsd, parseUsd, usd, type PicoUsd } from '../domain/money.ts';
import { feeOf, type TopUpFee } from '../domain/payments/top-up.ts';
import { CHAIN_SCHEMA, cryptoSettings, type CryptoSettings } from './chain/settings.ts';
import { ConfigError, invalidEnvironment, seconds, usdInCents } from '../runtime/environment.ts';
import { CREEM_SCHEMA, creemSettings, type CreemSettings } from './creem/settings.ts';
import { STRIPE_SCHEMA, stripeSettings, type StripeSettings } from './stripe/settings.ts';

/** Environment variables of payments; part of the schema of every process that needs them. */
export const PAYMENT_SCHEMA = {
  ...STRIPE_SCHEMA,
  ...CREEM_SCHEMA,
  ...CHAIN_SCHEMA,
  PUBLIC_URL: z.url().default('http://127.0.0.1:8787'),
  TOP_UP_MIN_USD: usdInCents('5'),
  TOP_UP_MAX_USD: usdInCents('1000'),
  TOP_UP_CARD_FEE_PPM: z.coerce.number().int().min(0).max(500_000).default(0),
  TOP_UP_CARD_FEE_FIXED_USD: usdInCents('0'),
  TOP_UP_CREEM_MIN_USD: usdInCents('5'),
  TOP_UP_CREEM_FEE_PPM: z.coerce.number().int().min(0).max(500_000).default(0),
  TOP_UP_CREEM_FEE_FIXED_USD: usdInCents('0'),
  TOP_UP_OPEN_MAX: z.coerce.number().int().min(1).max(1000).default(20),
  TOP_UP_EXPIRY_SECONDS: seconds(3600),
  TOP_UP_POLL_SECONDS: seconds(15),
  TOP_UP_POLL_MAX_SECONDS: seconds(300),
};

type PaymentEnvironment = z.output<z.ZodObject<typeof PAYMENT_SCHEMA>>;

export interface TopUpMethod {
  readonly method: 'card' | 'creem' | 'crypto';
  readonly provider: 'stripe' | 'creem' | 'crypto';
  readonly min: PicoUsd;
  readonly max: PicoUsd;
  readonly presets: readonly PicoUsd[];
  readonly fee: TopUpFee;
  readonly currencies: readonly string[];
  readonly live: boolean;
}

/** How a top-up's workflow asks its provider; see `TopUpInput`. */
export interface TopUpRun {
  readonly pollSeconds: number;
  readonly pollMaxSeconds: number;
  readonly runSeconds: number;
}

export interface PaymentSettings {
  readonly stripe: StripeSettings | null;
  readonly creem: CreemSettings | null;
  readonly crypto: CryptoSettings | null;
  readonly methods: readonly TopUpMethod[];
  readonly expirySeconds: number;
  /** How many orders of one account may wait for their payment at once. */
  readonly openMax: number;
  /** The address at which customers reach us: they return to it from a checkout. */
  readonly publicUrl: string;
  readonly topUpRun: TopUpRun;
}

/** Creem's limits for a one-time product with its own price; fees included. */
const CREEM_PRICE = { min: usd('1'), max: usd('999999.99') };
const PRESETS = ['5', '10', '25', '50', '100'];
/** Stripe accepts sessions that last from half an hour to a day. */
const STRIPE_EXPIRY_SECONDS = { min: 1800, max: 86_400 };
/** Runs start again daily, so that no old code stays in use. */
const RUN_SECONDS = 86_400;

export function paymentSettings(env: PaymentEnvironment): PaymentSettings {
  const faults: string[] = [];
  if (env.TOP_UP_MIN_USD <= 0n) faults.push('TOP_UP_MIN_USD: must be above zero');
  if (env.TOP_UP_MAX_USD < env.TOP_UP_MIN_USD) faults.push('TOP_UP_MAX_USD: must not be below TOP_UP_MIN_USD');
  const stripe = stripeSettings(env, faults);
  const { min: shortest, max: longest } = STRIPE_EXPIRY_SECONDS;
  if (stripe !== null && (env.TOP_UP_EXPIRY_SECONDS < shortest || env.TOP_UP_EXPIRY_SECONDS > longest)) {
    faults.push(`TOP_UP_EXPIRY_SECONDS: must be from ${shortest} to ${longest}`);
  }
  const creem = creemSettings(env, faults);
  const creemFee = { ppm: env.TOP_UP_CREEM_FEE_PPM, fixed: env.TOP_UP_CREEM_FEE_FIXED_USD };
  if (creem !== null) {
    const { TOP_UP_CREEM_MIN_USD: least, TOP_UP_MAX_USD: most } = env;
    if (least < CREEM_PRICE.min) faults.push('TOP_UP_CREEM_MIN_USD: must be at least 1');
    if (least > most) faults.push('TOP_UP_CREEM_MIN_USD: must not be above TOP_UP_MAX_USD');
    if (addUsd(most, feeOf(most, creemFee)) > CREEM_PRICE.max) {
      faults.push('TOP_UP_MAX_USD: must not be above 999999.99 with the fee of Creem');
    }
  }
  if (stripe !== null && creem !== null && stripe.live !== creem.live) {
    // Test money would be spent as real money is.
    const modes = `${modeOf(stripe)} mode and CREEM_API_KEY of ${modeOf(creem)} mode`;
    faults.push(`STRIPE_SECRET_KEY: is of ${modes}; both must be of the same`);
  }
  const crypto = cryptoSettings(env, faults);
  const cards = stripe ?? creem;
  if (crypto !== null && cards !== null && crypto.live !== cards.live) {
    faults.push(`CRYPTO_LIVE: says ${modeOf(crypto)} mode, the keys of Stripe or Creem are of ${modeOf(cards)} mode`);
  }
  if (faults.length > 0) throw new ConfigError(invalidEnvironment(faults));
  const { TOP_UP_MIN_USD: min, TOP_UP_CREEM_MIN_USD: creemMin, TOP_UP_MAX_USD: max } = env;
  const methods: TopUpMethod[] = [];
  if (stripe !== null) {
    methods.push({
      method: 'card',
      provider: 'stripe',
      ...limitsOf(min, max),
      fee: { ppm: env.TOP_UP_CARD_FEE_PPM, fixed: env.TOP_UP_CARD_FEE_FIXED_USD },
      currencies: ['usd'],
      live: stripe.live,
    });
  }
  if (creem !== null) {
    methods.push({
      method: 'creem',
      provider: 'creem',
      ...limitsOf(creemMin, max),
      fee: creemFee,
      currencies: ['usd'],
      live: creem.live,
    });
  }
  if (crypto !== null) {
    methods.push({
      method: 'crypto',
      provider: 'crypto',
      ...limitsOf(min, max),
      fee: crypto.fee,
      currencies: ['usd'],
      live: crypto.live,
    });
  }
  return {
    stripe,
    creem,
    crypto,
    methods,
    expirySeconds: env.TOP_UP_EXPIRY_SECONDS,
    openMax: env.TOP_UP_OPEN_MAX,
    publicUrl: env.PUBLIC_URL.replace(/\/+$/, ''),
    topUpRun: {
      pollSeconds: env.TOP_UP_POLL_SECONDS,
      pollMaxSeconds: env.TOP_UP_POLL_MAX_SECONDS,
      runSeconds: RUN_SECONDS,
    },
  };
}

function limitsOf(min: PicoUsd, max: PicoUsd): Pick<TopUpMethod, 'min' | 'max' | 'presets'> {
  return {
    min,
    max,
    presets: PRESETS.map((preset) => parseUsd(preset)!).filter((preset) => preset >= min && preset <= max),
  };
}

const modeOf = ({ live }: { readonly live: boolean }): string => (live ? 'live' : 'test');

/** One line for the start's log; no secrets. */
export function describePayments({ methods }: PaymentSettings): string {
  if (methods.length === 0) return 'no payment provider is configured: top-ups are off';
  const [{ min, max }] = methods as readonly [TopUpMethod];
  const names = methods.map(({ method, provider, live }) => `${method} (${provider}, ${live ? 'live' : 'test'} mode)`);
  return `top-ups by ${names.join(', ')}, ${formatUsd(min)} to ${formatUsd(max)} USD`;
}
