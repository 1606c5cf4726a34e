/**
 * The thread of body-threads.ts: decompresses and parses request bodies, one after the other, and keeps nothing between
 * two of them.
 */
import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { Refusal } from '../../../../domain/errors.ts';
import { decode } from './body-codings.ts';
import { refusalData, type BodyJob, type BodyResult } from './body-job.ts';
import { parseChatRequest } from '../../dialects/openai-chat/request.ts';

/** Below the event loop's: where cores are few, answers under way come before bodies that may never be paid. */
const NICENESS = 15;

// On Linux a priority belongs to a thread; elsewhere this would slow the whole process down.
if (process.platform === 'linux') setPriority(NICENESS);

parentPort!.on('message', (job: BodyJob) => {
  const result = parse(job);
  parentPort!.postMessage(result, result.kind === 'parsed' ? ownMemory(result.request) : []);
});

function parse({ raw, codings, limitBytes }: BodyJob): BodyResult {
  const before = process.threadCpuUsage();
  let body: Buffer | null = null;
  const decodedBytes = (): number => body?.length ?? bytesWorth(process.threadCpuUsage(before));
  try {
    body = decode(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength), codings, limitBytes);
    return { kind: 'parsed', request: parseChatRequest(body), decodedBytes: decodedBytes() };
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
