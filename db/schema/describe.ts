/**
 * A database's schema as one readable text: domains, tables with their constraints, indexes, triggers and grants, and
 * the signatures of functions and views. db/schema.sql is this text of a fresh database (`npm run db:dump`); two
 * databases with the same text have the same schema. Monthly partitions are left out: they depend on the day.
 */
import type pg from 'pg';

type Client = Pick<pg.ClientBase, 'query'>;

/** What db/schema.sql begins with. */
export const SCHEMA_HEADER = `-- The schema of a fresh database, written by \`npm run db:dump\`; nothing reads it but people and test/db/schema/schema.test.ts.
-- Tables are made by db/migrations, functions and views by db/functions: their bodies are there.

`;

/** Longer lists of parameters, columns or names are broken. */
const LINE_MAX = 120;

/** `bodies` adds what is inside of functions and views, for comparing two databases. */
export async function describeSchema(client: Client, { bodies = false } = {}): Promise<string> {
  // Names are written without their schema only where it is on the path.
  await client.query('set search_path = holdfast, public');
  const parts = [
    ...(await describeDomains(client)),
    ...(await describeTypes(client)),
    ...(await describeTables(client)),
    ...(await describeViews(client, bodies)),
    ...(await describeFunctions(client, bodies)),
  ];
  await client.query('reset search_path');
  return parts.map((part) => `${part}\n`).join('\n');
}

/** The roles of a privilege list, `privilege → roles`; the owner's own are left out. */
const GRANTS_OF = (acl: string): string => `(
  select coalesce(jsonb_object_agg(privilege, roles), '{}') from (
    select lower(x.privilege_type) as privilege, jsonb_agg(case x.grantee when 0 then 'public' else x.grantee::regrole::text end
      order by x.grantee::regrole::text) as roles
    from aclexplode(${acl}) x where x.grantee <> x.grantor group by 1) granted)`;

type Grants = Record<string, string[]>;

async function describeDomains(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string; base: string; constraints: string[] }>(`
    select t.typname as name, format_type(t.typbasetype, t.typtypmod) as base,
      array(select format('constraint %I %s', c.conname, pg_get_constraintdef(c.oid, true)) from pg_constraint c
        where c.contypid = t.oid order by c.conname) as constraints
    from pg_type t where t.typnamespace = 'holdfast'::regnamespace and t.typtype = 'd' order by 1`);
  return rows.map(
    ({ name, base, constraints }) =>
      [`create domain ${name} as ${base}`, ...constraints.map(decapitalized)].join('\n  ') + ';',
  );
}

async function describeTypes(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string; columns: string[] }>(`
    select c.relname as name, array(select format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)) from pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns
    from pg_class c where c.relnamespace = 'holdfast'::regnamespace and c.relkind = 'c' order by 1`);
  return rows.map(({ name, columns }) => `create type ${name} as (\n  ${columns.join(',\n  ')}\n);`);
}

interface TableRow {
  readonly name: string;
  readonly columns: string[];
  readonly constraints: string[];
  readonly partition_key: string | null;
  readonly options: string[] | null;
  readonly indexes: string[];
  readonly triggers: string[];
  readonly grants: Grants;
  readonly column_grants: readonly { column: string; grants: Grants }[];
}

async function describeTables(client: Client): Promise<string[]> {
  const { rows } = await client.query<TableRow>(`
    select c.relname as name,
      array(
        select concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
          case when a.attgenerated = 's' then format('generated always as (%s) stored', pg_get_expr(d.adbin, d.adrelid))
            when d.adbin is not null then 'default ' || pg_get_expr(d.adbin, d.adrelid) end,
          case when a.attnotnull then 'not null' end)
        from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns,
      array(
        select format('constraint %I %s', k.conname, pg_get_constraintdef(k.oid, true)) from pg_constraint k
        where k.conrelid = c.oid and k.contype <> 'n' order by k.contype = 'c', k.conname) as constraints,
      pg_get_partkeydef(c.oid) as partition_key, c.reloptions as options,
      array(
        select pg_get_indexdef(i.indexrelid, 0, true) from pg_index i
        where i.indrelid = c.oid and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
        order by i.indexrelid::regclass::text) as indexes,
      array(
        select pg_get_triggerdef(t.oid, true) from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal order by t.tgname
      ) as triggers,
      ${GRANTS_OF('c.relacl')} as grants,
      (select coalesce(jsonb_agg(jsonb_build_object('column', a.attname, 'grants', ${GRANTS_OF('a.attacl')}) order by a.attname), '[]')
        from pg_attribute a where a.attrelid = c.oid and a.attacl is not null) as column_grants
    from pg_class c
    where c.relnamespace = 'holdfast'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1`);
  return rows.map((table) => {
    const partitioned = table.partition_key === null ? '' : ` partition by ${table.partition_key.toLowerCase()}`;
    const options = table.options === null ? '' : ` with (${table.options.join(', ')})`;
    return [
      `create table ${table.name} (`,
      `  ${[...table.columns, ...table.constraints].map(decapitalized).join(',\n  ')}`,
      `)${partitioned}${options};`,
      ...table.indexes.map((index) => `${decapitalized(index)};`),
      ...table.triggers.map((trigger) => `${decapitalized(trigger)};`),
      ...grantLines(table.grants, table.name),
      ...columnGrantLines(table),
    ].join('\n');
  });
}

/** Keywords in small letters and names without our schema, as in the rest of our SQL; strings stay as they are. */
function decapitalized(definition: string): string {
  return definition.replaceAll(/'[^']*'|\b[A-Z]{2,}\b|\bholdfast\./g, (word) =>
    word.startsWith("'") ? word : word === 'holdfast.' ? '' : word.toLowerCase(),
  );
}

function grantLines(grants: Grants, object: string): string[] {
  return Object.entries(grants).map(([privilege, roles]) => filled(`grant ${privilege} on ${object} to`, roles));
}

/** One line per privilege and role, with the columns that it is for. */
function columnGrantLines({ name, column_grants }: TableRow): string[] {
  const columns = new Map<string, string[]>();
  for (const { column, grants } of column_grants) {
    for (const [privilege, roles] of Object.entries(grants)) {
      for (const role of roles) {
        const key = `${privilege} ${role}`;
        columns.set(key, [...(columns.get(key) ?? []), column]);
      }
    }
  }
  return [...columns].sort().map(([key, names]) => {
    const [privilege, role] = key.split(' ');
    return `grant ${privilege} (${names.join(', ')}) on ${name} to ${role};`;
  });
}

/** `head` with a list after it, broken before the line gets too long. */
function filled(head: string, list: readonly string[], end = ';'): string {
  const lines = [head];
  for (const [index, item] of list.entries()) {
    const text = `${item}${index === list.length - 1 ? end : ','}`;
    const last = lines.at(-1)!;
    const gap = last.endsWith('(') ? '' : ' ';
    if (last.length + gap.length + text.length <= LINE_MAX) lines[lines.length - 1] = `${last}${gap}${text}`;
    else lines.push(`  ${text}`);
  }
  return lines.join('\n');
}

async function describeViews(client: Client, bodies: boolean): Promise<string[]> {
  const { rows } = await client.query<{
    name: string;
    columns: string[];
    options: string[] | null;
    definition: string;
    grants: Grants;
  }>(`
    select c.relname as name, c.reloptions as options, pg_get_viewdef(c.oid) as definition,
      array(select format('%s %s', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod)) from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns,
      ${GRANTS_OF('c.relacl')} as grants
    from pg_class c where c.relnamespace = 'holdfast'::regnamespace and c.relkind = 'v' order by 1`);
  return rows.map(({ name, columns, options, definition, grants }) =>
    [
      filled(`-- view ${name}${options === null ? '' : ` with (${options.join(', ')})`}:`, columns, '').replaceAll(
        '\n',
        '\n--',
      ),
      ...(bodies ? [definition] : []),
      ...grantLines(grants, name),
    ].join('\n'),
  );
}

async function describeFunctions(client: Client, bodies: boolean): Promise<string[]> {
  const { rows } = await client.query<{
    name: string;
    parameters: string;
    result: string;
    how: string;
    body: string;
    grants: Grants;
  }>(`
    select p.proname as name, pg_get_function_arguments(p.oid) as parameters, pg_get_function_result(p.oid) as result, p.prosrc as body,
      concat_ws(' ', l.lanname, case p.provolatile when 'i' then 'immutable' when 's' then 'stable' end,
        case when p.prosecdef then 'security definer' end, case p.proparallel when 's' then 'parallel safe' end,
        case when p.proconfig is not null then 'set ' || array_to_string(p.proconfig, ' set ') end) as how,
      ${GRANTS_OF('p.proacl')} as grants
    from pg_proc p join pg_language l on l.oid = p.prolang where p.pronamespace = 'holdfast'::regnamespace order by 1, 2`);
  return rows.map(({ name, parameters, result, how, body, grants }) =>
    [
      filled(`create function ${name}(`, parameters === '' ? [] : parameters.split(', '), ')').replace(/\($/, '()'),
      filled(`returns`, result.split(', '), ''),
      `language ${how};`,
      ...(bodies ? [body] : []),
      ...grantLines(grants, `function ${name}`),
    ].join('\n'),
  );
}
