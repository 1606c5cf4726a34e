/** Settlements beside each other and beside holds: what they wait for, and that they never wait for each other. */
import assert from 'node:assert/strict';
import pg from 'pg';
import { sqlState } from '../../../db/shared/client.ts';
import { finishRequests, placeHold } from '../../../db/requests/requests.ts';
import { settleAccount, settleRequests } from '../../../db/requests/settlement.ts';
import { uuidOf } from '../../../domain/ids.ts';
import { formatUsd } from '../../../domain/money.ts';
import { customerWithKey, finished, workflowsOf } from '../../support/finished-requests.ts';
import {
  brokenRules,
  createLedgerDatabase,
  endOf,
  holdOf,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { until } from '../../support/until.ts';

describe('settlements beside others', function () {
  this.timeout(30_000);
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('settlement-locks');
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  /** Begins work while somebody else has those rows, lets them go, and returns what became of the work. */
  async function whileLocked(rows: string, id: string, begin: () => Promise<Promise<number>[]>): Promise<number[]> {
    const other = await ledger.admin.connect();
    let begun;
    try {
      await other.query('begin');
      await other.query(`select from ${rows} for update`, [id]);
      begun = await begin();
    } finally {
      await other.query('rollback');
      other.release();
    }
    return Promise.all(begun);
  }

  async function untilWaiting(count: number): Promise<void> {
    await until(`${count} settlements to wait for a lock`, async () => {
      const { rowCount } = await ledger.admin.query(
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%settle_requests%'`,
      );
      return rowCount === count;
    });
  }

  it('settlements keep no hold waiting for key or account before the last step', async () => {
    const key = await customerWithKey(ledger, '10');
    const [first] = await finished(ledger, key, [{ hold: '1', cost: '0.5' }]);
    await settleRequests(ledger.worker, [first!], 'meter/first');
    const [second] = await finished(ledger, key, [{ hold: '1', cost: '0.5' }]);
    const settling = await whileLocked('usage_hour where account_id = $1', key.accountId, async () => {
      const begun = settleRequests(ledger.worker, [second!], 'meter/second');
      await untilWaiting(1);
      assert.equal(formatUsd(await placeHold(ledger.gateway, holdOf(key, '8'))), '8.000000000000');
      return [begun];
    });
    assert.deepEqual(settling, [1]);
  });

  it('settlements never deadlock, though an overrun takes its locks in another order', async () => {
    const [early, late] = [await customerWithKey(ledger, '10'), await customerWithKey(ledger, '10')];
    const [ofEarly] = await finished(ledger, early, [{ hold: '1', cost: '0.5' }]);
    const [ofLate, overrunning] = await finished(ledger, late, [
      { hold: '1', cost: '0.5' },
      { hold: '1', cost: '1.5' },
    ]);
    const settled = await whileLocked('api_key where id = $1', early.keyId, async () => {
      // Has the hours of both keys and waits for the first one's row; the second settlement takes the other key's.
      const plain = settleRequests(ledger.worker, [ofEarly!, ofLate!], 'meter/plain');
      await untilWaiting(1);
      const overrun = settleRequests(ledger.worker, [overrunning!], 'meter/overrun');
      await untilWaiting(2);
      return [plain, overrun];
    });
    assert.deepEqual(settled, [2, 1]);
  });

  it('two workflows that name the same settled rows at once never deadlock, however each finds the rows', async () => {
    const key = await customerWithKey(ledger, '100');
    // One session walks the index in the order of ids, the other one meets the rows in whatever order a hash or the
    // table gives.
    const planners = ['enable_hashagg=off -c enable_seqscan=off', 'enable_sort=off -c enable_indexscan=off'];
    const sessions = planners.map(
      (planner) =>
        new pg.Pool({
          connectionString: ledger.database.url,
          max: 1,
          options: `-c role=holdfast_worker -c search_path=holdfast -c enable_bitmapscan=off -c ${planner}`,
        }),
    );
    try {
      const failures: (string | null)[] = [];
      for (let round = 0; round < 4; round++) {
        const ids = Array.from({ length: 150 }, (_, n) => uuidOf('request', uuidAt(Date.now() - n)));
        for (const requestId of ids) await placeHold(ledger.gateway, holdOf(key, '0.01', { requestId }));
        await finishRequests(
          ledger.gateway,
          ids.map((id) => endOf(id, '0.01')),
        );
        await settleAccount(ledger.gateway, key.accountId);
        await Promise.all(
          sessions.map((session, n) =>
            settleRequests(session, ids, `meter/${n}`).catch((error: unknown) => failures.push(sqlState(error))),
          ),
        );
        assert.equal(new Set(await workflowsOf(ledger, ids)).size, 1);
      }
      assert.deepEqual(failures, []);
    } finally {
      await Promise.all(sessions.map((session) => session.end()));
    }
  });
});
