/**
 * Answers that are lost after the commit: a proxy carries the statement to the server and drops what comes back. The
 * caller cannot know what happened, repeats the call unchanged, and nothing happens twice.
 */
import assert from 'node:assert/strict';
import { pino } from 'pino';
import type pg from 'pg';
import { Finishes } from '../../../api/gateway/core/endings/finishes.ts';
import { Holds } from '../../../api/gateway/core/holds/holds.ts';
import { createPool, isFault } from '../../../db/shared/client.ts';
import { decideAdjustment, requestAdjustment } from '../../../db/accounts/adjustments.ts';
import { decideRefund, requestRefund } from '../../../db/requests/refunds.ts';
import { extendHold, finishRequests, placeFreeHolds, placeHold, placeHolds } from '../../../db/requests/requests.ts';
import { settleAccount, settleRequests } from '../../../db/requests/settlement.ts';
import { uuidOf, type AccountUuid, type KeyUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
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
import { snapshotOfDatabase } from '../../support/ledger-snapshot.ts';
import { startTcpProxyFor, type TcpProxy } from '../../support/tcp-proxy.ts';
import { ANN, BOB, upTo } from '../../support/staff.ts';

const logger = pino({ level: 'silent' });

describe('lost answers', () => {
  let ledger: LedgerDatabase;
  let proxy: TcpProxy;
  /** The pools of a process that reaches the database by way of the proxy. */
  let gateway: pg.Pool;
  let worker: pg.Pool;
  let management: pg.Pool;
  let key: { accountId: AccountUuid; keyId: KeyUuid };

  before(async () => {
    ledger = await createLedgerDatabase('lost_answers');
    proxy = await startTcpProxyFor(ledger.database.url);
    const url = proxy.through(ledger.database.url);
    gateway = createPool({ url, role: 'gateway', max: 4, queryTimeoutMs: 500 });
    worker = createPool({ url, role: 'worker', max: 2 });
    management = createPool({ url, role: 'management', max: 2 });
  });
  after(async () => {
    await Promise.all([gateway.end(), worker.end(), management.end()]);
    await proxy.close();
    await ledger.database.drop();
  });
  beforeEach(async () => {
    const accountId = await createCustomer(ledger, '10');
    key = { accountId, keyId: await createKey(ledger, accountId) };
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  /**
   * Makes a call whose answer is lost, which must be a fault although it took effect; then repeats it. Returns what the
   * repeat answered; it must have changed nothing.
   */
  async function repeated<T>(statement: string, call: () => Promise<T>): Promise<T> {
    const before = await snapshotOfDatabase(ledger.admin);
    const lost = proxy.loseAnswerTo(statement);
    await assert.rejects(call(), isFault);
    await lost;
    const after = await snapshotOfDatabase(ledger.admin);
    assert.notDeepEqual(after, before, 'the call must have taken effect');
    const answer = await call();
    assert.deepEqual(await snapshotOfDatabase(ledger.admin), after, 'the repeat changed something');
    return answer;
  }

  describe('of a statement: the repeat learns what the first call did', () => {
    it('place_hold', async () => {
      const hold = holdOf(key, '9', { wanted: usd('12') });
      assert.equal(await repeated('place_hold', () => placeHold(gateway, hold)), usd('10'));
    });

    it('place_holds: each item is left to place_hold, which knows it', async () => {
      const holds = [holdOf(key, '1'), holdOf(key, '2')];
      assert.deepEqual(await repeated('place_holds', () => placeHolds(gateway, holds)), [null, null]);
      assert.deepEqual(await Promise.all(holds.map((hold) => placeHold(gateway, hold))), [usd('1'), usd('2')]);
    });

    it('place_free_holds', async () => {
      const hold = { ...holdOf(key, '0'), modelId: 'demo/model:free' };
      assert.deepEqual(await repeated('place_free_holds', () => placeFreeHolds(gateway, [hold])), [null]);
    });

    it('extend_hold', async () => {
      const hold = holdOf(key, '1');
      await placeHold(ledger.gateway, hold);
      assert.equal(await repeated('extend_hold', () => extendHold(gateway, hold.requestId, usd('3'))), usd('3'));
    });

    it('finish_request', async () => {
      const hold = holdOf(key, '1');
      await placeHold(ledger.gateway, hold);
      const end = endOf(hold.requestId, '0.5');
      assert.deepEqual(await repeated('finish_request', () => finishRequests(gateway, [end])), ['replayed']);
    });

    it('finish_requests', async () => {
      const holds = [holdOf(key, '1'), holdOf(key, '1')];
      await placeHolds(ledger.gateway, holds);
      const ends = holds.map(({ requestId }) => endOf(requestId, '0.5'));
      const replayed = ['replayed', 'replayed'];
      assert.deepEqual(await repeated('finish_requests', () => finishRequests(gateway, ends)), replayed);
    });

    it('settle_requests and settle_account', async () => {
      const holds = [holdOf(key, '1'), holdOf(key, '1')];
      await placeHolds(ledger.gateway, holds);
      await finishRequests(ledger.gateway, [endOf(holds[0]!.requestId, '0.5')]);
      const settle = (): Promise<number> => settleRequests(worker, [holds[0]!.requestId], 'meter/lost');
      assert.equal(await repeated('settle_requests', settle), 0);
      await finishRequests(ledger.gateway, [endOf(holds[1]!.requestId, '0.5')]);
      assert.equal(await repeated('settle_account', () => settleAccount(gateway, key.accountId)), 0);
    });

    it('request_adjustment and decide_adjustment', async () => {
      const id = uuidOf('adjustment', uuidAt(Date.now()));
      const wish = {
        id,
        accountId: key.accountId,
        amount: usd('5'),
        reason: 'test',
        requestedBy: ANN,
        limits: upTo('1'),
      };
      assert.equal((await repeated('request_adjustment', () => requestAdjustment(management, wish))).state, 'waiting');
      const approval = { id, approve: true, decidedBy: BOB };
      assert.equal((await repeated('decide_adjustment', () => decideAdjustment(management, approval))).state, 'posted');
    });

    it('request_refund and decide_refund', async () => {
      const hold = holdOf(key, '1');
      await placeHold(ledger.gateway, hold);
      await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.5')]);
      await settleRequests(ledger.worker, [hold.requestId], 'meter/lost');
      const wish = { requestId: hold.requestId, n: 1, amount: null, reason: 'test', requestedBy: ANN };
      assert.equal((await repeated('request_refund', () => requestRefund(management, wish))).amount, usd('0.5'));
      const approval = { requestId: hold.requestId, n: 1, approve: true, decidedBy: BOB };
      assert.equal((await repeated('decide_refund', () => decideRefund(management, approval))).state, 'posted');
    });
  });

  describe('of a batch queue: the caller sees nothing of it', () => {
    function createHolds(abandoned: string[] = [], timeoutSeconds = 10): Holds {
      return new Holds({
        pool: gateway,
        logger,
        timeoutSeconds,
        freeQuota: null,
        onAbandoned: (id) => abandoned.push(id),
      });
    }

    function createFinishes(alarms: string[], finished: string[]): Finishes {
      return new Finishes({
        pool: gateway,
        logger,
        timeoutSeconds: 10,
        onFinished: (id) => finished.push(id),
        onAlarm: (alarm) => alarms.push(alarm),
      });
    }

    it('a hold is granted once', async () => {
      const lost = proxy.loseAnswerTo('place_hold');
      assert.deepEqual(await createHolds().take(holdOf(key, '6')), { kind: 'granted', hold: usd('6') });
      await lost;
      assert.equal(await heldMoney(), usd('6'));
    });

    it('many holds of one batch are granted once each', async () => {
      const lost = proxy.loseAnswerTo('place_holds');
      const holds = createHolds();
      const results = await Promise.all(Array.from({ length: 20 }, () => holds.take(holdOf(key, '0.5'))));
      await lost;
      assert.deepEqual(new Set(results.map(({ kind }) => kind)), new Set(['granted']));
      assert.equal(await heldMoney(), usd('10'));
    });

    it('a hold whose caller was told that the ledger is unavailable is reported as abandoned once its answer is known', async () => {
      const abandoned: string[] = [];
      const holds = createHolds(abandoned, 0.05);
      const hold = holdOf(key, '6');
      proxy.pause();
      const result = await holds.take(hold);
      assert.deepEqual([result, abandoned], [{ kind: 'unavailable' }, []]);
      assert.ok(holds.stalledMs > 0);
      proxy.resume();
      await holds.drained();
      assert.deepEqual([abandoned, await heldMoney()], [[hold.requestId], usd('6')]);
    });

    it('a finish is stored once, settled once, and raises no alarm', async () => {
      const hold = holdOf(key, '1');
      await placeHold(ledger.gateway, hold);
      const [alarms, finished]: [string[], string[]] = [[], []];
      const lost = proxy.loseAnswerTo('finish_request');
      const verdict = await createFinishes(alarms, finished).finish(endOf(hold.requestId, '0.5'), true);
      await lost;
      assert.deepEqual([verdict, alarms, finished], ['replayed', [], [hold.requestId]]);
    });

    it('a finish whose row was ended by somebody else meanwhile is late, alarms, and is not charged', async () => {
      const hold = holdOf(key, '1');
      await placeHold(ledger.gateway, hold);
      const [alarms, finished]: [string[], string[]] = [[], []];
      proxy.pause();
      const finishing = createFinishes(alarms, finished).finish(endOf(hold.requestId, '0.5'), true);
      await finishRequests(ledger.worker, [endOf(hold.requestId, '0', { outcome: 'orphaned' })]);
      proxy.resume();
      assert.equal(await finishing, 'late');
      assert.deepEqual([alarms, finished], [['late_finish'], []]);
    });

    it('calls go on after the database was away, in the order of their arrival', async () => {
      const holds = createHolds();
      proxy.refuse();
      const waiting = Array.from({ length: 5 }, (_, n) => holds.take(holdOf(key, `${n + 1}`)));
      await assert.rejects(placeHold(gateway, holdOf(key, '1')), isFault);
      proxy.accept();
      // 1 + 2 + 3 + 4 uses up the 10 USD, so the fifth is the one that is refused.
      const kinds = (await Promise.all(waiting)).map(({ kind }) => kind);
      assert.deepEqual(kinds, ['granted', 'granted', 'granted', 'granted', 'refused']);
    });
  });

  async function heldMoney(): Promise<bigint> {
    const { rows } = await ledger.admin.query<{ held: string }>('select held::text from account where id = $1', [
      key.accountId,
    ]);
    return usd(rows[0]!.held);
  }
});
