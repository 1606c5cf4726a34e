/**
 * A chat completion as its client sees it, on a connection of its own: what arrived so far, how it ended, and the
 * possibility to leave in the middle. It interprets nothing that a client would not; never throws for a bad answer.
 */
import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import type { Steering } from '../../twins/upstream/twin.ts';
import { until } from '../support/until.ts';

export interface ChatOptions {
  readonly model?: string;
  readonly stream?: boolean;
  readonly maxTokens?: number;
  /** How the upstream twin answers: its tokens and their pace. */
  readonly twin?: Partial<Steering>;
}

/** The facts a client has once its answer has ended, well or not. */
export interface ChatEnd {
  /** Null when the connection ended before a status line. */
  readonly status: number | null;
  readonly requestId: string | null;
  readonly retryAfter: string | null;
  readonly content: string;
  /** A stream closed by `[DONE]`, or a whole body with a finish reason. */
  readonly isWhole: boolean;
  readonly usage: Readonly<Record<string, unknown>> | null;
  /** The code of the error in the body or in the stream. */
  readonly errorCode: string | null;
  readonly tookMs: number;
}

interface Part {
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string } | null;
    readonly message?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: Record<string, unknown> | null;
  readonly error?: { readonly code?: string };
}

const CONTENT_TIMEOUT_MS = 15_000;

export class Chat {
  readonly ended: Promise<ChatEnd>;
  readonly #request: ClientRequest;
  readonly #beganAt = performance.now();
  #response: IncomingMessage | null = null;
  #body = '';

  constructor(to: { baseUrl: string; secret: string }, options: ChatOptions = {}) {
    const { model = 'test/small', stream = true, maxTokens, twin } = options;
    const body = JSON.stringify({
      model,
      messages: [{ role: 'user', content: 'Say something.' }],
      ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
      ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }),
      ...(twin === undefined ? {} : { metadata: { twin: JSON.stringify(twin) } }),
    });
    this.#request = httpRequest(`${to.baseUrl}/v1/chat/completions`, {
      method: 'POST',
      agent: false,
      headers: { authorization: `Bearer ${to.secret}`, 'content-type': 'application/json' },
    });
    this.ended = this.#read(stream);
    this.#request.end(body);
  }

  /** The request's id, once its answer has begun. */
  get requestId(): string {
    const id = this.#response?.headers['x-request-id'];
    if (typeof id !== 'string') throw new Error('the answer has not begun');
    return id;
  }

  /** Resolves once the first content of a stream has arrived; fails when the answer ends without any. */
  async untilContent(): Promise<void> {
    let ended: ChatEnd | null = null;
    void this.ended.then((end) => (ended = end));
    await until(
      'content of a stream',
      () => {
        if (contentOf(partsOf(this.#body, true)) !== '') return true;
        if (ended !== null) throw new Error(`the answer ended without content: ${JSON.stringify(ended)}`);
        return false;
      },
      CONTENT_TIMEOUT_MS,
    );
  }

  /** Goes away at once, as a client that crashed. */
  leave(): void {
    this.#request.destroy();
  }

  async #read(stream: boolean): Promise<ChatEnd> {
    const isComplete = await new Promise<boolean>((resolve) => {
      this.#request.once('error', () => resolve(false));
      this.#request.once('response', (response) => {
        this.#response = response;
        response.setEncoding('utf8');
        response.on('data', (text: string) => (this.#body += text));
        response.once('error', () => resolve(false));
        response.once('close', () => resolve(response.complete));
      });
    });
    const parts = partsOf(
      this.#body,
      this.#response?.headers['content-type']?.startsWith('text/event-stream') === true,
    );
    const hasFinished = parts.some((part) => part.choices?.some((choice) => typeof choice.finish_reason === 'string'));
    return {
      status: this.#response?.statusCode ?? null,
      requestId: headerOf(this.#response, 'x-request-id'),
      retryAfter: headerOf(this.#response, 'retry-after'),
      content: contentOf(parts),
      isWhole: isComplete && hasFinished && (!stream || this.#body.trimEnd().endsWith('data: [DONE]')),
      usage: parts.findLast((part) => part.usage !== undefined && part.usage !== null)?.usage ?? null,
      errorCode: parts.find((part) => part.error !== undefined)?.error?.code ?? null,
      tookMs: performance.now() - this.#beganAt,
    };
  }
}

function headerOf(response: IncomingMessage | null, name: string): string | null {
  const value = response?.headers[name];
  return typeof value === 'string' ? value : null;
}

/** The complete JSON documents of a body: every event of a stream, or the one of a whole answer. */
function partsOf(body: string, isStream: boolean): Part[] {
  const texts = isStream
    ? body
        .split('\n\n')
        .slice(0, -1)
        .filter((event) => event.startsWith('data: {'))
        .map((event) => event.slice('data: '.length))
    : [body];
  return texts.flatMap((text) => {
    try {
      return [JSON.parse(text) as Part];
    } catch {
      return [];
    }
  });
}

function contentOf(parts: readonly Part[]): string {
  return parts
    .flatMap((part) => part.choices ?? [])
    .map((choice) => choice.delta?.content ?? choice.message?.content ?? '')
    .join('');
}
