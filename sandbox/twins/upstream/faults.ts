/**
 * Faults: everything a real model provider has been seen to do wrong, on request.
 *
 * A rule names the requests it hits and how often. A request takes the first rule that matches and has times
 * left, and only that one, so two rules added one after the other hit two requests in that order; a rule with
 * several faults combines them in one answer. A place is `after_chunks`, content chunks of each choice (0 means the
 * headers and nothing else), or `at`, behind one of the last parts. Answers that are not streamed are cut in the middle of
 * their JSON instead.
 */
import {
  BadInput,
  type JsonObject,
  readBoolean,
  readChoice,
  readCount,
  readMilliseconds,
  readObject,
  readString,
  refuseOtherFields,
} from '../input.ts';
import { type ErrorShapeName, ERROR_SHAPE_NAMES } from './error-shapes.ts';
import { readText } from './fields.ts';
import { LATE_POSITIONS, type Position } from './framing.ts';
import { MAX_INSERTED_CHARACTERS, MAX_OUTPUT_TOKENS } from './limits.ts';
import { readHeaders, readSteering, type Steering } from './steering.ts';

/** Where in an answer a fault strikes; without either, before the first content. */
interface Place {
  /** After so many content chunks of each choice. */
  readonly after_chunks?: number;
  /** After the finish reason, the usage, or the very end. */
  readonly at?: Exclude<Position, number>;
}

/** How an error among the chunks of a stream is written: an event, one named `error`, or a line of bare JSON. */
export const ERROR_CARRIERS = ['data', 'event', 'bare'] as const;
export type ErrorCarrier = (typeof ERROR_CARRIERS)[number];

export type Fault =
  /**
   * The socket is destroyed before any answer; `produced`: the model has read the prompt and written so many tokens of each
   * choice by then, which nobody sees. `how`: an orderly end, or a reset.
   */
  | { readonly type: 'refuse'; readonly produced?: number; readonly how?: 'fin' | 'reset' }
  /** An HTTP error in one of the providers' shapes, or with a body of one's own. */
  | StatusFault
  /**
   * Silence: without headers, or where a place is given after headers and chunks. Until the client leaves, or for `ms`,
   * after which the answer goes on.
   */
  | ({ readonly type: 'hang'; readonly ms?: number; readonly produced?: number } & Place)
  /** An error in a 200 (the body of a whole answer), then a clean end; with `goes_on` the answer follows as if nothing were. */
  | ErrorFault
  /** A clean end of the response; without a place after `done` the answer lacks finish reason and [DONE]. */
  | ({ readonly type: 'eof' } & Place)
  /** The socket is destroyed in the middle of the response. */
  | ({ readonly type: 'reset' } & Place)
  /** The usage object is replaced, by a JSON value or by raw text that need not be JSON (`NaN`, `1e400`). */
  | { readonly type: 'usage'; readonly usage: unknown }
  | { readonly type: 'usage'; readonly usage_raw: string }
  /** No usage at all, although it was asked for. */
  | { readonly type: 'no_usage' }
  /** The usage (and the end behind it) comes this much after the finish reason. */
  | { readonly type: 'late_usage'; readonly ms: number }
  /** 200 with a web page. */
  | { readonly type: 'html'; readonly body?: string }
  /** A valid answer without content and without tokens. */
  | { readonly type: 'empty' }
  /** Other times than the configured ones, see `Steering`. */
  | { readonly type: 'slow'; readonly first_ms?: number; readonly chunk_ms?: number; readonly total_ms?: number }
  /** Any other knobs than the configured ones, see `Steering`. */
  | { readonly type: 'steer'; readonly knobs: Partial<Steering> }
  /** Other counts than the configured ones, see `Steering`. */
  | {
      readonly type: 'output';
      readonly output_tokens?: number;
      readonly reasoning_tokens?: number;
      readonly cached_tokens?: number;
    }
  /** Produces exactly this many tokens more than the request's maximum (than the target when it has none). */
  | { readonly type: 'exceed_max_tokens'; readonly tokens: number }
  /** Answers in the name of another model. */
  | { readonly type: 'model_name'; readonly model: string }
  /** One line of broken JSON among the chunks of a stream, which then goes on; a broken body otherwise. */
  | { readonly type: 'garbage_sse'; readonly after_chunks?: number }
  /** Legal but rare framing: comments, blank lines, CRLF, characters split over two TCP writes. */
  | { readonly type: 'comments' };

interface StatusFault {
  readonly type: 'status';
  readonly status: number;
  /** Default: OpenAI's. */
  readonly shape?: ErrorShapeName;
  readonly message?: string;
  readonly code?: string;
  readonly param?: string;
  /** Sent as it is when it is a string, as JSON otherwise; replaces the shape. */
  readonly body?: unknown;
  /** Bytes that need not be text. */
  readonly body_base64?: string;
  /** Blanks before the body, to so many bytes. */
  readonly padding?: number;
  readonly content_type?: string;
  /** Seconds. Other forms of the header come with `headers`. */
  readonly retry_after?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Tokens of each choice that were produced before it failed; absent: no model took part. */
  readonly produced?: number;
}

interface ErrorFault extends Place {
  readonly type: 'error_chunk';
  readonly message?: string;
  /** Default: the dialect's own. */
  readonly shape?: ErrorShapeName;
  readonly code?: string;
  /** The status that the body names; default 500. */
  readonly status?: number;
  /** Any JSON in place of a shape. */
  readonly body?: unknown;
  readonly carrier?: ErrorCarrier;
  readonly goes_on?: boolean;
}

type FaultOf<T extends Fault['type']> = Extract<Fault, { type: T }>;

export interface FaultMatch {
  readonly model?: string;
  readonly request_id?: string;
  readonly stream?: boolean;
}

export interface FaultRule {
  /** Fields that must all be equal; absent hits every request. */
  readonly match?: FaultMatch;
  /** How many requests it hits; default 1, null until cleared. */
  readonly times?: number | null;
  readonly fault: Fault | readonly Fault[];
}

/** A rule as `GET /_twin/faults` shows it. */
export interface ActiveFaultRule {
  readonly id: string;
  readonly match: FaultMatch;
  readonly remaining: number | null;
  readonly faults: readonly Fault[];
}

/** What a rule is compared with. */
export interface FaultSubject {
  readonly model: string;
  readonly requestId: string;
  readonly stream: boolean;
}

/** The faults that hit one answer. */
export type Faults = readonly Fault[];

const NO_FAULTS: Faults = [];

export function faultOf<T extends Fault['type']>(faults: Faults, type: T): FaultOf<T> | undefined {
  return faults.find((fault): fault is FaultOf<T> => fault.type === type);
}

export class FaultRules {
  #rules: { id: string; match: FaultMatch; remaining: number | null; faults: Faults }[] = [];
  #lastId = 0;

  add(rule: FaultRule): { id: string } {
    this.#lastId += 1;
    const id = `fault-${this.#lastId}`;
    this.#rules.push({
      id,
      match: rule.match ?? {},
      remaining: rule.times === undefined ? 1 : rule.times,
      faults: Array.isArray(rule.fault) ? (rule.fault as Faults) : [rule.fault as Fault],
    });
    return { id };
  }

  list(): ActiveFaultRule[] {
    return this.#rules.map((rule) => ({ ...rule }));
  }

  clear(): void {
    this.#rules = [];
  }

  /** The faults for one request; uses up one of the rule's times. */
  take(subject: FaultSubject): Faults {
    if (this.#rules.length === 0) return NO_FAULTS;
    const rule = this.#rules.find(({ match }) => matches(match, subject));
    if (rule === undefined) return NO_FAULTS;
    if (rule.remaining !== null) {
      rule.remaining -= 1;
      if (rule.remaining === 0) this.#rules = this.#rules.filter((other) => other !== rule);
    }
    return rule.faults;
  }
}

function matches(match: FaultMatch, subject: FaultSubject): boolean {
  return (
    (match.model === undefined || match.model === subject.model) &&
    (match.request_id === undefined || match.request_id === subject.requestId) &&
    (match.stream === undefined || match.stream === subject.stream)
  );
}

/** Reads a rule from JSON (`POST /_twin/faults`); anything unknown throws `BadInput`. */
export function readFaultRule(value: unknown): FaultRule {
  const source = readObject(value, 'rule');
  refuseOtherFields(source, ['match', 'times', 'fault'], 'rule');
  const { match, times, fault } = source;
  return {
    ...(match !== undefined && { match: readMatch(match) }),
    ...(times !== undefined && { times: times === null ? null : readCount(times, 'times', 1) }),
    fault: Array.isArray(fault) ? fault.map(readFault) : readFault(fault),
  };
}

function readMatch(value: unknown): FaultMatch {
  const source = readObject(value, 'match');
  refuseOtherFields(source, ['model', 'request_id', 'stream'], 'match');
  return optional(source, { model: readString, request_id: readString, stream: readBoolean });
}

function readFault(value: unknown): Fault {
  const source = readObject(value, 'fault');
  const type = readString(source['type'], 'type') as Fault['type'];
  const fields: Record<string, Reader> | undefined = FAULT_FIELDS[type];
  if (fields === undefined) throw new BadInput(`There is no fault '${type}'.`, 'type');
  refuseOtherFields(source, ['type', ...Object.keys(fields)], type);
  const required = REQUIRED_FIELDS[type] ?? [];
  if (required.length > 0 && !required.some((field) => field in source)) {
    throw new BadInput(`Fault '${type}' needs '${required.join("' or '")}'.`, required[0]);
  }
  if (source['after_chunks'] !== undefined && source['at'] !== undefined) {
    throw new BadInput(`Fault '${type}' takes 'after_chunks' or 'at', not both.`, 'at');
  }
  return { type, ...optional(source, fields) } as Fault;
}

function readBase64(value: unknown, field: string): string {
  const text = readText(value, field);
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw new BadInput(`'${field}' must be base64.`, field);
  return text;
}

type Reader = (value: unknown, field: string) => unknown;

const anything: Reader = (value) => value;
const readTokens: Reader = (value, field) => readCount(value, field, 0, MAX_OUTPUT_TOKENS);
const readShape: Reader = (value, field) => readChoice(value, field, ERROR_SHAPE_NAMES);
const readStatus: Reader = (value, field) => readCount(value, field, 400, 599);
const place = {
  after_chunks: readCount as Reader,
  at: ((value, field) => readChoice(value, field, LATE_POSITIONS)) as Reader,
};

const FAULT_FIELDS: Readonly<Record<Fault['type'], Record<string, Reader>>> = {
  refuse: { produced: readTokens, how: (value, field) => readChoice(value, field, ['fin', 'reset'] as const) },
  status: {
    status: readStatus,
    shape: readShape,
    message: readText,
    code: readString,
    param: readString,
    body: anything,
    body_base64: readBase64,
    padding: (value, field) => readCount(value, field, 0, MAX_INSERTED_CHARACTERS),
    content_type: readString,
    retry_after: readCount,
    headers: readHeaders,
    produced: readTokens,
  },
  hang: { ...place, ms: readMilliseconds, produced: readTokens },
  error_chunk: {
    ...place,
    message: readText,
    shape: readShape,
    code: readString,
    status: readStatus,
    body: anything,
    carrier: (value, field) => readChoice(value, field, ERROR_CARRIERS),
    goes_on: readBoolean,
  },
  eof: place,
  reset: place,
  usage: { usage: anything, usage_raw: readString },
  no_usage: {},
  late_usage: { ms: readMilliseconds },
  html: { body: readString },
  empty: {},
  slow: { first_ms: readMilliseconds, chunk_ms: readMilliseconds, total_ms: readMilliseconds },
  steer: { knobs: readSteering },
  output: { output_tokens: readTokens, reasoning_tokens: readTokens, cached_tokens: readCount },
  exceed_max_tokens: { tokens: (value, field) => readCount(value, field, 1, MAX_OUTPUT_TOKENS) },
  model_name: { model: readString },
  garbage_sse: { after_chunks: readCount },
  comments: {},
};

/** Faults that mean nothing without one of these fields. */
const REQUIRED_FIELDS: Readonly<Partial<Record<Fault['type'], readonly string[]>>> = {
  status: ['status'],
  steer: ['knobs'],
  usage: ['usage', 'usage_raw'],
  late_usage: ['ms'],
  exceed_max_tokens: ['tokens'],
  model_name: ['model'],
};

function optional(source: JsonObject, fields: Record<string, Reader>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [field, read] of Object.entries(fields)) {
    if (source[field] !== undefined) result[field] = read(source[field], field);
  }
  return result;
}
