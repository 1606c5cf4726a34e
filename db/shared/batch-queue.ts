/**
 * Natural batching: a queue has one call in flight; when it returns, everything queued meanwhile goes in the next call.
 * A lone caller never waits for a timer, many callers share one statement and one commit. A call that is held up (by a
 * lock on one account, say) does not hold up the others: a queue may make a second one beside it.
 *
 * A call whose answer is lost is repeated, unchanged, until it is known: every batch function is keyed by request id,
 * so a repeat is harmless. A deterministic error in a batch is narrowed to single items, so that one bad item fails
 * alone.
 */
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';

export interface BatchQueueOptions<Item, Result> {
  readonly name: string;
  /** Most items per call. */
  readonly batchMax: number;
  /** Most items waiting; beyond it `submit` rejects with BatchQueueFull. */
  readonly queueMax: number;
  /**
   * After this time without an answer a second call may start beside the first; absent: never. Set it to several times
   * the duration of a call: starting a second call sooner would cut latency for waiters but makes batches smaller,
   * which costs more than it saves once the machine is busy.
   */
  readonly heldUpAfterMs?: number;
  /** Does the work; element n is the result of item n. Must be repeatable. */
  readonly call: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** True when an error leaves the answer unknown, so the same call must be repeated. */
  readonly isFault: (error: unknown) => boolean;
  /** Called for each fault, for logs and metrics. */
  readonly onFault?: (error: unknown, items: number) => void;
}

export class BatchQueueFull extends Error {
  constructor(queue: string) {
    super(`queue ${queue} is full`);
    this.name = 'BatchQueueFull';
  }
}

interface Entry<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
  sent: boolean;
}

/** A submitted item: its result, and a way to say that nobody waits for it any more. */
export interface Ticket<Result> {
  readonly result: Promise<Result>;
  /**
   * Drops the item if it has not been sent yet and says whether it could; once sent, it stays until its answer is
   * known.
   */
  abandon(): boolean;
}

/** For queues whose calls lock accounts: a call that waits for such a lock does not keep the others waiting. */
export const HELD_UP_AFTER_MS = 20;
const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 1000;

export class BatchQueue<Item, Result> {
  readonly #options: BatchQueueOptions<Item, Result>;
  #queue: Entry<Item, Result>[] = [];
  #inFlight = 0;
  #drains = 0;
  /** One entry per call in flight, its repeats included. */
  readonly #calls = new Set<{ readonly startedAt: number }>();
  #idle: (() => void)[] = [];
  #watching = false;

  constructor(options: BatchQueueOptions<Item, Result>) {
    this.#options = options;
  }

  /** Queues an item. The result may take as long as the database is away; the caller decides how long it waits. */
  submit(item: Item): Ticket<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const entry: Entry<Item, Result> = { item, resolve, reject, sent: false };
    if (this.#queue.length >= this.#options.queueMax) {
      reject(new BatchQueueFull(this.#options.name));
    } else {
      this.#queue.push(entry);
      if (this.#drains === 0) void this.#drain();
      else this.#watch();
    }
    return {
      result: promise,
      abandon: () => {
        if (entry.sent) return false;
        const place = this.#queue.indexOf(entry);
        if (place !== -1) this.#queue.splice(place, 1);
        return true;
      },
    };
  }

  /** Items that wait or are in flight. */
  get depth(): number {
    return this.#queue.length + this.#inFlight;
  }

  /** How long the oldest call in flight (with its repeats) has been unanswered, in milliseconds; 0 when nothing is. */
  get stalledMs(): number {
    const [oldest] = this.#calls; // a Set keeps the order of insertion
    return oldest === undefined ? 0 : performance.now() - oldest.startedAt;
  }

  /** Resolves once nothing is queued or in flight. */
  async drained(): Promise<void> {
    if (this.#drains === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Makes a second call for those who wait once the one in flight is held up. */
  #watch(): void {
    const { heldUpAfterMs } = this.#options;
    if (heldUpAfterMs === undefined || this.#watching || this.#drains > 1) return;
    this.#watching = true;
    setTimeout(() => {
      this.#watching = false;
      if (this.#queue.length === 0) return;
      if (this.#isHeldUp) void this.#drain();
      else this.#watch();
    }, heldUpAfterMs).unref();
  }

  /** True when nobody need wait for a call in flight. */
  get #isHeldUp(): boolean {
    const before = performance.now() - (this.#options.heldUpAfterMs ?? Infinity);
    return [...this.#calls].every(({ startedAt }) => startedAt <= before);
  }

  async #drain(): Promise<void> {
    this.#drains++;
    for (;;) {
      // Items submitted in the same turn of the event loop share a call.
      await nextTurn();
      if (this.#queue.length === 0) break;
      const batch = this.#queue.splice(0, this.#options.batchMax);
      for (const entry of batch) entry.sent = true;
      const call = { startedAt: performance.now() };
      this.#inFlight += batch.length;
      this.#calls.add(call);
      await this.#send(batch);
      this.#calls.delete(call);
      this.#inFlight -= batch.length;
      // Waiting items are sent by the call beside, unless that one is held up.
      if (!this.#isHeldUp) break;
    }
    this.#drains--;
    if (this.#drains === 0) for (const resolve of this.#idle.splice(0)) resolve();
    else if (this.#queue.length > 0) this.#watch();
  }

  async #send(batch: readonly Entry<Item, Result>[]): Promise<void> {
    for (let pause = RETRY_FIRST_MS; ; pause = Math.min(pause * 2, RETRY_MAX_MS)) {
      try {
        const results = await this.#options.call(batch.map((entry) => entry.item));
        if (results.length !== batch.length) {
          throw new Error(
            `invariant broken: queue ${this.#options.name} got ${results.length} results for ${batch.length} items`,
          );
        }
        batch.forEach((entry, index) => entry.resolve(results[index] as Result));
        return;
      } catch (error) {
        if (this.#options.isFault(error)) {
          this.#options.onFault?.(error, batch.length);
          await delay(pause);
          continue;
        }
        if (batch.length === 1) {
          batch[0]!.reject(error);
          return;
        }
        for (const entry of batch) await this.#send([entry]);
        return;
      }
    }
  }
}
