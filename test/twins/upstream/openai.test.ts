/**
 * The upstream twin as the provider it stands for, to the unmodified `openai` client and over raw HTTP: its format, the
 * tokens it reports and what it refuses. What differs here would let a gateway pass that no real provider answers.
 */
import assert from 'node:assert/strict';

import * as cl100k from 'gpt-tokenizer/encoding/cl100k_base';
import * as o200k from 'gpt-tokenizer/encoding/o200k_base';
import OpenAI from 'openai';

import { startUpstreamTwin, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { ask, chunks, clientOf, completion, newId, post, QUESTION, record } from './fixture.ts';

describe('upstream twin speaks OpenAI', () => {
  let twin: UpstreamTwin;
  let client: OpenAI;

  before(async () => {
    twin = await startUpstreamTwin();
    client = clientOf(twin);
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  it('answers the openai client with content and the usage it recorded', async () => {
    const id = newId();
    const answer = await client.chat.completions.create(
      { ...QUESTION, model: 'gpt-x' },
      { headers: { 'x-request-id': id } },
    );
    assert.equal(answer.object, 'chat.completion');
    assert.equal(answer.model, 'gpt-x');
    assert.equal(answer.choices[0]?.finish_reason, 'stop');
    assert.equal(answer.choices[0].message.role, 'assistant');
    assert.equal(answer.usage?.completion_tokens, 16);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + 16);
    const kept = record(twin, id);
    assert.deepEqual(kept.usage, answer.usage);
    assert.equal(kept.status, 'completed');
    assert.equal(kept.model, 'gpt-x');
    assert.equal(kept.stream, false);
    assert.equal(kept.attempts, 1);
    assert.ok(kept.ended_at !== null && kept.started_at <= kept.ended_at);
  });

  it('streams to the openai client: role, one token per chunk, finish, usage, end', async () => {
    const stream = await client.chat.completions.create({
      ...QUESTION,
      model: 'gpt-x',
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: 5,
    });
    const received = await collect(stream);
    assert.equal(received.length, 1 + 5 + 1 + 1);
    assert.equal(received[0]?.choices[0]?.delta.role, 'assistant');
    const usageChunk = received.at(-1);
    assert.deepEqual(usageChunk?.choices, []);
    assert.equal(usageChunk.usage?.completion_tokens, 5);
    assert.ok(received.slice(0, -1).every((chunk) => chunk.usage === null));
    assert.equal(received.at(-2)?.choices[0]?.finish_reason, 'length');
    const text = received.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
    const whole = await completion(twin, { model: 'gpt-x', max_tokens: 5 });
    assert.equal(text, whole.choices[0]?.message.content, 'streamed or not, the same request gets the same text');
  });

  it('sends no usage in a stream that did not ask for it', async () => {
    for (const chunk of await chunks(twin)) assert.ok(!('usage' in chunk) && chunk.choices.length === 1);
  });

  it('writes text whose token count a local tokenizer agrees with, cut anywhere', async () => {
    for (const tokens of [1, 2, 3, 7, 16, 200]) {
      const answer = await completion(twin, { metadata: { twin: JSON.stringify({ output_tokens: tokens }) } });
      const text = answer.choices[0]?.message.content ?? '';
      assert.equal(answer.usage?.completion_tokens, tokens);
      assert.equal(o200k.encode(text).length, tokens);
      assert.equal(cl100k.encode(text).length, tokens);
    }
  });

  it('answers the same request with the same text and another request with another', async () => {
    const contents = await Promise.all(
      ['one', 'one', 'two'].map(async (content) => {
        const answer = await completion(twin, { messages: [{ role: 'user', content }] });
        return answer.choices[0]?.message.content;
      }),
    );
    assert.equal(contents[0], contents[1]);
    assert.notEqual(contents[0], contents[2]);
  });

  it('produces the smaller of its target and the maximum, under either name of the field', async () => {
    for (const field of ['max_tokens', 'max_completion_tokens']) {
      const cut = await completion(twin, { [field]: 3 });
      assert.equal(cut.usage?.completion_tokens, 3);
      assert.equal(cut.choices[0]?.finish_reason, 'length');
      const whole = await completion(twin, { [field]: 16 });
      assert.equal(whole.usage?.completion_tokens, 16);
      assert.equal(whole.choices[0]?.finish_reason, 'stop');
    }
  });

  it('answers n choices with different texts and counts them all', async () => {
    const answer = await completion(twin, { n: 3, max_tokens: 4 });
    assert.equal(new Set(answer.choices.map((choice) => choice.message.content)).size, 3);
    assert.equal(answer.usage?.completion_tokens, 12);
    const streamed = await chunks(twin, { n: 3, max_tokens: 4, stream_options: { include_usage: true } });
    const texts = [0, 1, 2].map((index) =>
      streamed
        .flatMap((chunk) => chunk.choices)
        .filter((choice) => choice.index === index)
        .map((choice) => choice.delta.content ?? '')
        .join(''),
    );
    assert.deepEqual(
      texts,
      answer.choices.map((choice) => choice.message.content),
    );
    assert.equal(streamed.at(-1)?.usage?.completion_tokens, 12);
  });

  it('calls the required function with valid arguments, streamed or not', async () => {
    const tools = ['look_up', 'write_down'].map((name) => ({
      type: 'function' as const,
      function: { name, parameters: { type: 'object', properties: { text: { type: 'string' } } } },
    }));
    const answer = await client.chat.completions.create({ ...QUESTION, tools, tool_choice: 'required' });
    const call = answer.choices[0]?.message.tool_calls?.[0];
    assert.ok(call?.type === 'function');
    assert.equal(call.function.name, 'look_up');
    const args = JSON.parse(call.function.arguments) as { text: string };
    assert.equal(args.text.trim().split(' ').length, answer.usage?.completion_tokens);
    assert.equal(answer.choices[0]?.finish_reason, 'tool_calls');
    assert.equal(answer.choices[0].message.content, null);

    const final = await client.chat.completions
      .stream({ ...QUESTION, tools, tool_choice: { type: 'function', function: { name: 'write_down' } } })
      .finalChatCompletion();
    const streamed = final.choices[0]?.message.tool_calls?.[0];
    assert.ok(streamed?.type === 'function');
    assert.equal(streamed.function.name, 'write_down');
    assert.equal(streamed.function.arguments, call.function.arguments);
  });

  it('counts a prompt as one token per four bytes, at least one per message, tools included', async () => {
    const promptOf = async (body: object): Promise<number | undefined> =>
      (await completion(twin, body)).usage?.prompt_tokens;
    assert.equal(await promptOf({ messages: [{ role: 'user', content: 'abcdefgh' }] }), 2);
    assert.equal(await promptOf({ messages: [{ role: 'user', content: 'abcdefghi' }] }), 3);
    assert.equal(await promptOf({ messages: [{ role: 'user', content: 'éééé' }] }), 2, 'bytes, not characters');
    const parts = [
      { type: 'text', text: 'abcd' },
      { type: 'text', text: 'efgh' },
    ];
    assert.equal(
      await promptOf({
        messages: [
          { role: 'system', content: '' },
          { role: 'user', content: parts },
        ],
      }),
      3,
    );
    const tools = [{ type: 'function', function: { name: 'f' } }];
    const toolTokens = Math.ceil(JSON.stringify(tools).length / 4);
    assert.equal(await promptOf({ messages: [{ role: 'user', content: 'abcd' }], tools }), 1 + toolTokens);
  });

  it('reports cached and reasoning tokens as parts, and never shows the reasoning', async () => {
    const id = newId();
    twin.configure({ cached_tokens: 4, reasoning_tokens: 6 });
    const answer = await client.chat.completions.create(QUESTION, { headers: { 'x-request-id': id } });
    assert.equal(answer.usage?.prompt_tokens_details?.cached_tokens, 4);
    assert.equal(answer.usage.completion_tokens_details?.reasoning_tokens, 6);
    assert.equal(answer.usage.completion_tokens, 16);
    assert.equal(o200k.encode(answer.choices[0]?.message.content ?? '').length, 10);
    assert.deepEqual(record(twin, id).usage, answer.usage);
    const spent = await completion(twin, { max_tokens: 5 });
    assert.equal(spent.choices[0]?.message.content, '', 'a maximum used up by reasoning leaves nothing to show');
    assert.equal(spent.choices[0].finish_reason, 'length');
    assert.equal(spent.usage?.completion_tokens, 5);
    assert.equal(spent.usage.completion_tokens_details.reasoning_tokens, 5);
  });

  it('lists its models, and one by id', async () => {
    twin.configure({ models: { 'vendor/a': {}, b: {} } });
    const models = await collect(client.models.list());
    assert.deepEqual(
      models.map((model) => model.id),
      ['vendor/a', 'b'],
    );
    assert.equal((await client.models.retrieve('vendor/a')).id, 'vendor/a');
    await assert.rejects(client.models.retrieve('c'), OpenAI.NotFoundError);
  });

  it('names the request in its own way in the response, like a provider', async () => {
    const reply = await ask(twin, {}, newId());
    assert.match(reply.headers.get('x-request-id') ?? '', /^req-twin-\d+$/);
  });

  it('serves the route without /v1, and 404 elsewhere', async () => {
    const short = await post(twin, QUESTION, { path: '/chat/completions' });
    assert.equal(short.status, 200);
    await short.text();
    const unknown = await post(twin, QUESTION, { path: '/v1/other' });
    assert.equal(unknown.status, 404);
    await unknown.text();
  });

  it('wants a bearer token, and the expected one where it is configured', async () => {
    const id = newId();
    const bare = await fetch(`${twin.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'x-request-id': id },
      body: '{}',
    });
    assert.equal(bare.status, 401);
    await bare.text();
    assert.equal(record(twin, id).status, 'failed');
    assert.equal(record(twin, id).usage, null);
    twin.configure({ api_key: 'sk-right' });
    const create = (apiKey: string): Promise<unknown> =>
      client.withOptions({ apiKey }).chat.completions.create(QUESTION);
    await assert.rejects(create('sk-wrong'), OpenAI.AuthenticationError);
    await create('sk-right');
  });

  const BAD_BODIES: readonly (readonly [string, unknown, string | null])[] = [
    ['text that is not JSON', '{"model":', null],
    ['an empty body', '', null],
    ['an array', [], null],
    ['no model', { messages: QUESTION.messages }, 'model'],
    ['no messages', { model: 'm' }, 'messages'],
    ['empty messages', { model: 'm', messages: [] }, 'messages'],
    ['a message without role', { model: 'm', messages: [{}] }, 'messages[0].role'],
    ['max_tokens 0', { ...QUESTION, max_tokens: 0 }, 'max_tokens'],
    ['negative max_tokens', { ...QUESTION, max_tokens: -1 }, 'max_tokens'],
    ['n 129', { ...QUESTION, n: 129 }, 'n'],
    ['stream as text', { ...QUESTION, stream: 'yes' }, 'stream'],
    ['stream_options without stream', { ...QUESTION, stream_options: { include_usage: true } }, 'stream_options'],
    ['tool_choice without tools', { ...QUESTION, tool_choice: 'required' }, 'tool_choice'],
    ['unreadable steering', { ...QUESTION, metadata: { twin: '{' } }, 'metadata.twin'],
    ['unknown steering', { ...QUESTION, metadata: { twin: { tokens: 1 } } }, 'tokens'],
  ];
  for (const [name, body, param] of BAD_BODIES) {
    it(`answers 400 and produces nothing for ${name}`, async () => {
      const id = newId();
      const response = await post(twin, body, { id });
      assert.equal(response.status, 400);
      const { error } = (await response.json()) as { error: { message: string; type: string; param: string | null } };
      assert.equal(error.type, 'invalid_request_error');
      assert.equal(error.param, param);
      assert.equal(record(twin, id).status, 'failed');
      assert.equal(record(twin, id).completion_tokens, 0);
      assert.equal(record(twin, id).usage, null);
    });
  }
});

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}
