/**
 * Brings a database up to date in one transaction: the numbered files of db/migrations that it lacks, then the
 * functions of db/functions that have changed. A fault leaves everything as it was. Two starters cannot both apply: the
 * second one waits for the first one's lock and then finds nothing to do.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { PG_MIGRATE_LOCK_ID, runner, type RunnerOption } from 'node-pg-migrate';
import { applyFunctions } from './schema/apply-functions.ts';
import { FUNCTIONS, readFunctionSet } from './schema/function-set.ts';
import { breakingReason, migrationNames, MIGRATIONS } from './schema/migration-files.ts';
import { CURE_TOO_NEW, migrationState, SchemaTooNew, tooNew } from './schema/migration-state.ts';
import { PostgresTooOld, requirePostgres } from './schema/server-version.ts';

/** Months of `request` and `posting` that a database has ahead after a migration; the worker keeps it so. */
const PARTITION_MONTHS_AHEAD = 3;

/** Where the files are, if not here; for tests. */
export interface SchemaFolders {
  readonly migrations: string;
  readonly functions: string;
}

/** The database was made by migrations that never were in a release. No migration leads from it to these. */
export class ForeignSchema extends Error {}

/**
 * Brings the database up to date, and returns which functions, views and triggers it made, replaced or dropped.
 * `databaseUrl` is a login that may create roles, a schema and tables; `log` hears what fails. Throws `PostgresTooOld`,
 * `SchemaTooNew` or `ForeignSchema` before anything is changed. On a database that is newer, but not too new, it
 * changes nothing: an older release never puts its functions in the place of newer ones.
 */
export async function migrate(
  databaseUrl: string,
  log: (line: string) => void = () => undefined,
  { migrations, functions }: SchemaFolders = { migrations: MIGRATIONS, functions: FUNCTIONS },
): Promise<string[]> {
  await requirePostgres({ DATABASE_URL: databaseUrl });
  const set = readFunctionSet(functions);
  const client = new pg.Client({ connectionString: databaseUrl });
  // A connection that breaks fails the statement that waits for it.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query('begin');
    await client.query(`select pg_advisory_xact_lock(${PG_MIGRATE_LOCK_ID})`);
    if (await isNewer(client, migrations)) {
      log('the database is newer than this release: nothing is changed');
      return [];
    }
    await runner({ ...RUNNER, dbClient: client, dir: migrations, logger: { ...SILENT, error: log } });
    await markBreaking(client, migrations);
    const changed = await applyFunctions(client, set);
    await client.query('select holdfast.ensure_partitions($1)', [PARTITION_MONTHS_AHEAD]);
    await client.query('commit');
    return changed;
  } finally {
    // Ends the transaction as well, should it be open.
    await client.end();
  }
}

/** More are counted, not named. */
const CHANGES_NAMED_MAX = 30;

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined };

/** The runner's own transactions and lock are off: it works within ours. */
const RUNNER = {
  direction: 'up',
  migrationsTable: 'migration',
  migrationsSchema: 'public',
  ignorePattern: '(?!.*\\.sql$).*',
  checkOrder: true,
  noLock: true,
  migrationLoaderStrategies: [
    {
      extensions: ['.sql'],
      loader: (files) =>
        Promise.all(
          files.map(async (file) => {
            const text = await readFile(file, 'utf8');
            return {
              id: file,
              filePaths: [file],
              actions: {
                up: (builder) => {
                  builder.noTransaction();
                  builder.sql(text);
                },
              },
            };
          }),
        ),
    },
  ],
} as const satisfies Partial<RunnerOption>;

/**
 * Whether a later release has migrated the database. Throws `SchemaTooNew` where it says that this one cannot work with
 * it.
 */
async function isNewer(client: pg.Client, migrations: string): Promise<boolean> {
  const known = migrationNames(migrations);
  const state = await migrationState(client, known);
  if (state === null || state.unknown.length === 0) return false;
  const fault = tooNew(state, 'DATABASE_URL');
  if (fault !== null) throw new SchemaTooNew(`${fault}: ${CURE_TOO_NEW}`);
  const stranger = state.unknown.find(({ name }) => name < known.at(-1)!);
  if (stranger !== undefined) {
    throw new ForeignSchema(
      `the database was made by other migrations than these (${stranger.name}): it is of a development version. Make a new one with ` +
        'npm run db:reset; in a sandbox: npm run sandbox:reset',
    );
  }
  return true;
}

/** Writes down, for releases that do not have the file, what of a migration they cannot live with. */
async function markBreaking(client: pg.Client, migrations: string): Promise<void> {
  await client.query('alter table public.migration add column if not exists breaking text');
  await client.query(
    `grant select on public.migration to holdfast_gateway, holdfast_worker, holdfast_management, holdfast_reporter, holdfast_auditor`,
  );
  for (const name of migrationNames(migrations)) {
    const reason = breakingReason(name, migrations);
    if (reason === null) continue;
    await client.query('update public.migration set breaking = $2 where name = $1 and breaking is distinct from $2', [
      name,
      reason,
    ]);
  }
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
    const changed = await migrate(url, (line) => console.error(line));
    if (changed.length <= CHANGES_NAMED_MAX) for (const change of changed) console.log(`applied ${change}`);
    else console.log(`applied ${changed.length} functions, views and triggers`);
    console.log('database is up to date');
  } catch (error) {
    const isExplained = [PostgresTooOld, SchemaTooNew, ForeignSchema].some((type) => error instanceof type);
    if (!(error instanceof Error) || !isExplained) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
