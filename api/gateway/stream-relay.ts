/**
 * Passing a streamed answer on, event by event, never buffering it, while watching what it costs.
 *
 * Everything after the last content event is withheld until the end is recorded: the finish reason, the usage chunk and
 * `[DONE]`. Usage is always asked for upstream; a client that did not ask for it sees no trace of it. The relay itself
 * decides nothing about money: it reports how the stream ended.
 */
import type { ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import { openAiErrorBody, Refusal } from '../../domain/errors.ts';
import type { FinishOutcome } from '../../domain/request.ts';
import type { PicoUsd } from '../../domain/money.ts';
import type { FinishRecord } from '../../db/requests.ts';
import { clientUsage, type Ending, type Exchange } from './exchange.ts';
import type { OutputMeter } from './output-meter.ts';
import { sseData, SseSplitter, type SseEvent } from './sse.ts';
import { refusalOfFailure, type AbortReason } from './upstream.ts';

interface ChunkChoice {
  index?: unknown;
  delta?: Record<string, unknown> | null;
  finish_reason?: unknown;
}

interface Chunk {
  id?: unknown;
  created?: unknown;
  model?: unknown;
  choices?: ChunkChoice[];
  usage?: unknown;
  error?: unknown;
}

const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  // Asks reverse proxies not to collect the stream.
  'x-accel-buffering': 'no',
};

/** A client that has kept its stream waiting for more than this share of the model's time-out has caused the time-out. */
const STALL_SHARE_MAX = 0.1;

/** How the upstream's stream ended, before anything is rated. */
export interface StreamEnd extends Ending {
  /** What the client is told when the stream did not end well; null when it did, or was cut by us on purpose. */
  readonly refusal: Refusal | null;
}

export class StreamRelay {
  readonly #exchange: Exchange;
  readonly #response: ServerResponse;
  readonly #meter: OutputMeter;
  readonly #withheld: Buffer[] = [];
  readonly #finishedChoices = new Set<unknown>();
  readonly #openChoices = new Set<unknown>();
  #template: Pick<Chunk, 'id' | 'created'> = {};
  #usage: unknown = undefined;
  #sawDone = false;
  /** How long the client has kept us from reading on, in milliseconds. */
  #stalledMs = 0;
  #failure: Refusal | null = null;

  constructor(options: { exchange: Exchange; response: ServerResponse; meter: OutputMeter }) {
    this.#exchange = options.exchange;
    this.#response = options.response;
    this.#meter = options.meter;
  }

  /** Relays until the upstream ends or `signal` aborts. Never throws for what an upstream can do. */
  async relay(body: Dispatcher.ResponseData['body'], signal: AbortSignal): Promise<StreamEnd> {
    const splitter = new SseSplitter();
    const chunks = (body as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    try {
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
        for (const event of splitter.push(next.value)) {
          // One read can hold many events: what follows the end must reach neither the client nor the bill.
          if (this.#isOver(signal)) break;
          await this.#take(event, signal);
        }
        if (this.#isOver(signal)) break;
      }
      const rest = splitter.end();
      if (rest !== null && !this.#isOver(signal)) await this.#take(rest, signal);
    } catch {
      // A broken connection, an event beyond all bounds, or our own abort: told apart by the signal below.
      if (!this.#isComplete()) this.#failure ??= refusalOfFailure(signal);
    }
    void dismiss(body, chunks);
    return this.#end(signal);
  }

  #end(signal: AbortSignal): StreamEnd {
    const ending = { reportedUsage: this.#usage, producedText: this.#meter.text };
    if (this.#isComplete()) {
      const isEmpty = !this.#meter.sawContent && completionTokens(this.#usage) === 0;
      return { ...ending, outcome: isEmpty ? 'empty_completion' : 'completed', refusal: null };
    }
    if (signal.aborted) {
      // A client that does not read is as good as gone: time runs out by its doing, so what it was sent is paid. One that
      // read slowly and hurries at the end has used up the time just the same.
      const isStalled =
        signal.reason === 'timeout' && (this.#response.writableNeedDrain || this.#stalledMs > this.#stallMaxMs);
      if (isStalled) this.#response.destroy();
      return { ...ending, ...endOfAbort(isStalled ? 'client_left' : (signal.reason as AbortReason)) };
    }
    if (this.#failure === null && !this.#meter.sawContent) {
      return {
        ...ending,
        outcome: 'empty_completion',
        refusal: new Refusal('upstream_failed', {
          message: 'The model provider ended without an answer. You were not charged.',
        }),
      };
    }
    return { ...ending, outcome: 'upstream_error', refusal: this.#failure ?? new Refusal('upstream_failed') };
  }

  /** `[DONE]`, or a finish reason for every answer asked for: the upstream has said all it had to say. */
  #isComplete(): boolean {
    return this.#failure === null && (this.#sawDone || this.#finishedChoices.size >= this.#exchange.request.choices);
  }

  /** Nothing more is to be read: the upstream has ended or failed, or we have ended the request. */
  #isOver(signal: AbortSignal): boolean {
    return this.#sawDone || this.#failure !== null || signal.aborted;
  }

  async #take(event: SseEvent, signal: AbortSignal): Promise<void> {
    if (event.data === null && !event.isForeign) return this.#send(event.raw, false, signal);
    if (event.data === '[DONE]') {
      this.#sawDone = true;
      return;
    }
    const chunk = event.data === null ? null : parseChunk(event.data);
    if (chunk === null) {
      this.#failure = new Refusal('upstream_failed', {
        message: 'The model provider sent an unreadable answer. You were not charged.',
      });
      return;
    }
    const isFailed = chunk.choices?.some((choice) => choice.finish_reason === 'error') ?? false;
    if (isFailed || (chunk.error !== undefined && chunk.error !== null)) {
      this.#failure = new Refusal('upstream_failed', {
        message: 'The model provider failed while answering. You were not charged.',
      });
      return;
    }
    if (chunk.usage !== undefined && chunk.usage !== null) this.#usage = chunk.usage;
    const choices = chunk.choices ?? [];
    // A chunk without choices carries usage or vendor extras; the usage chunk of our own comes at the end.
    if (choices.length === 0) return;
    this.#template = { id: chunk.id, created: chunk.created };
    const hasContent = this.#meter.add(choices.map((choice) => choice.delta ?? null));
    if (hasContent) this.#exchange.firstTokenAt ??= performance.now();
    if (this.#meter.isBehind) await this.#meter.catchUp();
    for (const choice of choices) {
      this.#openChoices.add(choice.index);
      if (typeof choice.finish_reason === 'string') this.#finishedChoices.add(choice.index);
    }
    await this.#send(this.#render(chunk), hasContent, signal);
  }

  #render(chunk: Chunk): Buffer {
    const shown: Chunk = { ...chunk, model: this.#exchange.model.id };
    if (this.#exchange.request.wantsUsage) shown.usage = null;
    else delete shown.usage;
    return sseData(JSON.stringify(shown));
  }

  /** Writes at once, or withholds what follows a finish reason until more content proves that it was not the end. */
  async #send(bytes: Buffer, hasContent: boolean, signal: AbortSignal): Promise<void> {
    if (!hasContent && this.#finishedChoices.size > 0) {
      this.#withheld.push(bytes);
      return;
    }
    if (this.#withheld.length > 0) await this.#write(Buffer.concat(this.#withheld.splice(0)), signal);
    await this.#write(bytes, signal);
  }

  async #write(bytes: Buffer, signal: AbortSignal): Promise<void> {
    const response = this.#response;
    if (response.destroyed) return; // The client left: the upstream is drained for its usage.
    if (!response.headersSent) response.writeHead(200, STREAM_HEADERS);
    if (response.write(bytes)) return;
    const since = performance.now();
    await untilWritable(response, signal);
    this.#stalledMs += performance.now() - since;
  }

  get #stallMaxMs(): number {
    return this.#exchange.model.requestTimeoutSeconds * 1000 * STALL_SHARE_MAX;
  }

  /** Sends the end of an answer that ended well, now that it is recorded. */
  finish(outcome: FinishOutcome, record: FinishRecord, cost: PicoUsd, cutReason: string | null): void {
    const response = this.#response;
    if (response.destroyed) return;
    const parts = [...this.#withheld];
    if (outcome === 'cut_by_limit') {
      for (const index of this.#openChoices) {
        if (this.#finishedChoices.has(index)) continue;
        parts.push(
          this.#closing({
            choices: [{ index, delta: {}, finish_reason: 'length' }],
            holdfast: { ended_by: cutReason },
          }),
        );
      }
    }
    if (this.#exchange.request.wantsUsage) {
      parts.push(this.#closing({ choices: [], usage: clientUsage(this.#usage, record, cost) }));
    }
    parts.push(sseData('[DONE]'));
    if (!response.headersSent) response.writeHead(200, STREAM_HEADERS);
    response.end(Buffer.concat(parts));
  }

  #closing(fields: Record<string, unknown>): Buffer {
    return sseData(
      JSON.stringify({ ...this.#template, object: 'chat.completion.chunk', model: this.#exchange.model.id, ...fields }),
    );
  }

  /** Sends an error inside a stream that has begun; SDKs raise it. */
  fail(refusal: Refusal): void {
    const response = this.#response;
    if (response.destroyed) return;
    response.end(sseData(JSON.stringify(openAiErrorBody(refusal))));
  }
}

/** Resolves when the client has read on or has left, or `signal` aborts: a client that never reads must not hold us up. */
function untilWritable(response: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      response.off('drain', settle);
      response.off('close', settle);
      signal.removeEventListener('abort', settle);
      resolve();
    };
    response.on('drain', settle);
    response.on('close', settle);
    signal.addEventListener('abort', settle);
    if (signal.aborted || response.destroyed) settle();
  });
}

/** What our own abort means for the request, and what its client is told. */
export function endOfAbort(reason: AbortReason): { outcome: FinishOutcome; refusal: Refusal | null } {
  switch (reason) {
    case 'timeout':
      return { outcome: 'upstream_timeout', refusal: new Refusal('upstream_timeout') };
    case 'client_left':
      return { outcome: 'client_disconnected', refusal: null };
    case 'cut_by_limit':
      return { outcome: 'cut_by_limit', refusal: null };
    case 'shutdown':
      return {
        outcome: 'orphaned',
        refusal: new Refusal('upstream_failed', {
          message: 'The gateway is shutting down. You were not charged. Please retry.',
        }),
      };
  }
}

/** How long an upstream may take to close its answer after `[DONE]` before its connection is given up. */
const CLOSE_PATIENCE_MS = 1000;

/** Reads what is left of an answer, so that its connection can be used again; destroys one that does not end. */
async function dismiss(body: Dispatcher.ResponseData['body'], chunks: AsyncIterator<Buffer>): Promise<void> {
  const timer = setTimeout(() => body.destroy(), CLOSE_PATIENCE_MS);
  try {
    while ((await chunks.next()).done !== true);
  } catch {
    // Broken or aborted: there is nothing to use again.
  } finally {
    clearTimeout(timer);
  }
}

function parseChunk(data: string): Chunk | null {
  try {
    const chunk: unknown = JSON.parse(data);
    if (typeof chunk !== 'object' || chunk === null || Array.isArray(chunk)) return null;
    const { choices } = chunk as Chunk;
    if (
      choices !== undefined &&
      choices !== null &&
      !(Array.isArray(choices) && choices.every((choice) => typeof choice === 'object' && choice !== null))
    )
      return null;
    return chunk;
  } catch {
    return null;
  }
}

/** Output tokens as reported; 0 when nothing usable was. */
export function completionTokens(usage: unknown): number {
  const tokens = (usage as { completion_tokens?: unknown } | null | undefined)?.completion_tokens;
  return typeof tokens === 'number' && tokens > 0 ? tokens : 0;
}
