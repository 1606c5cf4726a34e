/**
 * The vocabulary of request and answer fields: how an id, an amount, a moment, a text is read from the wire and how it
 * is written. Everything that can reach PostgreSQL is limited here to what PostgreSQL can store, so no input can fail
 * later than at its own field.
 */
import { z } from 'zod';
import { formatId, parseId, type IdKind, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';

/** NUL and other control characters but tab and line ends: no name or reason needs them, and PostgreSQL refuses NUL. */
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

/** Trimmed text of `min` to `max` characters (code points, as PostgreSQL counts them). */
export function text(min: number, max: number) {
  return z
    .string()
    .trim()
    .min(min, `must have at least ${min} character${min === 1 ? '' : 's'}`)
    .max(max, `must have at most ${max} characters`)
    .refine(
      (value) => value.isWellFormed() && !CONTROL.test(value),
      'must not contain control characters or broken Unicode',
    )
    .refine((value) => [...value].length >= min, `must have at least ${min} character${min === 1 ? '' : 's'}`);
}

/** Why an operator does something. The database keeps reasons of 3 to 2,000 characters. */
export const reason = () =>
  text(3, 2000).meta({ description: 'The reason; stored permanently and shown beside the change.' });

const MODEL_ID_MAX = 200;
export const modelId = () => text(1, MODEL_ID_MAX).meta({ description: 'Model id from the catalogue.' });

const EXAMPLE_UUID = '01980000-0000-7000-8000-000000000000';

function exampleId(kind: IdKind): string {
  return formatId(kind, EXAMPLE_UUID as Uuid<IdKind>);
}

/** An id in its wire form, read as a UUID. */
export function id<K extends IdKind>(kind: K) {
  const example = exampleId(kind);
  return z
    .string()
    .transform((value, context): Uuid<K> => {
      const parsed = parseId(kind, value);
      if (parsed !== null) return parsed;
      context.issues.push({ code: 'custom', input: value, message: `must be an id like ${example}` });
      return z.NEVER;
    })
    .meta({ example });
}

/** A decimal USD string, not negative. */
export function amount() {
  return z
    .string()
    .regex(/^\d{1,20}(\.\d{1,12})?$/, 'must be a decimal USD string, not negative, with at most 12 decimals')
    .transform((value): PicoUsd => usd(value));
}

/** A decimal USD string of either sign. */
export function signedAmount() {
  return z
    .string()
    .regex(/^-?\d{1,20}(\.\d{1,12})?$/, 'must be a decimal USD string with at most 12 decimals')
    .transform((value): PicoUsd => usd(value));
}

const EARLIEST = Date.UTC(2000, 0);
const LATEST = Date.UTC(9999, 0);

/** An RFC 3339 date and time with its offset. */
export function time() {
  return z.iso
    .datetime({ offset: true, error: 'must be an RFC 3339 date and time with offset, like 2027-01-31T00:00:00Z' })
    .transform((value, context): Date => {
      const at = new Date(value);
      if (at.getTime() >= EARLIEST && at.getTime() < LATEST) return at;
      context.issues.push({ code: 'custom', input: value, message: 'must lie between the years 2000 and 9998' });
      return z.NEVER;
    });
}

const PAGE_SIZE_MAX = 200;
const PAGE_SIZE_DEFAULT = 50;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Opaque to clients: what a page continues after may change its form without notice. */
export function encodeCursor(key: string | null): string | null {
  return key === null ? null : Buffer.from(key, 'utf8').toString('base64url');
}

function cursor(isKey: (key: string) => boolean) {
  return z
    .string()
    .max(1000, 'must be a next_cursor of this list')
    .transform((value, context): string => {
      const key = Buffer.from(value, 'base64url').toString('utf8');
      if (isKey(key) && encodeCursor(key) === value) return key;
      context.issues.push({ code: 'custom', input: value, message: 'must be a next_cursor of this list' });
      return z.NEVER;
    })
    .meta({ description: '`next_cursor` of the previous page.' });
}

function pageFields(isKey: (key: string) => boolean) {
  return {
    limit: z
      .string()
      .regex(/^\d{1,3}$/, `must be a whole number from 1 to ${PAGE_SIZE_MAX}`)
      .transform(Number)
      .refine((value) => value >= 1 && value <= PAGE_SIZE_MAX, `must be a whole number from 1 to ${PAGE_SIZE_MAX}`)
      .optional()
      .meta({ description: `Page size, 1 to ${PAGE_SIZE_MAX}, default ${PAGE_SIZE_DEFAULT}.` }),
    cursor: cursor(isKey).optional(),
  };
}

/** Query fields of a list that is ordered by UUID. */
export const pageById = pageFields((key) => UUID.test(key));

/** Query fields of a list that is ordered by a text. */
export const pageByText = pageFields((key) => key.length > 0 && key.length <= MODEL_ID_MAX && !CONTROL.test(key));

/** The page that the two query fields ask for. */
export function pageOfQuery(query: { limit?: number | undefined; cursor?: string | undefined }): {
  after: string | null;
  limit: number;
} {
  return { after: query.cursor ?? null, limit: query.limit ?? PAGE_SIZE_DEFAULT };
}

/** `true` or `false` as a query parameter. */
export function flag() {
  return z.enum(['true', 'false'], 'must be true or false').transform((value) => value === 'true');
}

// Fields of responses.

export const usdText = () => z.string().meta({ description: 'USD, 12 decimals', example: '0.000123450000' });
export const timeText = () => z.string().meta({ format: 'date-time' });
export const idText = (kind: IdKind) => z.string().meta({ example: exampleId(kind) });

/** A list answer. */
export function listOf<Item extends z.ZodType>(item: Item) {
  return z.object({ data: z.array(item), next_cursor: z.string().nullable() });
}

/** Renders a page of rows as a list answer. */
export function renderPage<Row, Item>(
  page: { readonly rows: readonly Row[]; readonly next: string | null },
  render: (row: Row) => Item,
): { data: Item[]; next_cursor: string | null } {
  return { data: page.rows.map(render), next_cursor: encodeCursor(page.next) };
}

export const renderTime = (at: Date | null): string | null => at?.toISOString() ?? null;
export const renderUsd = (value: PicoUsd | null): string | null => (value === null ? null : formatUsd(value));
