/**
 * The configuration of payments, read by api (checkout, webhooks) and worker (providers). A method whose provider has no
 * key is not offered; a provider that is half configured stops the process at its start.
 */
import Stripe from 'stripe';
import { z } from 'zod';
import { formatUsd, parseUsd, type PicoUsd } from '../domain/money.ts';
import { centsOf, type TopUpFee } from '../domain/top-up.ts';
import { ConfigError, seconds, usdAmount } from './environment.ts';

const cents = (fallback: string) =>
  usdAmount(fallback).refine((amount) => centsOf(amount) !== null, 'must be USD in whole cents');

const secrets = z
  .string()
  .default('')
  .transform((text) =>
    text
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== ''),
  );

/** Environment variables of payments; part of the schema of every process that needs them. */
export const PAYMENT_SCHEMA = {
  STRIPE_SECRET_KEY: z
    .string()
    .regex(/^(sk|rk)_(test|live)_\w+$/, 'must be a secret key of Stripe (sk_test_…, sk_live_…)')
    .optional(),
  STRIPE_WEBHOOK_SECRETS: secrets,
  STRIPE_API_URL: z.url().optional(),
  PUBLIC_URL: z.url().default('http://127.0.0.1:8787'),
  TOP_UP_MIN_USD: cents('5'),
  TOP_UP_MAX_USD: cents('1000'),
  TOP_UP_CARD_FEE_PPM: z.coerce.number().int().min(0).max(500_000).default(0),
  TOP_UP_CARD_FEE_FIXED_USD: cents('0'),
  TOP_UP_EXPIRY_SECONDS: seconds(3600),
};

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

export interface StripeSettings {
  readonly secretKey: string;
  /** Newest first; an event that any of them signed is genuine, so a secret can be rotated. */
  readonly webhookSecrets: readonly string[];
  /** Where Stripe's API is; null for Stripe itself. */
  readonly apiUrl: string | null;
  readonly live: boolean;
}

export interface PaymentSettings {
  readonly stripe: StripeSettings | null;
  readonly methods: readonly TopUpMethod[];
  readonly expirySeconds: number;
  /** Where customers reach us: they come back to it from a checkout. */
  readonly publicUrl: string;
}

const PRESETS = ['5', '10', '25', '50', '100'];
/** Stripe accepts sessions that last from half an hour to a day. */
const STRIPE_EXPIRY_SECONDS = { min: 1800, max: 86_400 };

export function paymentSettings(env: z.output<z.ZodObject<typeof PAYMENT_SCHEMA>>): PaymentSettings {
  const faults: string[] = [];
  if (env.TOP_UP_MIN_USD <= 0n) faults.push('TOP_UP_MIN_USD: must be above zero');
  if (env.TOP_UP_MAX_USD < env.TOP_UP_MIN_USD) faults.push('TOP_UP_MAX_USD: must not be below TOP_UP_MIN_USD');
  const key = env.STRIPE_SECRET_KEY;
  if (key !== undefined && env.STRIPE_WEBHOOK_SECRETS.length === 0) {
    faults.push('STRIPE_WEBHOOK_SECRETS: must name at least one secret where STRIPE_SECRET_KEY is set');
  }
  if (env.STRIPE_WEBHOOK_SECRETS.some((secret) => !/^whsec_.{16,}$/.test(secret))) {
    faults.push('STRIPE_WEBHOOK_SECRETS: must be secrets of Stripe (whsec_…), separated by commas');
  }
  const { min, max } = STRIPE_EXPIRY_SECONDS;
  if (key !== undefined && (env.TOP_UP_EXPIRY_SECONDS < min || env.TOP_UP_EXPIRY_SECONDS > max)) {
    faults.push(`TOP_UP_EXPIRY_SECONDS: must be from ${min} to ${max}`);
  }
  if (faults.length > 0)
    throw new ConfigError(`the environment is not valid:\n${faults.map((f) => `  ${f}`).join('\n')}`);
  const live = key?.includes('_live_') ?? false;
  const stripe =
    key === undefined
      ? null
      : { secretKey: key, webhookSecrets: env.STRIPE_WEBHOOK_SECRETS, apiUrl: env.STRIPE_API_URL ?? null, live };
  const card: TopUpMethod = {
    method: 'card',
    provider: 'stripe',
    min: env.TOP_UP_MIN_USD,
    max: env.TOP_UP_MAX_USD,
    presets: PRESETS.map((preset) => parseUsd(preset)!).filter(
      (preset) => preset >= env.TOP_UP_MIN_USD && preset <= env.TOP_UP_MAX_USD,
    ),
    fee: { ppm: env.TOP_UP_CARD_FEE_PPM, fixed: env.TOP_UP_CARD_FEE_FIXED_USD },
    currencies: ['usd'],
    live,
  };
  return {
    stripe,
    methods: stripe === null ? [] : [card],
    expirySeconds: env.TOP_UP_EXPIRY_SECONDS,
    publicUrl: env.PUBLIC_URL.replace(/\/+$/, ''),
  };
}

/** Long enough for a slow answer, short enough that Temporal's retry, not the SDK's, decides what happens next. */
const STRIPE_TIMEOUT_MS = 15_000;

/** A client of Stripe, or of what stands in for it. */
export function createStripe({ secretKey, apiUrl }: StripeSettings): Stripe {
  const url = apiUrl === null ? null : new URL(apiUrl);
  return new Stripe(secretKey, {
    maxNetworkRetries: 0,
    timeout: STRIPE_TIMEOUT_MS,
    telemetry: false,
    ...(url !== null && {
      protocol: url.protocol === 'https:' ? 'https' : 'http',
      host: url.hostname,
      ...(url.port !== '' && { port: url.port }),
    }),
  });
}

/** One line for the start's log; no secrets. */
export function describePayments({ stripe, methods }: PaymentSettings): string {
  if (methods.length === 0) return 'no payment provider is configured: top-ups are off';
  const [card] = methods;
  return `top-ups by card (Stripe, ${stripe?.live === true ? 'live' : 'test'} mode), ${formatUsd(card!.min)} to ${formatUsd(card!.max)} USD`;
}
