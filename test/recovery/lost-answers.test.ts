/**
 * The database carries a statement out and its answer never arrives: whatever the gateway then does, a hold is granted
 * or given back once, an end is recorded once, and the client never waits for the database's recovery.
 */
import assert from 'node:assert/strict';
import { startTestStack, type TestAccount, type TestStack } from '../support/stack.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';
import { endAfterTests } from './at-end.ts';
import { Chat } from './chat.ts';
import {
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

/** Longer than a busy machine needs to queue a few requests behind a locked account. */
const HOLD_TIMEOUT_SECONDS = 1.5;

describe('lost answers of the database', function () {
  this.timeout(60_000);
  const atEnd = endAfterTests();
  let stack: TestStack;
  let proxy: TcpProxy;
  let account: TestAccount;
  let client: { baseUrl: string; secret: string };

  before(async () => {
    stack = await startTestStack({ name: 'lost-answers', api: false, worker: false });
    atEnd(() => stack.stop());
    proxy = await startTcpProxyFor(stack.database.url);
    atEnd(() => proxy.close());
    await Promise.all([
      stack.startApi({
        DATABASE_URL: proxy.through(stack.database.url),
        HOLD_TIMEOUT_SECONDS: String(HOLD_TIMEOUT_SECONDS),
      }),
      stack.startWorker(),
    ]);
  });
  beforeEach(async () => {
    account = await stack.createAccount('5');
    const { secret } = await stack.createKey(account);
    client = { baseUrl: stack.baseUrl, secret };
  });
  afterEach(() => assertLedgerSound(stack));

  /** How often the gateway has said that an answer to a statement of this name (or its batch form) was missing. */
  function repeats(statement: string): number {
    return stack.api.log.filter(
      ({ msg }) => String(msg).startsWith(statement) && String(msg).endsWith('has no answer; repeating'),
    ).length;
  }

  /** Waits until it has said so once more: its log may lag behind its answers. */
  async function untilRepeated(statement: string, before: number): Promise<void> {
    await until(`${statement} to be repeated`, () => repeats(statement) > before, 10_000);
  }

  it('a hold whose answer is lost is asked for again with the same id and serves its request, held once', async () => {
    const before = repeats('place_hold');
    const lost = proxy.loseAnswerTo('place_hold');
    const { status, requestId, isWhole } = await new Chat(client, { stream: false }).ended;
    await lost;
    assert.deepEqual([status, isWhole], [200, true]);
    await untilRepeated('place_hold', before);
    const row = await untilSettled(stack, requestId);
    assert.deepEqual([row.state, row.outcome], ['charged', 'completed']);
    assert.equal((await rowsOf(stack, account)).length, 1);
    assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5', row.cost), held: '0.000000000000' });
  });

  it('holds that share a statement whose answer is lost are each held once and all served', async () => {
    const release = await lockRow(stack, 'account', account.uuid);
    const first = new Chat(client, { stream: false });
    await until('the first hold to wait', async () => {
      const { rowCount } = await stack.admin.query(
        "select from pg_stat_activity where datname = current_database() and query like 'select place_hold(%' and wait_event_type = 'Lock'",
      );
      return rowCount === 1;
    });
    // From now on: behind a call that is held up for long the others go in a second one, whenever that is.
    const lost = proxy.loseAnswerTo('place_holds');
    const others = Array.from({ length: 5 }, () => new Chat(client, { stream: false }));
    await until('the others to be queued', async () => (await metric(stack, 'holdfast_gateway_open_requests')) === 6);
    await release();
    const ends = await Promise.all([first, ...others].map((chat) => chat.ended));
    await lost;
    assert.deepEqual(
      ends.map(({ status, isWhole }) => [status, isWhole]),
      ends.map(() => [200, true]),
    );
    const rows = await Promise.all(ends.map(({ requestId }) => untilSettled(stack, requestId)));
    assert.equal((await rowsOf(stack, account)).length, 6);
    assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', ...rows.map((row) => row.cost)));
  });

  it('a hold taken behind a lost answer while the database stays away is a quick 503 and is given back whole', async () => {
    const lost = proxy.loseAnswerTo('place_hold').then(() => proxy.refuse());
    const { status, errorCode, retryAfter, requestId, tookMs } = await new Chat(client).ended;
    await lost;
    assert.deepEqual([status, errorCode], [503, 'ledger_unavailable']);
    assert.ok(Number(retryAfter) > 0, `retry-after: ${retryAfter}`);
    assert.ok(tookMs < HOLD_TIMEOUT_SECONDS * 1000 + 2000, `503 after ${tookMs} ms`);
    assert.equal((await rowOf(stack, requestId)).state, 'held', 'the statement had taken effect');

    proxy.accept();
    const row = await untilSettled(stack, requestId);
    assert.deepEqual([row.state, row.outcome, Number(row.cost)], ['released', 'orphaned', 0]);
    assert.equal(stack.twin.request(requestId ?? ''), undefined, 'the upstream was never called');
    assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5'), held: '0.000000000000' });
  });

  it('a raised hold whose answer is lost is raised once, and the stream goes on to its end', async () => {
    const lost = proxy.loseAnswerTo('extend_hold');
    // More than the slice of 4,096 tokens that a stream holds at first.
    const end = await new Chat(client, { twin: { output_tokens: 6000, chunk_interval_ms: 0.2 } }).ended;
    await lost;
    assert.deepEqual([end.status, end.isWhole], [200, true]);
    const row = await untilSettled(stack, end.requestId);
    assert.deepEqual([row.state, row.outcome, row.output_tokens], ['charged', 'completed', '6000']);
    assert.equal(row.cost, row.list_cost, 'the hold covered it');
    assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', row.cost));
  });

  for (const stream of [true, false]) {
    it(`an end whose answer is lost is recorded once and the client still gets its ${stream ? 'stream’s end' : 'answer'}`, async () => {
      const before = repeats('finish_request');
      const lost = proxy.loseAnswerTo('finish_request');
      const end = await new Chat(client, { stream }).ended;
      await lost;
      assert.deepEqual([end.status, end.isWhole], [200, true]);
      await untilRepeated('finish_request', before);
      const row = await untilSettled(stack, end.requestId);
      assert.deepEqual([row.state, row.outcome, row.estimated], ['charged', 'completed', false]);
      assert.equal(end.usage?.['cost'], Number(row.cost));
      assert.equal(
        await metric(stack, 'holdfast_gateway_alarms_total', { alarm: 'late_finish' }),
        0,
        'a repeat is not late',
      );
      assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', row.cost));
    });
  }
});
