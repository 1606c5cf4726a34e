/**
 * Usage that an upstream reports wrongly. Whatever it says, the customer gets the answer at a cost that is either the
 * reported one or a flagged estimate, or a clear error; never a credit, never a lost hold, never a crash of the
 * process.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Fault } from '../../../../../twins/upstream/twin.ts';
import {
  balanceOf,
  createCustomer,
  dollars,
  endedRow,
  MESSAGES,
  platformCosts,
  post,
  readStream,
  refusalOf,
  requestIdOf,
  violations,
  type Customer,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import {
  addModels,
  chunk,
  completion,
  DONE,
  event,
  modelOf,
  openStream,
  sendCompletion,
  startScriptedUpstream,
  type ScriptedUpstream,
} from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';

/** 1 prompt token and 16 output tokens of `test/small`: the twin's truth, and what a local count comes to. */
const TRUE_COST = dollars('0.000033');

const REPORTED = { prompt_tokens: 1, completion_tokens: 16, total_tokens: 17 };

/** Usage that cannot be used: a local count takes its place, and what was reported is kept as evidence. */
const UNUSABLE: readonly { readonly name: string; readonly usage: unknown }[] = [
  { name: 'a negative prompt', usage: { ...REPORTED, prompt_tokens: -5 } },
  { name: 'a negative completion', usage: { ...REPORTED, completion_tokens: -1_000_000 } },
  { name: 'a prompt that is null', usage: { ...REPORTED, prompt_tokens: null } },
  { name: 'no completion count', usage: { prompt_tokens: 1 } },
  { name: 'counts as text', usage: { prompt_tokens: '1', completion_tokens: '16', total_tokens: '17' } },
  { name: 'a fraction of a token', usage: { ...REPORTED, completion_tokens: 15.5 } },
  { name: '2^53 tokens', usage: { ...REPORTED, completion_tokens: 2 ** 53 } },
  { name: '2^53 - 1 tokens', usage: { ...REPORTED, completion_tokens: 2 ** 53 - 1 } },
  { name: 'more output than the context', usage: { ...REPORTED, completion_tokens: 100_001 } },
  { name: 'more input than the context', usage: { ...REPORTED, prompt_tokens: 100_001 } },
  { name: 'a negative cached count', usage: { ...REPORTED, prompt_tokens_details: { cached_tokens: -3 } } },
  { name: 'a negative reasoning count', usage: { ...REPORTED, completion_tokens_details: { reasoning_tokens: -3 } } },
  { name: 'details that are no object', usage: { ...REPORTED, prompt_tokens_details: [1] } },
  { name: 'no output beside a text', usage: { ...REPORTED, completion_tokens: 0 } },
  { name: 'no input', usage: { ...REPORTED, prompt_tokens: 0 } },
  { name: 'nothing at all', usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 } },
  { name: 'an empty object', usage: {} },
  { name: 'a list', usage: [1, 16] },
  { name: 'a number', usage: 17 },
  { name: 'text', usage: 'seventeen' },
  { name: 'true', usage: true },
];

/** Usage that is odd and still says clearly enough what to charge. */
const USABLE: readonly {
  readonly name: string;
  readonly usage: unknown;
  readonly cost: string;
  readonly kept: boolean;
}[] = [
  {
    name: 'more cached tokens than the prompt has: all of it is cached, none twice',
    usage: { ...REPORTED, prompt_tokens_details: { cached_tokens: 100 } },
    cost: '0.0000325',
    kept: true,
  },
  {
    name: 'more reasoning tokens than the output has: all of it is reasoning, none twice',
    usage: { ...REPORTED, completion_tokens_details: { reasoning_tokens: 100 } },
    cost: '0.000033',
    kept: true,
  },
  {
    name: 'a total below the sum: the parts count',
    usage: { ...REPORTED, total_tokens: 9 },
    cost: '0.000033',
    kept: true,
  },
  {
    name: 'a total above the sum: what it has more was produced, $0.00002 more than the sides say',
    usage: { ...REPORTED, total_tokens: 27 },
    cost: '0.000053',
    kept: true,
  },
  {
    name: 'a cache hit under the name of DeepSeek: $0.0000325, not $0.000033',
    usage: { ...REPORTED, prompt_cache_hit_tokens: 1, prompt_cache_miss_tokens: 0 },
    cost: '0.0000325',
    kept: false,
  },
  {
    name: 'fields we do not know',
    usage: { ...REPORTED, cost: -5, queue_time: 'soon', nested: { negative: -1 } },
    cost: '0.000033',
    kept: false,
  },
];

/** Evidence that a database does not take as it is. */
const HARD_TO_STORE: readonly { readonly name: string; readonly json: string }[] = [
  { name: 'a NUL character', json: '{"x":"a\\u0000b"}' },
  { name: 'a backslash before the digits of one', json: '{"x":"a\\\\u0000"}' },
  { name: 'half a surrogate pair', json: '{"x":"\\ud800"}' },
  { name: 'half a surrogate pair as a name', json: '{"\\udc00":1}' },
  { name: 'half a megabyte', json: `{"x":${JSON.stringify('y'.repeat(500_000))}}` },
  { name: 'a number beyond all numbers', json: '{"prompt_tokens":1e400,"completion_tokens":1}' },
  { name: 'a thousand levels', json: `{"x":${nested(1000)}}` },
  { name: 'a character of two halves where it is cut', json: `{"x":"${'y'.repeat(3993)}\u{1f600}${'y'.repeat(100)}"}` },
];

/** Deeper than JSON can be written, though not deeper than it can be read. */
const TOO_DEEP = `{"x":${nested(100_000)}}`;

function nested(levels: number): string {
  return '['.repeat(levels) + ']'.repeat(levels);
}

describe('gateway: wrong usage from an upstream', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-usage-faults', worker: false });
    upstream = await startScriptedUpstream();
    await addModels(stack, [
      modelOf({ id: 'test/scripted', prices: { input: '1', output: '2' }, baseUrl: upstream.baseUrl }),
    ]);
  });
  afterEach(async () => {
    stack.twin.faults.clear();
    assert.deepEqual(await violations(stack), []);
  });
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  interface Told {
    readonly requestId: string;
    readonly usage: Readonly<Record<string, unknown>>;
  }

  async function ask(
    customer: Customer,
    { stream, model = 'test/small' }: { stream: boolean; model?: string },
  ): Promise<Told> {
    const response = await post(stack, customer.secret, {
      model,
      messages: MESSAGES,
      ...(stream ? { stream, stream_options: { include_usage: true } } : {}),
    });
    if (stream) {
      const { chunks, done, requestId } = await readStream(response);
      assert.ok(done);
      return { requestId, usage: chunks.at(-1)!.usage! };
    }
    assert.equal(response.status, 200);
    const { usage } = (await response.json()) as { usage: Record<string, unknown> };
    return { requestId: requestIdOf(response), usage };
  }

  const KINDS = [
    ['a stream', true],
    ['a whole answer', false],
  ] as const;

  for (const { name, usage } of UNUSABLE) {
    it(`${name}: a local count, marked as an estimate, with the reported usage kept`, async () => {
      for (const [, stream] of KINDS) {
        const customer = await createCustomer(stack, '1');
        stack.twin.faults.add({ fault: { type: 'usage', usage } });
        const told = await ask(customer, { stream });
        assert.deepEqual(told.usage, {
          prompt_tokens: 1,
          completion_tokens: 16,
          total_tokens: 17,
          estimated: true,
          cost: 0.000033,
        });
        const row = await endedRow(stack, told.requestId);
        assert.deepEqual(
          [row.state, row.outcome, row.estimated, row.inputTokens, row.outputTokens, row.cost],
          ['finished', 'completed', true, 1, 16, TRUE_COST],
        );
        assert.deepEqual(row.rawUsage, usage);
        assert.equal((await balanceOf(stack, customer.account)).balance, dollars('1') - TRUE_COST);
      }
    });
  }

  for (const [kind, fault] of [
    ['no usage at all', { type: 'no_usage' }],
    ['usage that is null', { type: 'usage', usage: null }],
  ] as const satisfies readonly (readonly [string, Fault])[]) {
    it(`${kind}: a local count, marked as an estimate`, async () => {
      for (const [, stream] of KINDS) {
        const customer = await createCustomer(stack, '1');
        stack.twin.faults.add({ fault });
        const told = await ask(customer, { stream });
        assert.equal(told.usage['estimated'], true);
        const row = await endedRow(stack, told.requestId);
        assert.deepEqual([row.outcome, row.estimated, row.cost, row.rawUsage], ['completed', true, TRUE_COST, null]);
      }
    });
  }

  for (const { name, usage, cost, kept } of USABLE) {
    it(name, async () => {
      for (const [, stream] of KINDS) {
        const customer = await createCustomer(stack, '1');
        stack.twin.faults.add({ fault: { type: 'usage', usage } });
        const told = await ask(customer, { stream });
        assert.equal(told.usage['cost'], Number(cost), "our cost, whatever the upstream's own field says");
        const row = await endedRow(stack, told.requestId);
        assert.deepEqual([row.estimated, row.cost], [false, dollars(cost)]);
        assert.deepEqual(row.rawUsage, kept ? usage : null);
      }
    });
  }

  it('usage that is no JSON (NaN), of a stream that was given whole: an estimate, since the client has its answer', async () => {
    const customer = await createCustomer(stack, '1');
    stack.twin.faults.add({ fault: { type: 'usage', usage_raw: '{"prompt_tokens":NaN,"completion_tokens":16}' } });
    const told = await ask(customer, { stream: true });
    const row = await endedRow(stack, told.requestId);
    assert.deepEqual([row.outcome, row.estimated, row.cost], ['completed', true, TRUE_COST]);
  });

  it('usage that is no JSON (NaN), of a whole answer: nobody can read it; nothing is charged, and its cost is booked', async () => {
    const customer = await createCustomer(stack, '1');
    stack.twin.faults.add({ fault: { type: 'usage', usage_raw: '{"prompt_tokens":NaN,"completion_tokens":16}' } });
    const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES });
    const requestId = requestIdOf(response);
    assert.equal((await refusalOf(response)).code, 'upstream_failed');
    const row = await endedRow(stack, requestId);
    assert.deepEqual([row.state, row.outcome, row.cost], ['finished', 'upstream_error', 0n]);
    assert.deepEqual(await platformCosts(stack, requestId), { upstream_error: TRUE_COST });
  });

  for (const { name, json } of HARD_TO_STORE) {
    it(`evidence with ${name} does not keep the request from being recorded and charged`, async () => {
      for (const [, stream] of KINDS) {
        const customer = await createCustomer(stack, '1');
        stack.twin.faults.add({ fault: { type: 'usage', usage_raw: json } });
        const told = await ask(customer, { stream });
        const row = await endedRow(stack, told.requestId);
        assert.deepEqual([row.state, row.outcome, row.estimated, row.cost], ['finished', 'completed', true, TRUE_COST]);
        assert.notEqual(row.rawUsage, null, 'something of the evidence is kept');
        assert.equal((await balanceOf(stack, customer.account)).held, 0n);
      }
    });
  }

  it('usage nested deeper than JSON can be written: an estimate, or a clear error before anything is charged', async () => {
    const customer = await createCustomer(stack, '1');
    stack.twin.faults.add({ times: 2, fault: { type: 'usage', usage_raw: TOO_DEEP } });
    const told = await ask(customer, { stream: true });
    const row = await endedRow(stack, told.requestId);
    assert.deepEqual([row.outcome, row.estimated, row.cost], ['completed', true, TRUE_COST]);
    assert.deepEqual(row.rawUsage, { unprintable: 'nested too deeply' });

    const whole = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES });
    assert.equal((await refusalOf(whole)).code, 'upstream_failed');
    assert.equal((await endedRow(stack, requestIdOf(whole))).cost, 0n);
  });

  it("text that looks like a tokenizer's own control tokens is counted as text, in prompt and answer", async () => {
    const special = 'Hi <|endoftext|> <|im_start|> <|fim_prefix|>';
    for (const [, stream] of KINDS) {
      upstream.script((response) => {
        if (!stream) return sendCompletion(response, completion(special, { usage: undefined }));
        openStream(response);
        response.end(chunk({ content: special }) + chunk({}, 'stop') + DONE);
      });
      const customer = await createCustomer(stack, '1');
      const response = await post(stack, customer.secret, {
        model: 'test/scripted',
        messages: [{ role: 'user', content: special }],
        stream,
      });
      assert.equal(response.status, 200, await response.text());
      const row = await endedRow(stack, requestIdOf(response));
      assert.deepEqual([row.outcome, row.estimated], ['completed', true]);
      assert.ok(row.inputTokens! > 3 && row.outputTokens === row.inputTokens);
    }
  });

  it('usage that comes in every chunk counts once, at its last value', async () => {
    const customer = await createCustomer(stack, '1');
    const counted = (tokens: number): object => ({ usage: { prompt_tokens: 1, completion_tokens: tokens } });
    upstream.script((response) => {
      openStream(response);
      response.write(chunk({ role: 'assistant', content: 'One' }, null, counted(1)));
      response.write(chunk({ content: ' two' }, null, counted(2)));
      response.write(chunk({ content: ' three' }, null, counted(3)));
      response.end(chunk({}, 'stop', counted(3)) + event({ choices: [], ...counted(3) }) + DONE);
    });
    const told = await ask(customer, { stream: true, model: 'test/scripted' });
    assert.equal(told.usage['completion_tokens'], 3);
    assert.equal((await endedRow(stack, told.requestId)).cost, dollars('0.000007'));
  });

  it('whatever JSON an upstream reports as usage: the request ends, costs no less than nothing and no more than its hold', async function () {
    this.timeout(60_000);
    const customer = await createCustomer(stack, '5');
    const number = fc.oneof(
      fc.integer({ min: -10, max: 300 }),
      fc.double(),
      fc.constantFrom(2 ** 53, -(2 ** 53), 1e308, -0, 0),
    );
    const field = fc.oneof({ weight: 4, arbitrary: number }, { weight: 1, arbitrary: fc.jsonValue() });
    const details = fc.record(
      {
        cached_tokens: field,
        cache_write_tokens: field,
        reasoning_tokens: field,
        audio_tokens: field,
        image_tokens: field,
      },
      { requiredKeys: [] },
    );
    const usageJson = fc.oneof(
      { weight: 1, arbitrary: fc.jsonValue() },
      {
        weight: 4,
        arbitrary: fc.record(
          {
            prompt_tokens: field,
            completion_tokens: field,
            total_tokens: field,
            prompt_tokens_details: fc.oneof(details, field),
            completion_tokens_details: fc.oneof(details, field),
          },
          { requiredKeys: [] },
        ),
      },
    );
    await fc.assert(
      fc.asyncProperty(usageJson, fc.boolean(), async (usage, stream) => {
        upstream.script((response) => {
          if (!stream) return sendCompletion(response, completion('Hello', { usage }));
          openStream(response);
          response.end(chunk({ content: 'Hello' }) + chunk({}, 'stop') + event({ choices: [], usage }) + DONE);
        });
        const before = (await balanceOf(stack, customer.account)).balance;
        const told = await ask(customer, { stream, model: 'test/scripted' });
        const row = await endedRow(stack, told.requestId);
        const { balance } = await balanceOf(stack, customer.account);
        assert.equal(row.outcome, 'completed');
        assert.ok(row.cost! >= 0n && row.cost! <= row.hold);
        assert.equal(balance, before - row.cost!);
        assert.ok(!row.estimated || row.cost! > 0n, 'an estimate is of something');
      }),
      { numRuns: 80 },
    );
    assert.equal((await balanceOf(stack, customer.account)).held, 0n);
  });
});
