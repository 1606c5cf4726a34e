/**
 * The settlement activity on a real ledger: one bad row never holds up the others, is shown to a person once, and a
 * fault or a half-done deployment is never taken for a bad row.
 */
import assert from 'node:assert/strict';
import { createSettlementActivities, type SettlementActivities } from '../../../activities/requests/settlement.ts';
import { listCases, retrySettlement, type Case } from '../../../db/accounts/cases.ts';
import { noticeLowBalance } from '../../../db/accounts/notices.ts';
import { finishRequests, placeHolds } from '../../../db/requests/requests.ts';
import { settleAccount } from '../../../db/requests/settlement.ts';
import { formatId, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../domain/ids.ts';
import { formatUsd, picoUsd, usd } from '../../../domain/money.ts';
import { createLogger } from '../../../runtime/logger.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  emptyLedger,
  endOf,
  holdOf,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

const WORKFLOW = 'meter/test';

interface RequestRow {
  readonly id: RequestUuid;
  readonly state: string;
  readonly workflow_id: string | null;
  readonly settle_error: string | null;
}

describe('settlement activity', () => {
  let ledger: LedgerDatabase;
  let activities: SettlementActivities;
  let customer: { accountId: AccountUuid; keyId: KeyUuid };

  before(async () => {
    ledger = await createLedgerDatabase('settlement-activity');
    activities = createSettlementActivities({ pool: ledger.worker, logger: createLogger('test', 'silent') });
  });
  beforeEach(async () => {
    await emptyLedger(ledger.admin);
    await ledger.admin.query('delete from review_case');
    const accountId = await createCustomer(ledger, '100');
    customer = { accountId, keyId: await createKey(ledger, accountId) };
  });
  after(() => ledger.database.drop());

  /** Requests that were held at 0.10 and ended at a cost of 0.04 each. */
  async function finished(count: number): Promise<RequestUuid[]> {
    const holds = Array.from({ length: count }, () => holdOf(customer, '0.1'));
    const granted = await placeHolds(ledger.gateway, holds);
    assert.ok(granted.every((amount) => amount === usd('0.1')));
    await finishRequests(
      ledger.gateway,
      holds.map(({ requestId }) => endOf(requestId, '0.04')),
    );
    return holds.map(({ requestId }) => requestId);
  }

  function settle(ids: readonly RequestUuid[], workflowId = WORKFLOW) {
    return activities.settleRequests({ requestIds: ids.map((id) => formatId('request', id)), workflowId });
  }

  async function rows(ids: readonly RequestUuid[]): Promise<RequestRow[]> {
    const { rows: found } = await ledger.admin.query<RequestRow>(
      'select id, state, workflow_id, settle_error from request where id = any ($1) order by id',
      [ids],
    );
    return found;
  }

  async function account(): Promise<{ balance: string; held: string }> {
    const { rows: found } = await ledger.admin.query<{ balance: string; held: string }>(
      'select balance, held from account where id = $1',
      [customer.accountId],
    );
    return { balance: formatUsd(usd(found[0]!.balance)), held: formatUsd(usd(found[0]!.held)) };
  }

  async function cases(): Promise<readonly Case[]> {
    return (await listCases(ledger.management, true, { after: null, limit: 100 })).rows;
  }

  /** Makes each of these fail when it is settled, by a posting that is there already; `repair` takes it away. */
  async function poison(ids: readonly RequestUuid[]): Promise<{ repair: () => Promise<void> }> {
    await ledger.admin.query(
      `insert into posting (business_id, kind, debit, credit, amount)
       select id, 'charge', account_id, system_account('revenue'), 0.04 from request where id = any ($1)`,
      [ids],
    );
    return {
      repair: async () => {
        await ledger.admin.query('alter table posting disable trigger user');
        await ledger.admin.query('delete from posting where business_id = any ($1)', [ids]);
        await ledger.admin.query('alter table posting enable trigger user');
      },
    };
  }

  it('charges a batch, names the workflow on every row and gives back what was held above the cost', async () => {
    const ids = await finished(12);
    assert.deepEqual(await settle(ids), { settled: 12, settleErrors: 0, lowBalanceAccountIds: [] });
    for (const row of await rows(ids)) {
      assert.deepEqual({ state: row.state, workflow: row.workflow_id }, { state: 'charged', workflow: WORKFLOW });
    }
    assert.deepEqual(await account(), { balance: '99.520000000000', held: '0.000000000000' });
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  it('settles nothing twice, and still names itself on rows that somebody else settled first', async () => {
    const ids = await finished(3);
    await settleAccount(ledger.gateway, customer.accountId);
    assert.deepEqual(
      (await rows(ids)).map((row) => row.workflow_id),
      [null, null, null],
    );
    assert.equal((await settle(ids)).settled, 0);
    assert.equal((await settle(ids, 'meter/another')).settled, 0);
    for (const row of await rows(ids)) assert.equal(row.workflow_id, WORKFLOW);
    assert.deepEqual(await account(), { balance: '99.880000000000', held: '0.000000000000' });
  });

  for (const { batch, bad } of [
    { batch: 1, bad: [0] },
    { batch: 2, bad: [1] },
    { batch: 2, bad: [0, 1] },
    { batch: 7, bad: [3] },
    { batch: 256, bad: [0, 1, 127, 128, 200, 255] },
  ]) {
    it(`sets ${bad.length} bad row(s) of ${batch} aside with a case each, and settles the others`, async () => {
      const ids = await finished(batch);
      const poisoned = bad.map((index) => ids[index]!);
      const { repair } = await poison(poisoned);

      const result = await settle(ids);
      assert.deepEqual(result, {
        settled: batch - bad.length,
        settleErrors: bad.length,
        lowBalanceAccountIds: [],
      });
      for (const row of await rows(ids)) {
        const isBad = poisoned.includes(row.id);
        assert.equal(row.state, isBad ? 'finished' : 'charged');
        assert.equal(row.settle_error !== null, isBad);
      }
      const open = await cases();
      assert.deepEqual(open.map(({ subject }) => subject).sort(), poisoned.map((id) => formatId('request', id)).sort());
      for (const { kind, evidence } of open) {
        assert.equal(kind, 'settle_error');
        assert.match(String(evidence['error']), /duplicate key/);
      }
      const held = formatUsd(picoUsd(usd('0.1') * BigInt(bad.length)));
      assert.equal((await account()).held, held, 'a row that waits for a person keeps its hold');

      await repair();
      assert.deepEqual(await brokenRules(ledger.admin), []);
    });
  }

  it('leaves a row alone that waits for a person, and settles it once that person has sent it back', async () => {
    const ids = await finished(3);
    const { repair } = await poison([ids[1]!]);
    await settle(ids);
    assert.deepEqual(await settle(ids), { settled: 0, settleErrors: 0, lowBalanceAccountIds: [] });
    assert.equal((await cases()).length, 1);

    await repair();
    assert.equal((await settle(ids)).settled, 0, 'repaired is not yet sent back');
    assert.ok(await retrySettlement(ledger.management, ids[1]!));
    assert.equal((await settle(ids)).settled, 1);
    assert.deepEqual(await account(), { balance: '99.880000000000', held: '0.000000000000' });
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  it('opens the case before it marks the row: a marked row without a case would be seen by nobody', async () => {
    const ids = await finished(1);
    await poison(ids);
    await ledger.admin.query('revoke execute on function open_case from holdfast_worker');
    try {
      await assert.rejects(settle(ids), /permission denied/);
    } finally {
      await ledger.admin.query('grant execute on function open_case to holdfast_worker');
    }
    assert.equal((await rows(ids))[0]?.settle_error, null);
    assert.equal((await settle(ids)).settleErrors, 1);
    assert.equal((await cases()).length, 1);
  });

  it('only fails, and sets nothing aside, while a row is locked by somebody else', async () => {
    const ids = await finished(4);
    const impatient = createSettlementActivities({
      pool: ledger.database.pool('worker', { max: 1, statementTimeoutMs: 150 }),
      logger: createLogger('test', 'silent'),
    });
    const input = { requestIds: ids.map((id) => formatId('request', id)), workflowId: WORKFLOW };
    const other = await ledger.admin.connect();
    try {
      await other.query('begin');
      await other.query('select from request where id = $1 for update', [ids[2]]);
      await assert.rejects(impatient.settleRequests(input), /statement timeout/);
    } finally {
      await other.query('rollback');
      other.release();
    }
    for (const row of await rows(ids)) assert.deepEqual([row.state, row.settle_error], ['finished', null]);
    assert.deepEqual(await cases(), []);
    assert.equal((await impatient.settleRequests(input)).settled, 4);
  });

  it('only fails, and sets nothing aside, while the database is another version than the worker', async () => {
    // In a half-done deployment every row fails alike; each of them would become a case for a person.
    const ids = await finished(4);
    await ledger.admin.query('alter function settle_requests rename to settle_requests_of_tomorrow');
    try {
      await assert.rejects(settle(ids), /settle_requests.* does not exist/);
    } finally {
      await ledger.admin.query('alter function settle_requests_of_tomorrow rename to settle_requests');
    }
    for (const row of await rows(ids)) assert.equal(row.settle_error, null);
    assert.deepEqual(await cases(), []);
    assert.equal((await settle(ids)).settled, 4);
  });

  it('takes an id that is none for a bug, not for a bad row', async () => {
    const ids = await finished(1);
    const requestIds = [formatId('request', ids[0]!), 'req_nonsense'];
    await assert.rejects(activities.settleRequests({ requestIds, workflowId: WORKFLOW }), /invariant broken/);
    assert.equal((await rows(ids))[0]?.state, 'finished');
    assert.deepEqual(await cases(), []);
  });

  it('passes over ids that are unknown or still held', async () => {
    const [done] = await finished(1);
    const held = holdOf(customer, '0.1');
    await placeHolds(ledger.gateway, [held]);
    const unknown = holdOf(customer, '0.1').requestId;
    assert.equal((await settle([unknown, done!, held.requestId])).settled, 1);
    assert.equal((await rows([held.requestId]))[0]?.state, 'held');
  });

  it('names an account below its threshold again and again until the notice is written: a level, not an edge', async () => {
    await ledger.admin.query('update account set low_balance_usd = 99.9 where id = $1', [customer.accountId]);
    const wireId = formatId('account', customer.accountId);
    const first = await finished(2);
    assert.deepEqual((await settle(first)).lowBalanceAccountIds, [], '99.92 is above the threshold');
    const second = await finished(2);
    assert.deepEqual((await settle(second)).lowBalanceAccountIds, [wireId]);
    assert.deepEqual(
      (await settle(second)).lowBalanceAccountIds,
      [wireId],
      'the follow-up of the first run may be lost',
    );
    await noticeLowBalance(ledger.worker, customer.accountId);
    assert.deepEqual((await settle(second)).lowBalanceAccountIds, []);
  });
});
