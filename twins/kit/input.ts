/**
 * Reading untrusted JSON by hand: small readers that either return a value or throw `BadInput` with the field's
 * name. Used for the twin's control routes, its environment and the requests it answers, so that a typing error
 * in a test or a bench is an immediate, named failure instead of a knob that silently does nothing.
 */

export type JsonObject = Readonly<Record<string, unknown>>;

/** An invalid input; `field` names the place in the sender's own terms. */
export class BadInput extends Error {
  readonly field: string | null;

  constructor(message: string, field: string | null = null) {
    super(message);
    this.name = 'BadInput';
    this.field = field;
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function readObject(value: unknown, field: string): JsonObject {
  if (!isObject(value)) throw new BadInput(`'${field}' must be an object.`, field);
  return value;
}

export function readString(value: unknown, field: string): string {
  if (typeof value !== 'string' || value === '') throw new BadInput(`'${field}' must be a non-empty string.`, field);
  return value;
}

export function readBoolean(value: unknown, field: string): boolean {
  if (typeof value !== 'boolean') throw new BadInput(`'${field}' must be a boolean.`, field);
  return value;
}

/** A whole number of at least `min` (and at most `max`). */
export function readCount(value: unknown, field: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `between ${min} and ${max}`;
    throw new BadInput(`'${field}' must be a whole number ${range}.`, field);
  }
  return value;
}

/** Milliseconds, fractions allowed. An hour at most: beyond it a knob is certainly in the wrong unit. */
export function readMilliseconds(value: unknown, field: string): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= 3_600_000)) {
    throw new BadInput(`'${field}' must be between 0 and 3600000 milliseconds.`, field);
  }
  return value;
}

/** Reads a field where it is given. */
export function optional<T>(
  body: JsonObject,
  field: string,
  read: (value: unknown, field: string) => T,
): T | undefined {
  return body[field] === undefined ? undefined : read(body[field], field);
}

export function readChoice<T extends string>(value: unknown, field: string, choices: readonly T[]): T {
  const chosen = choices.find((choice) => choice === value);
  if (chosen === undefined) throw new BadInput(`'${field}' must be one of ${choices.join(', ')}.`, field);
  return chosen;
}

/** An amount of money. */
export function readCents(value: unknown, field: string): number {
  return readCount(value, field, 1, 99_999_999);
}

export function readUrl(value: unknown, field: string): string {
  const text = readString(value, field);
  if (!URL.canParse(text)) throw new BadInput(`'${field}' must be a URL.`, field);
  return text;
}

/** One at least. */
export function readSecrets(value: unknown, field: string): string[] {
  if (!Array.isArray(value) || value.length === 0) throw new BadInput(`'${field}' must be a list of secrets.`, field);
  return value.map((secret) => readString(secret, field));
}

/** The decoded form of a path segment. */
export function readPathSegment(encoded: string, field: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw new BadInput(`'${field}' is not a valid path segment.`, field);
  }
}

/** Refuses fields that nobody reads, which are typing errors more often than not. */
export function refuseOtherFields(source: JsonObject, known: readonly string[], where: string): void {
  for (const field of Object.keys(source)) {
    if (!known.includes(field)) throw new BadInput(`'${where}' has no field '${field}'.`, field);
  }
}
