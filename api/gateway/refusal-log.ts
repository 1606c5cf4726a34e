/**
 * The log of refused requests: asynchronous, at most one row a second per key, so that hammering a refused key costs the
 * database nothing; what is left out is counted in metrics. Never money: a row that is lost here is only a missing line.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import type { KeyUuid } from '../../domain/ids.ts';
import { logRefusals, type RefusalRecord } from '../../db/requests.ts';

const FLUSH_MS = 1000;

export class RefusalLog {
  readonly #options: { pool: pg.Pool; logger: Logger; gatewayId: string; onSuppressed: () => void };
  #pending = new Map<KeyUuid, RefusalRecord>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: { pool: pg.Pool; logger: Logger; gatewayId: string; onSuppressed: () => void }) {
    this.#options = options;
  }

  add(record: RefusalRecord): void {
    if (this.#pending.has(record.keyId)) {
      this.#options.onSuppressed();
      return;
    }
    this.#pending.set(record.keyId, record);
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS);
  }

  async flush(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const records = [...this.#pending.values()];
    this.#pending = new Map();
    if (records.length === 0) return;
    try {
      await logRefusals(this.#options.pool, this.#options.gatewayId, records);
    } catch (error) {
      this.#options.logger.warn({ error: String(error), rows: records.length }, 'refusals could not be logged');
    }
  }
}
