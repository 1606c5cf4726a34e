/**
 * JSON around the output of an answer: whether choices have an index and share chunks, and fields that are
 * no output but arrive (padding, citations, an empty role, probabilities).
 */
import { readBoolean, readObject } from '../kit/input.ts';
import { readFields, type Reader } from './fields.ts';

type ExtraFields = Readonly<Record<string, unknown>>;

export interface Envelope {
  /** All choices in one chunk, instead of a chunk for each. */
  readonly together: boolean;
  /** Whether choices carry their index. */
  readonly index: boolean;
  /** Whether an opening chunk with the role comes first. */
  readonly opening: boolean;
  /** Probabilities of each word beside the delta, which say the text once more. */
  readonly logprobs: boolean;
  /** Added to every chunk and to a whole answer, to every choice, and to every delta and message. */
  readonly extra_top: ExtraFields;
  readonly extra_choice: ExtraFields;
  readonly extra_delta: ExtraFields;
}

export const DEFAULT_ENVELOPE: Envelope = {
  together: false,
  index: true,
  opening: true,
  logprobs: false,
  extra_top: {},
  extra_choice: {},
  extra_delta: {},
};

const readExtra: Reader<ExtraFields> = (value, field) => readObject(value, field);

export function readEnvelope(value: unknown, field: string): Envelope {
  return {
    ...DEFAULT_ENVELOPE,
    ...readFields<Envelope>(value, field, {
      together: readBoolean,
      index: readBoolean,
      opening: readBoolean,
      logprobs: readBoolean,
      extra_top: readExtra,
      extra_choice: readExtra,
      extra_delta: readExtra,
    }),
  };
}
