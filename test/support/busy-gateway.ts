/**
 * A gateway's heartbeat in a thread of a test, whose event loop the test can keep from turning: `{ blockMs }`. It
 * answers with its gateway's id once it is registered, and with `turning` after each block.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { pino } from 'pino';
import { Heartbeat } from '../../api/gateway/core/heartbeat.ts';
import { createPool } from '../../db/shared/client.ts';

export interface BusyGatewayOptions {
  readonly databaseUrl: string;
  readonly intervalSeconds: number;
  readonly stalledSeconds: number;
}

const options = workerData as BusyGatewayOptions;
const pool = createPool({ url: options.databaseUrl, role: 'gateway', max: 1 });
const heartbeat = new Heartbeat({ ...options, pool, logger: pino({ level: 'silent' }) });
heartbeat.start();
const registering = setInterval(() => {
  if (!heartbeat.isRegistered) return;
  clearInterval(registering);
  parentPort!.postMessage(heartbeat.gatewayId);
}, 10);
parentPort!.on('message', ({ blockMs }: { blockMs: number }) => {
  const end = performance.now() + blockMs;
  while (performance.now() < end);
  parentPort!.postMessage('turning');
});
