/**
 * Which migrations a database has, and whether this code may work on it. A release that is older than its database may,
 * unless a newer migration is marked as breaking: then its processes end at their start and say so.
 */
import type pg from 'pg';
import { askEach } from './server-version.ts';
import { migrationNames } from './migration-files.ts';

export interface MigrationState {
  /** Names that the database lacks. */
  readonly missing: string[];
  /** Those that this code does not know. */
  readonly unknown: readonly UnknownMigration[];
}

export interface UnknownMigration {
  readonly name: string;
  /** What older code cannot live with; null where it can. */
  readonly breaking: string | null;
}

/** Compares a database with the files of this code; null where no migration was ever applied. */
export async function migrationState(
  client: Pick<pg.ClientBase, 'query'>,
  known: readonly string[] = migrationNames(),
): Promise<MigrationState | null> {
  const { rows: found } = await client.query<{ is_there: boolean; has_breaking: boolean }>(
    `select to_regclass('public.migration') is not null as is_there,
      exists (select from pg_attribute where attrelid = to_regclass('public.migration') and attname = 'breaking') as has_breaking`,
  );
  const { is_there, has_breaking } = found[0]!;
  if (!is_there) return null;
  const { rows: applied } = await client.query<UnknownMigration>(
    `select name, ${has_breaking ? 'breaking' : 'null as breaking'} from public.migration order by name`,
  );
  return {
    missing: known.filter((name) => !applied.some((row) => row.name === name)),
    unknown: applied.filter(({ name }) => !known.includes(name)),
  };
}

/** The database was migrated by a newer release, which says that this one cannot work with it. No waiting helps. */
export class SchemaTooNew extends Error {}

export const CURE_TOO_NEW = 'start the release that migrated it, or a newer one';

/**
 * What to say of a database that is too new for this code; null for any other. `variable` names where its address comes
 * from.
 */
export function tooNew({ unknown }: MigrationState, variable: string): string | null {
  const breaking = unknown.find((migration) => migration.breaking !== null);
  if (breaking === undefined) return null;
  return `the database of ${variable} is newer than this release, which cannot work with it: ${breaking.name} (${breaking.breaking})`;
}

/**
 * Throws `SchemaTooNew` when a database that can be reached is too new for this code. A database that cannot be reached, was
 * never migrated, or does not let its login see that, is no finding here: processes start while it is away.
 */
export async function requireUsableSchema(addresses: Readonly<Record<string, string>>): Promise<void> {
  const faults = await askEach(addresses, async (client, variable) => {
    const state = await migrationState(client);
    return state === null ? null : tooNew(state, variable);
  });
  for (const fault of faults) if (fault !== null) throw new SchemaTooNew(`${fault}: ${CURE_TOO_NEW}`);
}
