/** State of the twin's operations, and its timed changes. */
import type { TwinClock } from '../kit/clock.ts';
import type { EventLog } from './events.ts';
import type { Store, TaskKind, Webhooks } from './store.ts';

export interface WorldOptions {
  /** From a delayed payment to its outcome; null waits for the control API. */
  readonly asyncDelayMs: number | null;
  /** From a payment to its dispute or fraud warning, and from a refund to its outcome, for the cards that have one. */
  readonly laterDelayMs: number;
}

export interface World {
  readonly store: Store;
  readonly clock: TwinClock;
  readonly events: EventLog;
  readonly agenda: Agenda;
  /** Where events are sent now. */
  readonly webhooks: () => Webhooks;
  readonly options: WorldOptions;
  /** Where the checkout pages are, without a trailing slash. */
  readonly publicUrl: () => string;
}

/** Tasks survive a restart: they are rows, and the timers are set up again from them. */
export class Agenda {
  readonly #store: Store;
  readonly #clock: TwinClock;
  readonly #run: (kind: TaskKind, subject: string) => void;
  readonly #timers = new Map<string, () => void>();

  constructor(store: Store, clock: TwinClock, run: (kind: TaskKind, subject: string) => void) {
    this.#store = store;
    this.#clock = clock;
    this.#run = run;
  }

  resume(): void {
    for (const { kind, subject, atMs } of this.#store.tasks.oldestFirst()) this.#arm(kind, subject, atMs);
  }

  plan(kind: TaskKind, subject: string, atMs: number): void {
    this.#store.tasks.put({ id: taskId(kind, subject), kind, subject, atMs });
    this.#arm(kind, subject, atMs);
  }

  cancel(kind: TaskKind, subject: string): void {
    const id = taskId(kind, subject);
    this.#store.tasks.delete(id);
    this.#timers.get(id)?.();
    this.#timers.delete(id);
  }

  #arm(kind: TaskKind, subject: string, atMs: number): void {
    const cancel = this.#clock.at(atMs, () => {
      this.cancel(kind, subject);
      this.#run(kind, subject);
      this.#store.flush();
    });
    this.#timers.set(taskId(kind, subject), cancel);
  }
}

function taskId(kind: TaskKind, subject: string): string {
  return `${kind}:${subject}`;
}
