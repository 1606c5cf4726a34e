/**
 * The knobs of one answer. Five layers, the later one wins, knob by knob: the twin's defaults, its configuration, the
 * model's own settings, `metadata.twin` in the request body, a fault rule (`faults.ts`). All times are milliseconds,
 * all counts are per choice.
 */
import {
  BadInput,
  type JsonObject,
  isObject,
  readChoice,
  readCount,
  readMilliseconds,
  readObject,
  readString,
  refuseOtherFields,
} from '../kit/input.ts';
import { DEFAULT_ENVELOPE, type Envelope, readEnvelope } from './envelope.ts';
import { listOf, nullable, type Reader, readText } from './fields.ts';
import { type FinishForm, DEFAULT_FINISH, readFinish } from './finish.ts';
import { type Framing, DEFAULT_FRAMING, readFraming } from './framing.ts';
import { type Heartbeat, readHeartbeat } from './heartbeat.ts';
import { type IdStyle, ID_STYLES } from './ids.ts';
import { MAX_OUTPUT_TOKENS } from './limits.ts';
import { readSegments, type SegmentInput } from './output/segments.ts';
import { IGNORABLE, type Ignorable, readStrictness, type Strictness } from './strictness.ts';
import { DEFAULT_USAGE, readUsageForm, type UsageForm, type UsageInput } from './usage/shapes.ts';

/** How one answer is produced. */
export interface Steering {
  /** From the whole request read to the response's headers. */
  readonly latency_ms: number;
  /** From the headers to the first token. */
  readonly first_token_ms: number;
  /** Between two tokens, in streams and, invisibly, in whole answers. */
  readonly chunk_interval_ms: number;
  /** From the whole request read to the end of the answer; replaces the pace between tokens. Null: not fixed. */
  readonly total_ms: number | null;
  /** Signs of life while nothing is to be sent. Null: silence. */
  readonly heartbeat: Heartbeat | null;
  /** How long it goes on producing after the client has left; null: to the end. */
  readonly notices_leaving_ms: number | null;

  /** Tokens a choice produces unless the request's maximum is smaller; includes `reasoning_tokens`. */
  readonly output_tokens: number;
  /** The part of the output that is produced before the first visible token and never shown. */
  readonly reasoning_tokens: number;
  /** The output form by form; replaces `output_tokens` and `reasoning_tokens`. Null: text. */
  readonly segments: readonly SegmentInput[] | null;
  /** The provider's own bound on the output of a choice; null: none but the request's. */
  readonly output_cap: number | null;

  /** Tokens read besides the messages: search results, a hidden system prompt, pictures. */
  readonly added_prompt_tokens: number;
  /** The part of the prompt reported as read from the cache. */
  readonly cached_tokens: number;
  /** The parts of the prompt written to a cache of five minutes, and of an hour. */
  readonly cache_write_tokens: number;
  readonly cache_write_1h_tokens: number;
  readonly prompt_audio_tokens: number;
  readonly prompt_image_tokens: number;
  readonly web_searches: number;

  /** Whether it answers with a stream: as the request asked, or always one way. */
  readonly answers_as: AnswerKind;
  readonly envelope: Envelope;
  readonly finish: FinishForm;
  readonly usage: UsageForm;
  readonly framing: Framing;
  /** Which vendor's ids and headers the answer carries. */
  readonly ids: IdStyle;
  /** Fields that are refused. Null: none. */
  readonly strict: Strictness | null;
  /** Fields that are taken and change nothing. */
  readonly ignores: readonly Ignorable[];
  /** 1xx responses before the answer. */
  readonly informational: readonly number[];
  /** Further headers of the answer. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Knobs as given: of a knob with fields, only the fields that differ from the default. */
export type SteeringInput = Partial<Omit<Steering, 'envelope' | 'finish' | 'usage' | 'framing' | 'strict'>> & {
  readonly envelope?: Partial<Envelope>;
  readonly finish?: Partial<FinishForm>;
  readonly usage?: UsageInput;
  readonly framing?: Partial<Framing>;
  readonly strict?: Partial<Strictness> | null;
};

const ANSWER_KINDS = ['asked', 'stream', 'whole'] as const;
type AnswerKind = (typeof ANSWER_KINDS)[number];

export const DEFAULT_STEERING: Steering = {
  latency_ms: 0,
  first_token_ms: 0,
  chunk_interval_ms: 0,
  total_ms: null,
  heartbeat: null,
  notices_leaving_ms: 0,
  output_tokens: 16,
  reasoning_tokens: 0,
  segments: null,
  output_cap: null,
  added_prompt_tokens: 0,
  cached_tokens: 0,
  cache_write_tokens: 0,
  cache_write_1h_tokens: 0,
  prompt_audio_tokens: 0,
  prompt_image_tokens: 0,
  web_searches: 0,
  answers_as: 'asked',
  envelope: DEFAULT_ENVELOPE,
  finish: DEFAULT_FINISH,
  usage: DEFAULT_USAGE,
  framing: DEFAULT_FRAMING,
  ids: 'twin',
  strict: null,
  ignores: [],
  informational: [],
  headers: {},
};

const readTokens: Reader<number> = (value, field) => readCount(value, field, 0, MAX_OUTPUT_TOKENS);
const readPromptTokens: Reader<number> = (value, field) => readCount(value, field);

const STEERING_FIELDS: { readonly [F in keyof Steering]: Reader<Steering[F]> } = {
  latency_ms: readMilliseconds,
  first_token_ms: readMilliseconds,
  chunk_interval_ms: readMilliseconds,
  total_ms: nullable(readMilliseconds),
  heartbeat: nullable(readHeartbeat),
  notices_leaving_ms: nullable(readMilliseconds),
  output_tokens: readTokens,
  reasoning_tokens: readTokens,
  segments: nullable(readSegments),
  output_cap: nullable(readTokens),
  added_prompt_tokens: readPromptTokens,
  cached_tokens: readPromptTokens,
  cache_write_tokens: readPromptTokens,
  cache_write_1h_tokens: readPromptTokens,
  prompt_audio_tokens: readPromptTokens,
  prompt_image_tokens: readPromptTokens,
  web_searches: readPromptTokens,
  answers_as: (value, field) => readChoice(value, field, ANSWER_KINDS),
  envelope: readEnvelope,
  finish: readFinish,
  usage: readUsageForm,
  framing: readFraming,
  ids: (value, field) => readChoice(value, field, ID_STYLES),
  strict: nullable(readStrictness),
  ignores: listOf((value, field) => readChoice(value, field, IGNORABLE)),
  informational: listOf((value, field) => readCount(value, field, 100, 199)),
  headers: readHeaders,
};

export const STEERING_NAMES = Object.keys(STEERING_FIELDS) as (keyof Steering)[];

/** Reads the knobs among other fields, which are not looked at. */
export function readKnownSteering(source: JsonObject): Partial<Steering> {
  const steering: Record<string, unknown> = {};
  for (const name of STEERING_NAMES) {
    if (source[name] !== undefined) steering[name] = STEERING_FIELDS[name](source[name], name);
  }
  return steering;
}

/** Reads steering from JSON; unknown fields throw `BadInput`. */
export function readSteering(value: unknown, where: string): Partial<Steering> {
  const source = readObject(value, where);
  refuseOtherFields(source, STEERING_NAMES, where);
  return readKnownSteering(source);
}

/**
 * Reads `metadata.twin` of a request body. OpenAI allows only strings as metadata values, so the object may
 * also come as JSON text. Absent is no steering; anything unreadable throws `BadInput`.
 */
export function readMetadataSteering(metadata: unknown): Partial<Steering> {
  if (!isObject(metadata) || metadata['twin'] === undefined) return {};
  const given = metadata['twin'];
  if (typeof given !== 'string') return readSteering(given, 'metadata.twin');
  let parsed: unknown;
  try {
    parsed = JSON.parse(given);
  } catch {
    throw new BadInput("'metadata.twin' is not valid JSON.", 'metadata.twin');
  }
  return readSteering(parsed, 'metadata.twin');
}

/** Header names and values; what HTTP does not allow throws `BadInput`. */
export function readHeaders(value: unknown, field: string): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, text] of Object.entries(readObject(value, field))) {
    readString(name, field);
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) throw new BadInput(`'${name}' is no header name.`, field);
    const content = readText(text, `${field}.${name}`);
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(content)) throw new BadInput(`'${name}' is no header value.`, field);
    headers[name.toLowerCase()] = content;
  }
  return headers;
}
