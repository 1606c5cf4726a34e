/** What the Creem twin's process is started with, from its environment. */
import type { CreemTwinOptions } from './twin.ts';
import { BadInput } from '../input.ts';

const PORT_MAX = 65_535;
const PPM = 1_000_000;

/** Parses the process environment; throws one `BadInput` that lists every bad variable. */
export function optionsFromEnvironment(environment: Readonly<Record<string, string | undefined>>): CreemTwinOptions {
  const problems: string[] = [];
  const given = (name: string): string | undefined => {
    const value = environment[name]?.trim();
    return value === '' ? undefined : value;
  };
  const number = (name: string, max: number): number | undefined => {
    const text = given(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!Number.isInteger(value) || value < 0 || value > max) {
      problems.push(`'${name}' must be a whole number between 0 and ${max}.`);
    }
    return value;
  };
  const url = (name: string): string | undefined => {
    const text = given(name);
    if (text !== undefined && !/^https?:\/\/./.test(text)) problems.push(`'${name}' must be a URL.`);
    return text?.replace(/\/$/, '');
  };

  const port = number('TWIN_PORT', PORT_MAX);
  const taxPpm = number('TWIN_TAX_PPM', PPM);
  const webhookUrl = url('TWIN_WEBHOOK_URL');
  const publicUrl = url('TWIN_PUBLIC_URL');
  const productId = given('TWIN_PRODUCT_ID');
  const secrets = given('TWIN_WEBHOOK_SECRETS')
    ?.split(',')
    .map((secret) => secret.trim())
    .filter((secret) => secret !== '');
  if (problems.length > 0) throw new BadInput(`Bad environment. ${problems.join(' ')}`);

  return {
    host: given('TWIN_HOST') ?? '127.0.0.1',
    port: port ?? 0,
    publicUrl: publicUrl ?? null,
    dataFile: given('TWIN_DATA_FILE') ?? null,
    ...(productId !== undefined && { productId }),
    ...(taxPpm !== undefined && { taxPpm }),
    webhooks: {
      ...(webhookUrl !== undefined && { url: webhookUrl }),
      ...(secrets !== undefined && secrets.length > 0 && { secrets }),
    },
  };
}
