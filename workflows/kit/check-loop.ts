/**
 * The loop of every process that follows something until it has ended: check, wait, check again, and continue as new
 * before the history grows too long. A process brings one rule, its check; the rows and the provider are the state,
 * so a run can begin with a check at any time.
 *
 * What it guarantees:
 * - Checks never overlap.
 * - A wish for a check is never lost. A wish that arrives during a check leads to another check after it; where the run
 *   continues as new, the next run begins with that check.
 * - No run ends or continues as new while an update handler has not finished.
 */
import { allHandlersFinished, CancellationScope, condition, isCancellation, workflowInfo } from '@temporalio/workflow';
import { Steps } from './steps.ts';

/** How often a process checks without being asked, and how long one run of it lasts. */
export interface CheckTiming {
  /** The first wait between two checks; a wish for a check starts the waits over. Not given: 15 minutes. */
  readonly pollSeconds?: number;
  /** Each wait is twice the one before it, up to this. Not given: every wait is `pollSeconds`. */
  readonly pollMaxSeconds?: number;
  /** When a run continues as new. Not given: after a day, because a run keeps the code in use that it began with. */
  readonly runSeconds?: number;
}

const POLL_SECONDS = 900;
const RUN_SECONDS = 86_400;

/** What follows a check: the end, another check after the usual wait, or one at this time (milliseconds since 1970). */
export type NextCheck = 'done' | 'poll' | { readonly at: number };

export interface CheckedProcess {
  /** Reads how things are and acts on it. */
  check(): Promise<NextCheck>;
  /** Notes a check that failed; another one follows after the usual wait. What this throws ends the run. */
  failed(error: unknown): void;
  /** Continues as new, with whatever the next run cannot read from a row. */
  continueAsNew(): Promise<never>;
  /** True while work beside the checks must not be cut off by a new run. Checks go on meanwhile. */
  isBusy?(): boolean;
}

export class CheckLoop {
  /** What happened in this run. When it is full, the run continues as new. */
  readonly steps = new Steps();
  readonly #startedAt = Date.now();
  #timing: CheckTiming;
  #begun = 0;
  #ended = 0;
  #isWanted = true;

  constructor(timing: CheckTiming = {}) {
    this.#timing = timing;
  }

  /** Changes how often is checked, from the next wait on. */
  retime(timing: CheckTiming): void {
    this.#timing = timing;
  }

  /** Asks for a check: something may have changed. */
  wake(): void {
    this.#isWanted = true;
  }

  /**
   * Asks for a check and waits until it has ended. A check that is under way does not count: it may have read before
   * the change that the caller knows of.
   */
  async checkNow(): Promise<void> {
    const wanted = this.#begun + 1;
    this.#isWanted = true;
    await condition(() => this.#ended >= wanted);
  }

  /** Checks until a check says that nothing is left to follow. Never returns where the run continues as new. */
  async run(process: CheckedProcess): Promise<void> {
    const isIdle = (): boolean => allHandlersFinished() && process.isBusy?.() !== true;
    let next: NextCheck = 'poll';
    let { pollSeconds: waitSeconds = POLL_SECONDS } = this.#timing;
    for (;;) {
      while (this.#isWanted && !(this.#isOver() && isIdle())) next = await this.#once(process);
      if (next === 'done' && !this.#isWanted && isIdle()) return;
      if (this.#isOver() && isIdle()) await process.continueAsNew();
      const mayGo = (): boolean => isIdle() && (next === 'done' || this.#isOver());
      const isTimeUp = !(await condition(() => this.#isWanted || mayGo(), this.#waitMs(next, waitSeconds)));
      const { pollSeconds = POLL_SECONDS, pollMaxSeconds = pollSeconds } = this.#timing;
      waitSeconds = isTimeUp && next === 'poll' ? Math.min(waitSeconds * 2, pollMaxSeconds) : pollSeconds;
      this.#isWanted ||= isTimeUp;
    }
  }

  async #once(process: CheckedProcess): Promise<NextCheck> {
    this.#isWanted = false;
    this.#begun++;
    let next: NextCheck = 'poll';
    try {
      next = await process.check();
    } catch (error) {
      if (isCancellation(error) && CancellationScope.current().consideredCancelled) throw error;
      process.failed(error);
    }
    this.#ended++;
    return next;
  }

  /** Whether this run is to continue as new. Every run makes a check, or runs could follow each other idly. */
  #isOver(): boolean {
    if (this.#ended === 0) return false;
    return this.steps.isFull || Date.now() >= this.#endsAt() || workflowInfo().continueAsNewSuggested;
  }

  #endsAt(): number {
    return this.#startedAt + (this.#timing.runSeconds ?? RUN_SECONDS) * 1000;
  }

  /** How long to wait for a wish: until the next check or the end of the run, whichever comes first. */
  #waitMs(next: NextCheck, waitSeconds: number): number {
    const now = Date.now();
    const wait = typeof next === 'object' ? Math.max(next.at - now, 1) : waitSeconds * 1000;
    const rest = this.#endsAt() - now;
    // A run that is over waits for its handlers.
    return rest > 0 ? Math.min(wait, rest) : wait;
  }
}
