/** Reading knobs that are objects: each field by its own reader, all optional, and no field that nobody knows. */
import { BadInput, readObject, refuseOtherFields } from '../kit/input.ts';

export type Reader<T> = (value: unknown, field: string) => T;

export type Readers<T> = { readonly [K in keyof T]-?: Reader<NonNullable<T[K]> | T[K]> };

/** The given fields of an object; unknown ones throw `BadInput`. */
export function readFields<T extends object>(value: unknown, where: string, readers: Readers<T>): Partial<T> {
  const source = readObject(value, where);
  refuseOtherFields(source, Object.keys(readers), where);
  const result: Partial<T> = {};
  for (const name of Object.keys(readers) as (keyof T & string)[]) {
    if (source[name] !== undefined) result[name] = readers[name](source[name], `${where}.${name}`);
  }
  return result;
}

/** A list whose items are read one by one; `max` bounds its length. */
export function listOf<T>(read: Reader<T>, max = 1000): Reader<readonly T[]> {
  return (value, field) => {
    if (!Array.isArray(value) || value.length > max) {
      throw new BadInput(`'${field}' must be a list of at most ${max}.`, field);
    }
    return value.map((item: unknown, index) => read(item, `${field}[${index}]`));
  };
}

export function nullable<T>(read: Reader<T>): Reader<T | null> {
  return (value, field) => (value === null ? null : read(value, field));
}

/** Text that may be empty. */
export function readText(value: unknown, field: string): string {
  if (typeof value !== 'string') throw new BadInput(`'${field}' must be text.`, field);
  return value;
}

/** Bytes as base64. */
export function readBase64(value: unknown, field: string): string {
  const text = readText(value, field);
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw new BadInput(`'${field}' must be base64.`, field);
  return text;
}

export function anything(value: unknown): unknown {
  return value;
}
