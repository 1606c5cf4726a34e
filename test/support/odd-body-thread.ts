/**
 * Stands in for the thread that parses bodies, where a test needs one that dies, hangs, or says in which order it was
 * asked. The body is what it shall do.
 */
import { parentPort } from 'node:worker_threads';
import type { BodyJob, BodyResult } from '../../api/gateway/core/bodies/body-job.ts';

parentPort!.on('message', ({ raw }: BodyJob) => {
  const text = Buffer.from(raw).toString('utf8');
  if (text === 'die') process.exit(1);
  if (text === 'throw') throw new Error('thrown in the thread');
  if (text === 'hang') for (;;);
  if (text.startsWith('wait')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  const result = { kind: 'failed', error: text, decodedBytes: raw.byteLength } satisfies BodyResult;
  parentPort!.postMessage(result);
});
