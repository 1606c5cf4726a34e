/**
 * A queue in which no account waits for another one's backlog: start-time fair queueing. Each account has a start tag,
 * the place of its next job in a virtual time that counts cost: where its last job ended, or the present when it had
 * none. The smallest tag is served next, so an account that asks for little is never behind more than the jobs under
 * way.
 */
export interface FairQueueLimits {
  readonly perAccount: number;
  readonly total: number;
}

export type QueueFull = 'account' | 'total';

interface Line<Job> {
  readonly waiting: { readonly job: Job; readonly cost: number }[];
  /** Start tag of the first that waits, or of the next to come. */
  start: number;
}

export class FairQueue<Job> {
  readonly #limits: FairQueueLimits;
  readonly #lines = new Map<string, Line<Job>>();
  /** The start tag of the job that was taken last. */
  #now = 0;
  #size = 0;

  constructor(limits: FairQueueLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds a job of a cost above 0; returns which limit keeps it out, null where none does. */
  push(accountId: string, cost: number, job: Job): QueueFull | null {
    if (this.#lines.size >= this.#limits.total) this.#forgetServed();
    const line = this.#lines.get(accountId) ?? { waiting: [], start: this.#now };
    if (line.waiting.length >= this.#limits.perAccount) return 'account';
    if (this.#size >= this.#limits.total) return 'total';
    if (line.waiting.length === 0) line.start = Math.max(this.#now, line.start);
    line.waiting.push({ job, cost });
    this.#lines.set(accountId, line);
    this.#size += 1;
    return null;
  }

  /** Takes the next job; undefined when none waits. */
  shift(): Job | undefined {
    let next: Line<Job> | undefined;
    for (const line of this.#lines.values()) {
      if (line.waiting.length > 0 && (next === undefined || line.start < next.start)) next = line;
    }
    const taken = next?.waiting.shift();
    if (next === undefined || taken === undefined) return undefined;
    this.#now = next.start;
    next.start += taken.cost;
    this.#size -= 1;
    return taken.job;
  }

  /** Adds to the cost of what an account had served, once that is known better. */
  charge(accountId: string, cost: number): void {
    const line = this.#lines.get(accountId);
    if (line !== undefined) line.start += cost;
  }

  /** Lines without jobs only tell who had much lately. Without them such an account is served a little early, once. */
  #forgetServed(): void {
    for (const [accountId, line] of this.#lines) if (line.waiting.length === 0) this.#lines.delete(accountId);
  }
}
