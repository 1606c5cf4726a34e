/**
 * Calling the model provider. One keep-alive pool for all upstreams; the request id goes along as `x-request-id`, so that
 * every party's evidence has the same key. Tries the next upstream only while nothing has been sent: a call that may have
 * reached a provider is never repeated, because it may have been billed there.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Agent, request as httpRequest, type Dispatcher } from 'undici';
import { Refusal } from '../../domain/errors.ts';
import type { RequestId } from '../../domain/ids.ts';
import type { Model, Upstream } from '../../db/catalogue.ts';
import type { Environment } from '../../runtime/environment.ts';
import { lookUpUsage, type Evidence } from '../../runtime/usage-lookup.ts';

const CONNECT_TIMEOUT_MS = 5000;
/** An upstream notices that it was cut within some milliseconds. */
const LOOKUP_FIRST_PAUSE_MS = 50;
const ERROR_BODY_MAX_BYTES = 64 * 1024;
const ERROR_MESSAGE_MAX_CHARACTERS = 500;

/** Connecting failed, so the provider has seen nothing. */
const NOT_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Why we ended a call ourselves. */
export type AbortReason = 'timeout' | 'client_left' | 'cut_by_limit' | 'shutdown';

export class UpstreamCaller {
  readonly #agent = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    // Streams are bounded by the model's own time-out, which the caller enforces with its signal.
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: 30_000,
    pipelining: 1,
  });
  readonly #environment: Environment;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Posts to the first upstream that can be reached. Throws what undici throws, or the signal's reason. */
  async post(
    model: Model,
    call: { path: string; requestId: RequestId; body: (upstream: Upstream) => string; signal: AbortSignal },
  ): Promise<Dispatcher.ResponseData> {
    for (const [index, upstream] of model.upstreams.entries()) {
      try {
        return await httpRequest(upstream.base_url + call.path, {
          method: 'POST',
          dispatcher: this.#agent,
          headers: {
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            'x-request-id': call.requestId,
            ...this.#authorization(upstream),
          },
          body: call.body(upstream),
          signal: call.signal,
        });
      } catch (error) {
        const isLast = index === model.upstreams.length - 1;
        if (isLast || !wasNotSent(error)) throw error;
      }
    }
    throw new Refusal('upstream_failed', { message: 'The model has no upstream.' });
  }

  /**
   * Asks the model's upstreams what a request consumed, until one says or the time is over. The request was sent to one of them
   * only; which one does not matter to the others.
   */
  async lookUp(model: Model, requestId: RequestId, timeoutMs: number): Promise<Evidence> {
    const upstream = model.upstreams.find(({ lookup }) => lookup !== null);
    if (upstream === undefined) return { kind: 'no-lookup' };
    const lookup = { url: upstream.lookup, apiKey: this.#keyOf(upstream) };
    const deadline = performance.now() + timeoutMs;
    for (let pause = LOOKUP_FIRST_PAUSE_MS; ; pause *= 2) {
      const evidence = await lookUpUsage(lookup, requestId, Math.max(1, deadline - performance.now()));
      const isFinal = evidence.kind !== 'pending' && evidence.kind !== 'unknown';
      if (isFinal || performance.now() + pause >= deadline) return evidence;
      await delay(pause);
    }
  }

  #keyOf({ api_key_env }: Upstream): string | undefined {
    return api_key_env === null ? undefined : this.#environment[api_key_env];
  }

  #authorization(upstream: Upstream): Record<string, string> {
    if (upstream.api_key_env === null) return {};
    return { authorization: `Bearer ${this.#environment[upstream.api_key_env] ?? ''}` };
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

/** True when a call has failed before any of it can have reached the provider. */
export function wasNotSent(error: unknown): boolean {
  return NOT_SENT.has((error as NodeJS.ErrnoException).code ?? '');
}

/** What the client is told when an upstream answers with an error status (table in docs/api.md). */
export async function refusalOfResponse(response: Dispatcher.ResponseData): Promise<Refusal> {
  const { statusCode, headers, body } = response;
  const text = await readLimited(body, ERROR_BODY_MAX_BYTES);
  if ([400, 404, 413, 415, 422].includes(statusCode)) {
    return new Refusal('upstream_rejected', {
      status: statusCode,
      message: messageOf(text) ?? `The model provider answered ${statusCode}.`,
    });
  }
  if (statusCode === 429) {
    const retryAfter = Number(headers['retry-after']);
    return new Refusal(
      'upstream_rate_limited',
      Number.isFinite(retryAfter) && retryAfter > 0 ? { retryAfterSeconds: Math.ceil(retryAfter) } : {},
    );
  }
  return new Refusal('upstream_failed');
}

/** What the client is told when a call failed without an answer. */
export function refusalOfFailure(signal: AbortSignal): Refusal {
  return new Refusal(signal.aborted && signal.reason === 'timeout' ? 'upstream_timeout' : 'upstream_failed');
}

async function readLimited(body: Dispatcher.ResponseData['body'], limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > limit) break;
    }
  } catch {
    // A broken error body changes nothing about the error.
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The provider's own words about what is wrong with the request; never for errors that are about our account there. */
function messageOf(text: string): string | null {
  try {
    const body = JSON.parse(text) as { error?: { message?: unknown } | string; message?: unknown };
    const message = typeof body.error === 'object' ? body.error.message : (body.error ?? body.message);
    return typeof message === 'string' && message !== '' ? message.slice(0, ERROR_MESSAGE_MAX_CHARACTERS) : null;
  } catch {
    return null;
  }
}
