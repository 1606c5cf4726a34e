/**
 * The configuration of payments, read by api (checkout, webhooks) and worker (providers). A method whose provider has no
 * key is not offered; a provider that is half configured stops the process at its start. What belongs to one provider is
 * in its own file.
 */
import { z } from 'zod';
import { formatUsd, parseUsd, type PicoUsd } from '../domain/money.ts';
import type { TopUpFee } from '../domain/top-up.ts';
import { ConfigError, invalidEnvironment, seconds, usdInCents } from './environment.ts';
import { STRIPE_SCHEMA, stripeSettings, type StripeSettings } from './stripe.ts';

/** Environment variables of payments; part of the schema of every process that needs them. */
export const PAYMENT_SCHEMA = {
  ...STRIPE_SCHEMA,
  PUBLIC_URL: z.url().default('http://127.0.0.1:8787'),
  TOP_UP_MIN_USD: usdInCents('5'),
  TOP_UP_MAX_USD: usdInCents('1000'),
  TOP_UP_CARD_FEE_PPM: z.coerce.number().int().min(0).max(500_000).default(0),
  TOP_UP_CARD_FEE_FIXED_USD: usdInCents('0'),
  TOP_UP_EXPIRY_SECONDS: seconds(3600),
  TOP_UP_POLL_SECONDS: seconds(15),
  TOP_UP_POLL_MAX_SECONDS: seconds(300),
};

type PaymentEnvironment = z.output<z.ZodObject<typeof PAYMENT_SCHEMA>>;

export interface TopUpMethod {
  readonly method: 'card';
  readonly provider: 'stripe';
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
  readonly methods: readonly TopUpMethod[];
  readonly expirySeconds: number;
  /** Where customers reach us: they come back to it from a checkout. */
  readonly publicUrl: string;
  readonly topUpRun: TopUpRun;
}

const PRESETS = ['5', '10', '25', '50', '100'];
/** Stripe accepts sessions that last from half an hour to a day. */
const STRIPE_EXPIRY_SECONDS = { min: 1800, max: 86_400 };
/** Runs begin anew daily, so that no old code stays in use. */
const RUN_SECONDS = 86_400;

export function paymentSettings(env: PaymentEnvironment): PaymentSettings {
  const faults: string[] = [];
  if (env.TOP_UP_MIN_USD <= 0n) faults.push('TOP_UP_MIN_USD: must be above zero');
  if (env.TOP_UP_MAX_USD < env.TOP_UP_MIN_USD) faults.push('TOP_UP_MAX_USD: must not be below TOP_UP_MIN_USD');
  const stripe = stripeSettings(env, faults);
  const { min, max } = STRIPE_EXPIRY_SECONDS;
  if (stripe !== null && (env.TOP_UP_EXPIRY_SECONDS < min || env.TOP_UP_EXPIRY_SECONDS > max)) {
    faults.push(`TOP_UP_EXPIRY_SECONDS: must be from ${min} to ${max}`);
  }
  if (faults.length > 0) throw new ConfigError(invalidEnvironment(faults));
  const limits = limitsOf(env);
  const methods: TopUpMethod[] = [];
  if (stripe !== null) {
    methods.push({
      method: 'card',
      provider: 'stripe',
      ...limits,
      fee: { ppm: env.TOP_UP_CARD_FEE_PPM, fixed: env.TOP_UP_CARD_FEE_FIXED_USD },
      currencies: ['usd'],
      live: stripe.live,
    });
  }
  return {
    stripe,
    methods,
    expirySeconds: env.TOP_UP_EXPIRY_SECONDS,
    publicUrl: env.PUBLIC_URL.replace(/\/+$/, ''),
    topUpRun: {
      pollSeconds: env.TOP_UP_POLL_SECONDS,
      pollMaxSeconds: env.TOP_UP_POLL_MAX_SECONDS,
      runSeconds: RUN_SECONDS,
    },
  };
}

function limitsOf(env: PaymentEnvironment): Pick<TopUpMethod, 'min' | 'max' | 'presets'> {
  const { TOP_UP_MIN_USD: min, TOP_UP_MAX_USD: max } = env;
  return {
    min,
    max,
    presets: PRESETS.map((preset) => parseUsd(preset)!).filter((preset) => preset >= min && preset <= max),
  };
}

/** One line for the start's log; no secrets. */
export function describePayments({ methods }: PaymentSettings): string {
  if (methods.length === 0) return 'no payment provider is configured: top-ups are off';
  const [{ min, max }] = methods as readonly [TopUpMethod];
  const names = methods.map(({ method, provider, live }) => `${method} (${provider}, ${live ? 'live' : 'test'} mode)`);
  return `top-ups by ${names.join(', ')}, ${formatUsd(min)} to ${formatUsd(max)} USD`;
}
