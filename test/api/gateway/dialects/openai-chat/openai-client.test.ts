/**
 * The unmodified `openai` package against the gateway: what a customer's code does on a good day. Typed errors are in
 * errors.test.ts, broken upstreams in outcomes.test.ts.
 */
import assert from 'node:assert/strict';
import type OpenAI from 'openai';
import { NotFoundError } from 'openai';
import {
  addKey,
  answered,
  createCustomer,
  dollars,
  endedRow,
  errorOf,
  MESSAGES,
  requestIdOf,
  rowOf,
  type Customer,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';

const TOOLS: OpenAI.ChatCompletionTool[] = [
  {
    type: 'function',
    function: {
      name: 'weather',
      description: 'The weather at a place',
      parameters: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] },
    },
  },
];

describe('gateway: an unmodified openai client', () => {
  let stack: TestStack;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-openai-client', worker: false });
    customer = await createCustomer(stack, '5');
  });
  after(() => stack.stop());

  it('gets a chat completion with its text, the model it asked for, its usage and the request id', async () => {
    const completion = await customer.openai.chat.completions.create({ model: 'test/small', messages: MESSAGES });

    const served = stack.twin.request(completion._request_id ?? '');
    assert.ok(served, 'the upstream was called with the id that the client got');
    assert.equal(completion.object, 'chat.completion');
    assert.equal(completion.model, 'test/small');
    assert.equal(completion.choices.length, 1);
    assert.equal(completion.choices[0]?.finish_reason, 'stop');
    assert.ok(completion.choices[0].message.content);
    assert.equal(completion.usage?.prompt_tokens, served.prompt_tokens);
    assert.equal(completion.usage?.completion_tokens, served.completion_tokens);
  });

  it('gets a stream: the same text in pieces, a role first, one finish reason last', async () => {
    const request = { model: 'test/small', messages: MESSAGES } as const;
    const whole = await customer.openai.chat.completions.create(request);
    const { data: stream, requestId } = await answered(
      customer.openai.chat.completions.create({ ...request, stream: true }),
    );
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    for await (const chunk of stream) chunks.push(chunk);

    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
    assert.equal(text, whole.choices[0]?.message.content);
    assert.equal(chunks[0]?.choices[0]?.delta.role, 'assistant');
    assert.deepEqual(
      chunks.map((chunk) => chunk.choices[0]?.finish_reason ?? null).filter((reason) => reason !== null),
      ['stop'],
    );
    assert.equal(chunks.at(-1)?.choices[0]?.finish_reason, 'stop');
    assert.ok(chunks.every(({ model, id }) => model === 'test/small' && id === chunks[0]?.id));
    assert.equal((await rowOf(stack, requestId)).outcome, 'completed');
  });

  it('sees no trace of usage in a stream it did not ask it for', async () => {
    const stream = await customer.openai.chat.completions.create({
      model: 'test/small',
      messages: MESSAGES,
      stream: true,
    });
    for await (const chunk of stream) {
      assert.ok(!('usage' in chunk), `usage in ${JSON.stringify(chunk)}`);
      assert.equal(chunk.choices.length, 1);
    }
  });

  it('gets usage and cost in one last chunk without choices when it asked for it, null before', async () => {
    const { data: stream, requestId } = await answered(
      customer.openai.chat.completions.create({
        model: 'test/small',
        messages: MESSAGES,
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    for await (const chunk of stream) chunks.push(chunk);

    const last = chunks.pop();
    assert.deepEqual(last?.choices, []);
    assert.equal(last?.usage?.prompt_tokens, 1);
    assert.equal(last?.usage?.completion_tokens, 16);
    assert.equal(last?.usage?.total_tokens, 17);
    assert.equal((last.usage as unknown as { cost: number }).cost, 0.000033);
    assert.ok(chunks.every((chunk) => chunk.usage === null && chunk.choices.length > 0));
    assert.equal((await rowOf(stack, requestId)).cost, dollars('0.000033'));
  });

  it("reads a stream through the package's own helper", async () => {
    const runner = customer.openai.chat.completions.stream({
      model: 'test/small',
      messages: MESSAGES,
      stream_options: { include_usage: true },
    });
    const completion = await runner.finalChatCompletion();
    assert.equal(completion.choices[0]?.finish_reason, 'stop');
    assert.equal((await runner.totalUsage()).completion_tokens, 16);
  });

  it('calls a tool, streamed and not, and sends the result back', async () => {
    const request = { model: 'test/small', messages: MESSAGES, tools: TOOLS, tool_choice: 'required' } as const;
    const { data: completion, requestId } = await answered(customer.openai.chat.completions.create(request));
    const message = completion.choices[0]?.message;
    const call = message?.tool_calls?.[0];
    assert.equal(completion.choices[0]?.finish_reason, 'tool_calls');
    assert.ok(call?.type === 'function');
    assert.equal(call.function.name, 'weather');
    assert.equal(typeof (JSON.parse(call.function.arguments) as { text: unknown }).text, 'string');
    assert.equal((await rowOf(stack, requestId)).outcome, 'completed');

    const runner = customer.openai.chat.completions.stream(request);
    const streamed = (await runner.finalChatCompletion()).choices[0]?.message.tool_calls?.[0];
    assert.ok(streamed?.type === 'function');
    assert.deepEqual(streamed.function.arguments, call.function.arguments);

    const { data: second } = await answered(
      customer.openai.chat.completions.create({
        ...request,
        tool_choice: 'none',
        messages: [...MESSAGES, message!, { role: 'tool', tool_call_id: call.id, content: '{"sun":true}' }],
      }),
    );
    assert.equal(second.choices[0]?.finish_reason, 'stop');
  });

  it('gets every answer it asked for with n, and pays for all of them', async () => {
    const request = { model: 'test/small', messages: MESSAGES, n: 3, max_tokens: 5 } as const;
    const { data: whole, requestId } = await answered(customer.openai.chat.completions.create(request));
    assert.deepEqual(
      whole.choices.map(({ index, finish_reason }) => [index, finish_reason]),
      [
        [0, 'length'],
        [1, 'length'],
        [2, 'length'],
      ],
    );
    assert.equal((await rowOf(stack, requestId)).outputTokens, 15);

    const { data: stream, requestId: streamId } = await answered(
      customer.openai.chat.completions.create({ ...request, stream: true }),
    );
    const texts = ['', '', ''];
    const finished: number[] = [];
    for await (const chunk of stream) {
      for (const { index, delta, finish_reason } of chunk.choices) {
        texts[index] += delta.content ?? '';
        if (finish_reason !== null) finished.push(index);
      }
    }
    assert.deepEqual(
      texts,
      whole.choices.map(({ message }) => message.content),
    );
    assert.deepEqual(finished.sort(), [0, 1, 2]);
    assert.equal((await rowOf(stack, streamId)).outputTokens, 15);
  });

  it('reports cached and reasoning tokens as the upstream counted them, each at its own price', async () => {
    const twin = JSON.stringify({ output_tokens: 20, reasoning_tokens: 8, cached_tokens: 4 });
    const { data, requestId } = await answered(
      customer.openai.chat.completions.create({
        model: 'test/large',
        messages: [{ role: 'user', content: 'a word and a word and one more word' }],
        metadata: { twin },
      }),
    );
    assert.equal(data.usage?.prompt_tokens_details?.cached_tokens, 4);
    assert.equal(data.usage?.completion_tokens_details?.reasoning_tokens, 8);
    const row = await rowOf(stack, requestId);
    assert.deepEqual([row.inputTokens, row.cachedInputTokens, row.outputTokens, row.reasoningTokens], [9, 4, 20, 8]);
    // 5 × 2.5 + 4 × 0.25 + 12 × 10 + 8 × 12 USD per million
    assert.equal(row.cost, dollars('0.0002295'));
  });

  it('works with the key as x-api-key, as other clients send it', async () => {
    const response = await fetch(`${stack.baseUrl}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'x-api-key': customer.secret, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'test/small', messages: MESSAGES }),
    });
    assert.equal(response.status, 200);
    assert.equal((await endedRow(stack, requestIdOf(response))).outcome, 'completed');
  });

  it('lists the models that have a price, with pricing, and no others', async () => {
    const models: OpenAI.Model[] = [];
    for await (const model of customer.openai.models.list()) models.push(model);
    assert.deepEqual(models.map(({ id }) => id).sort(), [
      'test/brief',
      'test/large',
      'test/per-call',
      'test/small',
      'test/small:free',
    ]);
    const large = models.find(({ id }) => id === 'test/large') as OpenAI.Model & Record<string, unknown>;
    assert.equal(large.object, 'model');
    assert.equal(typeof large.created, 'number');
    assert.ok(large.owned_by);
    assert.equal(large['context_length'], 100_000);
    // USD per token, as OpenRouter writes it.
    assert.deepEqual(large['pricing'], {
      prompt: '0.0000025',
      completion: '0.00001',
      internal_reasoning: '0.000012',
      input_cache_read: '0.00000025',
    });
    const free = models.find(({ id }) => id === 'test/small:free') as OpenAI.Model & Record<string, unknown>;
    assert.deepEqual(free['pricing'], { prompt: '0', completion: '0' });
  });

  it('retrieves a model whose id has a slash and a colon', async () => {
    assert.equal((await customer.openai.models.retrieve('test/small')).id, 'test/small');
    assert.equal((await customer.openai.models.retrieve('test/small:free')).id, 'test/small:free');
    const error = await errorOf(customer.openai.models.retrieve('test/none'));
    assert.ok(error instanceof NotFoundError);
    assert.equal(error.code, 'model_not_found');
  });

  it("lists only the models that the key's own list allows", async () => {
    const limited = await addKey(stack, customer.account, { models: ['test/large', 'test/unpriced'] });
    const ids: string[] = [];
    for await (const { id } of limited.openai.models.list()) ids.push(id);
    assert.deepEqual(ids, ['test/large']);
    assert.ok((await errorOf(limited.openai.models.retrieve('test/small'))) instanceof NotFoundError);
  });
});
