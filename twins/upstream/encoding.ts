/** Compressed answers, which some providers send although nobody asked for them. */
import type { ServerResponse } from 'node:http';
import type { Writable } from 'node:stream';
import { createBrotliCompress, createDeflate, createGzip, createZstdCompress } from 'node:zlib';

export const ENCODINGS = ['identity', 'gzip', 'deflate', 'br', 'zstd'] as const;
export type Encoding = (typeof ENCODINGS)[number];

/** A stream that compresses, and gives out what it has on demand. */
export interface Encoder extends Writable {
  flush(): void;
}

/** Its input arrives compressed at the response; null: nothing is compressed. */
export function encoderOf(encoding: Encoding, response: ServerResponse): Encoder | null {
  const encoder = create(encoding);
  encoder?.pipe(response);
  return encoder;
}

function create(encoding: Encoding): ReturnType<typeof createGzip> | null {
  switch (encoding) {
    case 'identity':
      return null;
    case 'gzip':
      return createGzip();
    case 'deflate':
      return createDeflate();
    case 'br':
      return createBrotliCompress();
    case 'zstd':
      return createZstdCompress();
  }
}
