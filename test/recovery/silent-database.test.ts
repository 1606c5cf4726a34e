/**
 * PostgreSQL does not answer for a while, for everybody or for one process alone: answers that are under way reach
 * their clients, live streams are not taken for dead, and what was decided meanwhile is decided once.
 */
import assert from 'node:assert/strict';
import { orphanWorkflowId } from '../../contract/index.ts';
import { SHORT_DURATIONS, startTestStack, type TestAccount, type TestStack } from '../support/stack.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';
import { endAfterTests } from './at-end.ts';
import { Chat } from './chat.ts';
import {
  assertLedgerSound,
  balanceAfter,
  balanceOf,
  lockRow,
  metric,
  platformCosts,
  rowOf,
  rowsOf,
  untilReachableFor,
  untilSettled,
  untilWorkflowEnded,
  uuidOfRequest,
} from './evidence.ts';
import { until } from '../support/until.ts';

const GONE_SECONDS = Number(SHORT_DURATIONS.GATEWAY_GONE_SECONDS);

describe('a database that does not answer', function () {
  this.timeout(60_000);
  const atEnd = endAfterTests();
  let stack: TestStack;
  let apiProxy: TcpProxy;
  let workerProxy: TcpProxy;
  let account: TestAccount;
  let client: { baseUrl: string; secret: string };

  before(async () => {
    stack = await startTestStack({ name: 'silent-database', api: false, worker: false });
    atEnd(() => stack.stop());
    apiProxy = await startTcpProxyFor(stack.database.url);
    atEnd(() => apiProxy.close());
    workerProxy = await startTcpProxyFor(stack.database.url);
    atEnd(() => workerProxy.close());
    await Promise.all([
      stack.startApi({ DATABASE_URL: apiProxy.through(stack.database.url) }),
      stack.startWorker({ DATABASE_URL: workerProxy.through(stack.database.url) }),
    ]);
  });
  beforeEach(async () => {
    account = await stack.createAccount('5');
    const { secret } = await stack.createKey(account);
    client = { baseUrl: stack.baseUrl, secret };
    await until('the api to be ready', isReady);
  });
  afterEach(async () => {
    apiProxy.resume();
    workerProxy.resume();
    await assertLedgerSound(stack);
  });

  async function isReady(): Promise<boolean> {
    return (await fetch(`${stack.baseUrl}/readyz`)).status === 200;
  }

  const lateAlarms = (): Promise<number> => metric(stack, 'holdfast_gateway_alarms_total', { alarm: 'late_finish' });

  it('an end that cannot be recorded in time reaches the client; paid requests wait outside, free ones go on; it is charged once', async () => {
    const chat = new Chat(client, { twin: { output_tokens: 10, chunk_interval_ms: 30 } });
    await chat.untilContent();
    const release = await lockRow(stack, 'request', uuidOfRequest(chat.requestId));
    try {
      const end = await chat.ended;
      assert.deepEqual([end.status, end.isWhole], [200, true]);
      assert.equal((await rowOf(stack, end.requestId)).state, 'held', 'the client had its end before it was recorded');

      const paid = await new Chat(client).ended;
      assert.deepEqual([paid.status, paid.errorCode], [503, 'ledger_unavailable']);
      assert.ok(Number(paid.retryAfter) > 0, `retry-after: ${paid.retryAfter}`);
      assert.equal(stack.twin.request(paid.requestId ?? ''), undefined, 'the upstream was not called');
      assert.equal(await isReady(), false);
      const free = await new Chat(client, { model: 'test/small:free' }).ended;
      assert.deepEqual([free.status, free.isWhole], [200, true]);
    } finally {
      await release();
    }
    const row = await untilSettled(stack, chat.requestId);
    assert.deepEqual([row.state, row.outcome], ['charged', 'completed']);
    assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5', row.cost), held: '0.000000000000' });
    await until('new requests to be let in', isReady);
  });

  it('a finish that comes after the sweep took the gateway for dead still ends the answer, charges nothing and is booked once as platform cost', async () => {
    await untilReachableFor(stack, GONE_SECONDS);
    const alarmsBefore = await lateAlarms();
    const chat = new Chat(client, { twin: { output_tokens: 55, chunk_interval_ms: 100 } });
    await chat.untilContent();
    apiProxy.pause();
    await until('the hold to be released', async () => (await rowOf(stack, chat.requestId)).outcome === 'orphaned');
    apiProxy.resume();

    const end = await chat.ended;
    assert.deepEqual([end.status, end.isWhole], [200, true], 'the client got its answer to the end');
    await until('the late finish to be noticed', async () => (await lateAlarms()) === alarmsBefore + 1);
    const row = await untilSettled(stack, end.requestId);
    assert.deepEqual([row.state, row.outcome, Number(row.cost)], ['released', 'orphaned', 0]);
    assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5'), held: '0.000000000000' });

    await untilWorkflowEnded(stack, orphanWorkflowId(end.requestId ?? ''));
    const costs = await platformCosts(stack, end.requestId);
    assert.deepEqual(
      costs.map(({ reason, usage }) => [reason, usage['output_tokens']]),
      [['late_finish', 55]],
    );
  });

  it('a finish that comes after the upstream’s own count was billed, because the client had left, changes nothing', async () => {
    await untilReachableFor(stack, GONE_SECONDS);
    const alarmsBefore = await lateAlarms();
    const chat = new Chat(client, { twin: { output_tokens: 35, chunk_interval_ms: 100 } });
    await chat.untilContent();
    chat.leave();
    await until('the leaving to be noted', async () => (await rowOf(stack, chat.requestId)).client_left_at !== null);
    apiProxy.pause();
    const billed = await untilSettled(stack, chat.requestId);
    assert.deepEqual(
      [billed.state, billed.outcome, billed.output_tokens, billed.workflow_id],
      ['charged', 'client_disconnected', '35', orphanWorkflowId(chat.requestId)],
    );
    apiProxy.resume();
    await until('the late finish to be noticed', async () => (await lateAlarms()) === alarmsBefore + 1);
    assert.deepEqual(await rowOf(stack, chat.requestId), billed);
    assert.deepEqual(await platformCosts(stack, chat.requestId), [], 'what a customer paid is not our cost as well');
    assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', billed.cost));
  });

  it('a pause of the database longer than a gateway may be silent orphans no live stream', async () => {
    await untilReachableFor(stack, GONE_SECONDS);
    const endsInPause = new Chat(client, { twin: { output_tokens: 30, chunk_interval_ms: 50 } });
    const endsAfter = new Chat(client, { twin: { output_tokens: 70, chunk_interval_ms: 100 } });
    await Promise.all([endsInPause.untilContent(), endsAfter.untilContent()]);
    apiProxy.pause();
    workerProxy.pause();
    const end = await endsInPause.ended;
    assert.deepEqual([end.status, end.isWhole], [200, true]);
    const refused = await new Chat(client).ended;
    assert.deepEqual([refused.status, refused.errorCode], [503, 'ledger_unavailable']);
    assert.ok(Number(refused.retryAfter) > 0, `retry-after: ${refused.retryAfter}`);
    await until('the gateway to have been silent for too long', async () => {
      const { rows } = await stack.admin.query<{ gone: boolean }>(
        'select max(heartbeat_at) < clock_timestamp() - make_interval(secs => $1) as gone from gateway_instance',
        [GONE_SECONDS + 1],
      );
      return rows[0]!.gone;
    });
    // The worst order: the sweep is back and looks for orphans before any gateway could send a sign of life.
    workerProxy.resume();
    const resumedAt = new Date();
    await until('the sweep to have looked for orphans', async () => {
      const { rowCount } = await stack.admin.query(
        "select from pg_stat_activity where datname = current_database() and query like '%find_orphans%' and state = 'idle' and query_start > $1",
        [resumedAt],
      );
      return rowCount !== 0;
    });
    apiProxy.resume();
    assert.deepEqual(
      (await rowsOf(stack, account)).map(({ outcome }) => outcome).filter((outcome) => outcome === 'orphaned'),
      [],
    );

    assert.deepEqual([(await endsAfter.ended).status, (await endsAfter.ended).isWhole], [200, true]);
    const rows = await Promise.all([endsInPause, endsAfter].map((chat) => untilSettled(stack, chat.requestId)));
    assert.deepEqual(
      rows.map(({ state, outcome, output_tokens }) => [state, outcome, output_tokens]),
      [
        ['charged', 'completed', '30'],
        ['charged', 'completed', '70'],
      ],
    );
    assert.deepEqual(await balanceOf(stack, account), {
      balance: balanceAfter('5', ...rows.map((row) => row.cost)),
      held: '0.000000000000',
    });
  });
});
