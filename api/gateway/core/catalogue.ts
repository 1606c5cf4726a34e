/**
 * The gateway's copy of models and prices, refreshed on a timer and at once when the database says that they changed. A
 * copy that could not be refreshed for too long must not price anything: a newer price may be in force. Nor may it say
 * that something does not exist: that it could not be read is our fault, not the client's.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { Refusal } from '../../../domain/errors.ts';
import { loadModels, type Model } from '../../../db/requests/catalogue.ts';

export class Catalogue {
  readonly #pool: pg.Pool;
  readonly #logger: Logger;
  readonly #refreshMs: number;
  readonly #staleMs: number;
  readonly #onLoaded: (models: readonly Model[]) => void;
  #models = new Map<string, Model>();
  #loadedAt = -Infinity;
  #loading: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: {
    pool: pg.Pool;
    logger: Logger;
    refreshSeconds: number;
    staleSeconds: number;
    onLoaded?: (models: readonly Model[]) => void;
  }) {
    this.#pool = options.pool;
    this.#logger = options.logger;
    this.#refreshMs = options.refreshSeconds * 1000;
    this.#staleMs = options.staleSeconds * 1000;
    this.#onLoaded = options.onLoaded ?? (() => undefined);
  }

  start(): void {
    this.#timer = setInterval(() => void this.refresh(), this.#refreshMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  /** Loads models and prices; a failure is logged and leaves the old copy, which then ages. */
  refresh(): Promise<void> {
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #load(): Promise<void> {
    const asked = performance.now();
    try {
      const models = await loadModels(this.#pool);
      this.#models = new Map(models.map((model) => [model.id, model]));
      this.#loadedAt = asked;
      this.#onLoaded(models);
    } catch (error) {
      this.#logger.warn({ error: String(error) }, 'catalogue could not be refreshed');
    }
  }

  /**
   * The model of that id; undefined when there is none. Throws `ledger_unavailable` when the copy is too old to know.
   */
  find(modelId: string): Model | undefined {
    const model = this.#models.get(modelId);
    if (model === undefined && !this.isFresh) throw new Refusal('ledger_unavailable');
    return model;
  }

  /** The same without a complaint about the copy's age, for what refuses and prices nothing. */
  peek(modelId: string): Model | undefined {
    return this.#models.get(modelId);
  }

  /** Every model, of whatever age the copy is. Throws `ledger_unavailable` when there is none yet. */
  all(): Model[] {
    if (this.#loadedAt === -Infinity) throw new Refusal('ledger_unavailable');
    return [...this.#models.values()];
  }

  /** False when the copy is too old to price a request by. */
  get isFresh(): boolean {
    return performance.now() - this.#loadedAt < this.#staleMs;
  }
}
