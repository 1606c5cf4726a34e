/**
 * How many blocks that were read already are read again at a look. A vendor's headers can be fresh and its logs late:
 * another node behind one address, or an index that follows. Nothing in an empty list says so, so the newest blocks are
 * read again until their logs can no longer be missing. How late logs are nobody knows; so every second look goes back
 * twice as far, every fourth four times, and so on: logs that come n blocks late are found after about as many more,
 * and a look costs a few times the least overlap on average.
 */
const DOUBLINGS_MAX = 6;

export class Overlap {
  readonly #least: number;
  #looks = 0;

  /** `least` blocks are read again at every look, 64 times as many at every 64th. */
  constructor(least: number) {
    this.#least = least;
  }

  /** Blocks of the next look. */
  next(): number {
    this.#looks++;
    let doublings = 0;
    while (doublings < DOUBLINGS_MAX && this.#looks % 2 ** (doublings + 1) === 0) doublings++;
    return this.#least * 2 ** doublings;
  }
}
