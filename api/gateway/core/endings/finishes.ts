/**
 * Recording how requests ended. The record is durable before the last byte of an answer leaves; only when the database
 * does not answer for a few seconds does the client get its end first, while the record stays queued and new paid
 * requests are turned away. The first outcome wins: a late finish books platform cost and never charges.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { formatId, type RequestUuid } from '../../../../domain/ids.ts';
import { formatUsd, ZERO_USD } from '../../../../domain/money.ts';
import { NO_USAGE } from '../../../../domain/usage/usage.ts';
import { isFault, liesInARow, sqlState } from '../../../../db/shared/client.ts';
import { HELD_UP_AFTER_MS, BatchQueue } from '../../../../db/shared/batch-queue.ts';
import { finishRequests, type FinishRecord, type FinishVerdict } from '../../../../db/requests/requests.ts';

export type FinishResult = FinishVerdict | 'pending';

export interface FinishesOptions {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly timeoutSeconds: number;
  /** Called for every request that is now finished and must be settled. */
  readonly onFinished: (requestId: RequestUuid) => void;
  /** Called for a finish that came too late, or whose amounts the ledger cannot store. */
  readonly onAlarm: (alarm: 'late_finish' | 'unstorable_finish') => void;
}

const BATCH_MAX = 256;
/** Records are money: far more room than requests can be open at once, so that the bound is never met in practice. */
const QUEUE_MAX = 100_000;

export class Finishes {
  readonly #options: FinishesOptions;
  readonly #queue: BatchQueue<FinishRecord, FinishVerdict>;

  constructor(options: FinishesOptions) {
    this.#options = options;
    this.#queue = new BatchQueue({
      name: 'finish',
      heldUpAfterMs: HELD_UP_AFTER_MS,
      batchMax: BATCH_MAX,
      queueMax: QUEUE_MAX,
      // Only a row may spoil its own record: what the server refuses to everybody is asked again until it is mended.
      isFault: (error) => isFault(error) || (sqlState(error) !== null && !liesInARow(error)),
      call: (records) => finishRequests(options.pool, records),
      onFault: (error, items) =>
        options.logger.warn({ error: String(error), items }, 'finish_requests has no answer; repeating'),
    });
  }

  /** How long the ledger has owed an answer, in milliseconds. */
  get stalledMs(): number {
    return this.#queue.stalledMs;
  }

  /** Resolves once every record is stored. */
  drained(): Promise<void> {
    return this.#queue.drained();
  }

  /**
   * Stores how a request ended and answers once that is durable, or `pending` after the patience has run out; the
   * record is then still stored as soon as the database allows. `settle` is false for requests that need no settlement
   * (`:free`).
   */
  async finish(record: FinishRecord, settle: boolean): Promise<FinishResult> {
    const stored = this.#store(record, settle);
    const timeout = Promise.withResolvers<'pending'>();
    const timer = setTimeout(() => timeout.resolve('pending'), this.#options.timeoutSeconds * 1000);
    try {
      return await Promise.race([stored, timeout.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #store(record: FinishRecord, settle: boolean): Promise<FinishVerdict> {
    const { logger, onFinished, onAlarm } = this.#options;
    let verdict: FinishVerdict;
    try {
      verdict = await this.#queue.submit(record).result;
    } catch (error) {
      // Deterministic: the row cannot hold these amounts. Nothing can be billed by them; the evidence is kept.
      logger.error(
        { request_id: formatId('request', record.requestId), error: String(error) },
        'finish cannot be stored; recorded as upstream_error at cost 0',
      );
      onAlarm('unstorable_finish');
      const evidence = { reported: record.rawUsage, read: record.usage };
      verdict = await this.#queue.submit({
        ...record,
        outcome: 'upstream_error',
        listCost: ZERO_USD,
        usage: NO_USAGE,
        rawUsage: evidence,
      }).result;
    }
    if (verdict === 'late' || verdict === 'unknown') {
      onAlarm('late_finish');
      logger.error(
        {
          request_id: formatId('request', record.requestId),
          verdict,
          outcome: record.outcome,
          list_cost_usd: formatUsd(record.listCost),
        },
        'finish came after the hold had ended; booked as platform cost, nothing charged',
      );
    } else if (settle) {
      onFinished(record.requestId);
    }
    return verdict;
  }
}
