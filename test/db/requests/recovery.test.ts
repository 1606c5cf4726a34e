/**
 * Recovery of requests that stay behind: which holds count as orphans and when, how silence of a gateway is told from
 * silence of the database, and what happens to answers that come too late.
 *
 * All ages are measured by the database's clock, which a test cannot set; time passes by moving recorded moments back.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { saveModel, setModelRetired } from '../../../db/requests/catalogue.ts';
import { gatewayHeartbeat, gatewayStopped } from '../../../db/requests/gateways.ts';
import { findOrphans, noteReachable, orphanFacts } from '../../../db/requests/orphans.ts';
import {
  bookPlatformCost,
  finishRequests,
  noteClientLeft,
  placeFreeHolds,
  placeHold,
  placeHolds,
  type HoldRequest,
} from '../../../db/requests/requests.ts';
import { findUnsettled, markSettleError, settleRequests } from '../../../db/requests/settlement.ts';
import type { AccountUuid, KeyUuid, RequestUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { NO_USAGE } from '../../../domain/usage/usage.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  emptyLedger,
  endOf,
  holdOf,
  newRequestId,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

const GONE_SECONDS = 30;
const LIMIT = 100;

describe('recovery', () => {
  let ledger: LedgerDatabase;
  let key: { accountId: AccountUuid; keyId: KeyUuid };
  /** A gateway that is alive when a test begins. */
  let gatewayId: string;

  before(async () => {
    ledger = await createLedgerDatabase('recovery');
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    await emptyLedger(ledger.admin);
    await reachableFor(3600);
    const accountId = await createCustomer(ledger, '10');
    key = { accountId, keyId: await createKey(ledger, accountId) };
    gatewayId = randomUUID();
    await gatewayHeartbeat(ledger.gateway, gatewayId, 'test');
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  /** The database has been reached without a gap for so long, and was reached just now. */
  async function reachableFor(seconds: number): Promise<void> {
    await ledger.admin.query(
      'update database_reachability set since = now() - make_interval(secs => $1), seen_at = now()',
      [seconds],
    );
  }

  async function silentFor(gateway: string, seconds: number): Promise<void> {
    await ledger.admin.query(
      'update gateway_instance set heartbeat_at = now() - make_interval(secs => $2) where id = $1',
      [gateway, seconds],
    );
  }

  async function hold(given: Partial<HoldRequest> = {}): Promise<RequestUuid> {
    const request = holdOf(key, '0.1', { gatewayId, ...given });
    await placeHold(ledger.gateway, request);
    return request.requestId;
  }

  async function orphans(limit = LIMIT): Promise<RequestUuid[]> {
    return (await findOrphans(ledger.worker, GONE_SECONDS, limit)).map(({ requestId }) => requestId);
  }

  describe('a hold is an orphan', () => {
    it('a hold is an orphan when its time is over, although its gateway is alive', async () => {
      const late = await hold({ ttlSeconds: 0 });
      await hold({ ttlSeconds: 60 });
      assert.deepEqual(await orphans(), [late]);
    });

    it('a hold is an orphan at once when its gateway has stopped in order; a later heartbeat changes nothing', async () => {
      const requestId = await hold();
      assert.deepEqual(await orphans(), []);
      await gatewayStopped(ledger.gateway, gatewayId);
      assert.deepEqual(await orphans(), [requestId]);
      await gatewayHeartbeat(ledger.gateway, gatewayId, 'test');
      assert.deepEqual(await orphans(), [requestId]);
    });

    it('a hold is an orphan when its gateway was silent for long enough while the database could be reached', async () => {
      const requestId = await hold();
      await silentFor(gatewayId, GONE_SECONDS - 1);
      assert.deepEqual(await orphans(), []);
      await silentFor(gatewayId, GONE_SECONDS + 1);
      assert.deepEqual(await orphans(), [requestId]);
    });

    it('a hold of a silent gateway is no orphan while the database was away in that time', async () => {
      const requestId = await hold();
      await silentFor(gatewayId, 3600);
      await reachableFor(GONE_SECONDS - 1);
      assert.deepEqual(await orphans(), []);
      await reachableFor(GONE_SECONDS + 1);
      assert.deepEqual(await orphans(), [requestId]);
    });

    it('a hold whose gateway never sent a heartbeat is an orphan, counted from the hold', async () => {
      const requestId = await hold({ gatewayId: randomUUID() });
      assert.deepEqual(await orphans(), []);
      await ledger.admin.query("update request set created_at = now() - interval '31 seconds' where id = $1", [
        requestId,
      ]);
      assert.deepEqual(await orphans(), [requestId]);
    });

    it('a hold that has ended in any way is no orphan', async () => {
      const ended = await Promise.all([hold({ ttlSeconds: 0 }), hold({ ttlSeconds: 0 }), hold({ ttlSeconds: 0 })]);
      await finishRequests(ledger.gateway, [
        endOf(ended[0], '0.1'),
        endOf(ended[1], '0', { outcome: 'orphaned' }),
        endOf(ended[2], '0.1'),
      ]);
      await settleRequests(ledger.worker, [ended[2]], 'meter/recovery');
      assert.deepEqual(await orphans(), []);
    });

    it('a `:free` hold can be an orphan too', async () => {
      const free = { ...holdOf(key, '0', { gatewayId, ttlSeconds: 0 }), modelId: 'demo/model:free' };
      await placeFreeHolds(ledger.gateway, [free]);
      assert.deepEqual(await orphans(), [free.requestId]);
      const end = endOf(free.requestId, '0', { outcome: 'orphaned' });
      assert.deepEqual(await finishRequests(ledger.worker, [end]), ['finished']);
      assert.deepEqual(await orphans(), []);
    });
  });

  describe('a database that was away for 40 s', () => {
    it('an outage of 40 s makes no orphan of a live stream: the sweep’s first call after it restarts the time of reachability', async () => {
      const requestId = await hold();
      await silentFor(gatewayId, 41);
      await ledger.admin.query("update database_reachability set seen_at = now() - interval '41 seconds'");
      await noteReachable(ledger.worker, 25);
      assert.deepEqual(await orphans(), []);
      await gatewayHeartbeat(ledger.gateway, gatewayId, 'test');
      await reachableFor(GONE_SECONDS + 1);
      assert.deepEqual(await orphans(), []);
      await silentFor(gatewayId, GONE_SECONDS + 1);
      assert.deepEqual(await orphans(), [requestId], 'a gateway that stays silent is still gone');
    });

    it('a gap that is no longer than allowed keeps the time of reachability', async () => {
      const since = async (): Promise<string> => {
        const { rows } = await ledger.admin.query<{ since: string }>('select since::text from database_reachability');
        return rows[0]!.since;
      };
      const before = await since();
      await ledger.admin.query("update database_reachability set seen_at = now() - interval '24 seconds'");
      await noteReachable(ledger.worker, 25);
      assert.equal(await since(), before);
      await ledger.admin.query("update database_reachability set seen_at = now() - interval '26 seconds'");
      await noteReachable(ledger.worker, 25);
      assert.notEqual(await since(), before);
    });
  });

  describe('orphans whose client had left', () => {
    it('orphans whose client had left are handed out at most once a minute; others each time', async () => {
      const [cut, left] = [await hold({ ttlSeconds: 0 }), await hold({ ttlSeconds: 0 })];
      await noteClientLeft(ledger.gateway, left, { inputTokens: 10, outputTokens: 3 });
      const found = await findOrphans(ledger.worker, GONE_SECONDS, LIMIT);
      assert.deepEqual(
        new Map(found.map(({ requestId, modelId, clientLeft }) => [requestId, [modelId, clientLeft]])),
        new Map([
          [cut, ['demo/model', false]],
          [left, ['demo/model', true]],
        ]),
      );
      assert.deepEqual(await orphans(), [cut]);
      await ledger.admin.query("update request set resolver_started_at = now() - interval '61 seconds' where id = $1", [
        left,
      ]);
      assert.deepEqual((await orphans()).sort(), [cut, left].sort());
    });

    it('orphans whose client had left never crowd out the others where the limit is short', async () => {
      const left = [await hold({ ttlSeconds: 0 }), await hold({ ttlSeconds: 0 })];
      for (const id of left) await noteClientLeft(ledger.gateway, id, { inputTokens: 10, outputTokens: 3 });
      const cut = [await hold({ ttlSeconds: 0 }), await hold({ ttlSeconds: 0 })];
      assert.deepEqual((await orphans(2)).sort(), cut.sort());
      assert.equal((await orphans(3)).length, 3);
    });

    it('an orphan has the count of the moment its client left: the first note counts, and only while the request runs', async () => {
      const [left, stayed] = [await hold(), await hold()];
      await noteClientLeft(ledger.gateway, left, { inputTokens: 10, outputTokens: 3 });
      await noteClientLeft(ledger.gateway, left, { inputTokens: 99, outputTokens: 99 });
      const facts = (await orphanFacts(ledger.worker, left))!;
      assert.deepEqual(
        { ...facts, createdAt: null },
        {
          state: 'held',
          outcome: null,
          isHandedOver: false,
          modelId: 'demo/model',
          priceVersion: 1,
          free: false,
          hold: usd('0.1'),
          askedUnits: { furtherAnswers: 0, webSearches: 0 },
          countedTokens: { input: 10, output: 3 },
          createdAt: null,
          contextLength: null,
        },
      );
      assert.equal((await orphanFacts(ledger.worker, stayed))!.countedTokens, null);
      assert.equal(await orphanFacts(ledger.worker, newRequestId()), null);
      await finishRequests(ledger.gateway, [endOf(stayed, '0.05')]);
      await noteClientLeft(ledger.gateway, stayed, { inputTokens: 1, outputTokens: 1 });
      const { rows } = await ledger.admin.query('select client_left_at, input_tokens from request where id = $1', [
        stayed,
      ]);
      assert.deepEqual(rows, [{ client_left_at: null, input_tokens: '100' }]);
    });

    it('an orphan has the context length of its model, also of a retired one', async () => {
      const model = {
        id: 'demo/known',
        dialect: 'openai',
        context_length: 4096,
        default_output_tokens: 100,
        upstreams: [],
        prices: {},
      } as const;
      await saveModel(ledger.management, model);
      await setModelRetired(ledger.management, model.id, true);
      const requestId = await hold({ modelId: model.id });
      assert.equal((await orphanFacts(ledger.worker, requestId))!.contextLength, 4096);
    });
  });

  it('a row that somebody is just ending is passed over, not waited for', async () => {
    const [busy, other] = [await hold({ ttlSeconds: 0 }), await hold({ ttlSeconds: 0 })];
    const client = await ledger.admin.connect();
    try {
      await client.query('begin');
      await client.query('select from request where id = $1 for no key update', [busy]);
      assert.deepEqual(await orphans(), [other]);
    } finally {
      await client.query('rollback');
      client.release();
    }
  });

  describe('unsettled requests', () => {
    it('unsettled requests are found when they ended long enough ago, oldest first, up to the limit', async () => {
      const ids = [await hold(), await hold(), await hold()];
      for (const id of [...ids].reverse()) await finishRequests(ledger.gateway, [endOf(id, '0.05')]);
      assert.deepEqual(await findUnsettled(ledger.worker, 30, LIMIT), []);
      assert.deepEqual(await findUnsettled(ledger.worker, 0, LIMIT), [...ids].reverse());
      assert.deepEqual(await findUnsettled(ledger.worker, 0, 2), [ids[2], ids[1]]);
      await ledger.admin.query("update request set finished_at = now() - interval '31 seconds' where id = $1", [
        ids[0],
      ]);
      assert.deepEqual(await findUnsettled(ledger.worker, 30, LIMIT), [ids[0]]);
    });

    it('running, settled and quarantined requests do not count as unsettled', async () => {
      const [running, settled, marked] = [await hold(), await hold(), await hold()];
      await finishRequests(ledger.gateway, [endOf(settled, '0.05'), endOf(marked, '0.05')]);
      await settleRequests(ledger.worker, [settled, running], 'meter/recovery');
      await markSettleError(ledger.worker, marked, 'cannot be settled');
      assert.deepEqual(await findUnsettled(ledger.worker, 0, LIMIT), []);
    });
  });

  describe('a heartbeat', () => {
    it('registers its gateway once and then only says that it is alive', async () => {
      await silentFor(gatewayId, 100);
      await gatewayHeartbeat(ledger.gateway, gatewayId, 'another text');
      const { rows } = await ledger.admin.query(
        `select description, stopped_at, heartbeat_at > now() - interval '10 seconds' as fresh
        from gateway_instance where id = $1`,
        [gatewayId],
      );
      assert.deepEqual(rows, [{ description: 'test', stopped_at: null, fresh: true }]);
    });
  });

  describe('an answer that comes after its hold was released', () => {
    async function costs(requestId: RequestUuid): Promise<unknown[]> {
      const { rows } = await ledger.admin.query<Record<string, unknown>>(
        'select reason, usage, list_cost::numeric(32, 12)::text as cost from platform_cost where request_id = $1',
        [requestId],
      );
      return rows;
    }

    it('a late answer is never charged; its usage is platform cost, booked once for any number of repeats', async () => {
      const requestId = await hold();
      await finishRequests(ledger.worker, [endOf(requestId, '0', { outcome: 'orphaned' })]);
      await settleRequests(ledger.worker, [requestId], 'meter/sweep');
      const usage = { ...NO_USAGE, inputTokens: 100, outputTokens: 20, reasoningTokens: 5, webSearches: 2 };
      const late = endOf(requestId, '0.07', { usage });
      for (let n = 0; n < 3; n++) assert.deepEqual(await finishRequests(ledger.gateway, [late]), ['late']);
      assert.deepEqual(await costs(requestId), [
        {
          reason: 'late_finish',
          usage: { input_tokens: 100, output_tokens: 20, cached_input_tokens: 0, reasoning_tokens: 5, webSearches: 2 },
          cost: '0.070000000000',
        },
      ]);
      const { rows } = await ledger.admin.query('select state, outcome, cost::text from request where id = $1', [
        requestId,
      ]);
      assert.deepEqual(rows, [{ state: 'released', outcome: 'orphaned', cost: '0' }]);
    });

    it('an answer is late also before the release was settled', async () => {
      const requestId = await hold();
      await finishRequests(ledger.worker, [endOf(requestId, '0', { outcome: 'orphaned' })]);
      assert.deepEqual(await finishRequests(ledger.gateway, [endOf(requestId, '0.07')]), ['late']);
      assert.equal((await costs(requestId)).length, 1);
    });

    it('a late answer books nothing when it cost nothing, or when the customer was billed by evidence meanwhile', async () => {
      const [free, billed] = [await hold(), await hold()];
      await finishRequests(ledger.worker, [
        endOf(free, '0', { outcome: 'orphaned' }),
        endOf(billed, '0.05', { outcome: 'client_disconnected' }),
      ]);
      const late = [endOf(free, '0'), endOf(billed, '0.07')];
      assert.deepEqual(await finishRequests(ledger.gateway, late), ['late', 'late']);
      assert.deepEqual([await costs(free), await costs(billed)], [[], []]);
    });

    it('a late answer that is only a release books nothing', async () => {
      const requestId = await hold();
      await finishRequests(ledger.gateway, [endOf(requestId, '0.07')]);
      assert.deepEqual(await finishRequests(ledger.worker, [endOf(requestId, '0', { outcome: 'orphaned' })]), ['late']);
      assert.deepEqual(await costs(requestId), []);
    });

    it('a late answer of an unknown request is reported as unknown, and books nothing', async () => {
      const requestId = newRequestId();
      assert.deepEqual(await finishRequests(ledger.gateway, [endOf(requestId, '0.07')]), ['unknown']);
      assert.deepEqual(await costs(requestId), []);
    });

    it('a late answer in a batch gets its own verdict', async () => {
      const ids = [await hold(), await hold(), await hold()];
      await finishRequests(ledger.gateway, [endOf(ids[1]!, '0.02')]);
      await finishRequests(ledger.worker, [endOf(ids[2]!, '0', { outcome: 'orphaned' })]);
      const batch = [
        endOf(ids[2]!, '0.03'),
        endOf(newRequestId(), '0.01'),
        endOf(ids[1]!, '0.02'),
        endOf(ids[0]!, '0.01'),
      ];
      assert.deepEqual(await finishRequests(ledger.gateway, batch), ['late', 'unknown', 'replayed', 'finished']);
    });

    it('two answers of one request in a batch end it once, by the first of them', async () => {
      const [same, other] = [await hold(), await hold()];
      const batch = [
        endOf(same, '0.02'),
        endOf(other, '0.03'),
        endOf(same, '0.02'),
        endOf(other, '0', { outcome: 'orphaned' }),
        endOf(other, '0.04'),
      ];
      const verdicts = await finishRequests(ledger.gateway, batch);
      assert.deepEqual(verdicts, ['finished', 'finished', 'replayed', 'late', 'late']);
      const { rows } = await ledger.admin.query('select outcome, list_cost::text from request where id = $1', [other]);
      assert.deepEqual(rows, [{ outcome: 'completed', list_cost: '0.030000000000' }]);
    });
  });

  describe('platform cost', () => {
    it('platform cost is booked for every unbilled outcome that consumed something, and for no other', async () => {
      const outcomes = ['upstream_error', 'upstream_timeout', 'empty_completion', 'orphaned', 'completed'] as const;
      const holds = outcomes.map(() => holdOf(key, '0.1', { gatewayId }));
      await placeHolds(ledger.gateway, holds);
      const ends = holds.map(({ requestId }, n) => endOf(requestId, '0.05', { outcome: outcomes[n]! }));
      await finishRequests(ledger.gateway, ends);
      const idle = await hold();
      await finishRequests(ledger.gateway, [endOf(idle, '0', { outcome: 'upstream_error', usage: NO_USAGE })]);
      const { rows } = await ledger.admin.query<{ reason: string }>('select reason from platform_cost order by reason');
      assert.deepEqual(
        rows.map(({ reason }) => reason),
        ['empty_completion', 'orphaned', 'upstream_error', 'upstream_timeout'],
      );
    });

    it('found by evidence is booked once per request and reason', async () => {
      const requestId = await hold();
      for (const listCost of [usd('0.05'), usd('0.06')]) {
        await bookPlatformCost(ledger.worker, {
          requestId,
          reason: 'orphan',
          usage: NO_USAGE,
          listCost,
          estimated: false,
        });
      }
      const { rows } = await ledger.admin.query('select list_cost::text from platform_cost where request_id = $1', [
        requestId,
      ]);
      assert.deepEqual(rows, [{ list_cost: '0.050000000000' }]);
    });
  });
});
