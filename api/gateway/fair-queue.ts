/**
 * A queue in which no account waits for another one's backlog: start-time fair queueing. Every job gets a start tag in a
 * virtual time that counts cost: the tag is where the account's previous job ends, or the present where it has none. The
 * smallest tag is served next, so an account that asks for little is never behind more than the jobs under way.
 */
export interface FairQueueLimits {
  readonly perAccount: number;
  readonly total: number;
}

export type QueueFull = 'account' | 'total';

interface Line<Job> {
  readonly waiting: { readonly job: Job; readonly start: number }[];
  /** Where the account's last job ends in virtual time. */
  end: number;
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
    const line = this.#lines.get(accountId) ?? { waiting: [], end: 0 };
    if (line.waiting.length >= this.#limits.perAccount) return 'account';
    if (this.#size >= this.#limits.total) return 'total';
    const start = Math.max(this.#now, line.end);
    line.waiting.push({ job, start });
    line.end = start + cost;
    this.#lines.set(accountId, line);
    this.#size += 1;
    return null;
  }

  /** Takes the next job; undefined when none waits. */
  shift(): Job | undefined {
    let next: Line<Job> | undefined;
    for (const line of this.#lines.values()) {
      const first = line.waiting[0];
      if (first !== undefined && (next === undefined || first.start < next.waiting[0]!.start)) next = line;
    }
    const taken = next?.waiting.shift();
    if (taken === undefined) return undefined;
    this.#now = taken.start;
    this.#size -= 1;
    return taken.job;
  }

  /** Lines without jobs only tell who had much lately. Without them such an account is served a little early, once. */
  #forgetServed(): void {
    for (const [accountId, line] of this.#lines) if (line.waiting.length === 0) this.#lines.delete(accountId);
  }
}
