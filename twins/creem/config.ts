/** Settings of the Creem twin's process, from its environment. */
import { TwinEnvironment } from '../kit/environment.ts';
import type { CreemTwinOptions } from './twin.ts';

const PPM = 1_000_000;

/** Throws one `BadInput` that lists every bad variable. */
export function optionsFromEnvironment(environment: Readonly<Record<string, string | undefined>>): CreemTwinOptions {
  const env = new TwinEnvironment(environment);
  const place = env.place();
  const taxPpm = env.number('TWIN_TAX_PPM', PPM);
  const webhookUrl = env.url('TWIN_WEBHOOK_URL');
  const publicUrl = env.url('TWIN_PUBLIC_URL');
  const productId = env.text('TWIN_PRODUCT_ID');
  const secrets = env.list('TWIN_WEBHOOK_SECRETS');
  env.check();
  return {
    ...place,
    publicUrl: publicUrl ?? null,
    dataFile: env.text('TWIN_DATA_FILE') ?? null,
    ...(productId !== undefined && { productId }),
    ...(taxPpm !== undefined && { taxPpm }),
    webhooks: {
      ...(webhookUrl !== undefined && { url: webhookUrl }),
      ...(secrets !== undefined && { secrets }),
    },
  };
}
