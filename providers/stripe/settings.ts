/** Stripe: its configuration and its client, for api (webhooks) and worker (everything else). */
import Stripe from 'stripe';
import { z } from 'zod';
import type { PicoUsd } from '../../domain/money.ts';
import { commaList, seconds, usdInCents } from '../../runtime/environment.ts';

export const STRIPE_SCHEMA = {
  STRIPE_SECRET_KEY: z
    .string()
    .regex(/^(sk|rk)_(test|live)_\w+$/, 'must be a secret key of Stripe (sk_test_…, sk_live_…)')
    .optional(),
  STRIPE_WEBHOOK_SECRETS: commaList,
  STRIPE_API_URL: z.url().optional(),
  AUTO_TOP_UP_MONTHLY_MAX_USD: usdInCents('2000'),
  AUTO_TOP_UP_SLOT_SECONDS: seconds(3600),
  FRAUD_WARNING_FREEZES: z.enum(['true', 'false'], 'must be true or false').default('true'),
};

export interface StripeSettings {
  readonly secretKey: string;
  /** Newest first; an event that any of them signed is genuine, so a secret can be rotated. */
  readonly webhookSecrets: readonly string[];
  /** The address of Stripe's API; null for Stripe itself. */
  readonly apiUrl: string | null;
  readonly live: boolean;
  readonly autoTopUp: {
    /** The largest monthly cap that a customer may set. */
    readonly monthlyMax: PicoUsd;
    /** A card is charged automatically at most once in a slot of this length. */
    readonly slotSeconds: number;
  };
  /** Whether a fraud warning on a payment that is not spent yet freezes the account until a person has looked. */
  readonly fraudWarningFreezes: boolean;
}

/** Null where Stripe is not used. Adds faults of the variables to `faults`. */
export function stripeSettings(
  env: z.output<z.ZodObject<typeof STRIPE_SCHEMA>>,
  faults: string[],
): StripeSettings | null {
  const key = env.STRIPE_SECRET_KEY;
  if (key !== undefined && env.STRIPE_WEBHOOK_SECRETS.length === 0) {
    faults.push('STRIPE_WEBHOOK_SECRETS: must name at least one secret where STRIPE_SECRET_KEY is set');
  }
  if (env.STRIPE_WEBHOOK_SECRETS.some((secret) => !/^whsec_.{16,}$/.test(secret))) {
    faults.push('STRIPE_WEBHOOK_SECRETS: must be secrets of Stripe (whsec_…), separated by commas');
  }
  if (key === undefined) return null;
  return {
    secretKey: key,
    webhookSecrets: env.STRIPE_WEBHOOK_SECRETS,
    apiUrl: env.STRIPE_API_URL ?? null,
    live: key.includes('_live_'),
    autoTopUp: { monthlyMax: env.AUTO_TOP_UP_MONTHLY_MAX_USD, slotSeconds: env.AUTO_TOP_UP_SLOT_SECONDS },
    fraudWarningFreezes: env.FRAUD_WARNING_FREEZES === 'true',
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
