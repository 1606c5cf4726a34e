/**
 * SIGTERM with open streams: the gateway turns new requests away, lets open ones end, ends the rest itself, and leaves
 * nothing behind for anybody else to find.
 */
import assert from 'node:assert/strict';
import { startTestStack, until, type TestAccount, type TestStack } from '../support/stack.ts';
import { startTcpProxyFor } from '../support/tcp-proxy.ts';
import { Chat } from './chat.ts';
import { allRows, assertBooks, balanceAfter, balanceOf, rowOf, untilSettled } from './evidence.ts';

const SHUTDOWN_SECONDS = 3;
/** Slow enough that it does not end by itself while a test runs. */
const ENDLESS = { output_tokens: 1000, chunk_interval_ms: 100 };
/** What recording and settling the last requests may take on a busy machine, beside the time-out itself. */
const MARGIN_SECONDS = 7;

describe('SIGTERM', function () {
  this.timeout(60_000);
  let stack: TestStack;
  let account: TestAccount;
  let client: { baseUrl: string; secret: string };

  before(async () => {
    stack = await startTestStack({ name: 'shutdown', api: false, env: { SHUTDOWN_SECONDS: String(SHUTDOWN_SECONDS) } });
  });
  after(() => stack.stop());
  beforeEach(async () => {
    await stack.startApi();
    account = await stack.createAccount('5');
    const { secret } = await stack.createKey(account);
    client = { baseUrl: stack.baseUrl, secret };
  });
  afterEach(async () => {
    stack.api.signal('SIGKILL');
    await assertBooks(stack);
  });

  async function untilStopping(): Promise<void> {
    stack.api.signal('SIGTERM');
    await until('the gateway to stop taking requests', () =>
      stack.api.log.some(({ msg }) => msg === 'stopping: open streams may end, new requests are refused'),
    );
  }

  it('fails /readyz and answers new requests with 503 at once, while open streams go on to their end and are charged', async () => {
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

  it('ends what outlasts the time-out as orphaned itself, unbilled, and exits in time with code 0 and nothing held', async () => {
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
    assert.ok(seconds >= SHUTDOWN_SECONDS && seconds < SHUTDOWN_SECONDS + MARGIN_SECONDS, `exited after ${seconds} s`);

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

  it('exits although the database does not answer, and the sweep gives back what it could not end itself', async () => {
    stack.api.signal('SIGKILL');
    const proxy = await startTcpProxyFor(stack.database.url);
    try {
      await stack.startApi({ DATABASE_URL: proxy.through(stack.database.url), SHUTDOWN_SECONDS: '1' });
      const chat = new Chat({ ...client, baseUrl: stack.baseUrl }, { twin: ENDLESS });
      await chat.untilContent();
      proxy.pause();
      await untilStopping();
      const end = await chat.ended;
      assert.deepEqual([end.isWhole, end.errorCode], [false, 'upstream_failed']);
      assert.equal(await stack.api.exited, 0);
      const row = await untilSettled(stack, end.requestId);
      assert.deepEqual([row.state, row.outcome, Number(row.cost)], ['released', 'orphaned', 0]);
      assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5'), held: '0.000000000000' });
    } finally {
      await proxy.close();
    }
  });

  it('without open requests it exits at once', async () => {
    const beganAt = performance.now();
    await untilStopping();
    assert.equal(await stack.api.exited, 0);
    const seconds = (performance.now() - beganAt) / 1000;
    assert.ok(seconds < SHUTDOWN_SECONDS, `exited after ${seconds} s`);
  });
});
