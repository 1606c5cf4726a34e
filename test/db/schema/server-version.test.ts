/** A server that is too old is named before anything is asked of it that it cannot know. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { migrate } from '../../../db/migrate.ts';
import { PostgresTooOld, requirePostgres } from '../../../db/schema/server-version.ts';
import { startOldPostgres, type OldPostgres } from '../../support/old-postgres.ts';
import { testServices } from '../../support/services.ts';

const ROOT = resolve(import.meta.dirname, '../../..');

describe('the version of PostgreSQL', () => {
  let old: OldPostgres;
  before(async () => {
    old = await startOldPostgres('16.4 (Debian 16.4-1.pgdg120+1)');
  });
  after(() => old.close());

  const NAMED = /PostgreSQL 18 or newer is needed, and DATABASE_URL leads to 16\.4 \(Debian .*\) at 127\.0\.0\.1:\d+$/;

  it('is checked before a migration begins: nothing else is asked', async () => {
    await assert.rejects(migrate(old.url), (error: Error) => {
      assert.ok(error instanceof PostgresTooOld);
      assert.match(error.message, NAMED);
      return true;
    });
    assert.ok(
      old.statements.every((statement) => statement.includes('server_version')),
      old.statements.join('\n'),
    );
  });

  for (const program of ['db/migrate.ts', 'api/main.ts', 'worker/main.ts']) {
    it(`ends ${program} at its start, with one line that names the version that is needed`, async () => {
      const child = spawn(process.execPath, [program], {
        cwd: ROOT,
        env: { ...process.env, DATABASE_URL: old.url, TEMPORAL_ADDRESS: '127.0.0.1:1', HOLDFAST_PORT: '0' },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let screen = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk: Buffer) => void (screen += chunk.toString()));
      }
      const [code] = (await once(child, 'close')) as [number | null];
      assert.equal(code, 1, screen);
      assert.match(screen, /PostgreSQL 18 or newer is needed, and DATABASE_URL\w* leads to 16\.4/);
      assert.doesNotMatch(screen, /secret|current transaction is aborted/);
    });
  }

  it('is no reason to stop where the server is new enough, or cannot be reached', async () => {
    await requirePostgres({
      DATABASE_URL: testServices().databaseUrl,
      DATABASE_URL_REPORTER: 'postgres://127.0.0.1:1/x',
    });
  });
});
