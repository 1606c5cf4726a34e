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

/** The client went away before it had sent its request: there is nobody to answer. */
export class ClientGone extends Error {
  constructor() {
    super('the client went away while sending');
    this.name = 'ClientGone';
  }
}
