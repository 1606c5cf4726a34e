/**
 * What db/functions defines: functions, views and triggers with their grants, and nothing else. A table there would be
 * made again with every change, so a file that holds one is refused.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { statementsOf, withoutLayout } from './statements.ts';

export const FUNCTIONS = fileURLToPath(new URL('../functions', import.meta.url));

export interface SchemaObject {
  readonly kind: 'function' | 'view' | 'trigger';
  /** Unique in its kind: functions are not overloaded. A trigger has its table after it, `append_only on posting`. */
  readonly name: string;
  /** The statement that makes it, as it stands in its file. */
  readonly definition: string;
  /** The statements that let roles use it. */
  readonly grants: readonly string[];
}

/**
 * The objects of all files under `folder`, in the order of paths and statements. Throws on any other statement and on a
 * second object of one name.
 */
export function readFunctionSet(folder: string = FUNCTIONS): SchemaObject[] {
  const objects = new Map<string, SchemaObject & { readonly grants: string[] }>();
  for (const file of globSync('**/*.sql', { cwd: folder }).sort()) {
    for (const statement of statementsOf(readFileSync(join(folder, file), 'utf8'))) {
      const granted = GRANT.exec(statement);
      if (granted !== null) {
        const object = objects.get(`${granted[1] === undefined ? 'view' : 'function'} ${granted[2]}`);
        if (object === undefined) throw new Error(`db/functions/${file}: ${granted[2]} must be made above its grant`);
        object.grants.push(statement);
        continue;
      }
      const object = objectOf(statement);
      if (object === null) {
        throw new Error(
          `db/functions/${file}: no function, view, trigger or grant of one object: ${firstWords(statement)}`,
        );
      }
      const key = keyOf(object);
      if (objects.has(key)) throw new Error(`db/functions/${file}: a second ${key}`);
      objects.set(key, { ...object, grants: [] });
    }
  }
  return [...objects.values()];
}

export function keyOf({ kind, name }: Pick<SchemaObject, 'kind' | 'name'>): string {
  return `${kind} ${name}`;
}

/** Name, parameters and result of a function: what cannot be replaced in place. Other objects have none. */
export function signatureOf({ kind, definition }: SchemaObject): string {
  return kind === 'function' ? withoutLayout(definition).split(/ language \w+/, 1)[0]! : '';
}

/** Whether `text` has `name` as a word. */
export function mentions(text: string, name: string): boolean {
  return new RegExp(`\\b${name}\\b`).test(text);
}

/** One object a grant, so that the grant of an object is made and taken back with it. */
const GRANT = /^grant [\w, ()]+?\s+on (function )?(\w+)\s+to [\w,\s]+$/;

const DEFINITIONS: readonly { kind: SchemaObject['kind']; pattern: RegExp }[] = [
  { kind: 'function', pattern: /^create function (?<name>\w+)\(/ },
  { kind: 'view', pattern: /^create view (?<name>\w+)\s/ },
  { kind: 'trigger', pattern: /^create trigger (?<name>\w+)\s+(?:before|after)\s[\w\s,]+?\son (?<table>\w+)\s/ },
];

function objectOf(statement: string): Omit<SchemaObject, 'grants'> | null {
  for (const { kind, pattern } of DEFINITIONS) {
    const { name, table } = pattern.exec(statement)?.groups ?? {};
    if (name === undefined) continue;
    return { kind, name: table === undefined ? name : `${name} on ${table}`, definition: statement };
  }
  return null;
}

function firstWords(statement: string): string {
  return statement.split(/\s+/).slice(0, 6).join(' ');
}
