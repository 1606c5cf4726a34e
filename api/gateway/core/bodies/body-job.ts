/**
 * What the gateway and the threads that parse bodies say to each other. A Refusal crosses as data: its class does not.
 */
import { Refusal, type ErrorCode } from '../../../../domain/errors.ts';
import type { DialectRequest } from '../dialect.ts';
import type { Coding } from './body-codings.ts';

export interface BodyJob {
  /** The name of the dialect that reads it. */
  readonly dialect: string;
  /** The bytes as they arrived. Their memory changes hands. */
  readonly raw: Uint8Array;
  readonly codings: readonly Coding[];
  /** Most bytes that the body may have once it is decompressed. */
  readonly limitBytes: number;
}

/**
 * `decodedBytes` is what the work was, as the size of a body: that of the decompressed one, or as much as could have
 * been decompressed in the time where that did not succeed.
 */
export type BodyResult =
  | { readonly kind: 'parsed'; readonly request: DialectRequest; readonly decodedBytes: number }
  | { readonly kind: 'refused'; readonly refusal: RefusalData; readonly decodedBytes: number }
  /** A bug, as text. */
  | { readonly kind: 'failed'; readonly error: string; readonly decodedBytes: number };

export interface RefusalData {
  readonly code: ErrorCode;
  readonly message: string;
  readonly param: string | null;
  readonly status: number;
  readonly retryAfterSeconds: number | null;
}

export function refusalData({ code, message, param, status, retryAfterSeconds }: Refusal): RefusalData {
  return { code, message, param, status, retryAfterSeconds };
}

export function refusalOf({ code, message, param, status, retryAfterSeconds }: RefusalData): Refusal {
  return new Refusal(code, {
    message,
    status,
    ...(param === null ? {} : { param }),
    ...(retryAfterSeconds === null ? {} : { retryAfterSeconds }),
  });
}
