/**
 * Webhooks that were refused, each with its reason in the metric, in the log and in the database, where it outlives the
 * process (`npm run doctor` reads it there). Strangers can cause any number of them: each cause is written at once when
 * it appears, and then once per interval with how many there were.
 */
import { Counter, type Registry } from 'prom-client';
import type pg from 'pg';
import { countWebhooks } from '../../../db/payments/webhook-counts.ts';
import type { Logger } from '../../../runtime/logger.ts';
import { webhookCureOf, type WebhookRefusal } from '../../../providers/webhook-refusals.ts';

/** One log line and one statement of a cause per interval. */
const EVERY_MS = 10_000;

interface Cause {
  readonly provider: string;
  refusal: WebhookRefusal;
  unwritten: number;
}

export class WebhookRefusals {
  readonly #pool: pg.Pool;
  readonly #logger: Logger;
  readonly #counter: Counter<'provider' | 'reason'>;
  /** Causes that were seen within the last interval: at most one per provider and reason. */
  readonly #causes = new Map<string, Cause>();

  /** `pool` may count webhooks; its role is that of the management interface. */
  constructor({ pool, logger, registry }: { pool: pg.Pool; logger: Logger; registry: Registry }) {
    this.#pool = pool;
    this.#logger = logger;
    this.#counter = new Counter({
      name: 'holdfast_webhooks_refused_total',
      help: 'Refused webhooks, by provider and reason',
      labelNames: ['provider', 'reason'],
      registers: [registry],
    });
  }

  /** Counts a refusal. `provider` is one of ours, never a text of the sender's. */
  note(provider: string, refusal: WebhookRefusal): void {
    this.#counter.inc({ provider, reason: refusal.reason });
    const key = `${provider} ${refusal.reason}`;
    const known = this.#causes.get(key);
    if (known !== undefined) {
      known.refusal = refusal;
      known.unwritten++;
      return;
    }
    const cause = { provider, refusal, unwritten: 1 };
    this.#causes.set(key, cause);
    this.#write(key, cause);
  }

  #write(key: string, cause: Cause): void {
    const { provider, refusal, unwritten: count } = cause;
    if (count === 0) {
      this.#causes.delete(key);
      return;
    }
    cause.unwritten = 0;
    const { reason, detail = null } = refusal;
    const cure = webhookCureOf(provider, reason);
    this.#logger.warn({ provider, reason, detail, count, cure }, 'webhook refused');
    countWebhooks(this.#pool, { provider, kind: 'refused', reason, count, lastDetail: detail }).catch(
      (error: unknown) => {
        this.#logger.warn({ provider, reason, count, error: String(error) }, 'refused webhooks could not be recorded');
      },
    );
    setTimeout(() => this.#write(key, cause), EVERY_MS).unref();
  }
}
