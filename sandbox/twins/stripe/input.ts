/** Reading the control API's fields, in the manner of `upstream-input.ts`. */
import { findCard, TEST_CARDS, type TestCard } from './cards.ts';
import { BadInput, type JsonObject, readCount, readString } from '../input.ts';

export function optional<T>(
  body: JsonObject,
  field: string,
  read: (value: unknown, field: string) => T,
): T | undefined {
  return body[field] === undefined ? undefined : read(body[field], field);
}

export function readCents(value: unknown, field: string): number {
  return readCount(value, field, 1, 99_999_999);
}

export function readChoice<T extends string>(value: unknown, field: string, choices: readonly T[]): T {
  const chosen = choices.find((choice) => choice === value);
  if (chosen === undefined) throw new BadInput(`'${field}' must be one of ${choices.join(', ')}.`, field);
  return chosen;
}

export function readCard(value: unknown, field: string): TestCard {
  const card = findCard(readString(value, field));
  if (card === undefined) {
    throw new BadInput(`'${field}' must be a test card: ${TEST_CARDS.map(({ name }) => name).join(', ')}.`, field);
  }
  return card;
}

export function readUrl(value: unknown, field: string): string {
  const text = readString(value, field);
  if (!URL.canParse(text)) throw new BadInput(`'${field}' must be a URL.`, field);
  return text;
}

export function readSecrets(value: unknown, field: string): string[] {
  if (!Array.isArray(value) || value.length === 0) throw new BadInput(`'${field}' must be a list of secrets.`, field);
  return value.map((secret) => readString(secret, field));
}
