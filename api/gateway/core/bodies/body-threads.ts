/**
 * Parses large and compressed bodies in threads of their own: what takes tens of milliseconds must not keep every
 * stream of this process waiting. A few threads, started when first needed; accounts take turns by bytes, so that one
 * that sends much waits for itself. A thread that dies fails the body it had and is replaced.
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import { Refusal } from '../../../../domain/errors.ts';
import type { AccountUuid } from '../../../../domain/ids.ts';
import type { BodyJob, BodyResult } from './body-job.ts';
import { FairQueue } from './fair-queue.ts';

/** Bodies that wait, of one account and in all. Their memory is bounded by the budget; this bounds the rest. */
const WAITING_MAX = { perAccount: 128, total: 1024 };

/** What a body costs in the queue beside its bytes, so that many tiny ones do not pass for free. */
const COST_PER_BODY = 4096;

/** Far beyond the largest body on a busy machine: a body that takes longer has found a bug, and its thread is ended. */
const TIMEOUT_MS = 30_000;

/** What a thread may keep on its heap; one that needs more dies alone. */
const HEAP_MAX_MB = 512;

interface Task {
  readonly accountId: AccountUuid;
  readonly bytes: number;
  /** Null once nobody waits for it any more: its memory must not wait for its turn. */
  job: BodyJob | null;
  readonly resolve: (result: BodyResult) => void;
  readonly reject: (error: Error) => void;
}

/** A body that was handed in. */
export interface Parsing {
  /** Fails when the thread does. */
  readonly result: Promise<BodyResult>;
  /** Makes `result` fail with an error; where its turn has not come yet, the body is dropped. */
  abandon(error: Error): void;
}

interface Thread {
  readonly worker: Worker;
  task: Task | null;
  timer: NodeJS.Timeout | undefined;
}

export interface BodyThreadsOptions {
  /** Threads at most. */
  readonly size: number;
  readonly logger: Logger;
  /** The program that the threads run: it calls `parseBodies`. */
  readonly program: URL;
  readonly timeoutMs?: number;
}

export class BodyThreads {
  readonly #options: Required<BodyThreadsOptions>;
  readonly #queue = new FairQueue<Task>(WAITING_MAX);
  readonly #threads = new Set<Thread>();
  #isStopped = false;

  constructor(options: BodyThreadsOptions) {
    this.#options = { timeoutMs: TIMEOUT_MS, ...options };
  }

  /** Bodies that wait for a thread. */
  get waiting(): number {
    return this.#queue.size;
  }

  /**
   * Decompresses and parses a body, whose memory is gone afterwards. Throws `body_budget_exceeded` or `overloaded` when
   * too many wait.
   */
  parse(accountId: AccountUuid, job: BodyJob): Parsing {
    const { promise, resolve, reject } = Promise.withResolvers<BodyResult>();
    const bytes = job.raw.byteLength;
    const task: Task = { accountId, bytes, job, resolve, reject };
    const full = this.#queue.push(accountId, bytes + COST_PER_BODY, task);
    if (full !== null) throw new Refusal(full === 'account' ? 'body_budget_exceeded' : 'overloaded');
    this.#dispatch();
    return {
      result: promise,
      abandon: (error) => {
        task.job = null;
        reject(error);
      },
    };
  }

  /** Ends the threads; what still waits is refused. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (let task = this.#queue.shift(); task !== undefined; task = this.#queue.shift()) {
      task.reject(new Refusal('overloaded'));
    }
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()));
  }

  #dispatch(): void {
    while (!this.#isStopped && this.#queue.size > 0) {
      const thread = this.#idleThread();
      if (thread === null) return;
      const task = this.#queue.shift();
      if (task !== undefined && task.job !== null) this.#give(thread, task, task.job);
    }
  }

  #idleThread(): Thread | null {
    for (const thread of this.#threads) if (thread.task === null) return thread;
    return this.#threads.size < this.#options.size ? this.#start() : null;
  }

  #give(thread: Thread, task: Task, { raw, ...rest }: BodyJob): void {
    // A small buffer may be a part of one that others use as well, which must not be given away.
    const own = raw.byteLength === raw.buffer.byteLength ? raw : Uint8Array.from(raw);
    thread.task = task;
    thread.timer = setTimeout(() => void thread.worker.terminate(), this.#options.timeoutMs);
    thread.worker.postMessage({ raw: own, ...rest } satisfies BodyJob, [own.buffer as ArrayBuffer]);
  }

  #start(): Thread {
    const worker = new Worker(this.#options.program, { resourceLimits: { maxOldGenerationSizeMb: HEAP_MAX_MB } });
    const thread: Thread = { worker, task: null, timer: undefined };
    this.#threads.add(thread);
    // It has no end of its own and must not keep the process from ending.
    worker.unref();
    worker.on('message', (result: BodyResult) => {
      const task = this.#take(thread);
      if (task !== null) {
        // Once decompressed it may have been more work than it seemed.
        this.#queue.charge(task.accountId, Math.max(0, result.decodedBytes - task.bytes));
        task.resolve(result);
      }
      this.#dispatch();
    });
    worker.on('error', (error) => this.#options.logger.error({ error: String(error) }, 'a body thread failed'));
    worker.on('exit', () => {
      this.#threads.delete(thread);
      this.#take(thread)?.reject(new Error('the thread that parsed the body died'));
      this.#dispatch();
    });
    return thread;
  }

  /** The task that a thread is done with. */
  #take(thread: Thread): Task | null {
    const { task } = thread;
    clearTimeout(thread.timer);
    thread.task = null;
    return task;
  }
}
