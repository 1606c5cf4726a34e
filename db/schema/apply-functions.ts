/**
 * Brings the functions, views and triggers of a database to what db/functions defines. The table `applied_object` has
 * what was applied last, word for word: what is the same there is left alone, so a change of one function touches
 * nothing but that function, and what is not defined any more is dropped. Tables and rows are never touched, and
 * nothing is dropped that this did not make.
 */
import type pg from 'pg';
import { keyOf, mentions, signatureOf, type SchemaObject } from './function-set.ts';

/**
 * Applies the set within the caller's transaction and returns the names of what was made, replaced or dropped.
 * PostgreSQL refuses to drop what something else depends on, which then fails the transaction: a view of a stranger, a
 * CHECK that calls the function.
 */
export async function applyFunctions(
  client: Pick<pg.ClientBase, 'query'>,
  set: readonly SchemaObject[],
): Promise<string[]> {
  await client.query('set local role holdfast_owner; set local search_path = holdfast');
  const before = await appliedObjects(client);
  const { drop, make, regrant } = planOf(before, set);

  // In whatever order functions stand, their bodies find each other once all are there.
  await client.query('set local check_function_bodies = off');
  for (const object of regrant) await takeBack(client, before.find((old) => keyOf(old) === keyOf(object))!.grants);
  for (const { kind, name } of drop) await client.query(`drop ${kind} if exists ${name}`);
  const dropped = new Set(drop.map(keyOf));
  for (const object of make) {
    await client.query(object.definition.replace(/^create function/, 'create or replace function'));
    const isNew = dropped.has(keyOf(object)) || !before.some((old) => keyOf(old) === keyOf(object));
    if (isNew) await grant(client, object.grants);
  }
  for (const object of regrant) await grant(client, object.grants);
  const changed = [...new Set([...drop, ...make, ...regrant].map(keyOf))];
  if (changed.length > 0) {
    await checkBodies(client, set);
    await remember(client, set);
  }
  await client.query('reset role; reset search_path; reset check_function_bodies');
  return changed;
}

/** What was applied last and is still there: a migration may have dropped what stood in its way. */
async function appliedObjects(client: Pick<pg.ClientBase, 'query'>): Promise<SchemaObject[]> {
  const { rows } = await client.query<SchemaObject>(`
    select kind, name, definition, grants from applied_object
    where case kind
      when 'function' then exists (
        select from pg_proc where pronamespace = 'holdfast'::regnamespace and proname = name)
      when 'view' then to_regclass('holdfast.' || name) is not null
      when 'trigger' then exists (
        select from pg_trigger
        where tgname = split_part(name, ' on ', 1) and tgrelid = to_regclass('holdfast.' || split_part(name, ' on ', 2)))
    end
    order by kind, name`);
  return rows;
}

interface Plan {
  /** In the order in which nothing depends on what is dropped. */
  readonly drop: SchemaObject[];
  /** In the order in which each finds the types and functions that it needs at once. Functions may be there already. */
  readonly make: SchemaObject[];
  /** What stays and is granted otherwise. */
  readonly regrant: SchemaObject[];
}

/** What has to be done to come from one set to another. */
function planOf(before: readonly SchemaObject[], after: readonly SchemaObject[]): Plan {
  const old = new Map(before.map((object) => [keyOf(object), object]));
  const wanted = new Map(after.map((object) => [keyOf(object), object]));
  const isSame = (object: SchemaObject): boolean =>
    old.get(keyOf(object))?.definition === wanted.get(keyOf(object))?.definition;
  const isReplaceable = (object: SchemaObject): boolean => {
    const next = wanted.get(keyOf(object));
    return next !== undefined && signatureOf(next) === signatureOf(object);
  };
  const views = ofKind(before, 'view');

  let functions = ofKind(before, 'function').filter((each) => !isReplaceable(each));
  const isViewTouched = functions.length > 0 || views.some((view) => !isSame(view));
  const typed = isViewTouched ? ofKind(before, 'function').filter((each) => isTypedBy(each, views)) : [];
  functions = functions.filter((each) => !typed.includes(each));
  const goneFunctions = [...typed, ...functions];
  const triggers = ofKind(before, 'trigger').filter(
    (trigger) => !isSame(trigger) || goneFunctions.some(({ name }) => mentions(trigger.definition, name)),
  );
  const drop = [...triggers, ...typed, ...(isViewTouched ? usersLast(views).reverse() : []), ...functions];

  const dropped = new Set(drop.map(keyOf));
  const missing = after.filter((object) => dropped.has(keyOf(object)) || !isSame(object));
  const newViews = ofKind(after, 'view');
  const missingFunctions = ofKind(missing, 'function');
  const make = [
    ...missingFunctions.filter((each) => !isTypedBy(each, newViews)),
    ...usersLast(ofKind(missing, 'view')),
    ...missingFunctions.filter((each) => isTypedBy(each, newViews)),
    ...ofKind(missing, 'trigger'),
  ];
  const regrant = after.filter((object) => {
    const known = old.get(keyOf(object));
    return known !== undefined && !dropped.has(keyOf(object)) && known.grants.join() !== object.grants.join();
  });
  return { drop, make, regrant };
}

function ofKind(objects: readonly SchemaObject[], kind: SchemaObject['kind']): SchemaObject[] {
  return objects.filter((object) => object.kind === kind);
}

/** Whether a function takes or returns rows of one of the views. */
function isTypedBy(object: SchemaObject, views: readonly SchemaObject[]): boolean {
  const signature = signatureOf(object);
  return views.some(({ name }) => mentions(signature, name));
}

/** Views so that each comes after those that it reads. */
function usersLast(views: readonly SchemaObject[]): SchemaObject[] {
  const ordered = new Set<SchemaObject>();
  const add = (view: SchemaObject, users: readonly SchemaObject[]): void => {
    if (ordered.has(view) || users.includes(view)) return;
    for (const other of views) {
      if (mentions(view.definition, other.name)) add(other, [...users, view]);
    }
    ordered.add(view);
  };
  for (const view of views) add(view, []);
  return [...ordered];
}

async function grant(client: Pick<pg.ClientBase, 'query'>, grants: readonly string[]): Promise<void> {
  for (const statement of grants) await client.query(statement);
}

async function takeBack(client: Pick<pg.ClientBase, 'query'>, grants: readonly string[]): Promise<void> {
  for (const statement of grants) {
    await client.query(statement.replace(/^grant /, 'revoke ').replace(/\sto(?=\s[^()]*$)/, ' from'));
  }
}

/**
 * Lets PostgreSQL read every body again, now that all of them are there: a name that none has fails here, not at the
 * first call.
 */
async function checkBodies(client: Pick<pg.ClientBase, 'query'>, set: readonly SchemaObject[]): Promise<void> {
  await client.query('set local check_function_bodies = on');
  for (const language of ['sql', 'plpgsql']) {
    const validator = language === 'sql' ? 'fmgr_sql_validator' : 'plpgsql_validator';
    await client.query(
      `select ${validator}(p.oid) from pg_proc p join pg_language l on l.oid = p.prolang
       where l.lanname = $1 and p.pronamespace = 'holdfast'::regnamespace and p.proname = any ($2)`,
      [language, ofKind(set, 'function').map(({ name }) => name)],
    );
  }
}

async function remember(client: Pick<pg.ClientBase, 'query'>, set: readonly SchemaObject[]): Promise<void> {
  await client.query('delete from applied_object');
  await client.query(
    `insert into applied_object (kind, name, definition, grants)
     select kind, name, definition, grants from jsonb_to_recordset($1) as o (kind text, name text, definition text, grants text[])`,
    [JSON.stringify(set)],
  );
}
