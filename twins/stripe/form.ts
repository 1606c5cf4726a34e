/**
 * Form-encoded bodies with nested brackets (`line_items[0][price_data][currency]=usd`, `expand[]=customer`), and
 * typed reading of them that fails as Stripe fails: unknown, missing and malformed parameters are named.
 */
import { invalidRequest } from './errors.ts';

type FormValue = string | FormValue[] | FormObject;
interface FormObject {
  [name: string]: FormValue;
}

const METADATA_KEYS_MAX = 50;
const METADATA_NAME_MAX = 40;
const METADATA_VALUE_MAX = 500;

export function parseForm(text: string): Params {
  const root = emptyObject();
  for (const [name, value] of new URLSearchParams(text)) {
    const path = name.replaceAll(']', '').split('[');
    let at = root;
    path.forEach((part, depth) => {
      // `name[]` appends: the next free number is its key.
      const key = part === '' ? String(Object.keys(at).length) : part;
      if (depth === path.length - 1) {
        at[key] = value;
        return;
      }
      const next = at[key];
      at = typeof next === 'object' ? (next as FormObject) : (at[key] = emptyObject());
    });
  }
  return new Params(withArrays(root) as FormObject, '');
}

/** Without a prototype, so that no parameter name is special. */
function emptyObject(): FormObject {
  return Object.create(null) as FormObject;
}

function withArrays(value: FormValue): FormValue {
  if (typeof value === 'string' || Array.isArray(value)) return value;
  const names = Object.keys(value);
  if (names.length > 0 && names.every((name) => /^\d+$/.test(name))) {
    return names.sort((a, b) => Number(a) - Number(b)).map((name) => withArrays(value[name]!));
  }
  for (const name of names) value[name] = withArrays(value[name]!);
  return value;
}

/** The parameters of a call, or an object inside them. Each reader returns undefined for an absent parameter. */
export class Params {
  readonly #source: FormObject;
  readonly #path: string;
  readonly #read = new Set<string>();

  constructor(source: FormObject, path: string) {
    this.#source = source;
    this.#path = path;
  }

  has(name: string): boolean {
    return this.#source[name] !== undefined;
  }

  string(name: string): string | undefined {
    const value = this.#take(name);
    if (value === undefined || value === '') return undefined;
    if (typeof value !== 'string') throw invalidRequest('Invalid string: must be a string', this.#full(name));
    return value;
  }

  requiredString(name: string): string {
    return this.string(name) ?? this.#missing(name);
  }

  integer(name: string): number | undefined {
    const text = this.string(name);
    if (text === undefined) return undefined;
    if (!/^-?\d{1,15}$/.test(text)) {
      throw invalidRequest(`Invalid integer: ${text}`, this.#full(name), 'parameter_invalid_integer');
    }
    return Number(text);
  }

  requiredInteger(name: string): number {
    return this.integer(name) ?? this.#missing(name);
  }

  boolean(name: string): boolean {
    const text = this.string(name);
    if (text === undefined || text === 'false') return false;
    if (text !== 'true') throw invalidRequest(`Invalid boolean: ${text}`, this.#full(name));
    return true;
  }

  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const text = this.string(name);
    if (text === undefined) return undefined;
    const chosen = choices.find((choice) => choice === text);
    if (chosen === undefined) {
      throw invalidRequest(`Invalid ${this.#full(name)}: must be one of ${choices.join(', ')}`, this.#full(name));
    }
    return chosen;
  }

  object(name: string): Params | undefined {
    const value = this.#take(name);
    if (value === undefined || value === '') return undefined;
    if (typeof value === 'string' || Array.isArray(value)) throw invalidRequest('Invalid object', this.#full(name));
    return new Params(value, this.#full(name));
  }

  objects(name: string): Params[] {
    const value = this.#take(name);
    if (value === undefined) return [];
    if (!Array.isArray(value)) throw invalidRequest('Invalid array', this.#full(name));
    return value.map((item, index) => {
      if (typeof item === 'string' || Array.isArray(item)) throw invalidRequest('Invalid object', this.#full(name));
      return new Params(item, `${this.#full(name)}[${index}]`);
    });
  }

  strings(name: string): string[] {
    const value = this.#take(name);
    if (value === undefined) return [];
    if (!Array.isArray(value)) throw invalidRequest('Invalid array', this.#full(name));
    return value.map(String);
  }

  /** Absent is empty; an empty value unsets its key, which on creation is leaving it out. */
  metadata(name = 'metadata'): Record<string, string> {
    const value = this.#take(name);
    if (value === undefined || value === '') return {};
    const bad = invalidRequest(`Invalid ${this.#full(name)}: must be string keys and values`, this.#full(name));
    if (typeof value === 'string' || Array.isArray(value)) throw bad;
    const entries = Object.entries(value).map(([key, text]) => {
      if (typeof text !== 'string' || key.length > METADATA_NAME_MAX || text.length > METADATA_VALUE_MAX) throw bad;
      return [key, text] as const;
    });
    if (entries.length > METADATA_KEYS_MAX) throw bad;
    return Object.fromEntries(entries.filter(([, text]) => text !== ''));
  }

  /** Refuses parameters that nobody read; `ignored` are Stripe's own that mean nothing here. */
  refuseOthers(ignored: readonly string[] = []): void {
    for (const name of ignored) this.#read.add(name);
    const other = Object.keys(this.#source).find((name) => !this.#read.has(name));
    if (other === undefined) return;
    throw invalidRequest(`Received unknown parameter: ${this.#full(other)}`, this.#full(other), 'parameter_unknown');
  }

  #take(name: string): FormValue | undefined {
    this.#read.add(name);
    return this.#source[name];
  }

  #full(name: string): string {
    return this.#path === '' ? name : `${this.#path}[${name}]`;
  }

  #missing(name: string): never {
    throw invalidRequest(`Missing required param: ${this.#full(name)}.`, this.#full(name), 'parameter_missing');
  }
}
