/**
 * The sweep: whatever was lost on the way is found by looking, a bounded share at a time, and nothing is taken for lost
 * while the database itself was out of reach.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { uuidv7 } from 'uuidv7';
import { gatewayHeartbeat } from '../../db/requests/gateways.ts';
import { findOrphans, noteReachable } from '../../db/requests/orphans.ts';
import { finishRequests, placeHolds, type HoldRequest } from '../../db/requests/requests.ts';
import { formatId, uuidOf, type KeyUuid } from '../../domain/ids.ts';
import { usd, ZERO_USD } from '../../domain/money.ts';
import { NO_USAGE } from '../../domain/usage/usage.ts';
import { freePort } from '../../twins/kit/ports.ts';
import { orphanWorkflowId, WORKFLOW_TYPES, type SweepResult } from '../../contract/index.ts';
import { startTestStack, type TestAccount, type TestStack } from '../support/stack.ts';
import { endAfterTests } from './at-end.ts';
import { Chat } from './chat.ts';
import {
  assertLedgerSound,
  assertLedger,
  balanceAfter,
  balanceOf,
  rowOf,
  rowsOf,
  untilSettled,
  untilWorkflowEnded,
  withTemporal,
} from './evidence.ts';
import { until } from '../support/until.ts';

const ROWS_PER_RUN = 1000;
const ORPHANS_PER_RUN = 50;
const ROWS_PER_METER = 256;

/** Shorter still: here the sweep is waited for in every test. */
const DURATIONS = { SWEEP_FINISHED_AGE_SECONDS: '1', EVIDENCE_SECONDS: '1' };

describe('the sweep', function () {
  this.timeout(60_000);
  const atEnd = endAfterTests();
  let stack: TestStack;
  let account: TestAccount;
  let keyId: KeyUuid;
  let client: { baseUrl: string; secret: string };

  before(async () => {
    // A gateway that reaches no Temporal, so that everything it finishes is lost on the way to settlement.
    stack = await startTestStack({ name: 'sweep', api: false, worker: false, env: DURATIONS });
    atEnd(() => stack.stop());
    await Promise.all([stack.startApi({ TEMPORAL_ADDRESS: `127.0.0.1:${await freePort()}` }), stack.startWorker()]);
  });
  beforeEach(async () => {
    account = await stack.createAccount('5');
    const { secret, key } = await stack.createKey(account);
    keyId = key.id;
    client = { baseUrl: stack.baseUrl, secret };
  });
  afterEach(() => assertLedger(stack));

  /** Takes holds as a gateway would that then forgets them. */
  async function hold(
    count: number,
    { gatewayId, ttlSeconds }: { gatewayId: string; ttlSeconds: number },
  ): Promise<HoldRequest[]> {
    const holds = Array.from({ length: count }, () => ({
      requestId: uuidOf('request', uuidv7()),
      accountId: account.uuid,
      keyId,
      modelId: 'test/small',
      wanted: usd('0.001'),
      least: usd('0.001'),
      priceVersion: 1,
      stream: false,
      gatewayId,
      ttlSeconds,
    }));
    const granted = await placeHolds(stack.database.pool('gateway', { max: 1 }), holds);
    assert.ok(granted.every((amount) => amount !== null));
    return holds;
  }

  /** Results of the sweep runs that have ended, and when they ran. */
  function sweeps(): Promise<{ result: SweepResult; startedAt: Date; endedAt: Date }[]> {
    return withTemporal(stack, async (temporal) => {
      const runs: { result: SweepResult; startedAt: Date; endedAt: Date }[] = [];
      const query = `WorkflowType = "${WORKFLOW_TYPES.sweepRequests}" and ExecutionStatus = "Completed"`;
      for await (const { workflowId, runId, startTime, closeTime } of temporal.workflow.list({ query })) {
        const result = (await temporal.workflow.getHandle(workflowId, runId).result()) as SweepResult;
        runs.push({ result, startedAt: startTime, endedAt: closeTime ?? startTime });
      }
      return runs.sort((a, b) => a.startedAt.getTime() - b.startedAt.getTime());
    });
  }

  it('settles what finished and never reached settlement, and names its own run on the row', async () => {
    const ends = await Promise.all([true, false].map((stream) => new Chat(client, { stream }).ended));
    for (const { status, isWhole, requestId } of ends) {
      assert.deepEqual([status, isWhole], [200, true]);
      const row = await untilSettled(stack, requestId);
      assert.deepEqual([row.state, row.outcome], ['charged', 'completed']);
      assert.match(row.workflow_id ?? '', /^meter\/sweep\/[^/]+\/\d+$/);
      await untilWorkflowEnded(stack, row.workflow_id ?? '');
    }
    const rows = await rowsOf(stack, account);
    assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', ...rows.map((row) => row.cost)));
    await assertLedgerSound(stack);
  });

  it('releases a hold past its time although its gateway lives, and lets the gateway’s other holds be', async () => {
    const alive = new Chat(client, { twin: { output_tokens: 25, chunk_interval_ms: 100 } });
    await alive.untilContent();
    const { gateway_id: gatewayId } = await rowOf(stack, alive.requestId);
    const [expired] = await hold(1, { gatewayId, ttlSeconds: 0.5 });
    const requestId = formatId('request', expired!.requestId);
    const row = await untilSettled(stack, requestId);
    assert.deepEqual([row.state, row.outcome, Number(row.cost)], ['released', 'orphaned', 0]);
    assert.equal((await rowOf(stack, alive.requestId)).state, 'held');
    assert.equal((await alive.ended).isWhole, true);
    assert.equal((await untilSettled(stack, alive.requestId)).outcome, 'completed');
    await untilWorkflowEnded(stack, orphanWorkflowId(requestId));
  });

  it(`takes at most ${ROWS_PER_RUN} rows and ${ORPHANS_PER_RUN} orphans a run, ${ROWS_PER_METER} rows a settlement, and no two runs at a time`, async () => {
    const orphans = await hold(ORPHANS_PER_RUN + 10, { gatewayId: randomUUID(), ttlSeconds: 0.001 });
    const finished = await hold(ROWS_PER_RUN + 100, { gatewayId: randomUUID(), ttlSeconds: 600 });
    await finishRequests(
      stack.database.pool('gateway', { max: 1 }),
      finished.map(({ requestId }) => ({
        requestId,
        outcome: 'upstream_error',
        listCost: ZERO_USD,
        usage: NO_USAGE,
        estimated: false,
        rawUsage: null,
        latencyMs: 1,
        firstTokenMs: null,
        upstream: null,
      })),
    );
    const rows = await until('all of them to be given back', async () => {
      const found = await rowsOf(stack, account);
      return found.every(({ state, workflow_id }) => state === 'released' && workflow_id !== null) && found;
    });
    assert.equal(rows.length, orphans.length + finished.length);
    const runs = await until('the sweeps to be listed', async () => {
      const found = await sweeps();
      const released = found.reduce((sum, { result }) => sum + result.released, 0);
      return released >= orphans.length && found;
    });
    for (const { result } of runs) {
      assert.ok(result.released <= ORPHANS_PER_RUN && result.settledLate <= ROWS_PER_RUN, JSON.stringify(result));
    }
    for (const [n, { startedAt }] of runs.entries()) {
      const previous = runs[n - 1];
      assert.ok(previous === undefined || previous.endedAt <= startedAt, 'a run starts after the one before has ended');
    }
    const perSettlement = Object.values(Object.groupBy(rows, ({ workflow_id }) => workflow_id ?? ''));
    for (const group of perSettlement) assert.ok((group ?? []).length <= ROWS_PER_METER);
    assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5'), held: '0.000000000000' });
  });

  it('takes no silent gateway for gone until the database has been in reach without a gap for as long', async () => {
    // On a database of its own: the running sweep must not answer for this one.
    const quiet = await startTestStack({ name: 'sweep-reach', api: false, worker: false });
    try {
      const [gateway, worker] = [quiet.database.pool('gateway', { max: 1 }), quiet.database.pool('worker', { max: 1 })];
      const owner = await quiet.createAccount('5');
      const { key } = await quiet.createKey(owner);
      const gatewayId = randomUUID();
      await gatewayHeartbeat(gateway, gatewayId, 'silent');
      const requestId = uuidOf('request', uuidv7());
      await placeHolds(gateway, [
        {
          requestId,
          accountId: owner.uuid,
          keyId: key.id,
          modelId: 'test/small',
          wanted: usd('0.001'),
          least: usd('0.001'),
          priceVersion: 1,
          stream: true,
          gatewayId,
          ttlSeconds: 600,
        },
      ]);
      const found = async (): Promise<string[]> =>
        (await findOrphans(worker, 30, 50)).map((orphan) => orphan.requestId);
      const silentFor = (seconds: number): Promise<unknown> =>
        quiet.admin.query('update gateway_instance set heartbeat_at = clock_timestamp() - make_interval(secs => $1)', [
          seconds,
        ]);
      const reachable = (sinceSeconds: number, seenSeconds: number): Promise<unknown> =>
        quiet.admin.query(
          `update database_reachability set since = clock_timestamp() - make_interval(secs => $1),
            seen_at = clock_timestamp() - make_interval(secs => $2)`,
          [sinceSeconds, seenSeconds],
        );

      await silentFor(40);
      await reachable(3600, 40);
      await noteReachable(worker, 20);
      assert.deepEqual(await found(), [], 'both were silent for 40 s: it was the database');

      await reachable(31, 15);
      await noteReachable(worker, 20);
      assert.deepEqual(await found(), [requestId], 'the database was there all the time: it is the gateway');

      await silentFor(29);
      assert.deepEqual(await found(), [], 'a sign of life 29 s ago is enough');
    } finally {
      await quiet.stop();
    }
  });
});
