/**
 * Draws receipts in a thread of their own: embedding a font takes tens of milliseconds, which every stream of the
 * gateway in this process would feel. One at a time, by turns of the callers; a few may wait.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { FairGate } from '../../../http/fair-gate.ts';
import type { Receipt } from './receipt-pdf.ts';

/** A thread starts and draws in well under a second. */
const TIMEOUT_MS = 10_000;

export class ReceiptRenderer {
  readonly #gate = new FairGate({
    what: 'receipts',
    atOnce: 1,
    atOncePerHolder: 1,
    waiting: 32,
    waitingPerHolder: 8,
    retryAfterSeconds: 5,
  });

  /** The receipt as PDF, for an account or for staff. Refuses when too many wait. */
  render(holder: string, receipt: Receipt): Promise<Buffer> {
    return this.#gate.run(holder, () => inWorker(receipt));
  }
}

async function inWorker(receipt: Receipt): Promise<Buffer> {
  const worker = new Worker(new URL('./receipt-worker.ts', import.meta.url), { workerData: receipt });
  try {
    const [bytes] = (await once(worker, 'message', { signal: AbortSignal.timeout(TIMEOUT_MS) })) as [Uint8Array];
    return Buffer.from(bytes);
  } finally {
    await worker.terminate();
  }
}
