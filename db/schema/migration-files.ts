/**
 * The numbered files of db/migrations. They hold tables and what tables are made of; each is frozen once it is
 * committed, and db/migrations/SHA256SUMS has the hash of each (`sha256sum --check` reads it).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const MIGRATIONS = fileURLToPath(new URL('../migrations', import.meta.url));

/** The names without `.sql`, in the order in which they are applied. */
export function migrationNames(folder: string = MIGRATIONS): string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.sql'))
    .map((file) => file.slice(0, -'.sql'.length))
    .sort();
}

/**
 * What processes of an older release cannot live with, from the line `-- breaking: …` that such a migration begins
 * with; null where they can go on.
 */
export function breakingReason(name: string, folder: string = MIGRATIONS): string | null {
  return /^-- breaking: (.+)$/m.exec(headerOf(readFileSync(join(folder, `${name}.sql`), 'utf8')))?.[1] ?? null;
}

/** The comment that a file begins with. */
function headerOf(text: string): string {
  return /^(?:--.*\n)*/.exec(text)![0];
}
