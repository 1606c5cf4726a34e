/**
 * The stand-ins of outside providers that `npm start` runs, one entry each: where its program is, what it is told, and
 * what api and worker are told of it. A provider whose own variable is set is the real one, and has no stand-in.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from './files.ts';

export interface TwinContext {
  /** The twin's own base URL. */
  readonly url: string;
  /** Where the product will be reached. */
  readonly apiUrl: string;
  /** The twin's files. */
  readonly folder: string;
}

export interface ProviderTwin {
  /** Names the part, its log file and its port. */
  readonly name: 'stripe';
  readonly title: string;
  /** Set: the real provider is used. */
  readonly variable: string;
  readonly portVariable: string;
  readonly script: string;
  /** Answers 200 once the twin is ready. */
  readonly readyPath: string;
  /** The twin's environment beside `TWIN_HOST` and `TWIN_PORT`. */
  twinEnv(context: TwinContext): NodeJS.ProcessEnv;
  /** What api and worker get. */
  productEnv(context: TwinContext): NodeJS.ProcessEnv;
}

export const PROVIDER_TWINS: readonly ProviderTwin[] = [
  {
    name: 'stripe',
    title: 'Stripe',
    variable: 'STRIPE_SECRET_KEY',
    portVariable: 'HOLDFAST_STRIPE_TWIN_PORT',
    script: 'sandbox/twins/stripe-main.ts',
    readyPath: '/_twin/state',
    twinEnv: ({ apiUrl, folder }) => ({
      TWIN_WEBHOOK_URL: `${apiUrl}/webhooks/stripe`,
      TWIN_WEBHOOK_SECRETS: stripeSecret(folder),
      TWIN_DATA_FILE: join(folder, 'stripe.json'),
    }),
    productEnv: ({ url, folder }) => ({
      STRIPE_SECRET_KEY: 'sk_test_sandbox',
      STRIPE_WEBHOOK_SECRETS: stripeSecret(folder),
      STRIPE_API_URL: url,
    }),
  },
];

const stripeSecret = (folder: string): string => `whsec_${keptSecret(join(folder, 'stripe-webhook-secret'))}`;

/** A random value that is made once per data dir. */
export function keptSecret(file: string): string {
  if (!existsSync(file)) writeFileAtomic(file, randomBytes(24).toString('hex'));
  return readFileSync(file, 'utf8');
}
