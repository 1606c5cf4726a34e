/** The review of the whole ledger: how PostgreSQL may plan it, and what says when it last came to its end. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { createPool } from '../../../db/shared/client.ts';
import { forgetCompared, reconciledAges, reviewViolations } from '../../../db/payments/reconciliation.ts';
import { createLedgerDatabase, type LedgerDatabase } from '../../support/ledger-database.ts';

describe('the review of the whole ledger', () => {
  let ledger: LedgerDatabase;
  let slowPool: pg.Pool;

  before(async () => {
    ledger = await createLedgerDatabase('reconciled');
    slowPool = createPool({ url: ledger.database.url, role: 'worker', max: 1, planner: 'default' });
  });
  after(async () => {
    await slowPool.end();
    await ledger.database.drop();
  });

  async function settingsOf(pool: pg.Pool): Promise<string[]> {
    const { rows } = await pool.query<{ shown: string }>(
      `select name || '=' || setting as shown from pg_settings
       where name in ('enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'plan_cache_mode') order by name`,
    );
    return rows.map(({ shown }) => shown);
  }

  it('PostgreSQL plans the review of the ledger freely; look-ups by key keep their plans', async () => {
    assert.deepEqual(await settingsOf(slowPool), [
      'enable_hashjoin=on',
      'enable_mergejoin=on',
      'enable_seqscan=on',
      'plan_cache_mode=auto',
    ]);
    assert.deepEqual(await settingsOf(ledger.worker), [
      'enable_hashjoin=off',
      'enable_mergejoin=off',
      'enable_seqscan=off',
      'plan_cache_mode=force_generic_plan',
    ]);
  });

  it('the age of a reconciliation is by part, from the start of the last completed run', async () => {
    assert.deepEqual([...(await reconciledAges(ledger.management))], []);
    await reviewViolations(slowPool, 500);
    const hourAgo = new Date(Date.now() - 3_600_000);
    await forgetCompared(ledger.worker, { provider: 'stripe', run: hourAgo, page: 3 });
    // A late repeat of an older run does not make the part older.
    await forgetCompared(ledger.worker, { provider: 'stripe', run: new Date(hourAgo.getTime() - 60_000), page: 2 });
    const ages = await reconciledAges(ledger.management);
    assert.deepEqual([...ages.keys()].sort(), ['ledger', 'stripe']);
    assert.ok(ages.get('ledger')! >= 0 && ages.get('ledger')! < 60, String(ages.get('ledger')));
    assert.ok(Math.abs(ages.get('stripe')! - 3600) < 60, String(ages.get('stripe')));
  });
});
