/**
 * The worker as the process it is: it may start before Temporal does, says by `/healthz` when it works, works in both
 * namespaces, and ends in order whenever it is told to.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Client, Connection } from '@temporalio/client';
import { freePort } from '../../twins/kit/ports.ts';
import {
  lowBalanceWorkflowId,
  MAINTENANCE_SCHEDULE_ID,
  SWEEP_SCHEDULE_ID,
  WORKFLOW_TYPES,
  type Namespaces,
} from '../../contract/index.ts';
import { createTestDatabase, testServices, type TestDatabase } from '../support/services.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const ROOT = resolve(import.meta.dirname, '../..');

interface WorkerProcess {
  readonly log: readonly Record<string, unknown>[];
  /** Status of `/healthz`; null while nobody listens. */
  health(): Promise<number | null>;
  signal(signal: NodeJS.Signals): void;
  readonly exited: Promise<number | null>;
}

describe('worker process', () => {
  let database: TestDatabase;
  let connection: Connection;
  let proxy: TcpProxy;
  let namespaces: Namespaces;
  const started: WorkerProcess[] = [];

  before(async () => {
    database = await createTestDatabase('worker-process');
    connection = await Connection.connect({ address: testServices().temporalAddress });
    const [host, port] = testServices().temporalAddress.split(':');
    proxy = await startTcpProxy({ host: host!, port: Number(port) });
  });
  beforeEach(() => {
    proxy.accept();
    const suffix = randomBytes(4).toString('hex');
    namespaces = { requests: `test-worker-requests-${suffix}`, processes: `test-worker-${suffix}` };
  });
  afterEach(async () => {
    for (const worker of started.splice(0)) {
      worker.signal('SIGKILL');
      await worker.exited;
    }
    const { requests, processes } = clientsOf(namespaces);
    await requests.schedule
      .getHandle(SWEEP_SCHEDULE_ID)
      .delete()
      .catch(() => undefined);
    await processes.schedule
      .getHandle(MAINTENANCE_SCHEDULE_ID)
      .delete()
      .catch(() => undefined);
  });
  after(async () => {
    await proxy.close();
    await connection.close();
    await database.drop();
  });

  function clientsOf({ requests, processes }: Namespaces): { requests: Client; processes: Client } {
    return {
      requests: new Client({ connection, namespace: requests }),
      processes: new Client({ connection, namespace: processes }),
    };
  }

  async function launch(environment: Record<string, string> = {}): Promise<WorkerProcess> {
    const port = await freePort();
    const child = spawn(process.execPath, [resolve(ROOT, 'worker/main.ts')], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: process.env['PATH'],
        DATABASE_URL: database.url,
        TEMPORAL_ADDRESS: proxy.address,
        TEMPORAL_NAMESPACE_REQUESTS: namespaces.requests,
        TEMPORAL_NAMESPACE: namespaces.processes,
        WORKER_HEALTH_PORT: String(port),
        SWEEP_INTERVAL_SECONDS: '3600',
        GATEWAY_GONE_SECONDS: '7200',
        ...environment,
      },
    });
    const exited = once(child, 'exit').then(([code]) => code as number | null);
    const log: Record<string, unknown>[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => {
      log.push(JSON.parse(line) as Record<string, unknown>);
    });
    const worker: WorkerProcess = {
      log,
      exited,
      signal: (signal) => child.kill(signal),
      async health() {
        try {
          return (await fetch(`http://127.0.0.1:${port}/healthz`)).status;
        } catch {
          return null;
        }
      },
    };
    started.push(worker);
    return worker;
  }

  const logged = (worker: WorkerProcess, message: string): boolean => worker.log.some(({ msg }) => msg === message);

  it('waits for a Temporal that is still away, then sets it up, works in both namespaces, and goes on after an outage', async () => {
    proxy.refuse();
    const worker = await launch();
    await until('it notices', () => logged(worker, 'waiting for temporal'));
    assert.notEqual(await worker.health(), 200);

    proxy.accept();
    await until('it works', async () => (await worker.health()) === 200);
    const clients = clientsOf(namespaces);
    await clients.requests.schedule.getHandle(SWEEP_SCHEDULE_ID).describe();
    const accountId = `acct_${randomUUID().replaceAll('-', '')}`;
    const results: unknown[] = await Promise.all([
      clients.requests.workflow.execute(WORKFLOW_TYPES.noticeLowBalance, {
        workflowId: lowBalanceWorkflowId(accountId),
        taskQueue: namespaces.requests,
        args: [{ accountId }],
      }),
      clients.processes.workflow.execute(WORKFLOW_TYPES.maintainLedger, {
        workflowId: 'maintain-now',
        taskQueue: namespaces.processes,
      }),
    ]);
    assert.deepEqual(results, [{ written: false }, { partitionsMade: 0 }]);

    proxy.refuse();
    const upkeep = await clients.processes.workflow.start(WORKFLOW_TYPES.maintainLedger, {
      workflowId: 'maintain-later',
      taskQueue: namespaces.processes,
    });
    proxy.accept();
    assert.deepEqual(await upkeep.result(), { partitionsMade: 0 });
    assert.equal(await worker.health(), 200);

    worker.signal('SIGTERM');
    assert.equal(await worker.exited, 0);
    assert.ok(logged(worker, 'worker stopped'));
  }).timeout(60_000);

  it('ends in order when it is told to while it still waits for Temporal', async () => {
    proxy.refuse();
    const worker = await launch();
    await until('it notices', () => logged(worker, 'waiting for temporal'));
    worker.signal('SIGTERM');
    assert.equal(await worker.exited, 0);
    assert.ok(logged(worker, 'worker stopped before it ran'));
  }).timeout(60_000);

  it('refuses to start on a configuration it cannot read, and names every bad variable without its value', async () => {
    const child = spawn(process.execPath, [resolve(ROOT, 'worker/main.ts')], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { DATABASE_URL: 'mysql://user:secret@host/db', TEMPORAL_ADDRESS: 'x', SWEEP_INTERVAL_SECONDS: '-1' },
    });
    let errors = '';
    child.stderr.on('data', (part: Buffer) => (errors += part.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    assert.notEqual(code, 0);
    assert.match(errors, /DATABASE_URL/);
    assert.match(errors, /SWEEP_INTERVAL_SECONDS/);
    assert.doesNotMatch(errors, /secret/);
  });
});
