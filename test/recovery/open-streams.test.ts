/**
 * Open streams that somebody gives up. A client that leaves: its upstream is drained for its usage for a while and what
 * was produced is paid. A gateway that gets SIGTERM: it turns new requests away, lets open ones end, ends the rest
 * itself, and leaves nothing behind for anybody else to find.
 */
import assert from 'node:assert/strict';
import { formatId, uuidOf } from '../../domain/ids.ts';
import { SHORT_DURATIONS, startTestStack, type TestAccount, type TestStack } from '../support/stack.ts';
import { startTcpProxyFor } from '../support/tcp-proxy.ts';
import { endAfterTests } from './at-end.ts';
import { Chat } from './chat.ts';
import {
  allRows,
  assertLedgerSound,
  balanceAfter,
  balanceOf,
  lockRow,
  metric,
  rowOf,
  rowsOf,
  untilSettled,
} from './evidence.ts';
import { until } from '../support/until.ts';

const DRAIN_SECONDS = 1.5;
const SHUTDOWN_SECONDS = 3;
/** What recording and settling the last requests may take on a busy machine, beside the time-out itself. */
const MARGIN_SECONDS = 7;
/** How long the gateway may try to say goodbye to a database that hangs; our own constants and a margin. */
const SIGN_OFF_SECONDS = 15;
/** Slow enough that it does not end while a test runs. */
const ENDLESS = { output_tokens: 1000, chunk_interval_ms: 100 };

describe('open streams', function () {
  this.timeout(60_000);
  const atEnd = endAfterTests();
  let stack: TestStack;
  let account: TestAccount;
  let client: { baseUrl: string; secret: string };

  before(async () => {
    stack = await startTestStack({ name: 'open-streams', api: false });
    atEnd(() => stack.stop());
  });
  afterEach(() => assertLedgerSound(stack));

  async function openAccount(): Promise<void> {
    account = await stack.createAccount('5');
    const { secret } = await stack.createKey(account);
    client = { baseUrl: stack.baseUrl, secret };
  }

  describe('whose client leaves', () => {
    before(() => stack.startApi({ DRAIN_SECONDS: String(DRAIN_SECONDS) }));
    after(() => stack.api.signal('SIGKILL'));
    beforeEach(openAccount);

    for (const stream of [true, false]) {
      it(`are completed and charged by the upstream’s count when it ends while it is drained (${stream ? 'stream' : 'whole answer'})`, async () => {
        const chat = new Chat(client, { stream, twin: { output_tokens: 20, chunk_interval_ms: 50 } });
        const requestId = await untilUnderWay();
        chat.leave();
        const row = await untilSettled(stack, requestId);
        assert.deepEqual(
          [row.state, row.outcome, row.estimated, row.output_tokens],
          ['charged', 'completed', false, '20'],
        );
        assert.ok(row.client_left_at !== null, 'the leaving is on the row');
        assert.equal(stack.twin.request(requestId)?.status, 'completed', 'the upstream was heard out');
        assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', row.cost));
      });
    }

    it('are cut once they were drained long enough, where they are not held in full, and charged by the look-up of their upstream', async () => {
      const chat = new Chat(client, { stream: true, twin: { output_tokens: 1000, chunk_interval_ms: 50 } });
      const requestId = await untilUnderWay();
      await chat.untilContent();
      chat.leave();
      const left = await until('the leaving to be noted', async () => {
        const row = await rowOf(stack, requestId);
        return row.client_left_at !== null && row;
      });
      const row = await untilSettled(stack, requestId);
      assert.deepEqual([row.state, row.outcome, row.estimated], ['charged', 'client_disconnected', false]);
      const drainedSeconds = ((row.finished_at?.getTime() ?? 0) - (left.client_left_at?.getTime() ?? 0)) / 1000;
      assert.ok(
        drainedSeconds > DRAIN_SECONDS - 0.2 && drainedSeconds < DRAIN_SECONDS + 3,
        `drained for ${drainedSeconds} s`,
      );
      assert.ok(Number(row.output_tokens) > Number(left.output_tokens), 'what came while draining counts');
      const produced = await until('the upstream to be let go', () => {
        const record = stack.twin.request(requestId);
        return record?.status === 'aborted' && record;
      });
      assert.equal(row.output_tokens, String(produced.completion_tokens));
      assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', row.cost));
    });

    it('are drained to their end, however long, where they are held in full: a whole answer is paid by its usage', async () => {
      const chat = new Chat(client, { stream: false, twin: { output_tokens: 60, chunk_interval_ms: 50 } });
      const requestId = await untilUnderWay();
      chat.leave();
      const row = await untilSettled(stack, requestId);
      assert.deepEqual(
        [row.state, row.outcome, row.estimated, row.output_tokens],
        ['charged', 'completed', false, '60'],
      );
      assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', row.cost));
    });

    it('cost nothing and reach no upstream when it leaves before the hold is answered', async () => {
      const release = await lockRow(stack, 'account', account.uuid);
      const chat = new Chat(client);
      await until('the hold to wait', async () => {
        const { rowCount } = await stack.admin.query(
          "select from pg_stat_activity where datname = current_database() and query like 'select place_hold(%' and wait_event_type = 'Lock'",
        );
        return rowCount === 1;
      });
      chat.leave();
      // One round trip later the api has seen the connection close: events of sockets are served in their order.
      await metric(stack, 'holdfast_gateway_open_requests');
      await release();
      const row = await until('the hold to be given back', async () => {
        const rows = await rowsOf(stack, account);
        return rows.find(({ state }) => state === 'charged' || state === 'released');
      });
      assert.equal(Number(row.cost), 0);
      const requestId = formatId('request', uuidOf('request', row.id));
      assert.equal(stack.twin.request(requestId), undefined, 'nothing was asked of the upstream');
      assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5'), held: '0.000000000000' });
    });

    /** Waits until the upstream works on the account's one request; resolves with its id. */
    async function untilUnderWay(): Promise<string> {
      return until('the upstream to work on the request', async () => {
        const [row] = await rowsOf(stack, account);
        if (row === undefined) return null;
        const requestId = formatId('request', uuidOf('request', row.id));
        return stack.twin.request(requestId)?.status === 'running' && requestId;
      });
    }
  });

  describe('at SIGTERM', () => {
    beforeEach(async () => {
      // Longer than the shutdown may take: a client that has left must not end its stream first.
      await stack.startApi({
        SHUTDOWN_SECONDS: String(SHUTDOWN_SECONDS),
        DRAIN_SECONDS: SHORT_DURATIONS.DRAIN_SECONDS,
      });
      await openAccount();
    });
    afterEach(() => stack.api.signal('SIGKILL'));

    async function untilStopping(): Promise<void> {
      stack.api.signal('SIGTERM');
      await until('the gateway to stop taking requests', () =>
        stack.api.log.some(({ msg }) => msg === 'stopping: open streams may end, new requests are refused'),
      );
    }

    it('go on to their end and are charged, while /readyz fails and new requests get 503 at once', async () => {
      const chat = new Chat(client, { twin: { output_tokens: 20, chunk_interval_ms: 100 } });
      await chat.untilContent();
      await untilStopping();
      assert.equal((await fetch(`${stack.baseUrl}/readyz`)).status, 503);
      for (const model of ['test/small', 'test/small:free']) {
        const refused = await new Chat(client, { model }).ended;
        assert.deepEqual([refused.status, refused.errorCode], [503, 'ledger_unavailable'], model);
        assert.ok(Number(refused.retryAfter) > 0, `retry-after: ${refused.retryAfter}`);
      }
      const end = await chat.ended;
      assert.deepEqual([end.status, end.isWhole], [200, true]);
      assert.equal(await stack.api.exited, 0);
      const row = await untilSettled(stack, end.requestId);
      assert.deepEqual([row.state, row.outcome, row.output_tokens], ['charged', 'completed', '20']);
      assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', row.cost));
    });

    it('are ended as orphaned by the gateway itself when they outlast the time-out; it exits in time, code 0, nothing held', async () => {
      const streamed = new Chat(client, { twin: ENDLESS });
      const free = new Chat(client, { model: 'test/small:free', twin: ENDLESS });
      const abandoned = new Chat(client, { twin: ENDLESS });
      await Promise.all([streamed, free, abandoned].map((chat) => chat.untilContent()));
      abandoned.leave();
      await until(
        'the leaving to be noted',
        async () => (await rowOf(stack, abandoned.requestId)).client_left_at !== null,
      );

      const beganAt = performance.now();
      await untilStopping();
      const end = await streamed.ended;
      assert.deepEqual([end.isWhole, end.errorCode], [false, 'upstream_failed']);
      assert.equal(await stack.api.exited, 0);
      const seconds = (performance.now() - beganAt) / 1000;
      assert.ok(
        seconds >= SHUTDOWN_SECONDS && seconds < SHUTDOWN_SECONDS + MARGIN_SECONDS,
        `exited after ${seconds} s`,
      );

      assert.deepEqual(
        (await allRows(stack)).filter(({ state }) => state === 'held'),
        [],
        'nothing is left to the sweep',
      );
      for (const { requestId } of [streamed, free, abandoned]) {
        const row = await untilSettled(stack, requestId);
        assert.deepEqual([row.state, row.outcome, Number(row.cost)], ['released', 'orphaned', 0]);
      }
      assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5'), held: '0.000000000000' });
      const { rows } = await stack.admin.query<{ stopped: boolean }>(
        'select stopped_at is not null as stopped from gateway_instance order by started_at desc limit 1',
      );
      assert.equal(rows[0]?.stopped, true, 'it has signed off');
    });

    it('the gateway exits after all streams have ended, even if the database does not answer', async () => {
      stack.api.signal('SIGKILL');
      const proxy = await startTcpProxyFor(stack.database.url);
      try {
        await stack.startApi({ DATABASE_URL: proxy.through(stack.database.url) });
        await new Chat({ ...client, baseUrl: stack.baseUrl }).ended;
        proxy.pause();
        const beganAt = performance.now();
        await untilStopping();
        assert.equal(await stack.api.exited, 0);
        const seconds = (performance.now() - beganAt) / 1000;
        assert.ok(seconds < SHUTDOWN_SECONDS + SIGN_OFF_SECONDS, `exited after ${seconds} s`);
      } finally {
        await proxy.close();
      }
    });

    it('are none: the gateway exits at once', async () => {
      const beganAt = performance.now();
      await untilStopping();
      assert.equal(await stack.api.exited, 0);
      const seconds = (performance.now() - beganAt) / 1000;
      assert.ok(seconds < SHUTDOWN_SECONDS, `exited after ${seconds} s`);
    });
  });
});
