/** Fields of a request that a provider refuses, and fields that it takes and ignores. */
import { type JsonObject, isObject, readChoice, readCount, readString } from '../kit/input.ts';
import { type ErrorShapeName, ERROR_SHAPE_NAMES } from './error-shapes.ts';
import { listOf, nullable, readFields } from './fields.ts';

export interface Strictness {
  /** Refused when present; a dotted path names a field within a field. */
  readonly refuses: readonly string[];
  /** The only top-level fields that are not refused; null: all. */
  readonly accepts: readonly string[] | null;
  readonly status: number;
  readonly shape: ErrorShapeName;
}

const DEFAULT_STRICTNESS: Strictness = { refuses: [], accepts: null, status: 422, shape: 'detail_list' };

/** Fields that the twin can ignore. */
export const IGNORABLE = ['max_tokens', 'max_completion_tokens', 'stream_options', 'n', 'tool_choice'] as const;
export type Ignorable = (typeof IGNORABLE)[number];

export function readStrictness(value: unknown, field: string): Strictness {
  return {
    ...DEFAULT_STRICTNESS,
    ...readFields<Strictness>(value, field, {
      refuses: listOf(readString),
      accepts: nullable(listOf(readString)),
      status: (status, name) => readCount(status, name, 400, 599),
      shape: (shape, name) => readChoice(shape, name, ERROR_SHAPE_NAMES),
    }),
  };
}

/** The first field that is refused; null when there is none. */
export function refusedField(body: JsonObject, { refuses, accepts }: Strictness): string | null {
  const unknown = accepts === null ? undefined : Object.keys(body).find((field) => !accepts.includes(field));
  return unknown ?? refuses.find((path) => isPresent(body, path.split('.'))) ?? null;
}

function isPresent(value: unknown, path: readonly string[]): boolean {
  const [first, ...rest] = path;
  if (first === undefined) return true;
  return isObject(value) && value[first] !== undefined && isPresent(value[first], rest);
}
