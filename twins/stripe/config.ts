/** Settings of the Stripe twin's process, from its environment. */
import { TwinEnvironment } from '../kit/environment.ts';
import type { StripeTwinOptions } from './twin.ts';

const DELAY_MS_MAX = 86_400_000;

/** Throws one `BadInput` that lists every bad variable. */
export function optionsFromEnvironment(environment: Readonly<Record<string, string | undefined>>): StripeTwinOptions {
  const env = new TwinEnvironment(environment);
  const place = env.place();
  const webhookUrl = env.url('TWIN_WEBHOOK_URL');
  const publicUrl = env.url('TWIN_PUBLIC_URL');
  const asyncDelayMs = env.number('TWIN_ASYNC_DELAY_MS', DELAY_MS_MAX);
  const laterDelayMs = env.number('TWIN_LATER_DELAY_MS', DELAY_MS_MAX);
  const secrets = env.list('TWIN_WEBHOOK_SECRETS');
  env.check();
  return {
    ...place,
    webhookUrl: webhookUrl ?? null,
    publicUrl: publicUrl ?? null,
    dataFile: env.text('TWIN_DATA_FILE') ?? null,
    ...(secrets !== undefined && { webhookSecrets: secrets }),
    ...(asyncDelayMs !== undefined && { asyncDelayMs }),
    ...(laterDelayMs !== undefined && { laterDelayMs }),
  };
}
