/**
 * Keeps a list of parts running: starts them in order, starts one again that dies, stops them in the reverse order.
 * Knows nothing of what the parts are. Invariant: a part's address never changes while it is supervised, so the others
 * reconnect on their own and need no restart.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Child } from '../twins/kit/child-process.ts';

export interface Part {
  readonly name: string;
  /** Resolves once the part is ready. `signal` calls the start off. */
  start(signal: AbortSignal): Promise<Child>;
  /** The signal that asks it to end in order, and how long that may take until it is killed. */
  readonly stopSignal: NodeJS.Signals;
  readonly stopSeconds: number;
  /** The signal of a second Ctrl-C: ends a part at once, losing nothing that was promised. */
  readonly hurrySignal: NodeJS.Signals;
}

export interface SupervisorEvents {
  /** A part runs under a new pid. */
  restarted(part: string): void;
  say(line: string): void;
  /**
   * Asked before a part is started again. False: the parts are another supervisor's by now, who has ended ours and
   * would do so again; nothing is started any more.
   */
  stillOurs(): boolean | Promise<boolean>;
}

const RESTART_MS_MIN = 200;
const RESTART_MS_MAX = 10_000;
/** A part that ran this long was healthy: its next death resets the backoff. */
const HEALTHY_MS = 30_000;

interface Supervised {
  readonly part: Part;
  child: Child;
  /** Resolves when the watching has ended, after {@link Supervisor.stop}. */
  watch: Promise<void>;
}

export class Supervisor {
  readonly #events: SupervisorEvents;
  readonly #supervised: Supervised[] = [];
  readonly #stopping = new AbortController();

  constructor(events: SupervisorEvents) {
    this.#events = events;
  }

  /** Aborted once the parts are to stop; starts and waits under way then end early. */
  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Starts the part and watches it from then on. Rejects when its first start fails: that is for a person to see. */
  async add(part: Part): Promise<void> {
    const child = await part.start(this.#stopping.signal);
    const supervised: Supervised = { part, child, watch: Promise.resolve() };
    supervised.watch = this.#watch(supervised);
    this.#supervised.push(supervised);
  }

  /** Null when there is no such part or it is just being started again. */
  pid(name: string): number | null {
    const child = this.#supervised.find(({ part }) => part.name === name)?.child;
    return child?.running === true ? child.pid : null;
  }

  /** Asks a part to end in order; it is started again as any part that ends. */
  restart(name: string): void {
    const supervised = this.#supervised.find(({ part }) => part.name === name);
    supervised?.child.signal(supervised.part.stopSignal);
  }

  /** Writes the records of all parts that run, by which a later start finds what a killed one has left. */
  keepRecords(): void {
    for (const { child } of this.#supervised) child.keepRecord();
  }

  /** Makes starts that are under way reject; {@link stop} does the rest. */
  callOff(): void {
    this.#stopping.abort(new Error('the start was called off'));
  }

  /** Stops the parts one after the other, last started first. Calls off starts that are under way. */
  async stop(): Promise<void> {
    this.callOff();
    for (const supervised of [...this.#supervised].reverse()) {
      const { part } = supervised;
      if (supervised.child.running) this.#events.say(`stopping ${part.name}`);
      await supervised.child.stop({ signal: part.stopSignal, graceSeconds: part.stopSeconds });
      await supervised.watch;
    }
  }

  /** Makes a {@link stop} that is under way end soon. */
  hurry(): void {
    for (const { part, child } of this.#supervised) child.signal(part.hurrySignal);
  }

  async #watch(supervised: Supervised): Promise<void> {
    const { part } = supervised;
    const { signal } = this.#stopping;
    let delay = RESTART_MS_MIN;
    let startedAt = performance.now();
    for (;;) {
      const { code, signal: killedBy } = await supervised.child.exited;
      if (signal.aborted) return;
      if (!(await this.#events.stillOurs())) return;
      if (performance.now() - startedAt > HEALTHY_MS) delay = RESTART_MS_MIN;
      this.#events.say(`${part.name} ended (${killedBy ?? `code ${code}`}); starting it again`);
      for (;;) {
        await sleep(delay, undefined, { signal }).catch(() => undefined);
        if (signal.aborted || !(await this.#events.stillOurs())) return;
        delay = Math.min(delay * 2, RESTART_MS_MAX);
        try {
          supervised.child = await part.start(signal);
          break;
        } catch (error) {
          if (signal.aborted) return;
          this.#events.say(error instanceof Error ? error.message : String(error));
        }
      }
      startedAt = performance.now();
      this.#events.restarted(part.name);
    }
  }
}
