/**
 * Counting tokens here, for the rows that the upstream left without usable usage (marked `estimated`) and for cutting a
 * stream at the money's end. The count is that of OpenAI's current encoding (o200k), exact but for runs of hundreds of
 * characters without any break (token-slices.ts).
 *
 * Prompts and answers are written by others and can be made to take long, so they are counted in a thread of its own,
 * started when it is first needed, and never keep the process from its other work. Counting never fails: what the
 * thread cannot answer, because too much is waiting or it has died twice, is taken for one token a byte. That is never
 * below the real count, and it is what text was held for.
 */
import { Worker } from 'node:worker_threads';
import { sizeOf, type CountAnswer, type CountedBody, type CountOrder } from './token-order.ts';

export interface TokenCounterOptions {
  /** The program of the thread: it calls `countInThread`. */
  readonly program: URL;
  /** Characters and bytes that may wait together; what would be more is not counted. */
  readonly waitingMax: number;
  /** How long a count may take, in milliseconds, waiting included, where its caller does not say. */
  readonly answerMs: number;
  /** Memory of the thread in MB. Its tables take 80, a body of 10 MB of tiny values some hundreds when it is read. */
  readonly memoryMb: number;
}

interface Waiting {
  readonly content: CountOrder['content'];
  readonly most: number;
  readonly resolve: (tokens: number) => void;
  readonly timer: NodeJS.Timeout;
  isRepeated: boolean;
}

export class TokenCounter {
  readonly #options: TokenCounterOptions;
  readonly #waiting = new Map<number, Waiting>();
  #thread: Worker | null = null;
  #nextId = 0;
  #waitingSize = 0;
  #isStopping = false;

  constructor(options: TokenCounterOptions) {
    this.#options = options;
  }

  /**
   * Tokens of a text; `most` where there are more, and an upper bound where they cannot be counted, or not in
   * `withinMs`. Never fails.
   */
  count(text: string, most = Infinity, withinMs?: number): Promise<number> {
    return this.#count(text, most, withinMs);
  }

  /**
   * Input tokens of a request by its body, the JSON as it arrived: every string that may reach the model, and what the
   * formats of its dialect put around them. Images, audio and files are not counted; the caller adds what they were
   * held for. Never above `most` (the model's context) nor above the number of bytes, and never fails.
   */
  async countBody(content: CountedBody, most: number, withinMs?: number): Promise<number> {
    return Math.min(await this.#count(content, most, withinMs), content.body.length);
  }

  #count(content: CountOrder['content'], most: number, withinMs = this.#options.answerMs): Promise<number> {
    const size = sizeOf(content);
    if (size === 0) return Promise.resolve(0);
    if (this.#waitingSize + size > this.#options.waitingMax) return Promise.resolve(boundOf(content, most));
    const { promise, resolve } = Promise.withResolvers<number>();
    const id = this.#nextId;
    this.#nextId += 1;
    const timer = setTimeout(() => this.#end(id, null), withinMs);
    this.#waiting.set(id, { content, most, resolve, timer, isRepeated: false });
    this.#waitingSize += size;
    this.#send(id, content, most);
    return promise;
  }

  /** Ends the thread as soon as nothing is being counted; a count that is asked for later starts another one. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#waiting.size === 0) await this.#endThread();
  }

  #send(id: number, content: CountOrder['content'], most: number): void {
    this.#isStopping = false;
    const order: CountOrder = { id, content, most };
    try {
      this.#thread ??= this.#start();
      // Only a thread that owes an answer keeps the process running.
      this.#thread.ref();
      this.#thread.postMessage(order);
    } catch {
      // The system has no room for a thread, or for a copy of the text.
      this.#end(id, null);
    }
  }

  #start(): Worker {
    const thread = new Worker(this.#options.program, {
      resourceLimits: { maxOldGenerationSizeMb: this.#options.memoryMb },
    });
    thread.on('message', ({ id, tokens }: CountAnswer) => this.#end(id, tokens));
    // An error is followed by the exit, which is where it is dealt with.
    thread.on('error', () => undefined);
    thread.on('exit', () => this.#onExit(thread));
    return thread;
  }

  /** A thread that died is replaced once for what it owed; what kills the second one as well is not counted. */
  #onExit(thread: Worker): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    for (const [id, waiting] of [...this.#waiting]) {
      if (waiting.isRepeated) {
        this.#end(id, null);
      } else {
        waiting.isRepeated = true;
        this.#send(id, waiting.content, waiting.most);
      }
    }
  }

  /** Answers an order; null where it could not be counted. */
  #end(id: number, tokens: number | null): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    clearTimeout(waiting.timer);
    this.#waiting.delete(id);
    this.#waitingSize -= sizeOf(waiting.content);
    waiting.resolve(tokens ?? boundOf(waiting.content, waiting.most));
    if (this.#waiting.size > 0) return;
    this.#thread?.unref();
    if (this.#isStopping) void this.#endThread();
  }

  async #endThread(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    await thread?.terminate();
  }
}

/** A token is at least one byte. */
function boundOf(content: CountOrder['content'], most: number): number {
  return Math.min(typeof content === 'string' ? Buffer.byteLength(content) : content.body.length, most);
}

/** Some of the largest bodies and answers at once; all that is open needs less, unless it is meant to be too much. */
const WAITING_MAX = 128 * 1024 * 1024;
/** The end of an answer waits for this; the largest context takes a few seconds of its own. */
const ANSWER_MS = 20_000;
const THREAD_MEMORY_MB = 768;

/**
 * The counter of a gateway. One thread serves the process: its tables are large, and nothing of a count outlives its
 * answer.
 */
export function createTokenCounter(program: URL): TokenCounter {
  return new TokenCounter({ program, waitingMax: WAITING_MAX, answerMs: ANSWER_MS, memoryMb: THREAD_MEMORY_MB });
}
