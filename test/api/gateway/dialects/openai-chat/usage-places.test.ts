/**
 * Usage where other providers report it, end to end: what the row is charged, what is kept as evidence, and what the
 * client sees of it. The forms themselves are tested in reported-usage.test.ts; here is what each of them was worth.
 */
import assert from 'node:assert/strict';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import {
  createCustomer,
  dollars,
  endedRow,
  MESSAGES,
  post,
  readStream,
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

const MODEL = 'test/places';
/** The list prices of a model whose cache hits cost 7.5 times less. */
const PRICES = { input: '0.6', cached_input: '0.08', output: '2.5' };

interface Form {
  readonly what: string;
  /** What the upstream's last chunks say, after "Hello" and before `[DONE]`. */
  readonly ends: readonly string[];
  readonly tokens: readonly [input: number, cached: number, output: number];
  readonly cost: string;
  /** True where the row must keep what was reported. */
  readonly isFlagged?: boolean;
}

const counts = { prompt_tokens: 10_000, completion_tokens: 100, total_tokens: 10_100 };
const finished = (more: object = {}): string =>
  event({ choices: [{ index: 0, delta: {}, finish_reason: 'stop', ...more }] });

const FORMS: readonly Form[] = [
  {
    what: 'Moonshot: in the choice, with cached tokens on its top level ($0.00105 and not $0.00625)',
    ends: [finished({ usage: { ...counts, cached_tokens: 10_000 } })],
    tokens: [10_000, 10_000, 100],
    cost: '0.00105',
  },
  {
    what: 'Groq: under x_groq',
    ends: [
      event({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }], x_groq: { id: 'req_1', usage: counts } }),
    ],
    tokens: [10_000, 0, 100],
    cost: '0.00625',
  },
  {
    what: 'DeepSeek: cache hits without details ($0.001258 and not $0.00625)',
    ends: [
      finished(),
      event({
        choices: [],
        usage: { ...counts, prompt_cache_hit_tokens: 9_600, prompt_cache_miss_tokens: 400 },
      }),
    ],
    tokens: [10_000, 9_600, 100],
    cost: '0.001258',
  },
  {
    what: 'Gemini’s OpenAI endpoint: 2,000 thoughts that only the total shows ($0.01125 and not $0.00625)',
    ends: [finished(), event({ choices: [], usage: { ...counts, total_tokens: 12_100 } })],
    tokens: [10_000, 0, 2_100],
    cost: '0.01125',
    isFlagged: true,
  },
  {
    what: 'xAI: 2,000 tokens of reasoning beside the completion',
    ends: [
      finished(),
      event({
        choices: [],
        usage: { ...counts, total_tokens: 12_100, completion_tokens_details: { reasoning_tokens: 2_000 } },
      }),
    ],
    tokens: [10_000, 0, 2_100],
    cost: '0.01125',
    isFlagged: true,
  },
  {
    what: 'zeros after the real report',
    ends: [
      finished({}),
      event({ choices: [], usage: { ...counts, prompt_tokens_details: { cached_tokens: 10_000 } } }),
      event({ choices: [], usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 } }),
    ],
    tokens: [10_000, 10_000, 100],
    cost: '0.00105',
  },
  {
    what: 'the report before the last content',
    ends: [chunk({ content: '!' }, null, { usage: counts }), finished(), event({ choices: [] })],
    tokens: [10_000, 0, 100],
    cost: '0.00625',
  },
];

describe('gateway: usage in other places', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-usage-places', worker: false });
    upstream = await startScriptedUpstream();
    await addModels(stack, [modelOf({ id: MODEL, prices: PRICES, baseUrl: upstream.baseUrl })]);
  });
  afterEach(async () => assert.deepEqual(await violations(stack), []));
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  function scriptStream(ends: readonly string[]): void {
    upstream.script((response) => {
      openStream(response);
      response.end(chunk({ role: 'assistant', content: 'Hello' }) + ends.join('') + DONE);
    });
  }

  async function stream(customer: Customer, more: object = {}) {
    const response = await post(stack, customer.secret, { model: MODEL, messages: MESSAGES, stream: true, ...more });
    return readStream(response);
  }

  for (const { what, ends, tokens, cost, isFlagged = false } of FORMS) {
    it(what, async () => {
      const customer = await createCustomer(stack, '1');
      scriptStream(ends);
      const { chunks, done, requestId } = await stream(customer, { stream_options: { include_usage: true } });
      assert.ok(done);
      const row = await endedRow(stack, requestId);
      assert.deepEqual([row.outcome, row.estimated], ['completed', false]);
      assert.deepEqual([row.inputTokens, row.cachedInputTokens, row.outputTokens], tokens);
      assert.equal(row.cost, dollars(cost));
      assert.equal(row.rawUsage !== null, isFlagged, 'evidence is kept where the report was not taken as it stands');
      assert.equal(chunks.at(-1)?.usage?.['cost'], Number(cost));
    });
  }

  it('a client that did not ask for usage sees none of it, wherever the provider put it', async () => {
    const customer = await createCustomer(stack, '1');
    const said = {
      choices: [{ index: 0, delta: {}, finish_reason: 'stop', usage: counts }],
      x_groq: { id: 'r', usage: counts },
    };
    scriptStream([event({ ...said, usage: counts })]);
    const { chunks } = await stream(customer);
    assert.ok(!JSON.stringify(chunks).includes('prompt_tokens'), JSON.stringify(chunks));
  });

  it('what the provider charged us reaches no client, in whole answers and in streams', async () => {
    const customer = await createCustomer(stack, '1');
    const prices = {
      cost: 99,
      cost_details: { upstream_inference_cost: 99 },
      cost_in_usd_ticks: 990_000,
      is_byok: false,
      prompt_tokens_details: { cached_tokens: 0, total_cost: 99 },
    };
    const more = { total_cost: 99, provider_metadata: { gateway: { cost: '99' } } };
    upstream.script((response) =>
      sendCompletion(response, completion('Hello', { usage: { ...counts, ...prices }, ...more })),
    );
    const whole = await post(stack, customer.secret, { model: MODEL, messages: MESSAGES });
    const text = await whole.text();
    assert.equal(whole.status, 200, text);
    scriptStream([finished(), event({ choices: [], usage: { ...counts, ...prices } })]);
    const { chunks } = await stream(customer, { stream_options: { include_usage: true } });
    for (const shown of [text, JSON.stringify(chunks)]) {
      assert.ok(!shown.includes('99'), shown);
      assert.ok(shown.includes('"cost":0.00625'), 'our own price is shown');
    }
  });

  it('an answer without usage is charged for 380 KB in the arguments of a tool call: $0.05 and not $0.000003', async function () {
    this.timeout(30_000);
    const customer = await createCustomer(stack, '1');
    upstream.script((response) => sendCompletion(response, completion('Hello', { usage: undefined })));
    const args = 'The quick brown fox jumps over the lazy dog. '.repeat(8_400);
    const call = { id: 'call_1', type: 'function', function: { name: 'search', arguments: args } };
    const response = await post(stack, customer.secret, {
      model: MODEL,
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: null, tool_calls: [call] },
        { role: 'tool', tool_call_id: 'call_1', content: 'none' },
      ],
      max_tokens: 10,
    });
    assert.equal(response.status, 200, await response.text());
    const row = await endedRow(stack, requestIdOf(response));
    const real = countTokens(args);
    assert.ok(row.estimated);
    assert.ok(row.inputTokens! >= real && row.inputTokens! < real + 50, `${row.inputTokens} of ${real}`);
    assert.ok(row.cost! >= BigInt(real) * 600_000n, `${row.cost}`);
  });
});
