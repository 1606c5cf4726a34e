/**
 * The output of one choice as a list of segments: so many tokens in this form, then so many in that one. A form says
 * where the text stands in the answer (`forms.ts`); a segment says how much of it there is, how many tokens go
 * into one chunk, and as what they are counted.
 */
import { BadInput, readBoolean, readChoice, readCount } from '../../kit/input.ts';
import { MAX_INSERTED_CHARACTERS, MAX_OUTPUT_TOKENS } from '../limits.ts';
import { listOf, readFields } from '../fields.ts';
import { OUTPUT_FORMS, OUTPUT_FORM_NAMES, type OutputFormName } from './forms.ts';
import { COUNTED_AS, type CountedAs } from '../token-counts.ts';

/** As it is given in the knobs. */
export interface SegmentInput {
  readonly form: OutputFormName;
  readonly tokens: number;
  /** Tokens in one chunk of a stream; default 1. */
  readonly chunk_tokens?: number;
  /** Default: what the form usually carries. */
  readonly counted_as?: CountedAs;
  /** Whether its tokens take time at the pace between tokens; default true. False: all at once. */
  readonly paced?: boolean;
  /** Bytes that stand for one token, in forms that carry data instead of text. */
  readonly bytes_per_token?: number;
}

export interface Segment {
  readonly form: OutputFormName;
  readonly tokens: number;
  readonly chunkTokens: number;
  readonly countedAs: CountedAs;
  readonly isPaced: boolean;
  readonly bytesPerToken: number;
  /** Place of its first token in the choice's output. */
  readonly start: number;
}

/** A part of a segment that is sent in one chunk. */
export interface Piece {
  readonly segment: Segment;
  /** Tokens of the segment before this piece. */
  readonly from: number;
  readonly tokens: number;
}

/** PCM of 24,000 samples of two bytes a second, of which OpenAI counts twenty tokens. */
const BYTES_PER_TOKEN = 2400;

const MAX_DATA_BYTES = MAX_INSERTED_CHARACTERS;

function readSegment(value: unknown, field: string): SegmentInput {
  const segment = readFields<SegmentInput>(value, field, {
    form: (form, name) => readChoice(form, name, OUTPUT_FORM_NAMES),
    tokens: (tokens, name) => readCount(tokens, name, 0, MAX_OUTPUT_TOKENS),
    chunk_tokens: (tokens, name) => readCount(tokens, name, 1, MAX_OUTPUT_TOKENS),
    counted_as: (kind, name) => readChoice(kind, name, COUNTED_AS),
    paced: readBoolean,
    bytes_per_token: (bytes, name) => readCount(bytes, name, 1, 100_000),
  });
  const { form, tokens } = segment;
  if (form === undefined) throw new BadInput(`'${field}' needs 'form'.`, `${field}.form`);
  if (tokens === undefined) throw new BadInput(`'${field}' needs 'tokens'.`, `${field}.tokens`);
  if (OUTPUT_FORMS[form].isData === true && tokens * (segment.bytes_per_token ?? BYTES_PER_TOKEN) > MAX_DATA_BYTES) {
    throw new BadInput(`'${field}' carries more than ${MAX_DATA_BYTES} bytes.`, field);
  }
  return { ...segment, form, tokens };
}

/** A choice's segments, which together have a bound as well. */
export function readSegments(value: unknown, field: string): readonly SegmentInput[] {
  const segments = listOf(readSegment)(value, field);
  if (tokensOf(segments) > MAX_OUTPUT_TOKENS) {
    throw new BadInput(`'${field}' has more than ${MAX_OUTPUT_TOKENS} tokens.`, field);
  }
  return segments;
}

/** Lays segments one after the other until `tokensMax` tokens are used up. */
export function layOut(inputs: readonly SegmentInput[], tokensMax: number): Segment[] {
  const segments: Segment[] = [];
  let start = 0;
  for (const input of inputs) {
    const tokens = Math.min(input.tokens, tokensMax - start);
    if (tokens <= 0) continue;
    segments.push({
      form: input.form,
      tokens,
      chunkTokens: input.chunk_tokens ?? 1,
      countedAs: input.counted_as ?? OUTPUT_FORMS[input.form].countedAs,
      isPaced: input.paced ?? true,
      bytesPerToken: input.bytes_per_token ?? BYTES_PER_TOKEN,
      start,
    });
    start += tokens;
  }
  return segments;
}

export function tokensOf(segments: readonly SegmentInput[]): number {
  return segments.reduce((sum, { tokens }) => sum + tokens, 0);
}

/** Whether it has no chunk of its own. */
export function isHidden(segment: Segment): boolean {
  return segment.form === 'hidden';
}

/** Whether no byte of an answer shows it, though a chunk may come for it. */
export function isUnseen(segment: Segment): boolean {
  return OUTPUT_FORMS[segment.form].isShown === false;
}

/** The pieces of all segments in order. */
export function* piecesOf(segments: readonly Segment[]): Generator<Piece, void, undefined> {
  for (const segment of segments) {
    for (let from = 0; from < segment.tokens; from += segment.chunkTokens) {
      yield { segment, from, tokens: Math.min(segment.chunkTokens, segment.tokens - from) };
    }
  }
}
