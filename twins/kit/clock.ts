/**
 * The twin's clock: real time plus what it was advanced by. Everything that happens later (expiry of a session, the
 * outcome of a delayed payment, a retried delivery) waits on it, so advancing it makes those things happen at once.
 */

interface Timer {
  readonly atMs: number;
  readonly run: () => void;
  handle: NodeJS.Timeout | undefined;
}

/** The longest wait that setTimeout takes. */
const WAIT_MS_MAX = 2 ** 31 - 1;

export class TwinClock {
  readonly #timers = new Set<Timer>();
  #offsetMs: number;

  constructor(offsetMs: number) {
    this.#offsetMs = offsetMs;
  }

  get offsetMs(): number {
    return this.#offsetMs;
  }

  nowMs(): number {
    return Date.now() + this.#offsetMs;
  }

  /** Unix seconds, as Stripe writes times. */
  now(): number {
    return Math.floor(this.nowMs() / 1000);
  }

  /** Runs once at this time, and never before the caller is done. Returns how to call it off. */
  at(atMs: number, run: () => void): () => void {
    const timer: Timer = { atMs, run, handle: undefined };
    this.#timers.add(timer);
    this.#arm(timer);
    return () => this.#drop(timer);
  }

  /** Runs what has become due, in order, before it returns. */
  advance(seconds: number): void {
    this.#offsetMs += seconds * 1000;
    const due = [...this.#timers].filter(({ atMs }) => atMs <= this.nowMs()).sort((a, b) => a.atMs - b.atMs);
    for (const timer of due) {
      // An earlier one may have called this one off.
      if (this.#timers.has(timer)) this.#fire(timer);
    }
    for (const timer of this.#timers) {
      clearTimeout(timer.handle);
      this.#arm(timer);
    }
  }

  stop(): void {
    for (const timer of this.#timers) this.#drop(timer);
  }

  #arm(timer: Timer): void {
    const waitMs = Math.min(Math.max(0, timer.atMs - this.nowMs()), WAIT_MS_MAX);
    timer.handle = setTimeout(() => {
      if (timer.atMs <= this.nowMs()) this.#fire(timer);
      else this.#arm(timer);
    }, waitMs);
  }

  #fire(timer: Timer): void {
    this.#drop(timer);
    timer.run();
  }

  #drop(timer: Timer): void {
    clearTimeout(timer.handle);
    this.#timers.delete(timer);
  }
}
