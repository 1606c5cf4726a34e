/**
 * Settling finished requests: what each is charged when costs exceed holds, which rows are left alone, what a bad row
 * does to its batch, and which workflow a row names in the end.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import pg from 'pg';
import { findBalance } from '../../db/accounts.ts';
import { sqlState } from '../../db/client.ts';
import { noticeLowBalance } from '../../db/notices.ts';
import {
  accountsToFollowUp,
  findUnsettled,
  finishRequests,
  markSettleError,
  placeHold,
  placeHolds,
  settleAccount,
  settleRequests,
} from '../../db/requests.ts';
import { uuidOf, type AccountUuid, type KeyUuid, type RequestUuid } from '../../domain/ids.ts';
import { formatUsd, picoUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { FinishOutcome } from '../../domain/request.ts';
import {
  behindTheGuards,
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  credit,
  endOf,
  holdOf,
  newRequestId,
  postReversal,
  uuidAt,
  withState,
  type LedgerDatabase,
} from '../support/ledger-database.ts';
import { overrunCharges } from '../support/ledger-model.ts';
import { until } from '../support/stack.ts';

interface Key {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

/** One request of a batch: what it held, what it cost, how it ended. Amounts in decimal USD. */
interface Row {
  readonly hold: string;
  readonly cost: string;
  readonly outcome?: FinishOutcome;
}

describe('settlement', function () {
  this.timeout(30_000);
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('settlement');
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  async function customer(balance: string): Promise<Key> {
    const accountId = await createCustomer(ledger, balance);
    return { accountId, keyId: await createKey(ledger, accountId) };
  }

  /** Finished requests of a customer, with ids in the order of `rows` although they come to be in the opposite one. */
  async function finished(key: Key, rows: readonly Row[]): Promise<RequestUuid[]> {
    const now = Date.now();
    const ids = rows.map((_, n) => uuidOf('request', uuidAt(now - rows.length + n)));
    const holds = rows.map((row, n) => holdOf(key, row.hold, { requestId: ids[n]! })).reverse();
    const wanted = holds.map((hold) => hold.wanted);
    assert.deepEqual(await placeHolds(ledger.gateway, holds), wanted, 'the customer must have the money for all holds');
    const ends = rows.map((row, n) => endOf(ids[n]!, row.cost, { outcome: row.outcome ?? 'completed' })).reverse();
    await finishRequests(ledger.gateway, ends);
    return ids;
  }

  async function charges(ids: readonly RequestUuid[]): Promise<string[]> {
    const { rows } = await ledger.admin.query<{ state: string; cost: string; lost: string | null }>(
      `select r.state, r.cost::text, (select list_cost::text from platform_cost p where p.request_id = r.id and p.reason = 'overrun') as lost
      from unnest($1::uuid[]) with ordinality i (id, n) join request r on r.id = i.id order by i.n`,
      [ids],
    );
    return rows.map(({ state, cost, lost }) => {
      const paid = formatUsd(usd(cost)).replace(/\.?0+$/, '');
      return `${state} ${paid}${lost === null ? '' : ` lost ${formatUsd(usd(lost)).replace(/\.?0+$/, '')}`}`;
    });
  }

  async function balanceOf(key: Key): Promise<string> {
    const { balance, held } = (await findBalance(ledger.management, key.accountId))!;
    assert.equal(held, 0n);
    return formatUsd(balance).replace(/\.?0+$/, '');
  }

  describe('with overrun', () => {
    /** `balance` is what the customer has; `reversed` is taken back from it after the holds. */
    const cases: readonly {
      what: string;
      balance: string;
      reversed?: string;
      rows: readonly Row[];
      charged: readonly string[];
      left: string;
    }[] = [
      {
        what: 'a cost equal to the hold is no overrun',
        balance: '1',
        rows: [{ hold: '1', cost: '1' }],
        charged: ['charged 1'],
        left: '0',
      },
      {
        what: 'one pico-USD above the hold of all the money is lost',
        balance: '1',
        rows: [{ hold: '1', cost: '1.000000000001' }],
        charged: ['charged 1 lost 0.000000000001'],
        left: '0',
      },
      {
        what: 'what is above the hold is paid from money that is not held',
        balance: '3',
        rows: [{ hold: '1', cost: '2.5' }],
        charged: ['charged 2.5'],
        left: '0.5',
      },
      {
        what: 'where the money does not suffice, the rest is lost and the balance ends at zero, not below',
        balance: '1.2',
        rows: [{ hold: '1', cost: '2.5' }],
        charged: ['charged 1.2 lost 1.3'],
        left: '0',
      },
      {
        what: 'two overruns share the money in the order of their ids',
        balance: '2.3',
        rows: [
          { hold: '1', cost: '1.2' },
          { hold: '1', cost: '1.2' },
        ],
        charged: ['charged 1.2', 'charged 1.1 lost 0.1'],
        left: '0',
      },
      {
        what: 'what an earlier request gives back can pay for a later overrun',
        balance: '2',
        rows: [
          { hold: '1', cost: '0.6' },
          { hold: '1', cost: '1.5' },
        ],
        charged: ['charged 0.6', 'charged 1.4 lost 0.1'],
        left: '0',
      },
      {
        what: 'what a later request gives back cannot pay for an earlier overrun',
        balance: '2',
        rows: [
          { hold: '1', cost: '1.5' },
          { hold: '1', cost: '0.6' },
        ],
        charged: ['charged 1 lost 0.5', 'charged 0.6'],
        left: '0.4',
      },
      {
        what: 'a failed request gives its whole hold back and pays nothing, whatever it cost',
        balance: '2',
        rows: [
          { hold: '1', cost: '7', outcome: 'upstream_error' },
          { hold: '1', cost: '1.5' },
        ],
        charged: ['released 0', 'charged 1.5'],
        left: '0.5',
      },
      {
        what: 'a hold of nothing is charged from free money only',
        balance: '0.3',
        rows: [
          { hold: '0', cost: '0.2' },
          { hold: '0', cost: '0.2' },
        ],
        charged: ['charged 0.2', 'charged 0.1 lost 0.1'],
        left: '0',
      },
      {
        what: 'below zero by a reversal, the hold is still charged in full, and nothing above it',
        balance: '2',
        reversed: '1.5',
        rows: [{ hold: '1', cost: '1.4' }],
        charged: ['charged 1 lost 0.4'],
        left: '-0.5',
      },
      {
        what: 'below zero by a reversal, what is given back first fills the gap',
        balance: '3',
        reversed: '1.5',
        rows: [
          { hold: '1', cost: '0.2' },
          { hold: '1', cost: '0' },
          { hold: '1', cost: '1.4' },
        ],
        charged: ['charged 0.2', 'charged 0', 'charged 1.3 lost 0.1'],
        left: '0',
      },
    ];
    for (const { what, balance, reversed, rows, charged, left } of cases) {
      it(what, async () => {
        const key = await customer(balance);
        const ids = await finished(key, rows);
        if (reversed !== undefined) {
          const { accountId } = key;
          await postReversal(ledger.admin, { businessId: uuidAt(Date.now()), accountId, amount: usd(reversed) });
        }
        assert.equal(await settleRequests(ledger.worker, [...ids].reverse(), 'meter/overrun'), rows.length);
        assert.deepEqual(await charges(ids), charged);
        assert.equal(await balanceOf(key), left);
      });
    }

    it('accounts of one batch do not pay for each other', async () => {
      const [rich, poor] = [await customer('9'), await customer('1')];
      const ids = [
        ...(await finished(poor, [{ hold: '1', cost: '2' }])),
        ...(await finished(rich, [{ hold: '1', cost: '2' }])),
      ];
      await settleRequests(ledger.worker, ids, 'meter/overrun');
      assert.deepEqual(await charges(ids), ['charged 1 lost 1', 'charged 2']);
      assert.deepEqual([await balanceOf(poor), await balanceOf(rich)], ['0', '7']);
    });

    it('money that other requests hold is not taken', async () => {
      const key = await customer('3');
      const running = holdOf(key, '1.9');
      await placeHold(ledger.gateway, running);
      const ids = await finished(key, [{ hold: '1', cost: '2' }]);
      await settleRequests(ledger.worker, ids, 'meter/overrun');
      assert.deepEqual(await charges(ids), ['charged 1.1 lost 0.9']);
      await finishRequests(ledger.gateway, [endOf(running.requestId, '1.9')]);
      await settleRequests(ledger.worker, [running.requestId], 'meter/overrun');
      assert.equal(await balanceOf(key), '0');
    });

    it('until it is settled, a cost above the hold is shown as the hold', async () => {
      const key = await customer('3');
      await finished(key, [{ hold: '1', cost: '2' }]);
      const shown = (await findBalance(ledger.management, key.accountId))!;
      assert.deepEqual([shown.balance, shown.held, shown.available], [usd('2'), 0n, usd('2')]);
      await settleAccount(ledger.gateway, key.accountId);
      assert.equal(await balanceOf(key), '1');
    });

    it('any batch is charged as the pure rule says', () => {
      const amount = fc.bigInt({ min: 0n, max: 12n });
      const row = fc.record({ hold: amount, cost: amount, billed: fc.boolean() });
      return fc.assert(
        fc.asyncProperty(
          fc.array(row, { minLength: 1, maxLength: 8 }),
          amount,
          amount,
          async (rows, free, reversed) => {
            const total = rows.reduce((sum, { hold }) => sum + hold, free);
            const key = await customer(formatUsd(picoUsd(total)));
            const texts = rows.map(({ hold, cost, billed }): Row => ({
              hold: formatUsd(picoUsd(hold)),
              cost: formatUsd(picoUsd(cost)),
              outcome: billed ? 'cut_by_limit' : 'upstream_timeout',
            }));
            const ids = await finished(key, texts);
            if (reversed > 0n) {
              const amount = picoUsd(reversed);
              await postReversal(ledger.admin, { businessId: uuidAt(Date.now()), accountId: key.accountId, amount });
            }
            const expected = overrunCharges(
              rows.map(({ hold, cost, billed }) => ({ hold, billedCost: billed ? cost : 0n })),
              free - reversed,
            );
            await settleRequests(ledger.worker, ids, 'meter/rule');
            const { rows: found } = await ledger.admin.query<{ cost: string }>(
              'select cost::text from request where id = any($1) order by id',
              [ids],
            );
            assert.deepEqual(
              found.map(({ cost }) => usd(cost)),
              expected,
            );
          },
        ),
        { numRuns: 60 },
      );
    });
  });

  describe('of a list of ids', () => {
    it('settles each once, whatever is repeated, unknown, still held or settled before', async () => {
      const key = await customer('10');
      const [settledBefore, ...rest] = await finished(key, Array<Row>(4).fill({ hold: '1', cost: '0.5' }));
      await settleRequests(ledger.worker, [settledBefore!], 'meter/before');
      const held = holdOf(key, '1');
      await placeHold(ledger.gateway, held);
      const ids = [...rest, newRequestId(), held.requestId, settledBefore!, ...rest, rest[0]!];
      assert.equal(await settleRequests(ledger.worker, ids, 'meter/list'), 3);
      assert.equal(await settleRequests(ledger.worker, ids, 'meter/list'), 0);
      const { rows } = await ledger.admin.query(
        `select (select count(*)::int from posting where business_id = any($1)) as postings,
          (select state from request where id = $2) as held`,
        [ids, held.requestId],
      );
      assert.deepEqual(rows, [{ postings: 4, held: 'held' }]);
    });

    it('is no error when it is empty', async () => {
      assert.equal(await settleRequests(ledger.worker, [], 'meter/empty'), 0);
    });

    it('posts nothing for a request that cost nothing', async () => {
      const key = await customer('1');
      const ids = await finished(key, [{ hold: '1', cost: '0' }]);
      await settleRequests(ledger.worker, ids, 'meter/nothing');
      assert.deepEqual(await charges(ids), ['charged 0']);
      const { rows } = await ledger.admin.query('select from posting where business_id = any($1)', [ids]);
      assert.equal(rows.length, 0);
    });
  });

  describe('of an account', () => {
    it('takes its 1,000 oldest finished requests, of no other account, and says how many', async () => {
      const [key, other] = [await customer('100'), await customer('100')];
      const holds = Array.from({ length: 1001 }, () => holdOf(key, '0.01'));
      await placeHolds(ledger.gateway, holds);
      const newest = holds.shift()!;
      await finishRequests(
        ledger.gateway,
        holds.map(({ requestId }) => endOf(requestId, '0.01')),
      );
      await finishRequests(ledger.gateway, [endOf(newest.requestId, '0.01')]);
      await finished(other, [{ hold: '1', cost: '1' }]);
      assert.equal(await settleAccount(ledger.gateway, key.accountId), 1000);
      const { rows } = await ledger.admin.query("select id from request where account_id = $1 and state = 'finished'", [
        key.accountId,
      ]);
      assert.deepEqual(rows, [{ id: newest.requestId }]);
      assert.equal(await settleAccount(ledger.gateway, key.accountId), 1);
      assert.equal(await settleAccount(ledger.gateway, key.accountId), 0);
      assert.equal(await settleAccount(ledger.gateway, other.accountId), 1);
    });
  });

  describe('with a bad row', () => {
    /** A request whose charge cannot be posted, because something else was posted under its id. */
    async function poison(requestId: RequestUuid): Promise<void> {
      await behindTheGuards(ledger.admin, (client) =>
        client.query(
          `insert into posting (business_id, kind, debit, credit, amount)
          values ($1, 'charge', system_account('promo'), system_account('revenue'), 1)`,
          [requestId],
        ),
      );
    }

    async function cure(requestId: RequestUuid): Promise<void> {
      await behindTheGuards(ledger.admin, (client) =>
        client.query('delete from posting where business_id = $1', [requestId]),
      );
    }

    async function statesOf(ids: readonly RequestUuid[]): Promise<string[]> {
      const { rows } = await ledger.admin.query<{ state: string }>(
        'select state from unnest($1::uuid[]) with ordinality i (id, n) join request using (id) order by n',
        [ids],
      );
      return rows.map(({ state }) => state);
    }

    it('fails the whole batch, deterministically and without a trace; without the row the batch goes through', async () => {
      const key = await customer('10');
      const ids = await finished(key, Array<Row>(5).fill({ hold: '1', cost: '0.5' }));
      const bad = ids[2]!;
      await poison(bad);
      const before = await findBalance(ledger.management, key.accountId);
      for (let attempt = 0; attempt < 2; attempt++) {
        await assert.rejects(settleRequests(ledger.worker, ids, 'meter/bad'), withState('23505'));
        await assert.rejects(settleAccount(ledger.gateway, key.accountId), withState('23505'));
      }
      assert.deepEqual(await findBalance(ledger.management, key.accountId), before);
      assert.deepEqual(await statesOf(ids), Array(5).fill('finished'));
      const others = ids.filter((id) => id !== bad);
      assert.equal(await settleRequests(ledger.worker, others, 'meter/others'), 4);
      await cure(bad);
      assert.equal(await settleRequests(ledger.worker, [bad], 'meter/cured'), 1);
    });

    it('marked with its error it keeps its hold and is left alone by every settlement, until a person sends it back', async () => {
      const key = await customer('10');
      const ids = await finished(key, Array<Row>(2).fill({ hold: '1', cost: '0.5' }));
      const [bad, good] = [ids[0]!, ids[1]!];
      await markSettleError(ledger.worker, bad, 'duplicate key value');
      assert.equal(await settleRequests(ledger.worker, ids, 'meter/marked'), 1);
      assert.equal(await settleAccount(ledger.gateway, key.accountId), 0);
      assert.deepEqual(await statesOf([bad, good]), ['finished', 'charged']);
      assert.ok(!(await findUnsettled(ledger.worker, 0, 1000)).includes(bad));
      const { rows } = await ledger.admin.query<{ held: string }>('select held::text from account where id = $1', [
        key.accountId,
      ]);
      assert.equal(usd(rows[0]!.held), usd('1'));
      await ledger.management.query('update request set settle_error = null where id = $1', [bad]);
      assert.equal(await settleRequests(ledger.worker, [bad], 'meter/again'), 1);
    });

    it('keeps the first error, cut to 2,000 characters; rows in other states take none', async () => {
      const key = await customer('10');
      const [bad] = await finished(key, [{ hold: '1', cost: '0.5' }]);
      const [charged] = await finished(key, [{ hold: '1', cost: '0.5' }]);
      await settleRequests(ledger.worker, [charged!], 'meter/charged');
      const held = holdOf(key, '1');
      await placeHold(ledger.gateway, held);
      const text = 'x'.repeat(2001);
      for (const id of [bad!, charged!, held.requestId]) await markSettleError(ledger.worker, id, text);
      await markSettleError(ledger.worker, bad!, 'another');
      const { rows } = await ledger.admin.query<{ length: number | null }>(
        `select length(settle_error) as length from unnest($1::uuid[]) with ordinality i (id, n) join request using (id) order by n`,
        [[bad, charged, held.requestId]],
      );
      assert.deepEqual(
        rows.map(({ length }) => length),
        [2000, null, null],
      );
    });
  });

  describe('and workflow ids', () => {
    async function workflowsOf(ids: readonly RequestUuid[]): Promise<(string | null)[]> {
      const { rows } = await ledger.admin.query<{ workflow_id: string | null }>(
        'select workflow_id from unnest($1::uuid[]) with ordinality i (id, n) join request using (id) order by n',
        [ids],
      );
      return rows.map((row) => row.workflow_id);
    }

    it('a row that was settled without a workflow names the first one that comes later; others keep theirs', async () => {
      const key = await customer('10');
      const ids = await finished(key, [
        { hold: '1', cost: '0.5' },
        { hold: '1', cost: '0.5', outcome: 'upstream_error' },
        { hold: '1', cost: '0.5' },
      ]);
      await settleRequests(ledger.worker, [ids[2]!], 'meter/early');
      await settleAccount(ledger.gateway, key.accountId);
      assert.deepEqual(await workflowsOf(ids), [null, null, 'meter/early']);
      assert.equal(await settleRequests(ledger.worker, ids, 'meter/late'), 0);
      await settleRequests(ledger.worker, ids, 'meter/later');
      assert.deepEqual(await workflowsOf(ids), ['meter/late', 'meter/late', 'meter/early']);
    });

    it('a batch names its workflow on rows it settles and on rows that were settled before it, in one call', async () => {
      const key = await customer('10');
      const [before] = await finished(key, [{ hold: '1', cost: '0.5' }]);
      await settleAccount(ledger.gateway, key.accountId);
      const [now] = await finished(key, [{ hold: '1', cost: '0.5' }]);
      assert.equal(await settleRequests(ledger.worker, [before!, now!], 'meter/both'), 1);
      assert.deepEqual(await workflowsOf([before!, now!]), ['meter/both', 'meter/both']);
    });

    it('two workflows that name the same settled rows at once never deadlock, however each finds the rows', async () => {
      const key = await customer('100');
      // One session walks the index in the order of ids, the other one meets the rows in whatever order a hash or the table gives.
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
          assert.equal(new Set(await workflowsOf(ids)).size, 1);
        }
        assert.deepEqual(failures, []);
      } finally {
        await Promise.all(sessions.map((session) => session.end()));
      }
    });
  });

  describe('and the locks of others', () => {
    it('keep no hold waiting for key or account before the last step', async () => {
      const key = await customer('10');
      const [first] = await finished(key, [{ hold: '1', cost: '0.5' }]);
      await settleRequests(ledger.worker, [first!], 'meter/first');
      const [second] = await finished(key, [{ hold: '1', cost: '0.5' }]);
      const settling = await whileLocked('usage_hour where account_id = $1', key.accountId, async () => {
        const begun = settleRequests(ledger.worker, [second!], 'meter/second');
        await untilWaiting(1);
        assert.equal(formatUsd(await placeHold(ledger.gateway, holdOf(key, '8'))), '8.000000000000');
        return [begun];
      });
      assert.deepEqual(settling, [1]);
    });

    it('never deadlock, though one with an overrun takes them in another order', async () => {
      const [early, late] = [await customer('10'), await customer('10')];
      const [ofEarly] = await finished(early, [{ hold: '1', cost: '0.5' }]);
      const [ofLate, overrunning] = await finished(late, [
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
  });

  describe('and the low-balance notice', () => {
    async function chargedDownTo(balance: string): Promise<{ key: Key; id: RequestUuid }> {
      const key = await customer('3');
      const cost = formatUsd((usd('3') - usd(balance)) as PicoUsd);
      const [id] = await finished(key, [{ hold: '3', cost }]);
      await settleRequests(ledger.worker, [id!], 'meter/notice');
      return { key, id: id! };
    }

    it('is due by level: below the threshold and not told yet, however often it is asked', async () => {
      const { key, id } = await chargedDownTo('0.999999999999');
      for (let n = 0; n < 2; n++)
        assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, [key.accountId]);
      assert.equal(await noticeLowBalance(ledger.worker, key.accountId), true);
      assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, []);
      assert.equal(await noticeLowBalance(ledger.worker, key.accountId), false);
    });

    it('is not due at the threshold', async () => {
      const { key, id } = await chargedDownTo('1');
      assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, []);
      assert.equal(await noticeLowBalance(ledger.worker, key.accountId), false);
    });

    it('is written once when many workflows write it at once', async () => {
      const { key } = await chargedDownTo('0.5');
      const written = await Promise.all(
        Array.from({ length: 12 }, () => noticeLowBalance(ledger.worker, key.accountId)),
      );
      assert.equal(written.filter(Boolean).length, 1);
      const { rows } = await ledger.admin.query('select details from notice where account_id = $1', [key.accountId]);
      assert.deepEqual(rows, [{ details: { balance_usd: '0.500000000000', threshold_usd: '1.000000000000' } }]);
    });

    it('is armed again by money that lifts the balance to the threshold, not by less', async () => {
      const { key, id } = await chargedDownTo('0.5');
      await noticeLowBalance(ledger.worker, key.accountId);
      await credit(ledger.management, key.accountId, '0.4');
      assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, []);
      await credit(ledger.management, key.accountId, '0.1');
      await credit(ledger.management, key.accountId, '-0.2');
      assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, [key.accountId]);
    });
  });
});
