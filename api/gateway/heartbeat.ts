/**
 * This gateway process's identity and sign of life. The id is new at each start, so a restarted process never looks like
 * the owner of its predecessor's holds; silence for 30 s makes the sweep release what the process still held.
 */
import { hostname } from 'node:os';
import type pg from 'pg';
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import { gatewayHeartbeat, gatewayStopped } from '../../db/gateways.ts';

export class Heartbeat {
  readonly gatewayId = uuidv7();
  readonly #pool: pg.Pool;
  readonly #logger: Logger;
  readonly #intervalMs: number;
  readonly #description = `${hostname()} pid ${process.pid}`;
  #timer: NodeJS.Timeout | null = null;
  #beating = false;
  #lastBeatAt = -Infinity;

  constructor({ pool, logger, intervalSeconds }: { pool: pg.Pool; logger: Logger; intervalSeconds: number }) {
    this.#pool = pool;
    this.#logger = logger;
    this.#intervalMs = intervalSeconds * 1000;
  }

  /** Registers the process. Holds are refused until the first beat has been stored. */
  start(): void {
    void this.#beat();
    this.#timer = setInterval(() => void this.#beat(), this.#intervalMs);
  }

  async #beat(): Promise<void> {
    if (this.#beating) return;
    this.#beating = true;
    try {
      await gatewayHeartbeat(this.#pool, this.gatewayId, this.#description);
      this.#lastBeatAt = performance.now();
    } catch (error) {
      this.#logger.warn({ error: String(error) }, 'heartbeat could not be stored');
    } finally {
      this.#beating = false;
    }
  }

  /** True once the process is registered: a hold of an unknown gateway would be an orphan from the start. */
  get isRegistered(): boolean {
    return this.#lastBeatAt > -Infinity;
  }

  /** Milliseconds since the last beat that was stored. */
  get silentMs(): number {
    return performance.now() - this.#lastBeatAt;
  }

  /** Says that the process has ended in order. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await gatewayStopped(this.#pool, this.gatewayId);
  }
}
