/**
 * The schema as files: numbered files are frozen, db/schema.sql is what they and db/functions make, and SQL can be
 * read. A process of an older release ends at its start where a newer migration says that it cannot go on.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { migrate, ForeignSchema } from '../../../db/migrate.ts';
import { describeSchema, SCHEMA_HEADER } from '../../../db/schema/describe.ts';
import { FUNCTIONS, readFunctionSet } from '../../../db/schema/function-set.ts';
import { breakingReason, migrationNames, MIGRATIONS } from '../../../db/schema/migration-files.ts';
import { migrationState, requireUsableSchema, SchemaTooNew } from '../../../db/schema/migration-state.ts';
import { createTestDatabase, type TestDatabase } from '../../support/services.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const DB = join(ROOT, 'db');
const SQL_FILES = globSync('{migrations,functions}/**/*.sql', { cwd: DB }).sort();
const LINE_MAX = 120;
const FILE_MAX = 340;

describe('files of the schema', () => {
  it('numbered files are as they were committed', () => {
    const lines = migrationNames().map((name) => {
      const content = readFileSync(join(MIGRATIONS, `${name}.sql`));
      return `${createHash('sha256').update(content).digest('hex')}  ${name}.sql`;
    });
    const committed = readFileSync(join(MIGRATIONS, 'SHA256SUMS'), 'utf8').trimEnd().split('\n');
    assert.deepEqual(
      lines,
      committed,
      'a numbered file never changes: write a new one, and add its line to db/migrations/SHA256SUMS',
    );
  });

  it('lines of SQL fit into 120 columns, and files can be read at once', () => {
    const long = SQL_FILES.flatMap((file) =>
      readFileSync(join(DB, file), 'utf8')
        .split('\n')
        .flatMap((line, index) => ([...line].length > LINE_MAX ? [`${file}:${index + 1}`] : [])),
    );
    assert.deepEqual(long, []);
    const tall = SQL_FILES.filter((file) => readFileSync(join(DB, file), 'utf8').split('\n').length > FILE_MAX);
    assert.deepEqual(tall, []);
  });

  it('a statement ends its line', () => {
    const crowded = SQL_FILES.flatMap((file) =>
      readFileSync(join(DB, file), 'utf8')
        .replaceAll(/'(?:[^'\n]|'')*'|--[^\n]*/g, '')
        .split('\n')
        .flatMap((line, index) => (/;\s*\S/.test(line) ? [`${file}:${index + 1}`] : [])),
    );
    assert.deepEqual(crowded, []);
  });

  it('variables of functions begin with v_, so that none is taken for a column', () => {
    const declared = SQL_FILES.filter((file) => file.startsWith('functions/')).flatMap((file) =>
      [...readFileSync(join(DB, file), 'utf8').matchAll(/^declare\n([\s\S]*?)^begin$/gm)].flatMap(([, block]) =>
        [...block!.matchAll(/^ {2}(\w+) /gm)].map(([, name]) => `${file}: ${name}`),
      ),
    );
    assert.ok(declared.length > 100, 'they are found');
    assert.deepEqual(
      declared.filter((name) => !/: v_\w+$/.test(name)),
      [],
    );
  });

  it('every file of SQL begins with a comment that says what it is about', () => {
    const mute = SQL_FILES.filter((file) => !readFileSync(join(DB, file), 'utf8').startsWith('-- '));
    assert.deepEqual(mute, []);
  });
});

describe('the schema of a database', () => {
  let database: TestDatabase;
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-migrations-'));
  before(async () => {
    database = await createTestDatabase('schema');
  });
  after(async () => {
    rmSync(folder, { recursive: true });
    await database.drop();
  });

  it('is what db/schema.sql says', async () => {
    const client = await database.admin().connect();
    try {
      assert.equal(
        readFileSync(join(DB, 'schema.sql'), 'utf8'),
        SCHEMA_HEADER + (await describeSchema(client)),
        'run npm run db:dump',
      );
    } finally {
      client.release();
    }
  });

  it('has parameters that begin with p_, so that none is taken for a column', async () => {
    const { rows } = await database.admin().query<{ name: string }>(`
      select distinct p.proname || ': ' || parameter as name
      from pg_proc p cross join unnest(p.proargnames[1:p.pronargs]) parameter
      where p.pronamespace = 'holdfast'::regnamespace and parameter !~ '^p_'
        -- Frozen with their tables: their parameters are columns.
        and p.proname not in ('account_is_sound', 'request_is_sound')`);
    assert.deepEqual(rows, []);
  });

  it('is made by one of two starters, and the other finds nothing to do', async () => {
    const empty = await createTestDatabase('schema-empty');
    try {
      await empty.admin().query('drop schema holdfast cascade; drop table public.migration');
      const made = await Promise.all([migrate(empty.url), migrate(empty.url)]);
      assert.deepEqual(made.map(({ length }) => length).sort(), [0, readFunctionSet().length].sort());
      const { rows } = await empty.admin().query('select from violations');
      assert.equal(rows.length, 0);
    } finally {
      await empty.drop();
    }
  });

  it('is emptied and made again by db:reset, which wants to hear the name of the database', async () => {
    const used = await createTestDatabase('schema-reset');
    const name = new URL(used.url).pathname.slice(1);
    try {
      const customers = "select from account where kind = 'customer'";
      await used.admin().query("insert into account (kind, name) values ('customer', 'Gone')");
      const refused = await startProgram('db/reset.ts', used.url, ['other']);
      assert.equal(refused.code, 1);
      assert.match(refused.screen, /This removes every row of the database .* npm run db:reset -- test_schema_reset_/);
      assert.equal((await used.admin().query(customers)).rowCount, 1);
      const reset = await startProgram('db/reset.ts', used.url, [name]);
      assert.equal(reset.code, 0, reset.screen);
      assert.equal((await used.admin().query(customers)).rowCount, 0);
    } finally {
      await used.drop();
    }
  });

  /** The numbered files with one more. */
  function newerMigrations(name: string, text: string): string {
    const newer = mkdtempSync(join(folder, 'newer-'));
    cpSync(MIGRATIONS, newer, { recursive: true });
    writeFileSync(join(newer, `${name}.sql`), text);
    return newer;
  }

  it('stays as it was when a migration fails, the ones before it included', async () => {
    const migrations = newerMigrations('9001_one', 'create table public.one (n integer);');
    writeFileSync(join(migrations, '9002_two.sql'), 'select no_such_column;');
    await assert.rejects(
      migrate(database.url, undefined, { migrations, functions: FUNCTIONS }),
      /column "no_such_column" does not exist/,
    );
    const { rows } = await database
      .admin()
      .query("select to_regclass('public.one') as one, max(name) as last from public.migration");
    assert.deepEqual(rows, [{ one: null, last: migrationNames().at(-1) }]);
  });

  it('may be newer than the code, and then stays as it is', async () => {
    const newer = await createTestDatabase('schema-newer');
    try {
      const migrations = newerMigrations('9001_more', 'create table public.more (n integer);');
      await migrate(newer.url, undefined, { migrations, functions: FUNCTIONS });
      await requireUsableSchema({ DATABASE_URL: newer.url });
      const said: string[] = [];
      assert.deepEqual(await migrate(newer.url, (line) => said.push(line)), []);
      assert.match(said.join(), /the database is newer than this release: nothing is changed/);
      const state = await migrationState(newer.admin());
      assert.deepEqual(state, { missing: [], unknown: [{ name: '9001_more', breaking: null }] });
    } finally {
      await newer.drop();
    }
  });

  it('refuses older code where a newer migration is marked as breaking', async () => {
    const newer = await createTestDatabase('schema-breaking');
    try {
      const text = '-- Requests are kept elsewhere.\n-- breaking: requests are not in `request`\nselect 1;\n';
      const migrations = newerMigrations('9001_elsewhere', text);
      await migrate(newer.url, undefined, { migrations, functions: FUNCTIONS });
      const words =
        /the database of DATABASE_URL\w* is newer than this release, .*: 9001_elsewhere \(requests are not in `request`\)/;
      const isRefusal = (error: Error): boolean => error instanceof SchemaTooNew && words.test(error.message);
      await assert.rejects(requireUsableSchema({ DATABASE_URL: newer.url }), isRefusal);
      await assert.rejects(migrate(newer.url), isRefusal);
      for (const program of ['db/migrate.ts', 'api/main.ts', 'worker/main.ts']) {
        const { code, screen } = await startProgram(program, newer.url);
        assert.equal(code, 1, screen);
        assert.match(screen, words);
        assert.match(screen, /start the release that migrated it, or a newer one/);
      }
    } finally {
      await newer.drop();
    }
  });

  it('is refused by the migrations when it was made by others', async () => {
    const other = await createTestDatabase('schema-foreign');
    try {
      await other.admin().query("update public.migration set name = '0001_others' where name like '0001%'");
      await assert.rejects(migrate(other.url), (error: Error) => error instanceof ForeignSchema);
    } finally {
      await other.drop();
    }
  });

  it('is breaking where the header of a migration says so, and only there', () => {
    const migrations = newerMigrations(
      '9001_a',
      '-- What it does.\n-- breaking: holds have another form\n\nselect 1;\n',
    );
    writeFileSync(join(migrations, '9002_b.sql'), '-- What it does.\nselect 1;\n-- breaking: not in the header\n');
    assert.equal(breakingReason('9001_a', migrations), 'holds have another form');
    assert.equal(breakingReason('9002_b', migrations), null);
  });
});

/** Runs a program until it ends; for those that end at their start. */
async function startProgram(
  program: string,
  databaseUrl: string,
  args: readonly string[] = [],
): Promise<{ code: number | null; screen: string }> {
  const child = spawn(process.execPath, [program, ...args], {
    cwd: ROOT,
    env: { ...process.env, DATABASE_URL: databaseUrl, TEMPORAL_ADDRESS: '127.0.0.1:1', HOLDFAST_PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let screen = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => void (screen += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, screen };
}
