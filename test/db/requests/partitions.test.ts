/** Time partitions of `request` and `posting`: made ahead, once, guarded, and nothing is stored outside them. */
import assert from 'node:assert/strict';
import { ensurePartitions } from '../../../db/requests/partitions.ts';
import { finishRequests, placeHold, placeHolds } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { uuidOf, uuidTime } from '../../../domain/ids.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  uuidAt,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { snapshotOfDatabase } from '../../support/ledger-snapshot.ts';

describe('partitions', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('partitions');
  });
  after(() => ledger.database.drop());

  async function partitions(parent: string): Promise<string[]> {
    const { rows } = await ledger.admin.query<{ name: string }>(
      `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = $1::regclass order by 1`,
      [parent],
    );
    return rows.map(({ name }) => name);
  }

  async function makeAround(at: string, monthsAhead: number): Promise<number> {
    const { rows } = await ledger.worker.query<{ made: number }>('select ensure_partitions($1, $2) as made', [
      monthsAhead,
      at,
    ]);
    return rows[0]!.made;
  }

  /** `request_2026_11` of a moment. */
  function partitionOf(parent: string, at: Date): string {
    return `${parent}_${at.toISOString().slice(0, 7).replace('-', '_')}`;
  }

  it('a migrated database has partitions from the month before until three months ahead', async () => {
    const now = new Date();
    for (const parent of ['request', 'posting']) {
      const expected = [-1, 0, 1, 2, 3].map((months) =>
        partitionOf(parent, new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + months, 1))),
      );
      assert.deepEqual(await partitions(parent), expected);
    }
  });

  it('partitions are made once: a repeat makes nothing, one month more makes one of each', async () => {
    assert.equal(await ensurePartitions(ledger.worker, 3), 0);
    assert.equal(await ensurePartitions(ledger.worker, 4), 2);
    assert.equal(await ensurePartitions(ledger.worker, 4), 0);
    assert.equal(await ensurePartitions(ledger.worker, 1), 0);
  });

  it('partitions are made once by many workers at once', async () => {
    const made = await Promise.all(Array.from({ length: 8 }, () => ensurePartitions(ledger.worker, 6)));
    assert.equal(made.filter((count) => count > 0).length, 1);
  });

  it('cross the year, and know February', async () => {
    assert.equal(await makeAround('2031-12-31T23:59:59Z', 2), 8);
    assert.deepEqual(
      (await partitions('request')).filter((name) => /_203[12]_/.test(name)),
      ['request_2031_11', 'request_2031_12', 'request_2032_01', 'request_2032_02'],
    );
    assert.equal(await makeAround('2031-12-01T00:00:00Z', 2), 0);
  });

  it('partitions begin at the first millisecond of a month in UTC, for any time zone of the session', async () => {
    const client = await ledger.admin.connect();
    try {
      await client.query("set timezone to 'Pacific/Kiritimati'");
      await client.query("select ensure_partitions(0, '2029-06-15')");
    } finally {
      client.release(true);
    }
    const boundary = Date.UTC(2029, 5, 1);
    for (const [at, partition] of [
      [boundary - 1, 'request_2029_05'],
      [boundary, 'request_2029_06'],
      [Date.UTC(2029, 6, 1) - 1, 'request_2029_06'],
    ] as const) {
      const hold = await heldAt(at);
      const { rows } = await ledger.admin.query('select tableoid::regclass::text as name from request where id = $1', [
        hold.requestId,
      ]);
      assert.deepEqual(rows, [{ name: partition }], new Date(at).toISOString());
    }
  });

  it('an id outside all partitions is refused, for requests and postings, and leaves nothing behind', async () => {
    const accountId = await createCustomer(ledger, '5');
    const key = { accountId, keyId: await createKey(ledger, accountId) };
    const before = await snapshotOfDatabase(ledger.admin);
    for (const at of [Date.UTC(2001, 0, 1), Date.UTC(2090, 0, 1)]) {
      const hold = holdOf(key, '1', { requestId: uuidOf('request', uuidAt(at)) });
      await assert.rejects(placeHold(ledger.gateway, hold), withState('23514'));
      await assert.rejects(placeHolds(ledger.gateway, [holdOf(key, '1'), hold]), withState('23514'));
      const transfer = `select post_transfer('test', '${uuidAt(at)}', system_account('promo'), '${accountId}', 1, null, false)`;
      await assert.rejects(ledger.admin.query(transfer), withState('23514'));
    }
    assert.deepEqual(await snapshotOfDatabase(ledger.admin), before);
  });

  it('an id exists once over all partitions: a charge carries the time of its hold', async () => {
    const lastMonth = new Date(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() - 1, 15));
    const hold = await heldAt(lastMonth.getTime());
    await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.5')]);
    assert.equal(await settleRequests(ledger.worker, [hold.requestId], 'meter/partitions'), 1);
    const { rows } = await ledger.admin.query(
      `select r.tableoid::regclass::text as request, p.tableoid::regclass::text as posting
      from request r join posting p on p.business_id = r.id where r.id = $1`,
      [hold.requestId],
    );
    assert.deepEqual(rows, [
      { request: partitionOf('request', lastMonth), posting: partitionOf('posting', lastMonth) },
    ]);
  });

  it('v7_floor is the smallest id of a moment', async () => {
    for (const at of ['2026-11-01T00:00:00.000Z', '2026-11-24T12:34:56.789Z']) {
      const { rows } = await ledger.admin.query<{ id: string; before: boolean }>(
        'select v7_floor($1) as id, v7_floor($1) < $2::uuid and v7_floor($1) > $3::uuid as before',
        [at, uuidAt(Date.parse(at), 0), uuidAt(Date.parse(at) - 1, 0xfff)],
      );
      assert.equal(uuidTime(rows[0]!.id).toISOString(), at);
      assert.equal(rows[0]!.before, true);
    }
  });

  it('break no rule of the ledger', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  async function heldAt(atMs: number): Promise<ReturnType<typeof holdOf>> {
    const accountId = await createCustomer(ledger, '5');
    const key = { accountId, keyId: await createKey(ledger, accountId) };
    const hold = holdOf(key, '1', { requestId: uuidOf('request', uuidAt(atMs)) });
    await placeHold(ledger.gateway, hold);
    return hold;
  }
});
