/**
 * `npm run db:dump`: writes db/schema.sql, the schema of a fresh database, from a PostgreSQL of its own that is removed again.
 * test/db/schema/schema.test.ts fails while the file is not what this writes.
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import pg from 'pg';
import { migrate } from '../db/migrate.ts';
import { describeSchema, SCHEMA_HEADER } from '../db/schema/describe.ts';
import { freePort } from '../twins/kit/ports.ts';
import { startPostgres } from './postgres.ts';

const FILE = resolve(import.meta.dirname, '../db/schema.sql');

const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-schema-'));
// Under root PostgreSQL runs as another user, which must be able to pass through.
chmodSync(dataDir, 0o711);
try {
  const postgres = await startPostgres({
    dataDir,
    port: await freePort(),
    logFile: join(dataDir, 'postgres.log'),
    recordFile: join(dataDir, 'postgres-process.json'),
    sharedBuffers: '64MB',
  });
  try {
    const url = postgres.url('postgres');
    await migrate(url, (line) => console.error(line));
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      writeFileSync(FILE, SCHEMA_HEADER + (await describeSchema(client)));
    } finally {
      await client.end();
    }
  } finally {
    await postgres.stop();
    postgres.remove();
  }
  console.log('db/schema.sql is written');
} finally {
  rmSync(dataDir, { recursive: true, force: true });
}
