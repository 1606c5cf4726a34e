/**
 * Money that ends, or grows, while an answer is on its way: a stream is held in slices, so it may be longer than its
 * first hold, but never longer than the money of key and account; then it is ended in a way that clients understand.
 */
import assert from 'node:assert/strict';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import {
  addKey,
  balanceOf,
  createCustomer,
  dollars,
  findRow,
  MESSAGES,
  newestRequest,
  platformCosts,
  post,
  readStream,
  settledRow,
  untilNothingHeld,
  violations,
  type Customer,
  type WireStream,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import { STREAM_SLICE_TOKENS } from '../../../../../api/gateway/core/holds/reach.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

/** One output token of `test/small`. */
const TOKEN_COST = dollars('0.000002');
/**
 * Tokens that may leave between the moment the money is used up and the cut: what one read of the upstream can carry.
 */
const OVERSHOOT_TOKENS = 64;

describe('gateway: limits during an answer', () => {
  let stack: TestStack;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-limits' });
    // The tokenizer is loaded when it is first needed; that must not decide any test.
    const customer = await createCustomer(stack, '0.0008');
    await longStream(customer, { output_tokens: 1000, chunk_interval_ms: 1 });
  });
  afterEach(async () => {
    stack.twin.faults.clear();
    assert.deepEqual(await violations(stack), []);
  });
  after(() => stack.stop());

  async function longStream(customer: Customer, twin: object, more: object = {}): Promise<WireStream> {
    const body = {
      model: 'test/small',
      messages: MESSAGES,
      stream: true,
      stream_options: { include_usage: true },
      metadata: { twin: JSON.stringify(twin) },
      ...more,
    };
    return readStream(await post(stack, customer.secret, body));
  }

  /**
   * What must be true of every stream that was cut: a clean end, paid as far as delivered, nothing beyond the money.
   */
  async function assertCut(customer: Customer, stream: WireStream, expected: { endedBy: string; money: string }) {
    const { chunks, done, requestId, text } = stream;
    const [usage, finish] = [chunks.at(-1), chunks.at(-2)];
    assert.ok(done, 'the stream ends with [DONE]');
    assert.equal(finish?.choices[0]?.finish_reason, 'length');
    assert.deepEqual(finish?.holdfast, { ended_by: expected.endedBy });
    assert.deepEqual(usage?.choices, []);

    const row = await settledRow(stack, requestId);
    const delivered = countTokens(text);
    assert.deepEqual([row.state, row.outcome, row.estimated], ['charged', 'cut_by_limit', true]);
    assert.deepEqual([row.inputTokens, row.outputTokens], [1, delivered]);
    assert.equal(usage?.usage?.['completion_tokens'], delivered);
    assert.equal(usage?.usage?.['estimated'], true);

    const money = dollars(expected.money);
    const worth = dollars('0.000001') + BigInt(delivered) * TOKEN_COST;
    assert.equal(row.listCost, worth);
    assert.ok(row.cost! <= money, `${row.cost} is paid of ${money}`);
    assert.ok(worth - row.cost! <= BigInt(OVERSHOOT_TOKENS) * TOKEN_COST, `${delivered} tokens for ${row.cost}`);
    // The input is held by its bytes and counted in tokens, so that a part of the money cannot be used.
    assert.ok(row.cost! >= money - row.hold / 5n && row.cost! > (money * 8n) / 10n, `cut at ${row.cost} of ${money}`);
    // What was delivered above the money, and what was on its way when the stream was cut, is the platform's.
    const loss = worth - row.cost!;
    await until('the upstream to be let go', () => stack.twin.request(requestId)?.status === 'aborted');
    const onItsWay = BigInt(stack.twin.request(requestId)!.completion_tokens - delivered) * TOKEN_COST;
    assert.deepEqual(await platformCosts(stack, requestId), {
      ...(loss === 0n ? {} : { overrun: loss }),
      ...(onItsWay === 0n ? {} : { undelivered: onItsWay }),
    });
    await untilNothingHeld(stack, customer.account);
    return row;
  }

  it('an account that runs empty ends the stream with finish_reason length and says why; it never falls below zero', async () => {
    const customer = await createCustomer(stack, '0.002');
    const stream = await longStream(customer, { output_tokens: 3000, chunk_interval_ms: 1 });
    const row = await assertCut(customer, stream, { endedBy: 'insufficient_user_quota', money: '0.002' });
    const { balance } = await balanceOf(stack, customer.account);
    assert.equal(balance, dollars('0.002') - row.cost!);
    assert.ok(balance >= 0n);
  });

  it("a key that reaches its limit ends the stream; the account's other keys go on", async () => {
    const customer = await createCustomer(stack, '1', { limit: dollars('0.002') });
    const stream = await longStream(customer, { output_tokens: 3000, chunk_interval_ms: 1 });
    const row = await assertCut(customer, stream, { endedBy: 'key_limit_exceeded', money: '0.002' });
    const other = await addKey(stack, customer.account);
    const { done } = await longStream(other, { output_tokens: 10 });
    assert.ok(done);
    const rest = dollars('1') - row.cost! - dollars('0.000021');
    assert.equal((await balanceOf(stack, customer.account)).balance, rest);
  });

  it('the client that is cut sees an ordinary end, not an error', async () => {
    const customer = await createCustomer(stack, '0.001');
    const stream = await customer.openai.chat.completions.create({
      model: 'test/small',
      messages: MESSAGES,
      stream: true,
      metadata: { twin: JSON.stringify({ output_tokens: 3000, chunk_interval_ms: 1 }) },
    });
    const reasons: (string | null)[] = [];
    for await (const { choices } of stream) reasons.push(choices[0]?.finish_reason ?? null);
    assert.equal(reasons.at(-1), 'length');
    assert.ok(reasons.slice(0, -1).every((reason) => reason === null));
  });

  it('with n answers, each gets its end when the money ends', async () => {
    const customer = await createCustomer(stack, '0.003');
    const { chunks, done, requestId } = await longStream(
      customer,
      { output_tokens: 3000, chunk_interval_ms: 2 },
      { n: 2 },
    );
    const ends = chunks.flatMap(({ choices }) => choices).filter(({ finish_reason }) => finish_reason !== null);
    assert.ok(done);
    assert.deepEqual(
      ends.map(({ index, finish_reason }) => [index, finish_reason]),
      [
        [0, 'length'],
        [1, 'length'],
      ],
    );
    assert.equal((await settledRow(stack, requestId)).outcome, 'cut_by_limit');
  });

  it('a stream that outgrows its first hold goes on as long as there is money, and costs what it used', async () => {
    const customer = await createCustomer(stack, '1');
    const running = longStream(customer, { output_tokens: 9000, chunk_interval_ms: 0.1 });
    const requestId = await until('the request to be held', () => newestRequest(stack, customer.account));
    const first = (await findRow(stack, requestId))!.hold;
    await until('the hold to grow', async () => (await findRow(stack, requestId))!.hold > first);
    const { chunks, done } = await running;
    assert.ok(done);
    assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'stop');
    const row = await settledRow(stack, requestId);
    assert.deepEqual([row.outcome, row.estimated, row.outputTokens], ['completed', false, 9000]);
    assert.equal(row.cost, dollars('0.018001'));
    assert.ok(row.hold >= row.cost);
    assert.equal((await balanceOf(stack, customer.account)).balance, dollars('1') - row.cost);
  });

  it('the last money is used: a stream is not cut while the account can pay for less than another whole slice', async () => {
    // A first slice of 4,096 tokens and 1,500 more, where the next slice would be 4,096 again.
    const customer = await createCustomer(stack, '0.0114');
    const stream = await longStream(customer, { output_tokens: 9000, chunk_interval_ms: 0.1 });
    await assertCut(customer, stream, { endedBy: 'insufficient_user_quota', money: '0.0114' });
    assert.ok(countTokens(stream.text) > 5400, `${countTokens(stream.text)} tokens`);
  });

  it('an upstream that is faster than we count cannot deliver far beyond the money', async () => {
    const customer = await createCustomer(stack, '0.002');
    const stream = await longStream(customer, { output_tokens: 100_000 });
    const delivered = countTokens(stream.text);
    assert.ok(delivered < 3000, `${delivered} tokens were delivered on money for 950`);
    await settledRow(stack, stream.requestId);
    assert.ok((await balanceOf(stack, customer.account)).balance >= 0n);
  });

  it('streams that share the last money are all cut and together pay no more than there is', async () => {
    // The first holds a whole slice, the second what is left.
    const customer = await createCustomer(stack, '0.0125');
    const streams = await Promise.all(
      [0, 1].map(() => longStream(customer, { output_tokens: 9000, chunk_interval_ms: 0.2 })),
    );
    let paid = 0n;
    for (const { requestId, done } of streams) {
      assert.ok(done);
      const row = await settledRow(stack, requestId);
      assert.equal(row.outcome, 'cut_by_limit');
      paid += row.cost!;
    }
    assert.ok(paid <= dollars('0.0125'));
    await untilNothingHeld(stack, customer.account);
    assert.equal((await balanceOf(stack, customer.account)).balance, dollars('0.0125') - paid);
  });

  it('a stream is not cut because settlements are late', async () => {
    const customer = await createCustomer(stack, '0.03');
    stack.worker.signal('SIGSTOP');
    try {
      // Nearly all money is held by answers that have ended and cost almost nothing.
      for (let i = 0; i < 2; i += 1) {
        await customer.openai.chat.completions.create({ model: 'test/small', messages: MESSAGES, max_tokens: 4500 });
      }
      const { done, chunks, requestId } = await longStream(customer, { output_tokens: 6000, chunk_interval_ms: 0.1 });
      assert.ok(done);
      assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'stop');
      assert.equal((await findRow(stack, requestId))?.outcome, 'completed');
    } finally {
      stack.worker.signal('SIGCONT');
    }
    await untilNothingHeld(stack, customer.account);
  });

  it('a key that is revoked, or an account that is frozen, ends its streams at their next slice', async () => {
    for (const [statement, endedBy] of [
      ['update api_key set revoked_at = now() where account_id = $1', 'key_revoked'],
      ["update account set frozen_at = now(), frozen_reason = 'test' where id = $1", 'account_frozen'],
    ] as const) {
      const customer = await createCustomer(stack, '1');
      const running = longStream(customer, { output_tokens: 9000, chunk_interval_ms: 0.2 });
      await until('the request to be held', () => newestRequest(stack, customer.account));
      await stack.admin.query(statement, [customer.account.uuid]);
      const { chunks, done, requestId } = await running;
      assert.ok(done);
      assert.deepEqual(chunks.at(-2)?.holdfast, { ended_by: endedBy });
      const row = await settledRow(stack, requestId);
      assert.equal(row.outcome, 'cut_by_limit');
      assert.ok(row.cost! > 0n, 'what was delivered is paid');
    }
  });

  describe('an upstream that produces more than was held', () => {
    it('is paid from what the account has left, the rest is our loss, and the balance stays at zero or above', async () => {
      const customer = await createCustomer(stack, '0.001');
      stack.twin.faults.add({ fault: { type: 'exceed_max_tokens', tokens: 5000 } });
      const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES, max_tokens: 10 });
      assert.equal(response.status, 200);
      await response.text();
      const row = await settledRow(stack, response.headers.get('x-request-id')!);
      assert.deepEqual([row.outcome, row.outputTokens], ['completed', 5010]);
      assert.equal(row.listCost, dollars('0.010021'));
      assert.equal(row.cost, dollars('0.001'));
      assert.deepEqual(await platformCosts(stack, response.headers.get('x-request-id')!), {
        overrun: dollars('0.009021'),
      });
      assert.equal((await balanceOf(stack, customer.account)).balance, 0n);
    });

    it('cannot reason unseen far beyond the money: where it is near its end, the upstream is told', async () => {
      const poor = await createCustomer(stack, '0.001');
      const { requestId } = await longStream(poor, { output_tokens: 50_000, reasoning_tokens: 50_000 });
      const row = await settledRow(stack, requestId);
      const covered = Number(row.hold / TOKEN_COST);
      assert.ok(row.outputTokens! <= covered + STREAM_SLICE_TOKENS, `${row.outputTokens} tokens for ${row.hold}`);

      const rich = await createCustomer(stack, '1');
      const whole = await longStream(rich, { output_tokens: 6000, reasoning_tokens: 6000 });
      assert.equal((await settledRow(stack, whole.requestId)).outputTokens, 6000, 'who can pay is not limited');
    });

    it('costs what the client was told it costs, also when it reasoned unseen far beyond the first slice', async () => {
      for (const stream of [true, false]) {
        const customer = await createCustomer(stack, '1');
        stack.twin.faults.add({
          fault: stream
            ? { type: 'output', output_tokens: 6010, reasoning_tokens: 6000 }
            : { type: 'exceed_max_tokens', tokens: 6000 },
        });
        const body = {
          model: 'test/large',
          messages: MESSAGES,
          ...(stream ? { stream, stream_options: { include_usage: true } } : { max_tokens: 10 }),
        };
        const response = await post(stack, customer.secret, body);
        const requestId = response.headers.get('x-request-id')!;
        const told = stream
          ? (await readStream(response)).chunks.at(-1)?.usage?.['cost']
          : ((await response.json()) as { usage: { cost: number } }).usage.cost;
        const row = await settledRow(stack, requestId);
        assert.equal(row.listCost, row.cost, 'the account could pay for all of it');
        assert.equal(dollars(String(told)), row.cost);
      }
    });
  });
});
