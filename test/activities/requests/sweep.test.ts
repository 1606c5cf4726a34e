/**
 * The sweep's activities on a real ledger: what counts as left behind, and that looking for it loses nothing. Ages are
 * the database's, so tests move what is recorded into the past instead of waiting.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  createSweepActivities,
  type OrphanedHold,
  type SweepActivities,
  type SweepWork,
} from '../../../activities/requests/sweep.ts';
import { gatewayHeartbeat, gatewayStopped } from '../../../db/requests/gateways.ts';
import {
  finishRequests,
  noteClientLeft,
  placeFreeHolds,
  placeHold,
  placeHolds,
} from '../../../db/requests/requests.ts';
import { markSettleError, settleRequests } from '../../../db/requests/settlement.ts';
import { formatId, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../domain/ids.ts';
import { createLogger } from '../../../runtime/logger.ts';
import type { SweepInput } from '../../../contract/index.ts';
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

const INPUT: SweepInput = {
  finishedAgeSeconds: 30,
  gatewayGoneSeconds: 30,
  reachabilityGapSeconds: 20,
  rowsPerRun: 1000,
  orphansPerRun: 50,
  rowsPerMeter: 256,
  evidenceSeconds: 600,
};

const NOTHING: SweepWork = { unsettled: [], orphans: [] };

describe('sweep activities', () => {
  let ledger: LedgerDatabase;
  let activities: SweepActivities;
  let customer: { accountId: AccountUuid; keyId: KeyUuid };
  let gatewayId: string;

  before(async () => {
    ledger = await createLedgerDatabase('sweep-activities');
    activities = createSweepActivities({ pool: ledger.worker, logger: createLogger('test', 'silent'), sweep: INPUT });
  });
  beforeEach(async () => {
    await emptyLedger(ledger.admin);
    const accountId = await createCustomer(ledger, '100');
    customer = { accountId, keyId: await createKey(ledger, accountId) };
    gatewayId = randomUUID();
    await gatewayHeartbeat(ledger.gateway, gatewayId, 'test');
    // The sweep has run all along, so a silent gateway is gone.
    await ledger.admin.query("update database_reachability set since = now() - interval '1 hour', seen_at = now()");
  });
  afterEach(async () => assert.deepEqual(await brokenRules(ledger.admin), []));
  after(() => ledger.database.drop());

  async function held(given: { ttlSeconds?: number } = {}): Promise<RequestUuid> {
    const hold = holdOf(customer, '0.1', { gatewayId, ...given });
    await placeHold(ledger.gateway, hold);
    return hold.requestId;
  }

  async function leftHold(): Promise<RequestUuid> {
    const id = await held();
    await noteClientLeft(ledger.gateway, id, { inputTokens: 10, outputTokens: 2 });
    return id;
  }

  async function finished(count: number, secondsAgo: number): Promise<RequestUuid[]> {
    const holds = Array.from({ length: count }, () => holdOf(customer, '0.1', { gatewayId }));
    await placeHolds(ledger.gateway, holds);
    await finishRequests(
      ledger.gateway,
      holds.map(({ requestId }) => endOf(requestId, '0.04')),
    );
    const ids = holds.map(({ requestId }) => requestId);
    await ledger.admin.query(
      'update request set finished_at = finished_at - make_interval(secs => $2) where id = any ($1)',
      [ids, secondsAgo],
    );
    return ids;
  }

  /** The gateway's last sign of life was this long ago. */
  async function silentFor(seconds: number): Promise<void> {
    await ledger.admin.query(
      'update gateway_instance set heartbeat_at = heartbeat_at - make_interval(secs => $2) where id = $1',
      [gatewayId, seconds],
    );
  }

  /** The ledger returns orphans in no order. */
  function byId(orphans: readonly OrphanedHold[]): readonly OrphanedHold[] {
    return orphans.toSorted((one, other) => one.requestId.localeCompare(other.requestId));
  }

  async function orphans(input = INPUT): Promise<readonly OrphanedHold[]> {
    return byId((await activities.findWork(input)).orphans);
  }

  const wire = (id: RequestUuid): string => formatId('request', id);

  async function row(id: RequestUuid) {
    const { rows } = await ledger.admin.query<{ state: string; outcome: string | null; cost: string | null }>(
      'select state, outcome, cost from request where id = $1',
      [id],
    );
    return rows[0]!;
  }

  describe('the search', () => {
    it('finds nothing where nothing stayed behind', async () => {
      await held();
      await finished(2, 0);
      assert.deepEqual(await activities.findWork(INPUT), NOTHING);
    });

    it('finds finished rows older than the given age, oldest first, and no more than a run may have', async () => {
      const [newer] = await finished(1, 40);
      const [oldest] = await finished(1, 3000);
      const [older] = await finished(1, 400);
      await finished(1, 20);
      const all = await activities.findWork(INPUT);
      assert.deepEqual(all, { unsettled: [oldest!, older!, newer!].map(wire), orphans: [] });
      assert.deepEqual((await activities.findWork({ ...INPUT, rowsPerRun: 2 })).unsettled, [oldest!, older!].map(wire));
    });

    it('finds them again until they are settled, and never one that waits for a person', async () => {
      const [first, second] = await finished(2, 100);
      await markSettleError(ledger.worker, second!, 'does not add up');
      assert.deepEqual((await activities.findWork(INPUT)).unsettled, [wire(first!)]);
      assert.deepEqual((await activities.findWork(INPUT)).unsettled, [wire(first!)]);
      await settleRequests(ledger.worker, [first!], 'meter/test');
      assert.deepEqual((await activities.findWork(INPUT)).unsettled, []);
    });

    it('finds the holds of a gateway that is silent for too long, and says whose client had left', async () => {
      const cut = await held();
      const left = await leftHold();
      await silentFor(29);
      assert.deepEqual(await activities.findWork(INPUT), NOTHING);
      await silentFor(2);
      const expected = [
        { requestId: wire(cut), clientLeft: false },
        { requestId: wire(left), clientLeft: true },
      ];
      assert.deepEqual(await orphans(), byId(expected));
    });

    it('finds the holds of a gateway that has stopped in order without waiting', async () => {
      const cut = await held();
      await gatewayStopped(ledger.gateway, gatewayId);
      assert.deepEqual(await orphans(), [{ requestId: wire(cut), clientLeft: false }]);
    });

    it('finds a hold that is past its own time although its gateway lives', async () => {
      const cut = await held({ ttlSeconds: 0.001 });
      await held();
      assert.deepEqual(await orphans(), [{ requestId: wire(cut), clientLeft: false }]);
    });

    it('takes no gateway for gone after an outage of the database: nobody could give a sign of life', async () => {
      await held();
      await silentFor(300);
      await ledger.admin.query("update database_reachability set seen_at = now() - interval '21 seconds'");
      assert.deepEqual(await activities.findWork(INPUT), NOTHING);
      assert.deepEqual(await activities.findWork(INPUT), NOTHING, 'reachable for a moment is not reachable for 30 s');
    });

    it('takes no living gateway for gone, whatever a run was started with: 0.1 are held, and none is given away', async () => {
      const id = await held();
      await silentFor(10);
      assert.deepEqual(await activities.findWork({ ...INPUT, gatewayGoneSeconds: 0 }), NOTHING);
      await silentFor(300);
      await ledger.admin.query("update database_reachability set seen_at = now() - interval '21 seconds'");
      assert.deepEqual(await activities.findWork({ ...INPUT, reachabilityGapSeconds: 1e6 }), NOTHING, 'an outage');
      assert.equal((await row(id)).state, 'held');
    });

    it('takes a delay of the sweep itself for no outage', async () => {
      const cut = await held();
      await silentFor(300);
      await ledger.admin.query("update database_reachability set seen_at = now() - interval '19 seconds'");
      assert.deepEqual(await orphans(), [{ requestId: wire(cut), clientLeft: false }]);
    });

    it('finds the same holds again when its answer was lost: looking ends nothing', async () => {
      const cut = await held();
      await silentFor(300);
      const first = await activities.findWork(INPUT);
      assert.equal((await row(cut)).state, 'held');
      assert.deepEqual(await activities.findWork(INPUT), first);
    });

    it('hands a hold whose client had left to a resolver at most once a minute', async () => {
      const left = await leftHold();
      await silentFor(300);
      const expected = [{ requestId: wire(left), clientLeft: true }];
      assert.deepEqual(await orphans(), expected);
      assert.deepEqual(await orphans(), []);
      await ledger.admin.query(
        "update request set resolver_started_at = resolver_started_at - interval '1 minute' where id = $1",
        [left],
      );
      assert.deepEqual(await orphans(), expected);
    });

    it('returns no more orphans than a run may have, those that can be released at once first', async () => {
      const left = await leftHold();
      const cut = [await held(), await held(), await held()];
      await silentFor(300);
      const released = cut.map((id) => ({ requestId: wire(id), clientLeft: false }));
      assert.deepEqual(await orphans({ ...INPUT, orphansPerRun: 3 }), byId(released));
      await activities.releaseOrphans({ requestIds: cut.map(wire) });
      assert.deepEqual(await orphans({ ...INPUT, orphansPerRun: 3 }), [{ requestId: wire(left), clientLeft: true }]);
    });
  });

  describe('the release', () => {
    it('ends holds as orphaned and unbilled, and the settlement that follows gives all of it back', async () => {
      const ids = [await held(), await held()];
      await activities.releaseOrphans({ requestIds: ids.map(wire) });
      for (const id of ids) assert.deepEqual(await row(id), { state: 'finished', outcome: 'orphaned', cost: '0' });
      await settleRequests(ledger.worker, ids, 'meter/test');
      for (const id of ids) assert.deepEqual(await row(id), { state: 'released', outcome: 'orphaned', cost: '0' });
      const { rows } = await ledger.admin.query<{ balance: string; held: string }>(
        'select balance, held from account where id = $1',
        [customer.accountId],
      );
      assert.deepEqual([Number(rows[0]!.balance), Number(rows[0]!.held)], [100, 0]);
    });

    it('changes nothing when it is repeated', async () => {
      const id = await held();
      await activities.releaseOrphans({ requestIds: [wire(id)] });
      await settleRequests(ledger.worker, [id], 'meter/test');
      await activities.releaseOrphans({ requestIds: [wire(id)] });
      assert.deepEqual(await row(id), { state: 'released', outcome: 'orphaned', cost: '0' });
      assert.equal(await platformCosts(), 0);
    });

    it('leaves the end alone that a gateway recorded in the meantime, and books nothing for it', async () => {
      const id = await held();
      await finishRequests(ledger.gateway, [endOf(id, '0.04')]);
      await activities.releaseOrphans({ requestIds: [wire(id)] });
      assert.deepEqual(await row(id), { state: 'finished', outcome: 'completed', cost: '0.040000000000' });
      assert.equal(await platformCosts(), 0);
    });

    it('ends a :free request as well', async () => {
      const hold = holdOf(customer, '0', { gatewayId, modelId: 'demo/small:free' });
      await placeFreeHolds(ledger.gateway, [hold]);
      await activities.releaseOrphans({ requestIds: [wire(hold.requestId)] });
      assert.deepEqual(await row(hold.requestId), { state: 'released', outcome: 'orphaned', cost: '0' });
    });

    it('leaves a settled row as it is', async () => {
      const [id] = await finished(1, 100);
      await settleRequests(ledger.worker, [id!], 'meter/test');
      await activities.releaseOrphans({ requestIds: [wire(id!)] });
      assert.deepEqual(await row(id!), { state: 'charged', outcome: 'completed', cost: '0.040000000000' });
    });

    it('takes an id that is none for a bug', async () => {
      await assert.rejects(activities.releaseOrphans({ requestIds: ['req_nonsense'] }), /invariant broken/);
    });
  });

  async function platformCosts(): Promise<number> {
    const { rows } = await ledger.admin.query<{ count: number }>('select count(*)::int as count from platform_cost');
    return rows[0]!.count;
  }
});
