/**
 * Clients that go away: the upstream is drained for its usage for a while, what was produced is paid, and who leaves
 * before the upstream was asked pays nothing.
 */
import assert from 'node:assert/strict';
import { formatId, uuidOf } from '../../domain/ids.ts';
import { startTestStack, until, type TestAccount, type TestStack } from '../support/stack.ts';
import { Chat } from './chat.ts';
import { assertBooks, balanceAfter, balanceOf, lockRow, metric, rowOf, rowsOf, untilSettled } from './evidence.ts';

const DRAIN_SECONDS = 1.5;

describe('a client that leaves', function () {
  this.timeout(60_000);
  let stack: TestStack;
  let account: TestAccount;
  let client: { baseUrl: string; secret: string };

  before(async () => {
    stack = await startTestStack({ name: 'client-left', env: { DRAIN_SECONDS: String(DRAIN_SECONDS) } });
  });
  after(() => stack.stop());
  beforeEach(async () => {
    account = await stack.createAccount('5');
    const { secret } = await stack.createKey(account);
    client = { baseUrl: stack.baseUrl, secret };
  });
  afterEach(() => assertBooks(stack));

  for (const stream of [true, false]) {
    it(`pays for ${stream ? 'a stream' : 'an answer'} that the upstream ended while it was drained: completed, by the upstream’s count`, async () => {
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

    it(`pays for what ${stream ? 'a stream' : 'an answer'} had produced when draining ended, counted here and marked as an estimate`, async () => {
      const chat = new Chat(client, { stream, twin: { output_tokens: 1000, chunk_interval_ms: 50 } });
      const requestId = await untilUnderWay();
      if (stream) await chat.untilContent();
      chat.leave();
      const left = await until('the leaving to be noted', async () => {
        const row = await rowOf(stack, requestId);
        return row.client_left_at !== null && row;
      });
      const row = await untilSettled(stack, requestId);
      assert.deepEqual([row.state, row.outcome, row.estimated], ['charged', 'client_disconnected', true]);
      const drainedSeconds = ((row.finished_at?.getTime() ?? 0) - (left.client_left_at?.getTime() ?? 0)) / 1000;
      assert.ok(
        drainedSeconds > DRAIN_SECONDS - 0.2 && drainedSeconds < DRAIN_SECONDS + 3,
        `drained for ${drainedSeconds} s`,
      );
      // Of an answer that is sent in one piece at its end nothing has arrived: only its input can be counted.
      if (stream) assert.ok(Number(row.output_tokens) > Number(left.output_tokens), 'what came while draining counts');
      assert.ok(Number(row.cost) > 0);
      await until('the upstream to be let go', () => stack.twin.request(requestId)?.status === 'aborted');
      assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', row.cost));
    });
  }

  it('before its hold is answered pays nothing, and its upstream is not called', async () => {
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
