/** A usage shape: one provider's way to report counts, with its place and its gaps. */
import type { TokenCounts } from '../token-counts.ts';

export const USAGE_PLACES = [
  /** A chunk without choices after the finish reason. */
  'own',
  /** A chunk with an empty delta after the finish reason. */
  'own_with_choice',
  /** The chunk of the finish reason. */
  'finish',
  /** Every chunk, as far as the answer has come. */
  'every',
  /** Every chunk but the last. */
  'content',
  /** The first chunk: the prompt, and no output yet. */
  'first',
  /** A chunk of its own before the finish reason. */
  'before_finish',
  /** An event of nothing but usage after the finish reason. */
  'bare',
  /** A chunk of its own after [DONE]. */
  'after_done',
] as const;
export type UsagePlace = (typeof USAGE_PLACES)[number];

/** The fields that carry a report, as JSON: of the chunk or answer, and of its first choice. */
export interface UsageFields {
  readonly top?: Readonly<Record<string, unknown>>;
  readonly choice?: Readonly<Record<string, unknown>>;
}

/** Counts that a shape tells apart; every shape tells input and output unless its row says otherwise. */
export const USAGE_DIMENSIONS = [
  'input',
  'output',
  'cached',
  'cache_write',
  'cache_write_1h',
  'input_audio',
  'input_image',
  'reasoning',
  'output_audio',
  'output_image',
  'web_searches',
] as const;
export type UsageDimension = (typeof USAGE_DIMENSIONS)[number];

export interface UsageShape {
  readonly report: (counts: TokenCounts) => UsageFields;
  /** Counts that a careful reader can tell from the report, exactly. */
  readonly tells: readonly UsageDimension[];
  /** Where it stands in a stream. */
  readonly places: readonly UsagePlace[];
  /** Sent although nobody asked with `stream_options`. */
  readonly isUnasked?: boolean;
  /** Why the report contradicts itself or the answer; absent: it does not. */
  readonly contradiction?: string;
  /** The document that shows it. */
  readonly source: string;
}
