/**
 * A gate before something scarce: so many go through at once, so many of one holder, and those who wait get their turn
 * holder by holder, not in the order of arrival. A holder with a thousand calls waits for their own; a holder with one
 * call waits for one place. Waiting calls are bounded per holder and in all.
 */
import { Refusal } from '../../domain/errors.ts';

export interface FairGateOptions {
  /** The noun of the refusal "Too many … at once.", e.g. "look-ups". */
  readonly what: string;
  readonly atOnce: number;
  readonly atOncePerHolder: number;
  readonly waiting: number;
  readonly waitingPerHolder: number;
  /** `Retry-After` of the refusal: about the time until a place comes free. */
  readonly retryAfterSeconds: number;
}

interface Waiter {
  readonly letIn: () => void;
  readonly refuse: () => void;
}

export class FairGate {
  readonly #options: FairGateOptions;
  #running = 0;
  #waiting = 0;
  readonly #runningOf = new Map<string, number>();
  /** In the order of their turns. */
  readonly #waitersOf = new Map<string, Waiter[]>();

  constructor(options: FairGateOptions) {
    this.#options = options;
  }

  /** Runs `work` when it is its holder's turn. Throws `rate_limit_exceeded` when too much waits already. */
  async run<T>(holder: string, work: () => Promise<T>): Promise<T> {
    await this.#enter(holder);
    try {
      return await work();
    } finally {
      this.#leave(holder);
    }
  }

  async #enter(holder: string): Promise<void> {
    // Nobody overtakes: a place is free for a newcomer only while none of those who wait could take it.
    if (this.#hasPlace(holder)) {
      this.#start(holder);
      return;
    }
    const own = this.#waitersOf.get(holder) ?? [];
    if (own.length >= this.#options.waitingPerHolder) throw this.#tooMany();
    if (this.#waiting >= this.#options.waiting && !this.#makeRoom(own.length)) throw this.#tooMany();
    this.#waiting++;
    await new Promise<void>((resolve, reject) => {
      own.push({ letIn: resolve, refuse: () => reject(this.#tooMany()) });
      this.#waitersOf.set(holder, own);
    });
  }

  #hasPlace(holder: string): boolean {
    const { atOnce, atOncePerHolder } = this.#options;
    return this.#running < atOnce && (this.#runningOf.get(holder) ?? 0) < atOncePerHolder;
  }

  #start(holder: string): void {
    this.#running++;
    this.#runningOf.set(holder, (this.#runningOf.get(holder) ?? 0) + 1);
  }

  #leave(holder: string): void {
    this.#running--;
    const left = (this.#runningOf.get(holder) ?? 0) - 1;
    if (left <= 0) this.#runningOf.delete(holder);
    else this.#runningOf.set(holder, left);
    const next = this.#waitersOf.keys().find((candidate) => this.#hasPlace(candidate));
    if (next === undefined) return;
    const waiters = this.#waitersOf.get(next)!;
    const waiter = waiters.shift()!;
    // The holder goes behind all others that wait.
    this.#waitersOf.delete(next);
    if (waiters.length > 0) this.#waitersOf.set(next, waiters);
    this.#waiting--;
    this.#start(next);
    waiter.letIn();
  }

  /** Refuses the latest call of the holder with most waiting, if that is more than the newcomer would have. */
  #makeRoom(ownWaiting: number): boolean {
    let longest: Waiter[] = [];
    for (const waiters of this.#waitersOf.values()) if (waiters.length > longest.length) longest = waiters;
    if (longest.length <= ownWaiting + 1) return false;
    this.#waiting--;
    longest.pop()!.refuse();
    return true;
  }

  #tooMany(): Refusal {
    const { what, retryAfterSeconds } = this.#options;
    return new Refusal('rate_limit_exceeded', { message: `Too many ${what} at once.`, retryAfterSeconds });
  }
}
