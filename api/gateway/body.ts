/** Reading a request body up to a limit. */
import type { IncomingMessage } from 'node:http';
import { Refusal } from '../../domain/errors.ts';

/**
 * The whole body. Throws `body_too_large` as soon as the limit is passed (the rest is discarded, so that the client reads
 * its answer instead of a reset), or an Error when the client goes away while sending.
 */
export function readBody(incoming: IncomingMessage, limitBytes: number): Promise<Buffer> {
  const tooLarge = (): Refusal =>
    new Refusal('body_too_large', { message: `The request body is larger than ${limitBytes} bytes.` });
  return new Promise((resolve, reject) => {
    if (Number(incoming.headers['content-length'] ?? 0) > limitBytes) {
      incoming.resume();
      reject(tooLarge());
      return;
    }
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= limitBytes) chunks.push(chunk);
      else reject(tooLarge());
    });
    incoming.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)));
    incoming.on('error', reject);
    incoming.on('close', () => {
      if (!incoming.complete) reject(new ClientGone());
    });
  });
}

/**
 * Memory of request bodies, from their first byte to the end of their request (the body is kept for a local count). Bodies
 * are read before anything about the request is known, so neither the key's concurrency nor its money bounds them.
 */
export class BodyBudget {
  readonly #perKey: number;
  readonly #perProcess: number;
  readonly #byKey = new Map<string, number>();
  #total = 0;

  constructor(perKeyBytes: number, perProcessBytes: number) {
    this.#perKey = perKeyBytes;
    this.#perProcess = perProcessBytes;
  }

  /** Takes `bytes`; returns how to give them back. Throws `rate_limit_exceeded` (the key's share) or `ledger_unavailable`. */
  take(keyId: string, bytes: number): () => void {
    const ofKey = this.#byKey.get(keyId) ?? 0;
    if (ofKey > 0 && ofKey + bytes > this.#perKey) {
      throw new Refusal('rate_limit_exceeded', { message: 'This API key has too many large requests open.' });
    }
    if (this.#total > 0 && this.#total + bytes > this.#perProcess) throw new Refusal('ledger_unavailable');
    this.#byKey.set(keyId, ofKey + bytes);
    this.#total += bytes;
    return () => {
      this.#total -= bytes;
      const left = (this.#byKey.get(keyId) ?? 0) - bytes;
      if (left <= 0) this.#byKey.delete(keyId);
      else this.#byKey.set(keyId, left);
    };
  }
}

/** The client went away before it had sent its request: there is nobody to answer. */
export class ClientGone extends Error {
  constructor() {
    super('the client went away while sending');
    this.name = 'ClientGone';
  }
}
