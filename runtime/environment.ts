/**
 * Reading the environment, once per process: every variable is parsed, all mistakes are reported together, nothing else
 * in the process looks at `process.env`. An empty string counts as not set.
 */
import { z } from 'zod';
import { parseUsd, type PicoUsd } from '../domain/money.ts';
import { centsOf } from '../domain/payments/top-up.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** A duration in seconds, decimals allowed, above zero. */
export const seconds = (fallback: number): z.ZodType<number> => z.coerce.number().positive().max(1e9).default(fallback);

/** A whole number above zero. */
export const positiveInteger = (fallback: number): z.ZodType<number> =>
  z.coerce.number().int().positive().max(Number.MAX_SAFE_INTEGER).default(fallback);

const portNumber = () => z.coerce.number().int().min(0).max(65_535);

/** A TCP port; 0 means any free one. */
export const port = (fallback: number): z.ZodType<number> => portNumber().default(fallback);

/** The same where nothing listens unless it is set. */
export const optionalPort = (): z.ZodType<number | undefined> => portNumber().optional();

/** A decimal USD amount, not negative. */
export const usdAmount = (fallback: string): z.ZodType<PicoUsd> =>
  z
    .string()
    .default(fallback)
    .transform((text, context): PicoUsd => {
      const amount = parseUsd(text);
      if (amount !== null && amount >= 0n) return amount;
      context.issues.push({ code: 'custom', message: 'must be a decimal USD amount, not negative', input: text });
      return z.NEVER;
    });

/** A decimal USD amount in whole cents, not negative. */
export const usdInCents = (fallback: string): z.ZodType<PicoUsd> =>
  usdAmount(fallback).refine((amount) => centsOf(amount) !== null, 'must be USD in whole cents');

/** Items separated by commas; blanks around them and empty ones do not count. */
export const commaList = z
  .string()
  .default('')
  .transform((text) =>
    text
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== ''),
  );

/** The address of PostgreSQL; holds a password, so it is never printed. */
export const databaseUrl = z.url({ protocol: /^postgres(ql)?$/, error: 'must be a postgres:// URL' });

export class ConfigError extends Error {}

/** Parses the variables a process needs. Throws one ConfigError that names every bad variable, without its value. */
export function parseEnvironment<Schema extends z.ZodObject>(
  environment: Environment,
  schema: Schema,
): z.infer<Schema> {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  throw new ConfigError(
    invalidEnvironment(result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)),
  );
}

/** The message of a process that cannot start with its environment: one line per variable, `NAME: fault`. */
export function invalidEnvironment(faults: readonly string[]): string {
  return `the environment is not valid:\n${faults.map((fault) => `  ${fault}`).join('\n')}`;
}
