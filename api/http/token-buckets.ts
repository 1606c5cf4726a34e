/**
 * Token buckets by holder: each may act `burst` times at once and then at a steady rate. Kept in memory of one process
 * and for a bounded number of holders; a holder that is forgotten begins with a full bucket.
 */

export interface TokenBucketOptions {
  readonly perSecond: number;
  readonly burst: number;
}

/**
 * Far above the holders that a process sees in the time a bucket takes to fill; only there so that memory is bounded.
 */
const HOLDERS_MAX = 20_000;

export class TokenBuckets {
  readonly #msPerToken: number;
  readonly #burstMs: number;
  /** When each holder's bucket is full again, `performance.now()`; least recently used first. */
  readonly #fullAt = new Map<string, number>();

  constructor({ perSecond, burst }: TokenBucketOptions) {
    this.#msPerToken = 1000 / perSecond;
    this.#burstMs = burst * this.#msPerToken;
  }

  /** Takes a token and returns 0, or takes none and returns the seconds until there is one. */
  take(holder: string): number {
    const wait = this.#waitMs(holder);
    if (wait > 0) return wait / 1000;
    this.owe(holder, 1);
    return 0;
  }

  /**
   * Takes `tokens`, also those that a holder has not got: it is then in debt. Returns the milliseconds until the debt
   * is paid, 0 where there is none. 0 tokens only ask.
   */
  owe(holder: string, tokens: number, now: number = performance.now()): number {
    const fullAt = Math.max(this.#fullAt.get(holder) ?? now, now) + tokens * this.#msPerToken;
    this.#fullAt.delete(holder);
    this.#fullAt.set(holder, fullAt);
    if (this.#fullAt.size > HOLDERS_MAX) this.#fullAt.delete(this.#fullAt.keys().next().value!);
    return Math.max(0, fullAt - this.#burstMs - now);
  }

  /** True when a holder has no token now. */
  isEmpty(holder: string): boolean {
    return this.#waitMs(holder) > 0;
  }

  #waitMs(holder: string): number {
    const fullAt = this.#fullAt.get(holder);
    return fullAt === undefined ? 0 : fullAt + this.#msPerToken - this.#burstMs - performance.now();
  }
}
