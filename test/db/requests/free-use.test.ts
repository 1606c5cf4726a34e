/**
 * The quota of `:free` models of an account: counted over all its keys and gateways in a row of its own, each request
 * once whatever is repeated, and booked at its list price as the platform's cost. Paid requests have nothing to do with
 * it.
 */
import assert from 'node:assert/strict';
import type { LedgerRefusal } from '../../../db/shared/client.ts';
import {
  finishRequests,
  placeFreeHolds,
  placeHold,
  type FreeQuota,
  type HoldRequest,
} from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import type { AccountUuid, KeyUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { NO_USAGE } from '../../../domain/usage/usage.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

interface Customer {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

const ROOMY: FreeQuota = { tokensPerDay: 1_000_000, requestsPerMinute: 1000, open: 1000 };
const DAY_SECONDS = 86_400;

describe('use of :free models', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('free_use', 8);
  });
  afterEach(async () => assert.deepEqual(await brokenRules(ledger.admin), []));
  after(() => ledger.database.drop());

  async function customer(balance = '0'): Promise<Customer> {
    const accountId = await createCustomer(ledger, balance);
    return { accountId, keyId: await createKey(ledger, accountId) };
  }

  function freeHold(who: Customer, given: Partial<HoldRequest> = {}): HoldRequest {
    return holdOf(who, '0', { modelId: 'demo/model:free', ...given });
  }

  async function place(holds: readonly HoldRequest[], quota: Partial<FreeQuota>): Promise<(LedgerRefusal | null)[]> {
    return placeFreeHolds(ledger.gateway, holds, { ...ROOMY, ...quota });
  }

  const codes = (verdicts: readonly (LedgerRefusal | null)[]): (string | null)[] =>
    verdicts.map((verdict) => verdict?.code ?? null);

  /** Runs a test whose calls must be of one UTC minute again when the minute ended under it. */
  async function withinOneMinute(test: () => Promise<void>): Promise<void> {
    const minute = (): number => Math.floor(Date.now() / 60_000);
    for (let begun = minute(); ; begun = minute()) {
      const failure = await test().catch((error: unknown) => error);
      if (failure === undefined) return;
      if (begun === minute()) throw failure as Error;
    }
  }

  async function use(accountId: AccountUuid): Promise<{ open: number; requests: number; tokens: number }> {
    const { rows } = await ledger.admin.query<{ open: number; requests: number; tokens: number }>(
      `select open, minute_requests as requests, day_tokens::int as tokens from free_use where account_id = $1`,
      [accountId],
    );
    return rows[0]!;
  }

  it('requests of a minute are bounded over all keys of the account and all gateways', () =>
    withinOneMinute(async () => {
      const one = await customer();
      const other = { ...one, keyId: await createKey(ledger, one.accountId) };
      const gatewayId = uuidAt(Date.now());
      assert.deepEqual(codes(await place([freeHold(one), freeHold(other)], { requestsPerMinute: 3 })), [null, null]);
      const [third, fourth] = await place([freeHold(one, { gatewayId }), freeHold(other, { gatewayId })], {
        requestsPerMinute: 3,
      });
      assert.equal(third, null);
      assert.equal(fourth?.code, 'free_requests_used_up');
      const seconds = fourth.retryAfterSeconds!;
      assert.ok(seconds >= 1 && seconds <= 60, `${seconds} s until the next minute`);
      assert.deepEqual(codes(await place([freeHold(await customer())], { requestsPerMinute: 3 })), [null]);
    }));

  it('a new minute counts from zero', async () => {
    const who = await customer();
    await place([freeHold(who)], {});
    await ledger.admin.query(
      `update free_use set minute = minute - interval '1 minute', minute_requests = 60 where account_id = $1`,
      [who.accountId],
    );
    assert.deepEqual(codes(await place([freeHold(who)], { requestsPerMinute: 60 })), [null]);
    assert.equal((await use(who.accountId)).requests, 1);
  });

  it('a refused request writes nothing and is not counted', () =>
    withinOneMinute(async () => {
      const who = await customer();
      const holds = [freeHold(who), freeHold(who), freeHold(who)];
      const bounds = { requestsPerMinute: 1 };
      assert.deepEqual(codes(await place(holds, bounds)), [null, 'free_requests_used_up', 'free_requests_used_up']);
      const { rows } = await ledger.admin.query('select id from request where account_id = $1', [who.accountId]);
      assert.deepEqual(rows, [{ id: holds[0]!.requestId }]);
      assert.deepEqual(await use(who.accountId), { open: 1, requests: 1, tokens: 0 });
    }));

  it('a call that is repeated is counted once, also when the quota is used up by then', async () => {
    const who = await customer();
    const hold = freeHold(who);
    for (let n = 0; n < 3; n++) assert.deepEqual(codes(await place([hold], { requestsPerMinute: 1, open: 1 })), [null]);
    assert.deepEqual(await use(who.accountId), { open: 1, requests: 1, tokens: 0 });
    for (let n = 0; n < 3; n++) await finishRequests(ledger.gateway, [endOf(hold.requestId, '0')]);
    assert.deepEqual(await use(who.accountId), { open: 0, requests: 1, tokens: 120 });
  });

  it('requests at once are bounded, and however one ends there is room for the next', async () => {
    const who = await customer();
    for (const outcome of ['completed', 'upstream_error', 'orphaned', 'client_disconnected'] as const) {
      const hold = freeHold(who);
      assert.deepEqual(codes(await place([hold, freeHold(who)], { open: 1 })), [null, 'free_requests_open'], outcome);
      await finishRequests(ledger.worker, [endOf(hold.requestId, '0', { outcome, usage: NO_USAGE })]);
    }
  });

  it('tokens of a day are bounded by what ended requests used, and begin again at midnight UTC', async () => {
    const who = await customer();
    const hold = freeHold(who);
    await place([hold], {});
    await finishRequests(ledger.gateway, [
      endOf(hold.requestId, '0', { usage: { ...NO_USAGE, inputTokens: 600, outputTokens: 400 } }),
    ]);
    assert.deepEqual(codes(await place([freeHold(who)], { tokensPerDay: 1001 })), [null]);
    const [refused] = await place([freeHold(who)], { tokensPerDay: 1000 });
    assert.equal(refused?.code, 'free_tokens_used_up');
    const untilMidnight = DAY_SECONDS - ((Date.now() / 1000) % DAY_SECONDS);
    assert.ok(Math.abs(refused.retryAfterSeconds! - untilMidnight) < 60, `${refused.retryAfterSeconds} s`);
    await ledger.admin.query(`update free_use set day = day - interval '1 day' where account_id = $1`, [who.accountId]);
    assert.deepEqual(codes(await place([freeHold(who)], { tokensPerDay: 1000 })), [null]);
  });

  it('whatever gateways ask at once, no more than the bound is let through', async () => {
    const customers = [await customer(), await customer()];
    const calls = Array.from({ length: 40 }, (_, n) =>
      place(
        // Both orders, so that two calls that lock the same accounts would meet head on.
        (n % 2 === 0 ? customers : customers.toReversed()).map((who) => freeHold(who)),
        { open: 7 },
      ),
    );
    const verdicts = (await Promise.all(calls)).flat();
    assert.equal(verdicts.filter((verdict) => verdict === null).length, 2 * 7);
    for (const { accountId } of customers) assert.equal((await use(accountId)).open, 7);
  });

  it('a paid request of the same account waits for nothing that a :free one holds', async () => {
    const who = await customer('1');
    await place([freeHold(who)], {});
    const session = await ledger.admin.connect();
    try {
      await session.query('begin');
      await session.query('select from free_use where account_id = $1 for update', [who.accountId]);
      const hold = holdOf(who, '0.5');
      await placeHold(ledger.gateway, hold);
      await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.2')]);
      assert.equal(await settleRequests(ledger.worker, [hold.requestId], 'meter/paid'), 1);
    } finally {
      await session.query('rollback');
      session.release();
    }
  });

  it('0.05 USD of tokens on a :free model are booked as platform cost and never charged', async () => {
    const who = await customer('1');
    const [done, failed, unpriced] = [freeHold(who), freeHold(who), freeHold(who)];
    await place([done, failed, unpriced], {});
    const ends = [
      endOf(done.requestId, '0.05'),
      endOf(failed.requestId, '0.01', { outcome: 'upstream_error' }),
      endOf(unpriced.requestId, '0'),
    ];
    for (let n = 0; n < 2; n++) await finishRequests(ledger.gateway, ends);
    const { rows } = await ledger.admin.query(
      `select r.state, r.outcome, r.list_cost + r.cost = 0 as costs_nothing, p.reason, p.list_cost::numeric(32, 2)::text as booked
      from request r left join platform_cost p on p.request_id = r.id where r.account_id = $1 order by r.id`,
      [who.accountId],
    );
    const row = { state: 'released', costs_nothing: true };
    assert.deepEqual(rows, [
      { ...row, outcome: 'completed', reason: 'free', booked: '0.05' },
      { ...row, outcome: 'upstream_error', reason: 'free', booked: '0.01' },
      { ...row, outcome: 'completed', reason: null, booked: null },
    ]);
    const { rows: accounts } = await ledger.admin.query<{ balance: string }>(
      'select balance, held::text from account where id = $1',
      [who.accountId],
    );
    assert.equal(usd(accounts[0]!.balance), usd('1'));
  });
});
