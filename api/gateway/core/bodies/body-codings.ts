/**
 * Compressed request bodies: which content codings are taken, and undoing them within limits. Runs in a thread of its
 * own (body-thread.ts), one body at a time, so that the memory of the decoders themselves is bounded by the number of
 * threads.
 */
import {
  brotliDecompressSync,
  constants,
  gunzipSync,
  inflateRawSync,
  inflateSync,
  zstdDecompressSync,
  type ZlibOptions,
} from 'node:zlib';
import { Refusal } from '../../../../domain/errors.ts';

const CODINGS = ['gzip', 'deflate', 'br', 'zstd'] as const;
export type Coding = (typeof CODINGS)[number];

/** For the header `accept-encoding` of an answer that refuses a coding. */
export const ACCEPTED_CODINGS = CODINGS.join(', ');

/** More than one is already unusual; each costs a decoding of up to the whole limit. */
const CODINGS_MAX = 3;

/**
 * The largest window that RFC 9659 allows to `zstd` on the web. A frame of ten bytes may ask for 16 times as much
 * memory.
 */
const ZSTD_WINDOW_LOG_MAX = 23;

/**
 * Bytes that one byte may become where the limit for all bodies is high: deflate cannot reach this, the others can go a
 * hundred times further, which would make us work for bytes that nobody sent. Below so many bytes only the limit
 * counts, because a body that repeats itself is no attack.
 */
const RATIO_MAX = 1100;
const RATIO_FREE_BYTES = 16 * 1024 * 1024;

/** A frame may be empty and costs a decoder each time; parallel compressors make one per few megabytes. */
const ZSTD_FRAMES_MAX = 1000;

/**
 * The codings of a body in the order in which they were applied. Throws `unsupported_content_encoding`, which names the
 * one that is not known.
 */
export function codingsOf(header: string | undefined): Coding[] {
  const names = (header ?? '')
    .toLowerCase()
    .split(',')
    .map((name) => name.trim().replace(/^x-gzip$/, 'gzip'))
    .filter((name) => name !== '' && name !== 'identity');
  if (names.length > CODINGS_MAX) throw unsupported(`More than ${CODINGS_MAX} content encodings are not supported.`);
  for (const name of names) {
    if (!isCoding(name)) {
      throw unsupported(
        `The content encoding "${name.slice(0, 40)}" is not supported. Supported: ${ACCEPTED_CODINGS}.`,
      );
    }
  }
  return names as Coding[];
}

function isCoding(name: string): name is Coding {
  return (CODINGS as readonly string[]).includes(name);
}

function unsupported(message: string): Refusal {
  return new Refusal('unsupported_content_encoding', { param: 'content-encoding', message });
}

/**
 * Undoes the codings. Throws `invalid_body` for data that is broken, `body_too_large` for a result beyond the limit.
 */
export function decode(raw: Buffer, codings: readonly Coding[], limitBytes: number): Buffer {
  return codings.reduceRight((data, coding) => decodeOne(data, coding, limitBytes), raw);
}

function decodeOne(data: Buffer, coding: Coding, limitBytes: number): Buffer {
  const mostByRatio = Math.max(RATIO_FREE_BYTES, data.length * RATIO_MAX);
  const maxOutputLength = Math.min(limitBytes, mostByRatio);
  try {
    return coding === 'zstd' ? decodeFrames(data, maxOutputLength) : decodeStream(data, coding, maxOutputLength);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      const message =
        maxOutputLength < limitBytes
          ? `The request body is compressed more than ${RATIO_MAX} times.`
          : `The decompressed request body is larger than ${limitBytes} bytes.`;
      throw new Refusal('body_too_large', { message });
    }
    throw broken(coding, error instanceof Error ? error.message : String(error));
  }
}

function decodeStream(data: Buffer, coding: Exclude<Coding, 'zstd'>, maxOutputLength: number): Buffer {
  const { buffer, engine } = withInfo(decoderOf(data, coding)(data, { maxOutputLength, info: true }));
  if (engine.bytesWritten < data.length) throw broken(coding, 'there is data after its end');
  return buffer;
}

function decoderOf(data: Buffer, coding: Exclude<Coding, 'zstd'>): (data: Buffer, options: ZlibOptions) => Buffer {
  switch (coding) {
    case 'gzip':
      return gunzipSync;
    case 'br':
      return brotliDecompressSync;
    case 'deflate':
      return hasZlibHeader(data) ? inflateSync : inflateRawSync;
  }
}

/** `deflate` means the zlib format, but many clients send the bare one, and browsers read both. */
function hasZlibHeader(data: Buffer): boolean {
  return data.length >= 2 && (data[0]! & 0x0f) === 8 && data.readUInt16BE(0) % 31 === 0;
}

/** A zstd body may consist of several frames; Node's decoder stops after the first. */
function decodeFrames(data: Buffer, maxOutputLength: number): Buffer {
  const parts: Buffer[] = [];
  const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
  let [size, offset] = [0, 0];
  do {
    if (parts.length === ZSTD_FRAMES_MAX) throw broken('zstd', `there are more than ${ZSTD_FRAMES_MAX} frames`);
    const options = { maxOutputLength: Math.max(1, maxOutputLength - size), params, info: true };
    const { buffer, engine } = withInfo(zstdDecompressSync(data.subarray(offset), options));
    parts.push(buffer);
    size += buffer.length;
    offset += engine.bytesWritten;
  } while (offset < data.length);
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/** What the option `info` makes of a decoder's result, which its types do not say. */
function withInfo(result: unknown): { buffer: Buffer; engine: { bytesWritten: number } } {
  return result as { buffer: Buffer; engine: { bytesWritten: number } };
}

function broken(coding: Coding, cause: string): Refusal {
  return new Refusal('invalid_body', { message: `The request body is not valid ${coding}: ${cause}.` });
}
