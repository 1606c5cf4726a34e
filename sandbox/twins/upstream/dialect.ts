/**
 * What the twin needs to know of a wire format: how a request is read and how the parts of an answer are
 * written. What happens, and when, is decided elsewhere and is the same for every dialect. A new dialect is
 * one file with these functions and one row in `upstream.ts`'s route table.
 */
import type { IncomingHttpHeaders } from 'node:http';

import type { AnswerPlan, Ask } from './plan.ts';
import type { TokenCounts } from './requests.ts';

export interface Dialect {
  /** The response header that carries the provider's own request id. */
  readonly requestIdHeader: string;
  /** The API key the client presented, undefined when there is none. */
  readonly presentedKey: (headers: IncomingHttpHeaders) => string | undefined;
  /** Reads a parsed body; throws `BadInput` as the provider would answer 400. */
  readonly read: (body: unknown) => Ask;
  /** The usage object for an answer's counts. */
  readonly usage: (counts: TokenCounts) => object;
  readonly errorBody: (status: number, message: string, param?: string | null) => string;
  readonly write: (plan: AnswerPlan, ask: Ask, ordinal: number) => AnswerWriter;
}

/** The texts of one answer. Stream parts are whole server-sent events; `whole` is the body of a plain answer. */
export interface AnswerWriter {
  readonly opening: () => string;
  /** The visible token `index` of every choice. */
  readonly token: (index: number) => string;
  readonly garbage: () => string;
  readonly error: (message: string) => string;
  /** The finish reason of every choice, after `tokens` visible tokens. */
  readonly closing: () => string;
  readonly usage: (usageText: string) => string;
  readonly done: () => string;
  /** The body of an answer that is not streamed, with the first `tokens` visible tokens of each choice. */
  readonly whole: (tokens: number) => string;
}
