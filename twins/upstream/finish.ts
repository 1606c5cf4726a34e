/**
 * How a stream says that a choice has ended, and what it says before: which word, in which chunk, how often. Whole
 * answers have the word alone.
 */
import { readBoolean, readChoice } from '../kit/input.ts';
import { anything, readFields } from './fields.ts';

export const FINISH_PLACES = [
  /** A chunk of its own, with an empty delta. */
  'own',
  /** The chunk of the last token. */
  'with_content',
  /** A chunk of its own, two times. */
  'twice',
  /** The first chunk; content follows. */
  'first',
  /** No chunk says it. */
  'none',
] as const;
type FinishPlace = (typeof FINISH_PLACES)[number];

export interface FinishForm {
  readonly place: FinishPlace;
  /** Replaces the word; any JSON. Undefined: the true one. */
  readonly word?: unknown;
  /** `finish_reason` of the chunks before the end; any JSON. Undefined: null. */
  readonly before?: unknown;
  /** Leaves the field out of the chunks before the end. */
  readonly omit_before: boolean;
  /** Leaves the field out where the word belongs. */
  readonly omit: boolean;
  /** A second field, as several gateways send it. */
  readonly native?: unknown;
}

export const DEFAULT_FINISH: FinishForm = { place: 'own', omit_before: false, omit: false };

export function readFinish(value: unknown, field: string): FinishForm {
  return {
    ...DEFAULT_FINISH,
    ...readFields<FinishForm>(value, field, {
      place: (place, name) => readChoice(place, name, FINISH_PLACES),
      word: anything,
      before: anything,
      omit_before: readBoolean,
      omit: readBoolean,
      native: anything,
    }),
  };
}
