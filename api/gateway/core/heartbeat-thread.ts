/** The thread of heartbeat.ts: beats on a connection of its own for as long as the event loop of the process turns. */
import { parentPort, workerData } from 'node:worker_threads';
import { createPool } from '../../../db/shared/client.ts';
import { gatewayHeartbeat } from '../../../db/requests/gateways.ts';

export interface HeartbeatOrders {
  readonly databaseUrl: string;
  readonly gatewayId: string;
  readonly description: string;
  readonly intervalMs: number;
  readonly stalledMs: number;
  /** One shared number, which changes whenever the event loop has turned. */
  readonly turns: Int32Array;
}

export type HeartbeatReport = { readonly kind: 'stored' } | { readonly kind: 'failed'; readonly error: string };

const { databaseUrl, gatewayId, description, intervalMs, stalledMs, turns } = workerData as HeartbeatOrders;
const pool = createPool({ url: databaseUrl, role: 'gateway', max: 1 });
let seenTurns = Atomics.load(turns, 0);
let turnedAt = performance.now();
let isBeating = false;

async function beat(): Promise<void> {
  const now = performance.now();
  const count = Atomics.load(turns, 0);
  if (count !== seenTurns) [seenTurns, turnedAt] = [count, now];
  if (isBeating || now - turnedAt > stalledMs) return;
  isBeating = true;
  let report: HeartbeatReport = { kind: 'stored' };
  try {
    await gatewayHeartbeat(pool, gatewayId, description);
  } catch (error) {
    report = { kind: 'failed', error: String(error) };
  }
  isBeating = false;
  parentPort!.postMessage(report);
}

setInterval(() => void beat(), intervalMs);
void beat();
