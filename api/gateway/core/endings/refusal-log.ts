/**
 * The log of refused requests: asynchronous, at most one row a second per key, few per account and some hundred in all,
 * so that hammering with refused keys neither costs the database time nor fills it; what is left out is counted in
 * metrics. Never money: a row that is lost here is only a missing line.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import type { AccountUuid, KeyUuid } from '../../../../domain/ids.ts';
import { logRefusals, type RefusalRecord } from '../../../../db/requests/requests.ts';

const FLUSH_MS = 1000;
/** Rows of one flush, per account (who may have a hundred keys) and in all. */
const ROWS_PER_ACCOUNT_MAX = 5;
const ROWS_MAX = 500;

export class RefusalLog {
  readonly #options: { pool: pg.Pool; logger: Logger; gatewayId: string; onSuppressed: () => void };
  #pending = new Map<KeyUuid, RefusalRecord>();
  #ofAccount = new Map<AccountUuid, number>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: { pool: pg.Pool; logger: Logger; gatewayId: string; onSuppressed: () => void }) {
    this.#options = options;
  }

  add(record: RefusalRecord): void {
    const ofAccount = this.#ofAccount.get(record.accountId) ?? 0;
    if (this.#pending.has(record.keyId) || ofAccount >= ROWS_PER_ACCOUNT_MAX || this.#pending.size >= ROWS_MAX) {
      this.#options.onSuppressed();
      return;
    }
    this.#pending.set(record.keyId, record);
    this.#ofAccount.set(record.accountId, ofAccount + 1);
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS);
  }

  async flush(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const records = [...this.#pending.values()];
    this.#pending = new Map();
    this.#ofAccount = new Map();
    if (records.length === 0) return;
    try {
      await logRefusals(this.#options.pool, this.#options.gatewayId, records);
    } catch (error) {
      this.#options.logger.warn({ error: String(error), rows: records.length }, 'refusals could not be logged');
    }
  }
}
