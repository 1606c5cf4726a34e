/**
 * Functions, views and triggers reach a database that is there already: what changed is replaced, what is gone is
 * dropped, tables and rows stay. Older and newer sets are copies of db/functions with a change in them.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { migrate } from '../../../db/migrate.ts';
import { describeSchema } from '../../../db/schema/describe.ts';
import { FUNCTIONS, readFunctionSet } from '../../../db/schema/function-set.ts';
import { MIGRATIONS } from '../../../db/schema/migration-files.ts';
import { statementsOf, withoutLayout } from '../../../db/schema/statements.ts';
import { createTestDatabase, type TestDatabase } from '../../support/services.ts';

describe('functions of a database that is there already', () => {
  let database: TestDatabase;
  let admin: pg.Pool;
  const folders: string[] = [];
  before(async () => {
    database = await createTestDatabase('function-set');
    admin = database.admin();
  });
  after(async () => {
    for (const folder of folders) rmSync(folder, { recursive: true });
    await database.drop();
  });
  /** Every test begins with what db/functions defines. */
  beforeEach(() => migrate(database.url));

  /** A copy of db/functions in which `file` reads otherwise. */
  function changedSet(changes: Record<string, (text: string) => string>): string {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-functions-'));
    folders.push(folder);
    cpSync(FUNCTIONS, folder, { recursive: true });
    for (const [file, change] of Object.entries(changes)) {
      const text = readFileSync(join(folder, file), 'utf8');
      const changed = change(text);
      assert.notEqual(changed, text, `${file} is changed`);
      writeFileSync(join(folder, file), changed);
    }
    return folder;
  }

  const apply = (functions: string): Promise<string[]> =>
    migrate(database.url, undefined, { migrations: MIGRATIONS, functions });

  async function schema(): Promise<string> {
    const client = await admin.connect();
    try {
      return await describeSchema(client, { bodies: true });
    } finally {
      client.release();
    }
  }

  /** What PostgreSQL knows a relation and a function by: another number is another object. */
  async function identities(): Promise<Map<string, string>> {
    const { rows } = await admin.query<{ name: string; identity: string }>(`
      select 'relation ' || relname as name, oid || '/' || relfilenode as identity from pg_class
      where relnamespace = 'holdfast'::regnamespace
      union all
      select 'function ' || proname, oid || '/' || xmin from pg_proc where pronamespace = 'holdfast'::regnamespace
      union all
      select 'trigger ' || tgrelid::regclass || tgname, oid || '/' || xmin from pg_trigger where not tgisinternal`);
    return new Map(rows.map(({ name, identity }) => [name, identity]));
  }

  it('changes nothing when nothing has changed', async () => {
    const known = await identities();
    assert.deepEqual(await migrate(database.url), []);
    assert.deepEqual(await identities(), known);
  });

  it('a change of one line reaches the database, and touches nothing but its function', async () => {
    const { rows: made } = await admin.query(
      "insert into account (kind, name) values ('customer', 'Kept') returning id, xmin",
    );
    const known = await identities();
    const functions = changedSet({
      'shared/postings.sql': (text) =>
        text.replace('posted with other accounts or another amount', 'posted with other content'),
    });
    assert.deepEqual(await apply(functions), ['function post_transfer']);
    const { rows } = await admin.query<{ body: string }>(
      "select prosrc as body from pg_proc where proname = 'post_transfer'",
    );
    assert.match(rows[0]!.body, /posted with other content/);
    const changed = [...(await identities())].filter(([name, identity]) => known.get(name) !== identity);
    assert.deepEqual(
      changed.map(([name]) => name),
      ['function post_transfer'],
    );
    const { rows: kept } = await admin.query("select id, xmin from account where name = 'Kept'");
    assert.deepEqual(kept, made);
  });

  it('older functions become those of a fresh database, whatever had changed between them', async () => {
    const fresh = await schema();
    const older = changedSet({
      // Another parameter, another result, another name; a body, a grant, a view, a trigger.
      'requests/finish.sql': (text) =>
        text
          .replace('is_billed(p_outcome text)', 'is_billed(outcome text)')
          .replace('select p_outcome in', 'select outcome in'),
      'shared/cases.sql': (text) =>
        text
          .replaceAll(
            'open_case(p_kind text, p_subject text, p_evidence jsonb) returns void',
            'open_case(p_kind text, p_subject text) returns integer',
          )
          .replace(
            'values (p_kind, p_subject, p_evidence) on conflict do nothing',
            "values (p_kind, p_subject, '{}'); select 1",
          ),
      'payments/deposits.sql': (text) => text.replace('t.fault as token_fault', 't.fault as fault_of_token'),
      'accounts/balances.sql': (text) => text.replaceAll('key_spending', 'spending_of_keys'),
      'accounts/notices.sql': (text) =>
        `${text}\ncreate function notices_of(p_account uuid) returns setof notice\nlanguage sql stable as $$ select * from notice where account_id = p_account $$;\ngrant execute on function notices_of to holdfast_worker;\n`,
      'requests/holds.sql': (text) =>
        text.replace(
          'grant execute on function extend_hold to holdfast_gateway',
          'grant execute on function extend_hold to holdfast_gateway, holdfast_auditor',
        ),
      'shared/change-notifications.sql': (text) =>
        text.replace('create trigger key_created', 'create trigger key_was_created'),
      'commissions/marks.sql': (text) =>
        text
          .replace('create function mark_funding()', '-- older\ncreate function mark_funding()')
          .replace('perform note_account_mark(t.account_id', 'perform note_account_mark (t.account_id'),
    });
    await apply(older);
    assert.notEqual(await schema(), fresh);
    await migrate(database.url);
    assert.equal(await schema(), fresh);
  });

  it('a fault in one of them leaves the database as it was', async () => {
    const before = await schema();
    const faults: Record<string, (text: string) => string> = {
      'requests/recovery.sql': (text) =>
        text
          .replace('from gateway_instance', 'from no_such_table')
          .replace('update gateway_instance', 'update no_such_table'),
      'accounts/freezes.sql': (text) => text.replace('return found;', 'return found'),
    };
    for (const [file, change] of Object.entries(faults)) {
      const functions = changedSet({
        [file]: change,
        'shared/refusals.sql': (text) => text.replaceAll('p_unsettled', 'p_is_unsettled'),
      });
      await assert.rejects(apply(functions), /no_such_table|syntax error|missing ";"/);
      assert.equal(await schema(), before);
    }
    assert.deepEqual(await migrate(database.url), []);
  });

  it('a replaced function waits for nobody who holds rows of requests and accounts', async () => {
    const client = await admin.connect();
    try {
      await client.query('begin; lock table request, account, api_key, posting in row exclusive mode');
      await client.query('select from account for update');
      const functions = changedSet({
        'requests/holds.sql': (text) => text.replace("'request unknown or ended'", "'request unknown, or ended'"),
      });
      assert.deepEqual(await apply(functions), ['function extend_hold']);
    } finally {
      await client.query('rollback');
      client.release();
    }
  });

  it('leaves alone what others have made, and refuses to drop what they depend on', async () => {
    await admin.query('create function strange() returns integer language sql as $$ select 1 $$');
    await admin.query('create view strange_balances as select * from account_balance');
    try {
      const functions = changedSet({
        'accounts/balances.sql': (text) => text.replace('as available', 'as spendable'),
      });
      await assert.rejects(apply(functions), /cannot drop view account_balance because other objects depend on it/);
      await migrate(database.url);
      await admin.query('select strange(), (select count(*) from strange_balances)');
    } finally {
      await admin.query('drop view strange_balances; drop function strange()');
    }
  });

  it('makes again what somebody has dropped by hand', async () => {
    const before = await schema();
    await admin.query('drop view violations; drop function find_orphans; drop trigger never_deleted on request');
    const made = await migrate(database.url);
    assert.deepEqual(made.sort(), ['function find_orphans', 'trigger never_deleted on request', 'view violations']);
    assert.equal(await schema(), before);
  });
});

describe('files of db/functions', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-functions-'));
  after(() => rmSync(folder, { recursive: true }));
  const read = (text: string): ReturnType<typeof readFunctionSet> => {
    writeFileSync(join(folder, 'shared.sql'), text);
    return readFunctionSet(folder);
  };

  it('may define functions, views and triggers with their grants', () => {
    const set = read(`
      -- what it is for; with a semicolon
      create function one(p_a text default ';') returns text language sql as $$ select 'a;b' -- c;
        $$;
      grant execute on function one to holdfast_worker, holdfast_gateway;
      create view two as select 1 as n;
      create trigger three after insert or update of a, b on t for each row execute function one();`);
    assert.deepEqual(
      set.map(({ kind, name, grants }) => [kind, name, grants.length]),
      [
        ['function', 'one', 1],
        ['view', 'two', 0],
        ['trigger', 'three on t', 0],
      ],
    );
  });

  it('are refused with a table, a second function of one name, or a grant of something else', () => {
    assert.throws(() => read('create table t (a integer);'), /no function, view, trigger or grant .*: create table t/);
    assert.throws(() => read('insert into account (kind) values (1);'), /no function, view, trigger or grant/);
    const one = 'create function one() returns text language sql as $$ select 1 $$;';
    assert.throws(() => read(one + one), /a second function one/);
    assert.throws(() => read('grant select on account to holdfast_worker;'), /account must be made above its grant/);
    assert.throws(() => read('create view two as select 1'), /a statement without its semicolon/);
  });

  it('are read as statements, whatever stands in their strings, comments and bodies', () => {
    const text = "select ';' -- ;\n, 'it''s'; -- between; \nselect $x$ ; $$ ; $x$;";
    assert.deepEqual(statementsOf(text), ["select ';' -- ;\n, 'it''s'", 'select $x$ ; $$ ; $x$']);
    assert.equal(withoutLayout("select  'a  b' -- c\n  , 1"), "select 'a  b' , 1");
  });
});
