/** The story of a run, for operators: what happened and when, oldest first. */

export interface Step {
  /** RFC 3339. */
  readonly at: string;
  readonly what: string;
}

/**
 * A run that has noted so many steps continues as new: its history and the answer to its query must not grow without
 * end.
 */
export const STEPS_MAX = 200;

export class Steps {
  readonly #list: Step[] = [];
  readonly #known = new Set<string>();

  get list(): readonly Step[] {
    return this.#list;
  }

  get isFull(): boolean {
    return this.#list.length >= STEPS_MAX;
  }

  /** Notes what has happened now. */
  note(what: string): void {
    this.#list.push({ at: new Date().toISOString(), what });
  }

  /** Notes what a check sees again and again, the first time that it does. */
  noteOnce(what: string): void {
    if (this.#known.has(what)) return;
    this.#known.add(what);
    this.note(what);
  }
}
