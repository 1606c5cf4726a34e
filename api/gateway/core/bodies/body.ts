/**
 * The bytes of a request body: reading them up to a limit, and letting those go that nobody wants any more. Judges
 * neither memory nor rate, only asks (body-intake.ts does).
 */
import type { IncomingMessage } from 'node:http';
import { Refusal } from '../../../../domain/errors.ts';
import type { AccountUuid } from '../../../../domain/ids.ts';
import { TokenBuckets } from '../../../http/token-buckets.ts';
import type { Arrival, Arrivals } from './arrivals.ts';

export interface ReadingTerms {
  readonly accountId: AccountUuid;
  readonly limitBytes: number;
  readonly arrivals: Arrivals;
  /** Called with a way to end the reading from outside, and with null once it is over. */
  readonly onReading: (refuse: ((refusal: Refusal) => void) | null) => void;
  /**
   * Called for every piece with its bytes and those that have come in all. Throws the Refusal that ends the reading, or
   * returns the milliseconds to wait before more is read.
   */
  readonly onBytes: (bytes: number, total: number) => number;
}

/**
 * The whole body. Throws a Refusal as soon as one is due, at which nothing of the body is kept, or ClientGone when the
 * client leaves while sending. After a refusal the body is not read any further: see {@link Discards}.
 */
export function readBody(incoming: IncomingMessage, terms: ReadingTerms): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const pieces = new Pieces();
  let pause: NodeJS.Timeout | undefined;

  const stop = (): void => {
    clearTimeout(pause);
    terms.onReading(null);
    terms.arrivals.delete(arrival);
    incoming.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone);
  };
  const refuse = (error: unknown): void => {
    stop();
    pieces.clear();
    incoming.pause();
    reject(error);
  };
  const onData = (piece: Buffer): void => {
    const total = pieces.bytes + piece.length;
    if (total > terms.limitBytes) {
      refuse(tooLarge(terms.limitBytes));
      return;
    }
    try {
      const waitMs = terms.onBytes(piece.length, total);
      pieces.add(piece);
      if (waitMs > 0) wait(waitMs);
    } catch (error) {
      refuse(error);
    }
  };
  const wait = (ms: number): void => {
    incoming.pause();
    pause = setTimeout(() => {
      pause = undefined;
      incoming.resume();
    }, ms);
  };
  const onEnd = (): void => {
    stop();
    resolve(pieces.join());
  };
  const onGone = (): void => {
    stop();
    pieces.clear();
    reject(new ClientGone());
  };
  const arrival: Arrival = {
    accountId: terms.accountId,
    receivedBytes: () => pieces.bytes,
    isPaused: () => pause !== undefined,
    refuse,
  };

  if (announcedBytes(incoming) > terms.limitBytes) return Promise.reject(tooLarge(terms.limitBytes));
  // It has left before, so that none of its events is still to come.
  if (incoming.destroyed) return Promise.reject(new ClientGone());
  terms.onReading(refuse);
  terms.arrivals.add(arrival);
  incoming.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone);
  return promise;
}

/** What the client says the body has; 0 where it does not say. */
export function announcedBytes(incoming: IncomingMessage): number {
  return Number(incoming.headers['content-length'] ?? 0);
}

function tooLarge(limitBytes: number): Refusal {
  return new Refusal('body_too_large', { message: `The request body is larger than ${limitBytes} bytes.` });
}

/** What is still read of a body after its answer, so that a client that sends before it reads finds the answer. */
const DISCARDED_BYTES_MAX = 32 * 1024 * 1024;
const DISCARDING_MS = 30_000;

/**
 * How fast bodies that were refused are read on, all together: nobody waits for them, and reading costs what serving
 * costs.
 */
const DISCARDED_BYTES_PER_SECOND = 16 * 1024 * 1024;
const DISCARDED_BURST_BYTES = 8 * 1024 * 1024;
const EVERYBODY = 'everybody';

/** What is left of bodies that were answered before their end. One for a server. */
export class Discards {
  readonly #rate = new TokenBuckets({ perSecond: DISCARDED_BYTES_PER_SECOND, burst: DISCARDED_BURST_BYTES });

  /**
   * Reads on, keeping nothing, what is left of a body that was answered before its end: the connection can then be used
   * again, and closing it at once would often take the answer from the client. More than a bound of it closes the
   * connection.
   */
  discard(incoming: IncomingMessage): void {
    if (incoming.complete || incoming.destroyed) return;
    const close = (): void => void incoming.socket.destroy();
    const timer = setTimeout(close, DISCARDING_MS).unref();
    // Until its first read Node takes a body for one that nobody will read, and would swallow it without end.
    let bytes = (incoming.read() as Buffer | null)?.length ?? 0;
    incoming.on('data', (piece: Buffer) => {
      bytes += piece.length;
      if (bytes > DISCARDED_BYTES_MAX) close();
      const waitMs = this.#rate.owe(EVERYBODY, piece.length);
      if (waitMs === 0) return;
      incoming.pause();
      setTimeout(() => incoming.resume(), waitMs).unref();
    });
    incoming.on('close', () => clearTimeout(timer));
    incoming.resume();
  }
}

/** Pieces at least this long are kept as they came; shorter ones are copied together. */
const LONG_PIECE_BYTES = 4096;
const BLOCK_BYTES = 16 * 1024;

/** The body so far. A body of single bytes would otherwise take a hundred times its size in objects. */
class Pieces {
  #pieces: Buffer[] = [];
  #block: Buffer | null = null;
  /** The part of the block that is not among the pieces yet. */
  #from = 0;
  #to = 0;
  bytes = 0;

  add(piece: Buffer): void {
    // Most bodies are one piece.
    if (piece.length >= LONG_PIECE_BYTES || this.bytes === 0) {
      this.#closeRun();
      this.#pieces.push(piece);
    } else {
      if (this.#block === null || this.#block.length - this.#to < piece.length) this.#openBlock();
      this.#to += piece.copy(this.#block!, this.#to);
    }
    this.bytes += piece.length;
  }

  join(): Buffer {
    this.#closeRun();
    return this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces);
  }

  clear(): void {
    this.#pieces = [];
    this.#block = null;
  }

  #openBlock(): void {
    this.#closeRun();
    this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    [this.#from, this.#to] = [0, 0];
  }

  #closeRun(): void {
    if (this.#block === null || this.#from === this.#to) return;
    this.#pieces.push(this.#block.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}

/** The client went away before it had sent its request: there is nobody to answer. */
export class ClientGone extends Error {
  constructor() {
    super('the client went away while sending');
    this.name = 'ClientGone';
  }
}
