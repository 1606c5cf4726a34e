/** Reading the environment that a twin's process is started with: all mistakes are collected and told at once. */
import { BadInput } from './input.ts';

const PORT_MAX = 65_535;

export class TwinEnvironment {
  readonly #environment: Readonly<Record<string, string | undefined>>;
  readonly #problems: string[] = [];

  constructor(environment: Readonly<Record<string, string | undefined>>) {
    this.#environment = environment;
  }

  /** Without blanks around it; an empty value is none. */
  text(name: string): string | undefined {
    const value = this.#environment[name]?.trim();
    return value === '' ? undefined : value;
  }

  number(name: string, max: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!Number.isInteger(value) || value < 0 || value > max) {
      this.problem(`'${name}' must be a whole number between 0 and ${max}.`);
    }
    return value;
  }

  url(name: string, text = this.text(name)): string | undefined {
    if (text !== undefined && !/^https?:\/\/./.test(text)) this.problem(`'${name}' must be a URL.`);
    return text?.replace(/\/$/, '');
  }

  /** Items between commas. */
  list(name: string): string[] | undefined {
    const items = this.text(name)
      ?.split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '');
    return items === undefined || items.length === 0 ? undefined : items;
  }

  problem(text: string): void {
    this.#problems.push(text);
  }

  /** Where every twin listens. */
  place(): { readonly host: string; readonly port: number } {
    return { host: this.text('TWIN_HOST') ?? '127.0.0.1', port: this.number('TWIN_PORT', PORT_MAX) ?? 0 };
  }

  /** Throws one `BadInput` that lists every bad variable. */
  check(): void {
    if (this.#problems.length > 0) throw new BadInput(`Bad environment. ${this.#problems.join(' ')}`);
  }
}
