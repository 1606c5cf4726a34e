/**
 * This gateway process's identity and sign of life. The id is new at each start, so a restarted process never looks
 * like the owner of its predecessor's holds; silence for 30 s makes the sweep release what the process still held.
 *
 * The beats come from a thread with a connection of its own, so that neither a busy event loop nor a busy pool makes a
 * process that still answers look gone. The thread watches that the event loop turns, and falls silent once it has not
 * for a long time: a process that hangs is as good as dead.
 */
import { hostname } from 'node:os';
import { Worker } from 'node:worker_threads';
import type pg from 'pg';
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import { gatewayHeartbeat, gatewayStopped } from '../../../db/requests/gateways.ts';
import type { HeartbeatOrders, HeartbeatReport } from './heartbeat-thread.ts';

const THREAD = new URL('./heartbeat-thread.ts', import.meta.url);
/** After which a thread that died is replaced. */
const RESTART_MS = 1000;

export interface HeartbeatOptions {
  readonly pool: pg.Pool;
  readonly databaseUrl: string;
  readonly logger: Logger;
  readonly intervalSeconds: number;
  /** How long the event loop may stand still before the process counts as dead. */
  readonly stalledSeconds: number;
}

export class Heartbeat {
  readonly gatewayId = uuidv7();
  readonly #options: HeartbeatOptions;
  readonly #description = `${hostname()} pid ${process.pid}`;
  /** Counts the turns of the event loop, in memory that the thread can read. */
  readonly #turns = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  #thread: Worker | null = null;
  #turning: NodeJS.Timeout | undefined;
  #restart: NodeJS.Timeout | undefined;
  #isRegistered = false;
  #isStopped = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  /** Registers the process. Holds are refused until the first beat has been stored. */
  start(): void {
    this.#turning = setInterval(() => Atomics.add(this.#turns, 0, 1), this.#options.intervalSeconds * 1000);
    this.#startThread();
    // The thread takes a moment to start.
    void this.#beat();
  }

  /** True once the process is registered: a hold of an unknown gateway would be an orphan from the start. */
  get isRegistered(): boolean {
    return this.#isRegistered;
  }

  /** Says that the process has ended in order. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#turning);
    clearTimeout(this.#restart);
    await this.#thread?.terminate();
    await gatewayStopped(this.#options.pool, this.gatewayId);
  }

  #startThread(): void {
    const { databaseUrl, intervalSeconds, stalledSeconds, logger } = this.#options;
    const orders: HeartbeatOrders = {
      databaseUrl,
      gatewayId: this.gatewayId,
      description: this.#description,
      intervalMs: intervalSeconds * 1000,
      stalledMs: stalledSeconds * 1000,
      turns: this.#turns,
    };
    const thread = new Worker(THREAD, { workerData: orders });
    this.#thread = thread;
    thread.unref();
    thread.on('message', (report: HeartbeatReport) => {
      if (report.kind === 'stored') {
        this.#isRegistered = true;
        return;
      }
      logger.warn({ error: report.error }, 'heartbeat could not be stored');
      // Its connection may be the only thing that is broken.
      void this.#beat();
    });
    thread.on('error', (error) => logger.error({ error: String(error) }, 'the heartbeat thread failed'));
    thread.on('exit', () => {
      if (!this.#isStopped) this.#restart = setTimeout(() => this.#startThread(), RESTART_MS);
    });
  }

  /** A beat beside the thread's. Should it fail, the thread will say so. */
  async #beat(): Promise<void> {
    try {
      await gatewayHeartbeat(this.#options.pool, this.gatewayId, this.#description);
      this.#isRegistered = true;
    } catch {
      // The thread goes on trying.
    }
  }
}
