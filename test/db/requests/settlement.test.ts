/**
 * Settling finished requests: which rows are left alone, what a bad row does to its batch, and which workflow a row
 * names in the end.
 */
import assert from 'node:assert/strict';
import { findBalance } from '../../../db/accounts/accounts.ts';
import { finishRequests, placeHold, placeHolds } from '../../../db/requests/requests.ts';
import { findUnsettled, markSettleError, settleAccount, settleRequests } from '../../../db/requests/settlement.ts';
import type { RequestUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import {
  chargesOf,
  customerWithKey,
  finished,
  workflowsOf,
  type EndedRequest,
} from '../../support/finished-requests.ts';
import {
  behindTheGuards,
  brokenRules,
  createLedgerDatabase,
  endOf,
  holdOf,
  newRequestId,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

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

  describe('of a list of ids', () => {
    it('a list of ids settles each once, also with repeated, unknown, held and settled ids', async () => {
      const key = await customerWithKey(ledger, '10');
      const [settledBefore, ...rest] = await finished(
        ledger,
        key,
        Array<EndedRequest>(4).fill({ hold: '1', cost: '0.5' }),
      );
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

    it('an empty list of ids is no error', async () => {
      assert.equal(await settleRequests(ledger.worker, [], 'meter/empty'), 0);
    });

    it('posts nothing for a request that cost nothing', async () => {
      const key = await customerWithKey(ledger, '1');
      const ids = await finished(ledger, key, [{ hold: '1', cost: '0' }]);
      await settleRequests(ledger.worker, ids, 'meter/nothing');
      assert.deepEqual(await chargesOf(ledger, ids), ['charged 0']);
      const { rows } = await ledger.admin.query('select from posting where business_id = any($1)', [ids]);
      assert.equal(rows.length, 0);
    });
  });

  describe('of an account', () => {
    it('settling an account takes its 1,000 oldest finished requests, of no other account, and says how many', async () => {
      const [key, other] = [await customerWithKey(ledger, '100'), await customerWithKey(ledger, '100')];
      const holds = Array.from({ length: 1001 }, () => holdOf(key, '0.01'));
      await placeHolds(ledger.gateway, holds);
      const newest = holds.shift()!;
      await finishRequests(
        ledger.gateway,
        holds.map(({ requestId }) => endOf(requestId, '0.01')),
      );
      await finishRequests(ledger.gateway, [endOf(newest.requestId, '0.01')]);
      await finished(ledger, other, [{ hold: '1', cost: '1' }]);
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

    it('a bad row fails the whole batch deterministically and without a trace; without it the batch goes through', async () => {
      const key = await customerWithKey(ledger, '10');
      const ids = await finished(ledger, key, Array<EndedRequest>(5).fill({ hold: '1', cost: '0.5' }));
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
      const key = await customerWithKey(ledger, '10');
      const ids = await finished(ledger, key, Array<EndedRequest>(2).fill({ hold: '1', cost: '0.5' }));
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

    it('a bad row keeps its first error, cut to 2,000 characters; rows in other states take none', async () => {
      const key = await customerWithKey(ledger, '10');
      const [bad] = await finished(ledger, key, [{ hold: '1', cost: '0.5' }]);
      const [charged] = await finished(ledger, key, [{ hold: '1', cost: '0.5' }]);
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
    it('a row settled without a workflow names the first later workflow; other rows keep theirs', async () => {
      const key = await customerWithKey(ledger, '10');
      const ids = await finished(ledger, key, [
        { hold: '1', cost: '0.5' },
        { hold: '1', cost: '0.5', outcome: 'upstream_error' },
        { hold: '1', cost: '0.5' },
      ]);
      await settleRequests(ledger.worker, [ids[2]!], 'meter/early');
      await settleAccount(ledger.gateway, key.accountId);
      assert.deepEqual(await workflowsOf(ledger, ids), [null, null, 'meter/early']);
      assert.equal(await settleRequests(ledger.worker, ids, 'meter/late'), 0);
      await settleRequests(ledger.worker, ids, 'meter/later');
      assert.deepEqual(await workflowsOf(ledger, ids), ['meter/late', 'meter/late', 'meter/early']);
    });

    it('a batch names its workflow on rows it settles and on rows that were settled before it, in one call', async () => {
      const key = await customerWithKey(ledger, '10');
      const [before] = await finished(ledger, key, [{ hold: '1', cost: '0.5' }]);
      await settleAccount(ledger.gateway, key.accountId);
      const [now] = await finished(ledger, key, [{ hold: '1', cost: '0.5' }]);
      assert.equal(await settleRequests(ledger.worker, [before!, now!], 'meter/both'), 1);
      assert.deepEqual(await workflowsOf(ledger, [before!, now!]), ['meter/both', 'meter/both']);
    });
  });
});
