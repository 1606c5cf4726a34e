/**
 * The sign of life of a gateway: one whose event loop is busy is alive, one that hangs for a long time, has ended or
 * was killed is not; and a database that was away is found again.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type pg from 'pg';
import { pino } from 'pino';
import { Heartbeat } from '../../../../api/gateway/core/heartbeat.ts';
import { createPool } from '../../../../db/shared/client.ts';
import type { BusyGatewayOptions } from '../../../support/busy-gateway.ts';
import { createTestDatabase, type TestDatabase } from '../../../support/services.ts';
import { startTcpProxyFor, type TcpProxy } from '../../../support/tcp-proxy.ts';
import { until } from '../../../support/until.ts';

const INTERVAL_SECONDS = 0.1;
/** Silence after which these tests take a gateway for gone. */
const GONE_MS = 1500;
const BUSY_GATEWAY = new URL('../../../support/busy-gateway.ts', import.meta.url);

describe('heartbeat', () => {
  let database: TestDatabase;
  let admin: pg.Pool;
  let proxy: TcpProxy;
  const ends: (() => unknown)[] = [];

  before(async () => {
    database = await createTestDatabase('heartbeat');
    admin = database.admin();
    proxy = await startTcpProxyFor(database.url);
  });
  afterEach(async () => {
    proxy.accept();
    for (const end of ends.splice(0)) await end();
  });
  after(async () => {
    await proxy.close();
    await database.drop();
  });

  /** The last beat of a gateway and how long it is ago, in milliseconds by the database's clock. */
  async function lastBeat(gatewayId: string): Promise<{ at: number; age: number }> {
    const { rows } = await admin.query<{ at: number; age: number }>(
      `select extract(epoch from heartbeat_at)::float8 * 1000 as at,
        extract(epoch from clock_timestamp() - heartbeat_at)::float8 * 1000 as age
      from gateway_instance where id = $1`,
      [gatewayId],
    );
    return rows[0] ?? { at: 0, age: Infinity };
  }

  async function untilBeating(gatewayId: string): Promise<void> {
    const { at } = await lastBeat(gatewayId);
    await until('another beat', async () => (await lastBeat(gatewayId)).at > at);
  }

  const untilSilent = (gatewayId: string): Promise<unknown> =>
    until('it to be silent', async () => (await lastBeat(gatewayId)).age > GONE_MS);

  /** A heartbeat of this thread, given where its two ways to the database lead. */
  function startHeartbeat({ threadUrl, poolUrl }: { threadUrl: string; poolUrl: string }): Heartbeat {
    const pool = createPool({ url: poolUrl, role: 'gateway', max: 1 });
    const heartbeat = new Heartbeat({
      pool,
      databaseUrl: threadUrl,
      logger: pino({ level: 'silent' }),
      intervalSeconds: INTERVAL_SECONDS,
      stalledSeconds: 60,
    });
    ends.push(async () => {
      await heartbeat.stop();
      await pool.end();
    });
    heartbeat.start();
    return heartbeat;
  }

  async function startBusyGateway(stalledSeconds: number): Promise<{ thread: Worker; gatewayId: string }> {
    const workerData: BusyGatewayOptions = {
      databaseUrl: database.url,
      intervalSeconds: INTERVAL_SECONDS,
      stalledSeconds,
    };
    const thread = new Worker(BUSY_GATEWAY, { workerData });
    ends.push(() => thread.terminate());
    const [gatewayId] = (await once(thread, 'message')) as [string];
    await untilBeating(gatewayId);
    return { thread, gatewayId };
  }

  it('registers, beats, and says when it has ended in order', async () => {
    const heartbeat = startHeartbeat({ threadUrl: database.url, poolUrl: database.url });
    assert.equal(heartbeat.isRegistered, false);
    await until('it to be registered', () => heartbeat.isRegistered);
    await untilBeating(heartbeat.gatewayId);
    await heartbeat.stop();
    const { rows } = await admin.query<{ stopped: boolean }>(
      'select stopped_at is not null as stopped from gateway_instance where id = $1',
      [heartbeat.gatewayId],
    );
    assert.deepEqual(rows, [{ stopped: true }]);
  });

  it('goes on while the event loop is kept busy for longer than a gateway may be silent', async () => {
    const { thread, gatewayId } = await startBusyGateway(60);
    const turning = once(thread, 'message');
    let isTurning = false;
    void turning.then(() => (isTurning = true));
    thread.postMessage({ blockMs: 2 * GONE_MS });
    let longest = 0;
    await until('the event loop to turn again', async () => {
      longest = Math.max(longest, (await lastBeat(gatewayId)).age);
      return isTurning;
    });
    assert.ok(longest < GONE_MS, `silent for ${longest} ms`);
  });

  it('falls silent while the event loop stands still for too long, and goes on when it turns again', async () => {
    const { thread, gatewayId } = await startBusyGateway(1);
    const turning = once(thread, 'message');
    thread.postMessage({ blockMs: 1000 + 3 * GONE_MS });
    await untilSilent(gatewayId);
    await turning;
    await untilBeating(gatewayId);
  });

  it('ends with its process', async () => {
    const { thread, gatewayId } = await startBusyGateway(60);
    await thread.terminate();
    await untilSilent(gatewayId);
  });

  it('finds a database again that was away, at its start or later', async () => {
    const url = proxy.through(database.url);
    proxy.refuse();
    const heartbeat = startHeartbeat({ threadUrl: url, poolUrl: url });
    const { gatewayId } = heartbeat;
    await untilSilent(gatewayId);
    proxy.accept();
    await untilBeating(gatewayId);
    assert.equal(heartbeat.isRegistered, true);
    proxy.refuse();
    await untilSilent(gatewayId);
    proxy.accept();
    await untilBeating(gatewayId);
  });

  it('goes on by the connections of the gateway where only its own cannot be made', async () => {
    proxy.refuse();
    const { gatewayId } = startHeartbeat({ threadUrl: proxy.through(database.url), poolUrl: database.url });
    await untilBeating(gatewayId);
    await untilBeating(gatewayId);
  });
});
