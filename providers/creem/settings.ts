/**
 * Creem: its configuration, for api (webhooks) and worker (everything else). Its SDK takes 50 MB, so only the worker
 * loads it.
 */
import { z } from 'zod';
import { commaList } from '../../runtime/environment.ts';

export const CREEM_SCHEMA = {
  CREEM_API_KEY: z
    .string()
    .regex(/^creem_\w+$/, 'must be an API key of Creem (creem_…)')
    .optional(),
  CREEM_MODE: z.enum(['test', 'live']).optional(),
  CREEM_WEBHOOK_SECRETS: commaList,
  CREEM_PRODUCT_ID: z
    .string()
    .regex(/^prod_\w+$/, 'must be the id of a product of Creem (prod_…)')
    .optional(),
  CREEM_API_URL: z.url().optional(),
};

export interface CreemSettings {
  readonly apiKey: string;
  /** Newest first; an event that any of them signed is genuine, so a secret can be rotated. */
  readonly webhookSecrets: readonly string[];
  /** The one-time product that every top-up sells, at a price of its own. */
  readonly productId: string;
  /** The address of Creem's API; null for Creem itself. */
  readonly apiUrl: string | null;
  readonly live: boolean;
}

/** The prefix of Creem's test keys; they work at its test host only. */
const TEST_KEY = /^creem_test_/;

/** Null where Creem is not used. Adds faults of the variables to `faults`. */
export function creemSettings(env: z.output<z.ZodObject<typeof CREEM_SCHEMA>>, faults: string[]): CreemSettings | null {
  const { CREEM_API_KEY: apiKey, CREEM_MODE: mode, CREEM_PRODUCT_ID: productId } = env;
  if (env.CREEM_WEBHOOK_SECRETS.some((secret) => !/^\S{16,}$/.test(secret))) {
    faults.push('CREEM_WEBHOOK_SECRETS: must be secrets of at least 16 characters, separated by commas');
  }
  if (apiKey === undefined) return null;
  if (env.CREEM_WEBHOOK_SECRETS.length === 0) {
    faults.push('CREEM_WEBHOOK_SECRETS: must name at least one secret where CREEM_API_KEY is set');
  }
  if (productId === undefined) faults.push('CREEM_PRODUCT_ID: must be set where CREEM_API_KEY is set');
  if (mode === 'live' && TEST_KEY.test(apiKey)) faults.push('CREEM_MODE: must not be live with a test key');
  return {
    apiKey,
    webhookSecrets: env.CREEM_WEBHOOK_SECRETS,
    productId: productId ?? '',
    apiUrl: env.CREEM_API_URL ?? null,
    live: (mode ?? (TEST_KEY.test(apiKey) ? 'test' : 'live')) === 'live',
  };
}

/** Creem's word for real money in the `mode` of its objects; any other word is a test of some kind. */
export const CREEM_LIVE_MODE = 'prod';
