/**
 * What the threads of body-threads.ts do: decompress and parse request bodies, one after the other, and keep nothing
 * between two of them. The program of the threads brings the parsers.
 */
import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { Refusal } from '../../../../domain/errors.ts';
import type { Dialect } from '../dialect.ts';
import { decode } from './body-codings.ts';
import { refusalData, type BodyJob, type BodyResult } from './body-job.ts';

/** Below the event loop's: where cores are few, answers under way come before bodies that may never be paid. */
const NICENESS = 15;

export type BodyParser = Dialect['parse'];

/**
 * Parses bodies until the thread ends; `parsers` by the name of their dialect. To be called once, in a thread of its
 * own.
 */
export function parseBodies(parsers: Readonly<Record<string, BodyParser>>): void {
  // On Linux a priority belongs to a thread; elsewhere this would slow the whole process down.
  if (process.platform === 'linux') setPriority(NICENESS);
  parentPort!.on('message', (job: BodyJob) => {
    const result = parse(job, parsers);
    parentPort!.postMessage(result, result.kind === 'parsed' ? ownMemory(result.request) : []);
  });
}

function parse(
  { dialect, raw, codings, limitBytes }: BodyJob,
  parsers: Readonly<Record<string, BodyParser>>,
): BodyResult {
  const before = process.threadCpuUsage();
  let body: Buffer | null = null;
  const decodedBytes = (): number => body?.length ?? bytesWorth(process.threadCpuUsage(before));
  try {
    body = decode(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength), codings, limitBytes);
    const parser = parsers[dialect];
    if (parser === undefined) throw new Error(`the thread has no parser of ${dialect}`);
    return { kind: 'parsed', request: parser(body), decodedBytes: decodedBytes() };
  } catch (error) {
    if (error instanceof Refusal) return { kind: 'refused', refusal: refusalData(error), decodedBytes: decodedBytes() };
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { kind: 'failed', error: text, decodedBytes: decodedBytes() };
  }
}

/** Bytes that can be decompressed and parsed in a microsecond, about. */
const BYTES_PER_MICROSECOND = 100;

function bytesWorth({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) * BYTES_PER_MICROSECOND;
}

/** The memory of a result that can be handed over instead of copied; small buffers share theirs, which cannot leave. */
function ownMemory(result: object): ArrayBuffer[] {
  const memory = new Set<ArrayBuffer>();
  for (const value of Object.values(result) as unknown[]) {
    if (!(value instanceof Uint8Array) || value.byteLength !== value.buffer.byteLength) continue;
    if (value.buffer instanceof ArrayBuffer) memory.add(value.buffer);
  }
  return [...memory];
}
