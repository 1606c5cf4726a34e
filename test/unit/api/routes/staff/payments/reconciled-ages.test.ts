/** The age of the last reconciliation as a metric. */
import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { registerReconciledAges } from '../../../../../../api/routes/staff/payments/reconciled-ages.ts';

describe('the age of the last reconciliation', () => {
  async function shown(read: () => Promise<ReadonlyMap<string, number>>): Promise<string[]> {
    const registry = new Registry();
    let seconds = 100;
    registerReconciledAges({ registry, parts: ['ledger', 'stripe'], read, now: () => seconds * 1000 });
    seconds = 130;
    const text = await registry.metrics();
    return text.split('\n').filter((line) => line.startsWith('holdfast_reconciled_age_seconds{'));
  }

  it('the age is shown by part; a part that was never reconciled is as old as the process', async () => {
    assert.deepEqual(await shown(() => Promise.resolve(new Map([['ledger', 7200]]))), [
      'holdfast_reconciled_age_seconds{part="ledger"} 7200',
      'holdfast_reconciled_age_seconds{part="stripe"} 30',
    ]);
  });

  it('the age has no value while the database does not answer, and the other metrics are still shown', async () => {
    assert.deepEqual(await shown(() => Promise.reject(new Error('away'))), []);
  });
});
