/**
 * The Temporal dev server as a part of a stack. Owns its command line; namespaces, schedules and search attributes are
 * set up by the worker, and histories survive restarts in one SQLite file of the data dir.
 *
 * SQLite runs with `synchronous=OFF`: a kill -9 loses nothing, a power cut may. That is safe here, because money never
 * depends on Temporal's memory: what is finished but not settled stands in PostgreSQL and the sweep finds it.
 */
import { Connection } from '@temporalio/client';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { startChild, waitUntilReady, type Child } from '../twins/kit/child-process.ts';

export interface TemporalOptions {
  /** The program, from {@link locateTemporal}. */
  readonly program: string;
  readonly dataDir: string;
  readonly port: number;
  /** Null: no web UI. */
  readonly uiPort: number | null;
  readonly logFile: string;
  readonly recordFile: string;
  /** Added to the nice level; see {@link BACKGROUND_NICE}. */
  readonly nice: number;
  readonly signal?: AbortSignal | undefined;
}

export interface TemporalServer {
  readonly child: Child;
  readonly address: string;
  readonly uiUrl: string | null;
}

/**
 * Temporal and worker get less CPU than gateway and PostgreSQL where all share one machine: settling may lag a little,
 * answering may not. Measured in docs/decisions/0001: p99 at 400 requests/s falls from 35 to 9 ms.
 */
export const BACKGROUND_NICE = 10;

const LOOPBACK = '127.0.0.1';

/** Starts the server and resolves once its front end answers and the `default` namespace exists. */
export async function startTemporal(options: TemporalOptions): Promise<TemporalServer> {
  const address = `${LOOPBACK}:${options.port}`;
  const folder = join(options.dataDir, 'temporal');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const child = await startChild({
    name: 'temporal',
    command: options.program,
    args: commandLine(options, join(folder, 'temporal.db')),
    env: process.env,
    logFile: options.logFile,
    recordFile: options.recordFile,
    nice: options.nice,
  });
  await waitUntilReady(child, () => answers(address), { timeoutSeconds: 60, signal: options.signal });
  return { child, address, uiUrl: options.uiPort === null ? null : `http://${LOOPBACK}:${options.uiPort}` };
}

function commandLine(options: TemporalOptions, databaseFile: string): string[] {
  const dynamic = {
    // One partition is enough for one machine and saves the forwarding between partitions.
    'matching.numTaskqueueReadPartitions': '1',
    'matching.numTaskqueueWritePartitions': '1',
    // A search attribute can be used as soon as it is registered.
    'system.forceSearchAttributesCacheRefreshOnRead': 'true',
  };
  return [
    ...['server', 'start-dev', '--ip', LOOPBACK, '--port', String(options.port), '--log-level', 'warn'],
    ...['--db-filename', databaseFile],
    ...['--sqlite-pragma', 'journal_mode=WAL', '--sqlite-pragma', 'synchronous=OFF'],
    ...Object.entries(dynamic).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${value}`]),
    ...(options.uiPort === null ? ['--headless'] : ['--ui-port', String(options.uiPort)]),
  ];
}

async function answers(address: string): Promise<boolean> {
  const connection = await Connection.connect({ address, connectTimeout: 2000 });
  try {
    await connection.withDeadline(Date.now() + 2000, () =>
      connection.workflowService.describeNamespace({ namespace: 'default' }),
    );
    return true;
  } finally {
    await connection.close();
  }
}
