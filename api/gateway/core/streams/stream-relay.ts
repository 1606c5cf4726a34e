/**
 * Passing a streamed answer on, event by event, never buffering it, while watching what it costs. What an event says
 * and how it is shown is its dialect's; when it is sent, and how the stream ended, is decided here.
 *
 * Everything after the last content event is withheld until the end is recorded: how the answers ended, their usage and
 * the dialect's last word. Usage is always asked for upstream; a client that did not ask for it sees no trace of it.
 * The relay itself decides nothing about money: it reports how the stream ended.
 *
 * Events are many, so what handles one returns a promise only where something is to be waited for.
 */
import type { ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import type { Refusal } from '../../../../domain/errors.ts';
import type { PicoUsd } from '../../../../domain/money.ts';
import type { FinishOutcome } from '../../../../domain/requests/request.ts';
import type { FinishRecord } from '../../../../db/requests/requests.ts';
import type { AnswerStream, CutReason } from '../dialect.ts';
import type { Ending } from '../endings/ending.ts';
import { endOfAbort, FlowWatch } from '../endings/ends.ts';
import { failureContext, reportedOutputTokens, type HeldRequest } from '../held-request.ts';
import type { OutputMeter } from '../holds/output-meter.ts';
import {
  emptyAnswer,
  failureInAnswer,
  failureOfConnection,
  unfinishedAnswer,
  unreadableAnswer,
  type UpstreamFailure,
} from '../upstreams/upstream-failure.ts';
import type { AbortReason } from '../upstreams/upstream.ts';
import { SSE_HEARTBEAT, SseSplitter, type SseEvent } from './sse.ts';

const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  // Asks reverse proxies not to collect the stream.
  'x-accel-buffering': 'no',
};

/**
 * A client that has kept its stream waiting for more than this share of the model's time-out has caused the time-out.
 */
const STALL_SHARE_MAX = 0.1;

/** Once the usage is here, only the dialect's last word can follow. */
const AFTER_USAGE_MS = 1000;

/** How long an upstream may take to close its answer after its end before its connection is given up. */
const CLOSE_TIMEOUT_MS = 1000;

/** How the upstream's stream ended, before anything is rated. */
export interface StreamEnd extends Ending {
  /** What the client is told when the stream did not end well; null when it did, or was cut by us on purpose. */
  readonly refusal: Refusal | null;
}

export interface StreamRelayOptions {
  readonly held: HeldRequest;
  readonly stream: AnswerStream;
  readonly response: ServerResponse;
  readonly meter: OutputMeter;
  /** After so long without a byte for the client it is sent a comment: proxies cut connections that are silent. */
  readonly heartbeatMs: number;
  /** How long an upstream may stay open once every answer has ended: its usage may still come. */
  readonly endGraceMs: number;
}

export class StreamRelay {
  readonly #held: HeldRequest;
  readonly #stream: AnswerStream;
  readonly #response: ServerResponse;
  readonly #meter: OutputMeter;
  readonly #endGraceMs: number;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #withheld: Buffer[] = [];
  readonly #flow: FlowWatch;
  /** How long the client has kept us from reading on, in milliseconds. */
  #stalledMs = 0;
  #failure: UpstreamFailure | null = null;
  /** When the answer failed: `performance.now()`. */
  #failedAt: number | null = null;

  constructor({ held, stream, response, meter, heartbeatMs, endGraceMs }: StreamRelayOptions) {
    this.#held = held;
    this.#stream = stream;
    this.#response = response;
    this.#meter = meter;
    this.#endGraceMs = endGraceMs;
    this.#flow = new FlowWatch(held.model.requestTimeoutSeconds * 1000);
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
          const waiting = this.#take(event, signal);
          if (waiting !== null) await waiting;
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
  #next(chunks: AsyncIterator<Buffer>): Promise<Buffer | null> {
    const read = chunks.next().then(bytesOf);
    const graceMs = this.#graceMs;
    return graceMs === null ? read : withinGrace(read, graceMs);
  }

  /** How much longer the upstream is read that has nothing more to say to the client; null while it may have. */
  get #graceMs(): number | null {
    // What follows a failure was produced as well: its usage says how much.
    if (this.#failedAt !== null) return Math.max(0, this.#failedAt + this.#endGraceMs - performance.now());
    if (!this.#isComplete()) return null;
    // What comes after the last answer is its usage. Once that is here as well, nothing more is needed.
    return this.#stream.usage === null ? this.#endGraceMs : Math.min(this.#endGraceMs, AFTER_USAGE_MS);
  }

  #end(signal: AbortSignal): StreamEnd {
    const { usage } = this.#stream;
    const ending = { reportedUsage: usage, produced: this.#meter, work: 'shown' as const };
    if (this.#isComplete()) {
      const isEmpty = !this.#meter.sawContent && reportedOutputTokens(usage, this.#held) === 0;
      return { ...ending, outcome: isEmpty ? 'empty_completion' : 'completed', refusal: null };
    }
    if (signal.aborted) return { ...ending, ...this.#endOfAbort(signal.reason as AbortReason) };
    if (this.#failure !== null) return { ...ending, outcome: 'upstream_error', ...this.#failure };
    if (!this.#meter.sawContent) return { ...ending, outcome: 'empty_completion', ...emptyAnswer() };
    return { ...ending, outcome: 'upstream_error', ...unfinishedAnswer() };
  }

  #endOfAbort(reason: AbortReason): { outcome: FinishOutcome; refusal: Refusal | null } {
    if (reason !== 'timeout') return endOfAbort(reason);
    // A client that does not read is as good as gone: time runs out by its doing, so what it was sent is paid. A client that
    // read slowly and hurries at the end has used up the time just the same.
    if (this.#response.writableNeedDrain || this.#stalledMs > this.#stallMaxMs) {
      this.#response.destroy();
      return endOfAbort('client_left');
    }
    return this.#flow.isFlowing ? { outcome: 'cut_by_time', refusal: null } : endOfAbort('timeout');
  }

  /** The upstream has said all it had to say, and has not failed before. */
  #isComplete(): boolean {
    return this.#failure === null && this.#stream.isComplete;
  }

  /** Nothing more is to be read: the upstream has ended, or we have ended the request. */
  #isOver(signal: AbortSignal): boolean {
    return this.#stream.isOver || signal.aborted;
  }

  /** Handles an event; what to wait for before the next one, null where there is nothing. */
  #take(event: SseEvent, signal: AbortSignal): Promise<void> | null {
    const step = this.#stream.read(event);
    // What follows a failure is counted and not shown.
    if (this.#failure !== null) return null;
    switch (step) {
      case 'aside':
        return null;
      case 'comment':
        return this.#send(event.raw, false, signal);
      case 'failure':
        this.#fail(failureInAnswer(this.#stream.failure, failureContext(this.#held)));
        return null;
      case 'unreadable':
        this.#fail(unreadableAnswer());
        return null;
      case 'content':
        this.#flow.noteContent();
        this.#held.firstTokenAt ??= performance.now();
        return this.#show(true, signal);
      case 'frame':
        return this.#show(false, signal);
    }
  }

  /** Ends the answer as failed, unless it has been given whole: what follows it then takes nothing from it. */
  #fail(failure: UpstreamFailure): void {
    if (this.#isComplete() || this.#failure !== null) return;
    this.#failure = failure;
    this.#failedAt = performance.now();
  }

  #show(hasContent: boolean, signal: AbortSignal): Promise<void> | null {
    if (this.#meter.isBehind) return this.#showPaid(hasContent, signal);
    return this.#send(this.#stream.render(), hasContent, signal);
  }

  async #showPaid(hasContent: boolean, signal: AbortSignal): Promise<void> {
    await this.#meter.catchUp();
    await this.#send(this.#stream.render(), hasContent, signal);
  }

  /**
   * Writes at once, or withholds what follows the end of an answer until more content proves that it was not the end.
   */
  #send(bytes: Buffer, hasContent: boolean, signal: AbortSignal): Promise<void> | null {
    if (!hasContent && this.#stream.hasEnded) {
      this.#withheld.push(bytes);
      return null;
    }
    if (this.#withheld.length === 0) return this.#write(bytes, signal);
    return this.#write(Buffer.concat([...this.#withheld.splice(0), bytes]), signal);
  }

  #write(bytes: Buffer, signal: AbortSignal): Promise<void> | null {
    const response = this.#response;
    if (response.destroyed) return null; // The client left: the upstream is drained for its usage.
    if (!response.headersSent) response.writeHead(200, STREAM_HEADERS);
    this.#heartbeat.refresh();
    return response.write(bytes) ? null : this.#untilRead(signal);
  }

  async #untilRead(signal: AbortSignal): Promise<void> {
    const since = performance.now();
    await untilWritable(this.#response, signal);
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
    return this.#held.model.requestTimeoutSeconds * 1000 * STALL_SHARE_MAX;
  }

  /**
   * Sends the end of an answer that ended well, now that it is recorded. `cutBy` says what cut it; null when nothing
   * did.
   */
  finish({ usage, estimated }: FinishRecord, cost: PicoUsd, cutBy: CutReason | null): void {
    this.close();
    const response = this.#response;
    if (response.destroyed) return;
    const used = { usage, estimated, reported: this.#stream.usage, cost };
    const rest = Buffer.concat([...this.#withheld, ...this.#stream.end(cutBy, used)]);
    if (!response.headersSent) response.writeHead(200, STREAM_HEADERS);
    response.end(rest);
  }

  /** Sends an error inside a stream that has begun; SDKs raise it. */
  fail(refusal: Refusal): void {
    this.close();
    const response = this.#response;
    if (response.destroyed) return;
    response.end(this.#stream.fail(refusal));
  }

  /** Ends the heartbeat; repeatable. */
  close(): void {
    clearInterval(this.#heartbeat);
  }
}

function bytesOf(result: IteratorResult<Buffer>): Buffer | null {
  return result.done === true ? null : result.value;
}

/**
 * What is read within the grace; null when that ends first. A plain timer: every stream comes here, and an aborted one
 * is dear.
 */
async function withinGrace(read: Promise<Buffer | null>, graceMs: number): Promise<Buffer | null> {
  const grace = Promise.withResolvers<null>();
  const timer = setTimeout(() => grace.resolve(null), graceMs);
  try {
    return await Promise.race([read, grace.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Resolves when the client has read on or has left, or `signal` aborts: a client that never reads must not hold us up.
 */
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
