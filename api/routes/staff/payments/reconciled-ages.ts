/**
 * The age of the last complete reconciliation, by part, as metrics: the schedule's runs may fail or not come at all,
 * and an operator who is woken by an age needs no run to tell. Every api shows the same ages, since they are the
 * database's.
 */
import { Gauge, type Registry } from 'prom-client';

export interface ReconciledAgesOptions {
  readonly registry: Registry;
  /** The parts to reconcile: `ledger`, and each provider that takes payments. */
  readonly parts: readonly string[];
  /** Seconds by part, of those that ever were. */
  readonly read: () => Promise<ReadonlyMap<string, number>>;
  /** For tests: a monotonic clock in milliseconds. */
  readonly now?: () => number;
}

/**
 * Registers `holdfast_reconciled_age_seconds`. A part that never was reconciled is as old as this process, so that an
 * alarm on the age finds it as well. While the database does not answer there is no value: an old one would be wrong.
 */
export function registerReconciledAges(options: ReconciledAgesOptions): void {
  const { registry, parts, read, now = () => performance.now() } = options;
  const startedAt = now();
  new Gauge({
    name: 'holdfast_reconciled_age_seconds',
    help: 'Age of the last completed reconciliation, from its start, by part: the ledger itself, or a provider',
    labelNames: ['part'],
    registers: [registry],
    async collect() {
      const ages = await read().catch(() => null);
      this.reset();
      if (ages === null) return;
      for (const part of parts) this.set({ part }, ages.get(part) ?? (now() - startedAt) / 1000);
    },
  });
}
