/**
 * Requests written byte by byte on sockets of their own, for what no HTTP client would send: bodies that never come,
 * that come slowly or in odd pieces, and calls that follow each other without waiting.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { until } from './until.ts';

export interface RawAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A connection to the gateway. Never throws: the test asks for its result. */
export class RawConnection {
  readonly #socket: Socket;
  #received = '';
  #closed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => (this.#received += bytes.toString('latin1')));
    socket.on('close', () => (this.#closed = true));
  }

  static async open(baseUrl: string): Promise<RawConnection> {
    const { hostname, port } = new URL(baseUrl);
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    const connection = new RawConnection(socket);
    await once(socket, 'connect');
    return connection;
  }

  /** Writes at the reader's pace; resolves early when the connection ends. */
  async write(bytes: string | Uint8Array): Promise<void> {
    if (this.#closed || this.#socket.write(bytes)) return;
    const settled = new AbortController();
    const { signal } = settled;
    const drained = once(this.#socket, 'drain', { signal });
    const closed = once(this.#socket, 'close', { signal });
    // An error of the socket is followed by its close.
    await Promise.race([drained, closed]).catch(() => undefined);
    settled.abort();
    await Promise.allSettled([drained, closed]);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Everything that has come so far, answers without a body such as `100 Continue` included. */
  get received(): string {
    return this.#received;
  }

  /** The next whole answer with a `content-length`; interim answers are skipped. */
  answer(): Promise<RawAnswer> {
    return until('an answer', () => {
      const answer = this.#takeAnswer();
      if (answer === null && this.#closed) throw new Error(`the connection ended after "${this.#received}"`);
      return answer;
    });
  }

  #takeAnswer(): RawAnswer | null {
    this.#received = this.#received.replace(/^HTTP\/1\.1 1\d\d [^]*?\r\n\r\n/, '');
    const headEnd = this.#received.indexOf('\r\n\r\n');
    if (headEnd < 0) return null;
    const [statusLine = '', ...lines] = this.#received.slice(0, headEnd).split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    const length = Number(headers['content-length'] ?? 0);
    const body = this.#received.slice(headEnd + 4, headEnd + 4 + length);
    if (body.length < length) return null;
    this.#received = this.#received.slice(headEnd + 4 + length);
    return { status: Number(statusLine.split(' ')[1]), headers, body };
  }

  closed(): Promise<unknown> {
    return until('the connection to end', () => this.#closed);
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** The head of `POST /v1/chat/completions`; `framing` are its further header lines. */
export function chatHead(secret: string, ...framing: readonly string[]): string {
  const lines = [
    'POST /v1/chat/completions HTTP/1.1',
    'host: gateway',
    `authorization: Bearer ${secret}`,
    'content-type: application/json',
    ...framing,
  ];
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** Bytes as one chunk of a chunked body. */
export function chunkOf(bytes: string | Uint8Array): Buffer {
  const content = Buffer.from(bytes);
  return Buffer.concat([Buffer.from(`${content.length.toString(16)}\r\n`), content, Buffer.from('\r\n')]);
}

export const LAST_CHUNK = '0\r\n\r\n';
