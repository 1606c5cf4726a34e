/**
 * Interface of a wire format: how a request is read and how the parts of an answer are
 * written. Content and time are decided elsewhere and are the same for every dialect. A new dialect is
 * one file with these functions and one row in `twin.ts`'s route table.
 */
import type { IncomingHttpHeaders } from 'node:http';

import type { AnswerPlan, Ask, Cut } from './answer-plan.ts';
import type { ErrorFacts, ErrorShapeName } from './error-shapes.ts';
import type { Piece } from './output/segments.ts';
import type { TokenCounts } from './token-counts.ts';

export interface Dialect {
  /** The API key the client presented, undefined when there is none. */
  readonly presentedKey: (headers: IncomingHttpHeaders) => string | undefined;
  /** Reads a parsed body; throws `BadInput` as the provider would answer 400. */
  readonly read: (body: unknown) => Ask;
  /** The body of an error, in the dialect's own shape unless another is named. */
  readonly errorBody: (facts: ErrorFacts, shape?: ErrorShapeName) => string;
  /** `answerId` null: the answer has no id. */
  readonly write: (plan: AnswerPlan, answerId: string | null, ordinal: number) => AnswerWriter;
}

/** The texts of one answer. Stream parts are whole server-sent events; `whole` is the body of a plain answer. */
export interface AnswerWriter {
  readonly opening: (counts: TokenCounts) => string;
  /** A piece of every choice. `counts`: what has been produced with it, wherever usage is told on the way. */
  readonly piece: (piece: Piece, counts: TokenCounts) => string;
  readonly garbage: () => string;
  readonly error: (error: Pick<Cut, 'text' | 'carrier'>) => string;
  /** The end of every choice. */
  readonly closing: (counts: TokenCounts) => string;
  /** Usage in chunks of its own; empty where there is none at the place. */
  readonly usage: (place: 'own' | 'after_done', counts: TokenCounts) => string;
  readonly done: () => string;
  /** The body of an answer that is not streamed, with the first `chunks` content chunks of each choice. */
  readonly whole: (chunks: number, counts: TokenCounts) => string;
}
