/**
 * A gateway whose event loop is kept busy for longer than a gateway may be silent: it still answers afterwards, so it
 * was never gone, and what it served meanwhile is paid for.
 */
import assert from 'node:assert/strict';
import { blockEventLoop, INSPECTABLE } from '../support/inspector.ts';
import { SHORT_DURATIONS, startTestStack, type TestStack } from '../support/stack.ts';
import { endAfterTests } from './at-end.ts';
import { Chat } from './chat.ts';
import { assertLedgerSound, balanceAfter, balanceOf, metric, untilReachableFor, untilSettled } from './evidence.ts';

const GONE_SECONDS = Number(SHORT_DURATIONS.GATEWAY_GONE_SECONDS);
const SWEEP_SECONDS = Number(SHORT_DURATIONS.SWEEP_INTERVAL_SECONDS);

describe('a busy gateway', function () {
  this.timeout(60_000);
  const atEnd = endAfterTests();
  let stack: TestStack;

  before(async () => {
    stack = await startTestStack({ name: 'busy-gateway', env: INSPECTABLE });
    atEnd(() => stack.stop());
  });
  afterEach(() => assertLedgerSound(stack));

  it('a stream that was open while the event loop stood still ends completed and its 0.0001 USD are charged, not orphaned', async () => {
    const account = await stack.createAccount('5');
    const { secret } = await stack.createKey(account);
    await untilReachableFor(stack, GONE_SECONDS);
    const chat = new Chat({ baseUrl: stack.baseUrl, secret }, { twin: { output_tokens: 50, chunk_interval_ms: 50 } });
    await chat.untilContent();
    // Long enough for several sweeps to look while nothing turns.
    await blockEventLoop(stack.api, GONE_SECONDS + 3 * SWEEP_SECONDS);

    const end = await chat.ended;
    assert.deepEqual([end.status, end.isWhole], [200, true]);
    const row = await untilSettled(stack, chat.requestId);
    assert.deepEqual([row.state, row.outcome, row.output_tokens], ['charged', 'completed', '50']);
    assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5', row.cost), held: '0.000000000000' });
    assert.equal(await metric(stack, 'holdfast_gateway_alarms_total', { alarm: 'late_finish' }), 0);
  });
});
