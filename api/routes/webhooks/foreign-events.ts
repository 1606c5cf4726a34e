/**
 * Events that were closed as about nothing of ours, as a metric: counted in the database by whichever process closed
 * them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { Gauge, type Registry } from 'prom-client';
import { webhookCounts } from '../../../db/payments/webhook-counts.ts';

/** A scrape waits no longer for a database that is away, and shows what was read last. */
const TIMEOUT_MS = 500;

/** `pool` may read tables. */
export function measureForeignEvents({ pool, registry }: { pool: pg.Pool; registry: Registry }): void {
  new Gauge({
    name: 'holdfast_webhook_events_foreign',
    help: 'Events closed as foreign since installation, by provider and reason; the same in every process',
    labelNames: ['provider', 'reason'],
    registers: [registry],
    async collect() {
      const read = async (): Promise<void> => {
        for (const { kind, provider, reason, count } of await webhookCounts(pool)) {
          if (kind === 'foreign') this.set({ provider, reason }, count);
        }
      };
      await Promise.race([read().catch(() => undefined), delay(TIMEOUT_MS, undefined, { ref: false })]);
    },
  });
}
