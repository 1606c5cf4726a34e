/** Faults that were asked for: each is taken by what it matches, in the order of their making, as often as it says. */

export interface CountedRule {
  /** How often; null: until it is cleared. Not given: once. */
  readonly count?: number | null;
}

export type ActiveRule<Rule> = Rule & { readonly id: string; readonly remaining: number | null };

export class FaultQueue<Rule extends CountedRule> {
  #rules: { readonly id: string; readonly rule: Rule; remaining: number | null }[] = [];
  #lastId = 0;

  add(rule: Rule): { id: string } {
    this.#lastId += 1;
    const id = `fault-${this.#lastId}`;
    this.#rules.push({ id, rule, remaining: rule.count === undefined ? 1 : rule.count });
    return { id };
  }

  list(): ActiveRule<Rule>[] {
    return this.#rules.map(({ id, rule, remaining }) => ({ ...rule, id, remaining }));
  }

  clear(): void {
    this.#rules = [];
  }

  /** The first rule that matches and has times left, one of which this takes. */
  protected take(matches: (rule: Rule) => boolean): Rule | undefined {
    const found = this.#rules.find(({ rule }) => matches(rule));
    if (found === undefined) return undefined;
    if (found.remaining !== null) {
      found.remaining -= 1;
      if (found.remaining === 0) this.#rules = this.#rules.filter((other) => other !== found);
    }
    return found.rule;
  }
}
