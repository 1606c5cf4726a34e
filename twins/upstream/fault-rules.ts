/** The rules that are in force, and which faults a request takes from them. */
import { readFaultRule } from './fault-input.ts';
import type { FaultMatch, FaultRule, Faults } from './faults.ts';

/** A rule as `GET /_twin/faults` shows it. */
export interface ActiveFaultRule {
  readonly id: string;
  readonly match: FaultMatch;
  readonly remaining: number | null;
  readonly faults: Faults;
}

/** The request that a rule is compared with. */
export interface FaultSubject {
  readonly model: string;
  readonly requestId: string;
  readonly stream: boolean;
}

const NO_FAULTS: Faults = [];

export class FaultRules {
  #rules: { id: string; match: FaultMatch; remaining: number | null; faults: Faults }[] = [];
  #lastId = 0;

  /** Adds a rule, which may come from JSON; anything unknown in it throws `BadInput`. */
  add(input: FaultRule): { id: string } {
    const { match, times, faults } = readFaultRule(input);
    this.#lastId += 1;
    const id = `fault-${this.#lastId}`;
    this.#rules.push({ id, match, remaining: times, faults });
    return { id };
  }

  list(): ActiveFaultRule[] {
    return this.#rules.map((rule) => ({ ...rule }));
  }

  clear(): void {
    this.#rules = [];
  }

  /** The faults for one request; uses up one of the rule's times. */
  take(subject: FaultSubject): Faults {
    if (this.#rules.length === 0) return NO_FAULTS;
    const rule = this.#rules.find(({ match }) => matches(match, subject));
    if (rule === undefined) return NO_FAULTS;
    if (rule.remaining !== null) {
      rule.remaining -= 1;
      if (rule.remaining === 0) this.#rules = this.#rules.filter((other) => other !== rule);
    }
    return rule.faults;
  }
}

function matches(match: FaultMatch, subject: FaultSubject): boolean {
  return (
    (match.model === undefined || match.model === subject.model) &&
    (match.request_id === undefined || match.request_id === subject.requestId) &&
    (match.stream === undefined || match.stream === subject.stream)
  );
}
