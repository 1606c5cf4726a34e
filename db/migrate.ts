/**
 * Applies the migrations of db/migrations, each in a transaction of its own. Two starters cannot both apply: the
 * runner takes an advisory lock first, the second one waits for it and then finds nothing to do.
 */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { runner } from 'node-pg-migrate';
import { PostgresTooOld, requirePostgres } from './server-version.ts';

const MIGRATIONS = fileURLToPath(new URL('./migrations', import.meta.url));

/**
 * Brings the database up to date. `databaseUrl` is a login that may create roles, a schema and tables. Throws `PostgresTooOld` before
 * anything is changed.
 */
export async function migrate(databaseUrl: string, log: (line: string) => void = () => undefined): Promise<void> {
  await requirePostgres({ DATABASE_URL: databaseUrl });
  await runner({
    databaseUrl,
    dir: MIGRATIONS,
    direction: 'up',
    migrationsTable: 'migration',
    migrationsSchema: 'public',
    advisoryLockMode: 'wait',
    checkOrder: true,
    singleTransaction: false,
    logger: { debug: () => undefined, info: () => undefined, warn: log, error: log },
  });
}

/** Which migrations a database lacks, and which it has that this code does not know; null where none was ever applied. */
export async function migrationState(
  client: Pick<pg.Client, 'query'>,
): Promise<{ missing: string[]; unknown: string[] } | null> {
  const { rows: found } = await client.query<{ is_there: boolean }>(
    "select to_regclass('public.migration') is not null as is_there",
  );
  if (found[0]?.is_there !== true) return null;
  const { rows } = await client.query<{ name: string }>('select name from public.migration order by name');
  const applied = rows.map(({ name }) => name);
  const known = readdirSync(MIGRATIONS)
    .filter((file) => file.endsWith('.sql'))
    .map((file) => file.slice(0, -'.sql'.length))
    .sort();
  return {
    missing: known.filter((name) => !applied.includes(name)),
    unknown: applied.filter((name) => !known.includes(name)),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const url = process.env['DATABASE_URL'];
  if (url === undefined || url === '') {
    console.error(
      'DATABASE_URL is not set: it names the database to migrate, as a login that may create roles and tables.',
    );
    process.exit(1);
  }
  try {
    await migrate(url, (line) => console.error(line));
    console.log('database is up to date');
  } catch (error) {
    if (!(error instanceof PostgresTooOld)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
