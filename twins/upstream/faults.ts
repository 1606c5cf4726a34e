/**
 * Faults: everything a real model provider has been seen to do wrong, on request.
 *
 * A rule names the requests it hits and how often. A request takes the first rule that matches and has times left, and
 * only that one, so two rules added one after the other hit two requests in that order; a rule with several faults
 * combines them in one answer. A place is `after_chunks`, content chunks of each choice (0 means the headers and
 * nothing else), or `at`, behind one of the last parts. Answers that are not streamed are cut in the middle of their
 * JSON instead.
 */
import type { ErrorShapeName } from './error-shapes.ts';
import type { Position } from './framing.ts';
import type { Steering, SteeringInput } from './steering.ts';

/** Where in an answer a fault occurs; without either, before the first content. */
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
   * The socket is destroyed before any answer; `produced`: the model has read the prompt and written so many tokens of
   * each choice by then, which nobody sees. `how`: an orderly end, or a reset.
   */
  | { readonly type: 'refuse'; readonly produced?: number; readonly how?: 'fin' | 'reset' }
  /** An HTTP error in one of the providers' shapes, or with a body of one's own. */
  | StatusFault
  /**
   * Silence: without headers, or where a place is given after headers and chunks. Until the client leaves, or for `ms`,
   * after which the answer goes on.
   */
  | ({ readonly type: 'hang'; readonly ms?: number; readonly produced?: number } & Place)
  /**
   * An error in a 200 (the body of a whole answer), then a clean end; with `goes_on` the answer follows as if nothing
   * were.
   */
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
  | { readonly type: 'steer'; readonly knobs: SteeringInput }
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

/** A fault as it was read, with the knobs in full. */
export type ReadFault =
  Exclude<Fault, { type: 'steer' }> | { readonly type: 'steer'; readonly knobs: Partial<Steering> };

type FaultOf<T extends Fault['type']> = Extract<ReadFault, { type: T }>;

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

/** The faults that hit one answer. */
export type Faults = readonly ReadFault[];

export function faultOf<T extends Fault['type']>(faults: Faults, type: T): FaultOf<T> | undefined {
  return faults.find((fault): fault is FaultOf<T> => fault.type === type);
}
