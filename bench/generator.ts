/**
 * The load generator as seen from the bench: a process of its own (`generator-process.ts`) that is told what to send
 * and answers with what it measured. Nothing of the bench's own work (queries, reports) runs in it, so that it cannot
 * delay an arrival. It runs at the bench's own nice level, that of the gateway: a starved generator would measure
 * itself.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** Where requests go: the gateway, or the upstream twin itself. */
export interface Target {
  /** Scheme, host and port. */
  readonly origin: string;
  readonly path: string;
  /** Bearer tokens; each request takes one at random. */
  readonly tokens: readonly string[];
  readonly body: string;
  /** The body asks for a stream: the time of the first content is noted, and only `[DONE]` ends it well. */
  readonly stream: boolean;
}

export type Load =
  /** Each client sends its next request when the last one has ended. */
  | { readonly kind: 'closed'; readonly clients: number; readonly seconds: number }
  /** Poisson arrivals, whatever the answers do. */
  | { readonly kind: 'open'; readonly ratePerSecond: number; readonly seconds: number };

export interface Job {
  readonly target: Target;
  readonly load: Load;
  readonly seed: number;
}

/** All arrays are in order of start, failed requests left out. */
export interface JobResult {
  /**
   * Open loop: from the scheduled arrival, not from the moment of sending, so that a generator or a server that falls
   * behind is measured and not excused (no coordinated omission). Closed loop: from sending.
   */
  readonly latencyMs: Float64Array;
  /** From the same moment to the first content; empty where answers are not streamed. */
  readonly firstTokenMs: Float64Array;
  /** How late the generator itself sent, after the scheduled arrival; empty in a closed loop. */
  readonly lateMs: Float64Array;
  /** Count of each failure: `status 503`, `ECONNRESET`, `stream without end`. */
  readonly errors: Readonly<Record<string, number>>;
  readonly sent: number;
  /** Epoch milliseconds around the first arrival and the last end. */
  readonly startedAt: number;
  readonly endedAt: number;
  readonly elapsedSeconds: number;
  /** CPU of the generator process in milliseconds. */
  readonly cpuMs: number;
}

export type GeneratorMessage =
  { readonly kind: 'result'; readonly result: JobResult } | { readonly kind: 'failed'; readonly message: string };

export class Generator {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(): Promise<Generator> {
    const child = fork(join(import.meta.dirname, 'generator-process.ts'), { serialization: 'advanced' });
    await once(child, 'spawn');
    return new Generator(child);
  }

  /** Runs one job; one at a time. Rejects when the process fails, not when requests do. */
  async run(job: Job): Promise<JobResult> {
    const answer = Promise.withResolvers<GeneratorMessage>();
    const onExit = (code: number | null): void => answer.reject(new Error(`the load generator ended (code ${code})`));
    this.#child.once('message', (message) => answer.resolve(message as GeneratorMessage));
    this.#child.once('exit', onExit);
    this.#child.send(job);
    try {
      const message = await answer.promise;
      if (message.kind === 'failed') throw new Error(`the load generator failed: ${message.message}`);
      return message.result;
    } finally {
      this.#child.off('exit', onExit);
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.disconnect();
    await exited;
  }
}
