/**
 * Passing a streamed answer on, event by event, never buffering it, while watching what it costs.
 *
 * Everything after the last content event is withheld until the end is recorded: the finish reason, the usage chunk and
 * `[DONE]`. Usage is always asked for upstream; a client that did not ask for it sees no trace of it. The relay itself
 * decides nothing about money: it reports how the stream ended.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import { openAiErrorBody, type Refusal } from '../../../../domain/errors.ts';
import type { FinishOutcome } from '../../../../domain/requests/request.ts';
import type { PicoUsd } from '../../../../domain/money.ts';
import { answerWithoutPurchasePrice } from '../../../../domain/requests/purchase-price.ts';
import { mergeReportedUsage, type ReportedUsage } from '../../../../domain/usage/reported-usage.ts';
import type { FinishRecord } from '../../../../db/requests/requests.ts';
import { isObject, readStreamEvent, type Chunk, type ChunkChoice } from '../../dialects/openai-chat/chunk.ts';
import { ChoiceEnds } from '../../dialects/openai-chat/choice-ends.ts';
import { endOfAbort, FlowWatch } from '../endings/ends.ts';
import type { Ending } from '../endings/ending.ts';
import { clientUsage, failureContext, reportedOutputTokens, type Exchange } from '../held-request.ts';
import type { OutputMeter } from '../holds/output-meter.ts';
import { outputOfChoice } from '../../dialects/openai-chat/produced-output.ts';
import { SSE_HEARTBEAT, sseData, SseSplitter, type SseEvent } from './sse.ts';
import {
  emptyAnswer,
  failureInAnswer,
  failureOfConnection,
  unfinishedAnswer,
  unreadableAnswer,
  type UpstreamFailure,
} from '../upstreams/upstream-failure.ts';
import type { AbortReason } from '../upstreams/upstream.ts';

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

export interface StreamRelayOptions {
  readonly exchange: Exchange;
  readonly response: ServerResponse;
  readonly meter: OutputMeter;
  /** After so long without a byte for the client it is sent a comment: proxies cut connections that are silent. */
  readonly heartbeatMs: number;
  /** How long an upstream may stay open once every answer has ended: its usage may still come. */
  readonly endGraceMs: number;
}

export class StreamRelay {
  readonly #exchange: Exchange;
  readonly #response: ServerResponse;
  readonly #meter: OutputMeter;
  readonly #endGraceMs: number;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #withheld: Buffer[] = [];
  readonly #ends = new ChoiceEnds();
  readonly #flow: FlowWatch;
  #template: Pick<Chunk, 'id' | 'created'> = {};
  #usage: ReportedUsage | null = null;
  #sawDone = false;
  /** How long the client has kept us from reading on, in milliseconds. */
  #stalledMs = 0;
  #failure: UpstreamFailure | null = null;
  /** When the answer failed: `performance.now()`. */
  #failedAt: number | null = null;

  constructor({ exchange, response, meter, heartbeatMs, endGraceMs }: StreamRelayOptions) {
    this.#exchange = exchange;
    this.#response = response;
    this.#meter = meter;
    this.#endGraceMs = endGraceMs;
    this.#flow = new FlowWatch(exchange.model.requestTimeoutSeconds * 1000);
    this.#heartbeat = setInterval(() => this.#keepAlive(), heartbeatMs);
  }

  /** Relays until the upstream ends or `signal` aborts. Never throws for what an upstream can do. */
  async relay(body: Dispatcher.ResponseData['body'], signal: AbortSignal): Promise<StreamEnd> {
    const splitter = new SseSplitter();
    const chunks = (body as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    try {
      for (let next = await this.#next(chunks); next !== null; next = await this.#next(chunks)) {
        for (const event of splitter.push(next)) {
          // One read can hold many events: what follows the end must reach neither the client nor the bill.
          if (this.#isOver(signal)) break;
          await this.#take(event, signal);
        }
        if (this.#isOver(signal)) break;
      }
      const rest = splitter.end();
      if (rest !== null && !this.#isOver(signal)) await this.#take(rest, signal);
    } catch (error) {
      // A broken connection, an event beyond all bounds, or our own abort: told apart by the signal below.
      this.#fail(failureOfConnection(error, { signal, kind: 'broken', status: 200 }));
    }
    if (this.#isComplete()) void dismiss(body, chunks);
    else body.destroy();
    return this.#end(signal);
  }

  /** The next bytes; null when the upstream has ended, or has said all or failed and does not close. */
  async #next(chunks: AsyncIterator<Buffer>): Promise<Buffer | null> {
    const read = chunks.next();
    const graceMs = this.#graceMs;
    if (graceMs === null) return bytesOf(await read);
    const settled = new AbortController();
    const grace = delay(graceMs, null, { signal: settled.signal });
    try {
      return await Promise.race([read.then(bytesOf), grace]);
    } finally {
      settled.abort();
      grace.catch(() => undefined);
      read.catch(() => undefined);
    }
  }

  /** How much longer the upstream is read that has nothing more to say to the client; null while it may have. */
  get #graceMs(): number | null {
    // What follows a failure was produced all the same: its usage says how much.
    if (this.#failedAt !== null) return Math.max(0, this.#failedAt + this.#endGraceMs - performance.now());
    if (!this.#isComplete()) return null;
    // What comes after the last answer is its usage. Once that is here as well, nothing more is needed.
    return this.#usage === null ? this.#endGraceMs : Math.min(this.#endGraceMs, AFTER_USAGE_MS);
  }

  #end(signal: AbortSignal): StreamEnd {
    const ending = { reportedUsage: this.#usage, produced: this.#meter, work: 'shown' as const };
    if (this.#isComplete()) {
      const { reasoningInOutput } = this.#exchange;
      const isEmpty = !this.#meter.sawContent && reportedOutputTokens(this.#usage, reasoningInOutput) === 0;
      return { ...ending, outcome: isEmpty ? 'empty_completion' : 'completed', refusal: null };
    }
    if (signal.aborted) return { ...ending, ...this.#endOfAbort(signal.reason as AbortReason) };
    if (this.#failure !== null) return { ...ending, outcome: 'upstream_error', ...this.#failure };
    if (!this.#meter.sawContent) return { ...ending, outcome: 'empty_completion', ...emptyAnswer() };
    return { ...ending, outcome: 'upstream_error', ...unfinishedAnswer() };
  }

  #endOfAbort(reason: AbortReason): { outcome: FinishOutcome; refusal: Refusal | null } {
    if (reason !== 'timeout') return endOfAbort(reason);
    // A client that does not read is as good as gone: time runs out by its doing, so what it was sent is paid. One that
    // read slowly and hurries at the end has used up the time just the same.
    if (this.#response.writableNeedDrain || this.#stalledMs > this.#stallMaxMs) {
      this.#response.destroy();
      return endOfAbort('client_left');
    }
    return this.#flow.isFlowing ? { outcome: 'cut_by_time', refusal: null } : endOfAbort('timeout');
  }

  /** `[DONE]`, or a finish reason for every answer asked for: the upstream has said all it had to say. */
  #isComplete(): boolean {
    return this.#failure === null && (this.#sawDone || this.#ends.count >= this.#exchange.request.choices);
  }

  /** Nothing more is to be read: the upstream has ended, or we have ended the request. */
  #isOver(signal: AbortSignal): boolean {
    return this.#sawDone || signal.aborted;
  }

  async #take(event: SseEvent, signal: AbortSignal): Promise<void> {
    const said = readStreamEvent(event);
    if (this.#failure !== null) {
      if (said.kind === 'chunk') this.#count(said.chunk);
      else if (said.kind === 'done') this.#sawDone = true;
      return;
    }
    switch (said.kind) {
      case 'nothing':
        if (event.data === null) await this.#send(event.raw, false, signal);
        return;
      case 'done':
        this.#sawDone = true;
        return;
      case 'error':
        return this.#fail(failureInAnswer(said.body, failureContext(this.#exchange)));
      case 'unreadable':
        return this.#fail(unreadableAnswer());
      case 'chunk':
        return this.#takeChunk(said.chunk, signal);
    }
  }

  /** Ends the answer as failed, unless it has been given whole: what follows it then takes nothing from it. */
  #fail(failure: UpstreamFailure): void {
    if (this.#isComplete() || this.#failure !== null) return;
    this.#failure = failure;
    this.#failedAt = performance.now();
  }

  /** Counts what a chunk carries and reports; true when it has content. */
  #count(chunk: Chunk): boolean {
    this.#usage = mergeReportedUsage(this.#usage, chunk);
    let hasContent = false;
    for (const choice of chunk.choices ?? []) {
      const output = outputOfChoice(choice);
      this.#meter.add(output);
      hasContent ||= output !== null;
      this.#ends.note(choice['index'], output !== null, choice['finish_reason']);
    }
    return hasContent;
  }

  async #takeChunk(chunk: Chunk, signal: AbortSignal): Promise<void> {
    const hasContent = this.#count(chunk);
    const choices = chunk.choices ?? [];
    // A chunk without choices carries usage or vendor extras; the usage chunk of our own comes at the end.
    if (choices.length === 0) return;
    this.#template = { id: chunk.id, created: chunk.created };
    if (hasContent) {
      this.#flow.noteContent();
      this.#exchange.firstTokenAt ??= performance.now();
    }
    if (this.#meter.isBehind) await this.#meter.catchUp();
    await this.#send(this.#render(chunk), hasContent, signal);
  }

  /** The chunk without the provider's usage, wherever it stands: ours comes at the end, where it was asked for. */
  #render(chunk: Chunk): Buffer {
    const priceless = answerWithoutPurchasePrice(chunk);
    const choices = (priceless['choices'] ?? []) as readonly ChunkChoice[];
    const shown: Record<string, unknown> = {
      ...priceless,
      model: this.#exchange.model.id,
      choices: choices.map((choice) => this.#renderChoice(choice)),
      usage: this.#exchange.request.wantsUsage ? null : undefined,
    };
    if (isObject(shown['x_groq'])) shown['x_groq'] = withoutUsage(shown['x_groq']);
    return sseData(JSON.stringify(shown));
  }

  /** A word that means nothing must not end the answer for the client either. */
  #renderChoice(choice: ChunkChoice): ChunkChoice {
    const reason = choice['finish_reason'];
    const isMeaningless = typeof reason === 'string' && this.#ends.isMeaningless(reason);
    return withoutUsage(isMeaningless ? { ...choice, finish_reason: null } : choice);
  }

  /** Writes at once, or withholds what follows a finish reason until more content proves that it was not the end. */
  async #send(bytes: Buffer, hasContent: boolean, signal: AbortSignal): Promise<void> {
    if (!hasContent && this.#ends.count > 0) {
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
    this.#heartbeat.refresh();
    if (response.write(bytes)) return;
    const since = performance.now();
    await untilWritable(response, signal);
    this.#stalledMs += performance.now() - since;
  }

  /** From here on an error can only be told inside the stream; a connection that a proxy has cut could tell nothing. */
  #keepAlive(): void {
    const response = this.#response;
    if (response.destroyed || response.writableEnded || response.writableNeedDrain) return;
    if (!response.headersSent) response.writeHead(200, STREAM_HEADERS);
    response.write(SSE_HEARTBEAT);
  }

  get #stallMaxMs(): number {
    return this.#exchange.model.requestTimeoutSeconds * 1000 * STALL_SHARE_MAX;
  }

  /** Sends the end of an answer that ended well, now that it is recorded. `endedBy` says what cut it; null when nothing did. */
  finish(record: FinishRecord, cost: PicoUsd, endedBy: string | null): void {
    this.close();
    const response = this.#response;
    if (response.destroyed) return;
    const parts = [...this.#withheld];
    if (endedBy !== null) {
      for (const index of this.#ends.open) {
        const choice = { index, delta: {}, finish_reason: 'length' };
        parts.push(this.#closing({ choices: [choice], holdfast: { ended_by: endedBy } }));
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
    this.close();
    const response = this.#response;
    if (response.destroyed) return;
    response.end(sseData(JSON.stringify(openAiErrorBody(refusal))));
  }

  /** Ends the heartbeat; repeatable. */
  close(): void {
    clearInterval(this.#heartbeat);
  }
}

/** As JSON shows it: `undefined` is not written, and unlike a deleted field costs the object none of its speed. */
function withoutUsage(value: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return value['usage'] === undefined ? value : { ...value, usage: undefined };
}

/** Once the usage is here, only `[DONE]` can follow. */
const AFTER_USAGE_MS = 1000;

function bytesOf(result: IteratorResult<Buffer>): Buffer | null {
  return result.done === true ? null : result.value;
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

/** How long an upstream may take to close its answer after its end before its connection is given up. */
const CLOSE_TIMEOUT_MS = 1000;

/** Reads what is left of an answer, so that its connection can be used again; destroys one that does not end. */
async function dismiss(body: Dispatcher.ResponseData['body'], chunks: AsyncIterator<Buffer>): Promise<void> {
  const timer = setTimeout(() => body.destroy(), CLOSE_TIMEOUT_MS);
  try {
    while ((await chunks.next()).done !== true);
  } catch {
    // Broken or aborted: there is nothing to use again.
  } finally {
    clearTimeout(timer);
  }
}
