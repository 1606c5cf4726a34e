/**
 * Draws receipts in a thread of their own: embedding a font takes tens of milliseconds, which every stream of the gateway in
 * this process would feel. One at a time; a few may wait.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Refusal } from '../../../domain/errors.ts';
import type { Receipt } from './receipt-pdf.ts';

const WAITING_MAX = 8;
/** A thread starts and draws in well under a second. */
const TIMEOUT_MS = 10_000;

export class ReceiptPress {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** The receipt as PDF. Refuses when too many wait. */
  async print(receipt: Receipt): Promise<Buffer> {
    if (this.#waiting >= WAITING_MAX) {
      throw new Refusal('rate_limit_exceeded', { message: 'Too many receipts at once.', retryAfterSeconds: 5 });
    }
    this.#waiting++;
    const printed = this.#last.then(() => inThread(receipt));
    this.#last = printed.catch(() => undefined);
    try {
      return await printed;
    } finally {
      this.#waiting--;
    }
  }
}

async function inThread(receipt: Receipt): Promise<Buffer> {
  const thread = new Worker(new URL('./receipt-thread.ts', import.meta.url), { workerData: receipt });
  try {
    const [bytes] = (await once(thread, 'message', { signal: AbortSignal.timeout(TIMEOUT_MS) })) as [Uint8Array];
    return Buffer.from(bytes);
  } finally {
    await thread.terminate();
  }
}
