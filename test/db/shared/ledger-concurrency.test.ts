/**
 * The ledger under concurrent callers: many connections at once on the same money, the same ids and the same rows,
 * scalar and batched. Money is granted exactly once, every race has one winner, and nobody dies of a deadlock.
 */
import assert from 'node:assert/strict';
import { pino } from 'pino';
import pg from 'pg';
import { Holds } from '../../../api/gateway/core/holds/holds.ts';

import { findBalance, freezeAccount } from '../../../db/accounts/accounts.ts';
import { ledgerRefusal, sqlState } from '../../../db/shared/client.ts';
import { decideAdjustment, requestAdjustment } from '../../../db/accounts/adjustments.ts';
import { decideRefund, requestRefund } from '../../../db/requests/refunds.ts';
import { findOrphans } from '../../../db/requests/orphans.ts';
import { extendHold, finishRequests, placeHold, placeHolds, type HoldRequest } from '../../../db/requests/requests.ts';
import { settleAccount, settleRequests } from '../../../db/requests/settlement.ts';
import { uuidOf, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../../domain/money.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  credit,
  endOf,
  holdOf,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { ADA, ANN, BOB, EVE, upTo } from '../../support/staff.ts';

const CONNECTIONS = 24;

interface KeyOfAccount {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

describe('ledger under concurrency', function () {
  this.timeout(60_000);
  let ledger: LedgerDatabase;
  /** No role may post a transfer of its own, so those come from many administrators. */
  let administrators: pg.Pool;

  before(async () => {
    ledger = await createLedgerDatabase('ledger_concurrency', CONNECTIONS);
    const { url } = ledger.database;
    administrators = new pg.Pool({ connectionString: url, max: CONNECTIONS, options: '-c search_path=holdfast' });
    // A connection that is closing when the database is dropped still hears of it, when the pool no longer listens.
    administrators.on('error', () => undefined);
    administrators.on('connect', (client) => client.on('error', () => undefined));
  });
  after(async () => {
    await administrators.end();
    await ledger.database.drop();
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  async function customers(count: number, balance: string, limit: PicoUsd | null = null): Promise<KeyOfAccount[]> {
    return Promise.all(
      Array.from({ length: count }, async () => {
        const accountId = await createCustomer(ledger, balance);
        return { accountId, keyId: await createKey(ledger, accountId, { limit }) };
      }),
    );
  }

  /** Takes one hold as a caller would and says what was granted; null when it was refused for lack of money. */
  type Taker = (hold: HoldRequest) => Promise<PicoUsd | null>;

  async function takeAlone(hold: HoldRequest): Promise<PicoUsd | null> {
    try {
      return await placeHold(ledger.gateway, hold);
    } catch (error) {
      return nullIfOutOfMoney(ledgerRefusal(error)?.code, error);
    }
  }

  /** As gateway processes do it: each has its own queue. */
  function takeThroughQueues(processes: number): Taker {
    const services = Array.from(
      { length: processes },
      () =>
        new Holds({
          pool: ledger.gateway,
          logger: pino({ level: 'silent' }),
          timeoutSeconds: 30,
          freeQuota: null,
          onAbandoned: () => assert.fail('a hold was abandoned'),
        }),
    );
    let next = 0;
    return async (hold) => {
      const result = await services[next++ % processes]!.take(hold);
      if (result.kind === 'granted') return result.hold;
      return nullIfOutOfMoney(result.kind === 'refused' ? result.refusal.code : undefined, result);
    };
  }

  function takeBothWays(): Taker {
    const throughQueues = takeThroughQueues(3);
    let next = 0;
    return (hold) => (next++ % 3 === 0 ? takeAlone(hold) : throughQueues(hold));
  }

  const takers: Record<string, () => Taker> = {
    'one call each': () => takeAlone,
    'through one queue': () => takeThroughQueues(1),
    'through the queues of four processes': () => takeThroughQueues(4),
    'through queues and one call each at the same time': takeBothWays,
  };

  for (const [how, makeTaker] of Object.entries(takers)) {
    describe(`200 holds at once, ${how}`, () => {
      it('grant exactly the money of one account that can pay 10', async () => {
        const [key] = await customers(1, '1');
        await takeTen(makeTaker(), [key!]);
      });

      it('grant exactly the money of ten accounts that can pay one each', async () => {
        await takeTen(makeTaker(), await customers(10, '0.1'));
      });

      it('grant exactly the money of one account that can pay 10, through ten keys', async () => {
        const accountId = await createCustomer(ledger, '1');
        const keys = await times(10, async () => ({ accountId, keyId: await createKey(ledger, accountId) }));
        await takeTen(makeTaker(), keys);
      });

      it('grant exactly the limit of one key that can pay 10', async () => {
        const [key] = await customers(1, '100', usd('1'));
        await takeTen(makeTaker(), [key!]);
      });

      it('grant exactly the limits of ten keys that can pay one each', async () => {
        await takeTen(makeTaker(), await customers(10, '100', usd('0.1')));
      });

      it('grant the account’s last pico-USD when each is content with less than it wants', async () => {
        const [key] = await customers(1, '1');
        const take = makeTaker();
        const holds = Array.from({ length: 200 }, () => holdOf(key!, '0.075', { least: usd('0.000000000001') }));
        const granted = (await Promise.all(holds.map(take))).filter((amount) => amount !== null);
        assert.equal(formatUsd(granted.reduce((sum, amount) => (sum + amount) as PicoUsd)), '1.000000000000');
        assert.equal(granted.length, 14);
        assert.equal((await balance(key!.accountId)).available, '0.000000000000');
      });
    });
  }

  it('batches at once, each with another key of one account, share its money exactly', async () => {
    for (let round = 0; round < 5; round++) {
      const accountId = await createCustomer(ledger, '1');
      const keys = await times(12, async () => ({ accountId, keyId: await createKey(ledger, accountId) }));
      const batches = keys.map((key) => Array.from({ length: 20 }, () => holdOf(key, '0.1')));
      const granted = await Promise.all(batches.map((batch) => placeHolds(ledger.gateway, batch)));
      assert.equal(granted.flat().filter((amount) => amount !== null).length, 10);
      assert.equal((await balance(accountId)).available, '0.000000000000');
    }
  });

  async function takeTen(take: Taker, keys: readonly KeyOfAccount[]): Promise<void> {
    const holds = Array.from({ length: 200 }, (_, n) => holdOf(keys[n % keys.length]!, '0.1'));
    const granted = (await Promise.all(holds.map(take))).filter((amount) => amount !== null);
    assert.equal(granted.length, 10);
    assert.ok(granted.every((amount) => amount === usd('0.1')));
    const { rows } = await ledger.admin.query<{ held: string }>(
      'select sum(hold)::text as held from request where key_id = any($1) and state = $2',
      [keys.map(({ keyId }) => keyId), 'held'],
    );
    assert.equal(usd(rows[0]!.held), usd('1'));
  }

  describe('one id at once from 24 callers', () => {
    it('one id from many callers is one hold, and all callers learn the same amount', async () => {
      const [key] = await customers(1, '1');
      const hold = holdOf(key!, '0.3', { wanted: usd('0.4') });
      const granted = await times(24, () => placeHold(ledger.gateway, hold));
      assert.deepEqual(new Set(granted), new Set([usd('0.4')]));
      assert.equal((await balance(key!.accountId)).held, '0.400000000000');
    });

    it('one id in scalar and batched calls is one hold', async () => {
      const [key] = await customers(1, '1');
      const hold = holdOf(key!, '0.3');
      const others = Array.from({ length: 12 }, () => holdOf(key!, '0.01'));
      const [batched, scalar] = await Promise.all([
        Promise.all(others.map((other) => placeHolds(ledger.gateway, [hold, other, hold]))),
        times(12, () => placeHold(ledger.gateway, hold)),
      ]);
      assert.deepEqual(new Set(scalar), new Set([usd('0.3')]));
      for (const [first, , again] of batched) assert.equal(first, again);
      assert.ok(batched.filter(([first]) => first !== null).length <= 1);
      assert.ok(batched.every(([, other]) => other === usd('0.01')));
      assert.equal((await balance(key!.accountId)).held, '0.420000000000');
    });

    it('one id from many callers is refused to all when there is no money, and leaves no row', async () => {
      const [key] = await customers(1, '0.2');
      const hold = holdOf(key!, '0.3');
      assert.deepEqual(new Set(await times(24, () => takeAlone(hold))), new Set([null]));
      const { rows } = await ledger.admin.query('select from request where id = $1', [hold.requestId]);
      assert.equal(rows.length, 0);
    });

    it('one id from many callers is finished once: one `finished`, 23 `replayed`', async () => {
      const [key] = await customers(1, '1');
      const hold = holdOf(key!, '0.3');
      await placeHold(ledger.gateway, hold);
      const verdicts = await times(24, () => finishRequests(ledger.gateway, [endOf(hold.requestId, '0.1')]));
      assert.deepEqual(verdicts.flat().sort(), ['finished', ...Array<string>(23).fill('replayed')]);
    });

    it('one id from many callers is settled once, by workflow or by account', async () => {
      const [key] = await customers(1, '1');
      const hold = holdOf(key!, '0.3');
      await placeHold(ledger.gateway, hold);
      await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.1')]);
      const settled = await times(24, (n) =>
        n % 3 === 0
          ? settleAccount(ledger.gateway, key!.accountId)
          : settleRequests(ledger.worker, [hold.requestId], `meter/${n}`),
      );
      assert.deepEqual(settled.sort(), [...Array<number>(23).fill(0), 1]);
      assert.deepEqual(await balance(key!.accountId), {
        balance: '0.900000000000',
        held: '0.000000000000',
        available: '0.900000000000',
      });
    });

    it('one id from many callers is posted once: one transfer, and every caller gets its id', async () => {
      const accountId = await createCustomer(ledger, '1');
      const businessId = uuidAt(Date.now());
      const ids = await times(24, () => transfer(businessId, accountId, '0.25'));
      assert.equal(new Set(ids).size, 1);
      assert.equal((await balance(accountId)).balance, '1.250000000000');
    });

    it('one id with different amounts is posted once: the other callers are refused', async () => {
      const accountId = await createCustomer(ledger, '1');
      const businessId = uuidAt(Date.now());
      const outcomes = await Promise.allSettled(
        Array.from({ length: 24 }, (_, n) => transfer(businessId, accountId, n % 2 === 0 ? '0.25' : '0.5')),
      );
      const posted = outcomes.filter(({ status }) => status === 'fulfilled');
      const refused = outcomes.filter(
        (outcome) => outcome.status === 'rejected' && sqlState(outcome.reason) === 'HF009',
      );
      assert.deepEqual([posted.length, refused.length], [12, 12]);
      assert.ok(['1.250000000000', '1.500000000000'].includes((await balance(accountId)).balance));
    });

    it('one id is adjusted once, and decided once by two people who disagree', async () => {
      const accountId = await createCustomer(ledger, '1');
      const id = uuidOf('adjustment', uuidAt(Date.now()));
      const wish = { id, accountId, amount: usd('5'), reason: 'goodwill', requestedBy: ANN, limits: upTo('1') };
      const asked = await times(24, () => requestAdjustment(ledger.management, wish));
      assert.deepEqual(new Set(asked.map(({ state }) => state)), new Set(['waiting']));
      const decided = await times(24, (n) =>
        decideAdjustment(ledger.management, { id, approve: n % 2 === 0, decidedBy: n % 2 === 0 ? BOB : EVE }),
      );
      const states = new Set(decided.map(({ state }) => state));
      assert.equal(states.size, 1);
      assert.equal((await balance(accountId)).balance, states.has('posted') ? '6.000000000000' : '1.000000000000');
    });
  });

  it('200 races of finish, sweep and settlement have one outcome each', async () => {
    const [key] = await customers(1, '100');
    const holds = Array.from({ length: 200 }, () => holdOf(key!, '0.1'));
    await placeHolds(ledger.gateway, holds);
    const races = await Promise.all(
      holds.map(async ({ requestId }) => {
        const settle = (): Promise<number> => settleRequests(ledger.worker, [requestId], `meter/${requestId}`);
        const [completed, early, orphaned, late] = await Promise.all([
          finishRequests(ledger.gateway, [endOf(requestId, '0.04')]),
          settle(),
          finishRequests(ledger.worker, [endOf(requestId, '0', { outcome: 'orphaned' })]),
          settle(),
        ]);
        return {
          requestId,
          completed: completed[0]!,
          orphaned: orphaned[0]!,
          settled: early + late + (await settle()),
        };
      }),
    );
    const { rows } = await ledger.admin.query<{
      id: string;
      state: string;
      cost: string;
      postings: number;
      lost: number;
    }>(
      `select id, state, cost::text as cost,
        (select count(*)::int from posting where business_id = request.id) as postings,
        (select count(*)::int from platform_cost where request_id = request.id) as lost
      from request where id = any($1)`,
      [holds.map(({ requestId }) => requestId)],
    );
    const byId = new Map(rows.map((row) => [row.id, row]));
    const won = { completed: 0, orphaned: 0 };
    for (const race of races) {
      const row = byId.get(race.requestId)!;
      assert.equal(race.settled, 1);
      if (race.completed === 'finished') {
        won.completed += 1;
        assert.deepEqual(
          [race.orphaned, row.state, usd(row.cost), row.postings, row.lost],
          ['late', 'charged', usd('0.04'), 1, 0],
        );
      } else {
        won.orphaned += 1;
        assert.deepEqual(
          [race.completed, race.orphaned, row.state, usd(row.cost), row.postings, row.lost],
          ['late', 'finished', 'released', 0n, 0, 1],
        );
      }
    }
    assert.equal(won.completed + won.orphaned, 200);
    const paid = 100n * usd('1') - BigInt(won.completed) * usd('0.04');
    assert.equal((await balance(key!.accountId)).balance, formatUsd(paid as PicoUsd));
  });

  it('extensions at once never hold more than the account has', async () => {
    const [key] = await customers(1, '1');
    const holds = Array.from({ length: 24 }, () => holdOf(key!, '0.01'));
    await placeHolds(ledger.gateway, holds);
    const outcomes = await Promise.allSettled(
      holds.map(({ requestId }) => extendHold(ledger.gateway, requestId, usd('0.2'))),
    );
    // 0.24 is held; each extension takes 0.19 of the remaining 0.76.
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 4);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.equal(ledgerRefusal(outcome.reason)?.code, 'insufficient_quota');
    }
    assert.equal((await balance(key!.accountId)).available, '0.000000000000');
  });

  it('parallel holds and debits share the money exactly', async () => {
    const [key] = await customers(1, '1');
    const outcomes = await times(60, async (n) => {
      if (n % 2 === 0) return takeAlone(holdOf(key!, '0.1'));
      return credit(ledger.management, key!.accountId, '-0.1').then(
        () => usd('0.1'),
        (error: unknown) => nullIfOutOfMoney(ledgerRefusal(error)?.code, error),
      );
    });
    assert.equal(outcomes.filter((taken) => taken !== null).length, 10);
    assert.equal((await balance(key!.accountId)).available, '0.000000000000');
  });

  it('no hold is granted once a freeze or a revocation has returned', async () => {
    for (const stop of ['freeze', 'revoke'] as const) {
      const [key] = await customers(1, '100');
      let stopped = false;
      const lateGrants: string[] = [];
      const caller = async (): Promise<void> => {
        for (let n = 0; n < 20; n++) {
          const begunAfterStop = stopped;
          const granted = await placeHold(ledger.gateway, holdOf(key!, '0.01')).then(
            () => true,
            (error: unknown) => {
              assert.match(ledgerRefusal(error)?.code ?? String(error), /^(account_frozen|key_revoked)$/);
              return false;
            },
          );
          if (granted && begunAfterStop) lateGrants.push(stop);
        }
      };
      await Promise.all([
        ...Array.from({ length: 12 }, caller),
        (stop === 'freeze'
          ? freezeAccount(ledger.management, key!.accountId, { kind: 'operator', reason: 'test' })
          : ledger.management.query('update api_key set revoked_at = now() where id = $1', [key!.keyId])
        ).then(() => (stopped = true)),
      ]);
      assert.deepEqual(lateGrants, []);
    }
  });

  describe('refunds', () => {
    async function chargedRequest(): Promise<{ accountId: AccountUuid; requestId: RequestUuid }> {
      const [key] = await customers(1, '1');
      const hold = holdOf(key!, '0.4');
      await placeHold(ledger.gateway, hold);
      await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.4')]);
      await settleRequests(ledger.worker, [hold.requestId], 'meter/refunds');
      return { accountId: key!.accountId, requestId: hold.requestId };
    }

    it('refunds requested by 24 people at once never exceed the charge', async () => {
      const { requestId } = await chargedRequest();
      const outcomes = await Promise.allSettled(
        Array.from({ length: 24 }, (_, n) =>
          requestRefund(ledger.management, {
            requestId,
            n,
            amount: usd('0.15'),
            reason: 'wrong answer',
            requestedBy: ANN,
          }),
        ),
      );
      assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 2);
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') assert.equal(ledgerRefusal(outcome.reason)?.code, 'refund_too_large');
      }
    });

    it('refunds decided by 24 callers at once, for and against, are paid at most once', async () => {
      const { accountId, requestId } = await chargedRequest();
      await requestRefund(ledger.management, {
        requestId,
        n: 1,
        amount: null,
        reason: 'wrong answer',
        requestedBy: ANN,
      });
      const decided = await times(24, (n) =>
        decideRefund(ledger.management, { requestId, n: 1, approve: n % 2 === 0, decidedBy: [ADA, BOB, EVE][n % 3]! }),
      );
      assert.equal(new Set(decided.map(({ state, decidedBy }) => `${state} by ${decidedBy}`)).size, 1);
      const posted = decided[0]!.state === 'posted';
      assert.equal((await balance(accountId)).balance, posted ? '1.000000000000' : '0.600000000000');
    });
  });

  it('batches, single calls, settlers and sweeps on shuffled rows never deadlock', async () => {
    const keys = (await customers(12, '40')).flatMap((key) => [key]);
    const second = await Promise.all(
      keys.map(async ({ accountId }) => ({ accountId, keyId: await createKey(ledger, accountId) })),
    );
    const all = [...keys, ...second];
    const open: RequestUuid[] = [];
    const ended: RequestUuid[] = [];
    const states: (string | null)[] = [];
    const attempt = async (work: Promise<unknown>): Promise<void> => {
      await work.catch((error: unknown) => states.push(sqlState(error) ?? String(error)));
    };
    const gateway = async (): Promise<void> => {
      for (let round = 0; round < 12; round++) {
        const batch = shuffled(all)
          .slice(0, 10)
          .map((key) => holdOf(key, '0.02'));
        await attempt(placeHolds(ledger.gateway, batch));
        const alone = holdOf(shuffled(all)[0]!, '0.02');
        await attempt(placeHold(ledger.gateway, alone));
        open.push(alone.requestId, ...batch.map(({ requestId }) => requestId));
        await attempt(extendHold(ledger.gateway, alone.requestId, usd('0.03')));
        const ending = shuffled(open).slice(0, 15);
        await attempt(
          finishRequests(
            ledger.gateway,
            ending.map((requestId) => endOf(requestId, '0.025')),
          ),
        );
        ended.push(...ending);
      }
    };
    const settler = async (name: string): Promise<void> => {
      for (let round = 0; round < 12; round++) {
        await attempt(settleRequests(ledger.worker, shuffled(ended).slice(0, 60), `meter/${name}/${round}`));
        await attempt(settleAccount(ledger.gateway, shuffled(all)[0]!.accountId));
      }
    };
    const others = async (): Promise<void> => {
      for (let round = 0; round < 12; round++) {
        await attempt(credit(ledger.management, shuffled(all)[0]!.accountId, round % 2 === 0 ? '0.01' : '-0.01'));
        await attempt(findOrphans(ledger.worker, 3600, 50));
        await attempt(
          finishRequests(
            ledger.worker,
            shuffled(open)
              .slice(0, 5)
              .map((id) => endOf(id, '0', { outcome: 'orphaned' })),
          ),
        );
      }
    };
    await Promise.all([
      ...Array.from({ length: 6 }, gateway),
      ...['a', 'b', 'c', 'd'].map(settler),
      others(),
      others(),
    ]);
    // An extension may find its request ended by another caller; nothing else may fail.
    assert.deepEqual(
      states.filter((state) => state !== 'HF008'),
      [],
    );
    await settleRequests(ledger.worker, open, 'meter/rest');
    const { rows } = await ledger.admin.query<{ unsettled: number; deadlocks: number }>(
      `select (select count(*)::int from request where id = any($1) and state = 'finished') as unsettled,
        (select deadlocks::int from pg_stat_database where datname = current_database()) as deadlocks`,
      [open],
    );
    assert.deepEqual(rows[0], { unsettled: 0, deadlocks: 0 });
  });

  async function balance(accountId: AccountUuid): Promise<{ balance: string; held: string; available: string }> {
    const found = (await findBalance(ledger.management, accountId))!;
    return {
      balance: formatUsd(found.balance),
      held: formatUsd(found.held),
      available: formatUsd(found.available),
    };
  }

  async function transfer(businessId: string, accountId: AccountUuid, amount: string): Promise<string> {
    const { rows } = await administrators.query<{ id: string }>(
      "select post_transfer('test', $1, system_account('cash:stripe'), $2, $3, null, false) as id",
      [businessId, accountId, amount],
    );
    return rows[0]!.id;
  }
});

function times<T>(count: number, work: (n: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, n) => work(n)));
}

function nullIfOutOfMoney(code: string | undefined, problem: unknown): null {
  if (code === 'insufficient_quota' || code === 'key_limit') return null;
  throw problem instanceof Error ? problem : new Error(`not refused for lack of money: ${JSON.stringify(problem)}`);
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}
