/**
 * PostgreSQL and a Temporal dev server for one run of the suite: free ports, a temporary data dir that is removed at
 * the end. Only test/run.ts starts them; test files use test/support/services.ts.
 */
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endLeftover } from '../../twins/kit/child-process.ts';
import { freePort } from '../../twins/kit/ports.ts';
import { startPostgres, type PostgresServer } from '../../sandbox/postgres.ts';
import { preparePostgresHome, removePostgresHome } from '../../sandbox/postgres-home.ts';
import { isRunning, readRecord, recordOf, writeRecord } from '../../twins/kit/process-record.ts';
import { locateTemporal } from '../../sandbox/temporal-locator.ts';
import { startTemporal, type TemporalServer } from '../../sandbox/temporal-server.ts';
import type { TestServices } from './services.ts';

const PREFIX = 'holdfast-test-';

export interface SharedServices extends TestServices {
  stop(): Promise<void>;
}

export async function startSharedServices(progress: (message: string) => void): Promise<SharedServices> {
  await removeAbandoned();
  const dataDir = mkdtempSync(join(tmpdir(), PREFIX));
  // Under root PostgreSQL runs as another user, which must be able to pass through.
  chmodSync(dataDir, 0o711);
  const self = recordOf(process.pid);
  if (self !== null) writeRecord(join(dataDir, 'owner.json'), self);

  let postgres: PostgresServer | null = null;
  let temporal: TemporalServer | null = null;
  const stop = async (): Promise<void> => {
    await temporal?.child.stop({ graceSeconds: 15 });
    await postgres?.stop();
    postgres?.remove();
    rmSync(dataDir, { recursive: true, force: true });
  };
  try {
    postgres = await startPostgres({
      dataDir,
      port: await freePort(),
      logFile: join(dataDir, 'postgres.log'),
      recordFile: join(dataDir, 'postgres-process.json'),
      sharedBuffers: '256MB',
    });
    const program = await locateTemporal({ progress: (message) => progress(`Temporal: ${message}`) });
    temporal = await startTemporal({
      program: program.path,
      dataDir,
      port: await freePort(),
      uiPort: null,
      logFile: join(dataDir, 'temporal.log'),
      recordFile: join(dataDir, 'temporal-process.json'),
      nice: 0,
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { databaseUrl: postgres.url('postgres'), temporalAddress: temporal.address, stop };
}

/** What a killed earlier run left: ends its servers and removes its folder. Runs that are alive are not touched. */
async function removeAbandoned(): Promise<void> {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(PREFIX))) {
    const dataDir = join(tmpdir(), name);
    const owner = readRecord(join(dataDir, 'owner.json'));
    if (owner === null || isRunning(owner)) continue;
    for (const part of ['temporal', 'postgres']) {
      const recordFile = join(dataDir, `${part}-process.json`);
      await endLeftover(recordFile, { signal: 'SIGINT', graceSeconds: 10 });
    }
    removePostgresHome(preparePostgresHome(dataDir));
    rmSync(dataDir, { recursive: true, force: true });
  }
}
