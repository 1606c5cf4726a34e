/**
 * The upstream twin against the unmodified `openai` client and raw HTTP: it must behave like the provider, break
 * exactly as told, and know what it produced. Bench and chaos take its counts as the truth, so a wrong count
 * here would make every proof built on it worthless.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, type IncomingMessage, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import * as cl100k from 'gpt-tokenizer/encoding/cl100k_base';
import * as o200k from 'gpt-tokenizer/encoding/o200k_base';
import OpenAI from 'openai';

import {
  type Fault,
  type RequestPage,
  type RequestRecord,
  startUpstreamTwin,
  type UpstreamTwin,
} from '../../sandbox/twins/upstream/twin.ts';

const MAIN = join(import.meta.dirname, '../../sandbox/twins/upstream/main.ts');
/** The longest time the twin takes for a knob: what waits for it does not happen in a test. */
const HOUR_MS = 3_600_000;
const MESSAGES = [{ role: 'user' as const, content: 'Say something about rivers.' }];

interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly completion_tokens_details: { readonly reasoning_tokens: number };
}

interface Chunk {
  readonly choices: readonly {
    readonly index: number;
    readonly delta: { readonly role?: string; readonly content?: string };
    readonly finish_reason: string | null;
  }[];
  readonly usage?: unknown;
}

interface Completion {
  readonly model: string;
  readonly choices: readonly { readonly message: { readonly content: string }; readonly finish_reason: string }[];
  readonly usage?: Usage;
}

describe('upstream twin', () => {
  let twin: UpstreamTwin;
  let client: OpenAI;
  let lastId = 0;

  const newId = (): string => `req_test_${(lastId += 1)}`;

  before(async () => {
    twin = await startUpstreamTwin();
    client = new OpenAI({ apiKey: 'sk-any', baseURL: `${twin.url}/v1`, maxRetries: 0 });
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  function post(body: unknown, options: { id?: string; signal?: AbortSignal; path?: string } = {}): Promise<Response> {
    const { id, signal, path = '/v1/chat/completions' } = options;
    return fetch(twin.url + path, {
      method: 'POST',
      headers: {
        authorization: 'Bearer sk-any',
        'content-type': 'application/json',
        ...(id !== undefined && { 'x-request-id': id }),
      },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...(signal !== undefined && { signal }),
    });
  }

  async function ask(body: object = {}, id?: string): Promise<Reply> {
    const response = await post({ model: 'm', messages: MESSAGES, ...body }, id === undefined ? {} : { id });
    return { status: response.status, headers: response.headers, text: await response.text() };
  }

  async function completion(body: object = {}, id?: string): Promise<Completion> {
    const reply = await ask(body, id);
    assert.equal(reply.status, 200, reply.text);
    return JSON.parse(reply.text) as Completion;
  }

  /** The `data:` payloads of a stream, in order. */
  async function events(body: object = {}, id?: string): Promise<string[]> {
    const reply = await ask({ stream: true, ...body }, id);
    assert.equal(reply.status, 200, reply.text);
    return dataOf(reply.text);
  }

  async function chunks(body: object = {}): Promise<Chunk[]> {
    const payloads = await events(body);
    assert.equal(payloads.pop(), '[DONE]');
    return payloads.map((payload) => JSON.parse(payload) as Chunk);
  }

  function record(id: string): RequestRecord {
    const found = twin.request(id);
    assert.ok(found, `no record of ${id}`);
    return found;
  }

  function recordBecomes(id: string, status: RequestRecord['status']): Promise<RequestRecord> {
    return until(`${id} to be ${status}`, () => {
      const found = twin.request(id);
      return found?.status === status ? found : undefined;
    });
  }

  async function control<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }> {
    const response = await fetch(`${twin.url}/_twin/${path}`, {
      method,
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }

  /** Reads a stream that is expected to break; what arrived before the break. */
  async function brokenStream(fault: Fault, id: string): Promise<{ text: string; broke: boolean }> {
    twin.faults.add({ match: { request_id: id }, fault });
    const response = await post({ model: 'm', messages: MESSAGES, stream: true }, { id });
    assert.equal(response.status, 200);
    assert.ok(response.body);
    const decoder = new TextDecoder();
    let text = '';
    try {
      for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
        text += decoder.decode(part, { stream: true });
      }
      return { text, broke: false };
    } catch {
      return { text, broke: true };
    }
  }

  describe('speaks OpenAI', () => {
    it('answers the openai client with content and the usage it recorded', async () => {
      const id = newId();
      const answer = await client.chat.completions.create(
        { model: 'gpt-x', messages: MESSAGES },
        { headers: { 'x-request-id': id } },
      );
      assert.equal(answer.object, 'chat.completion');
      assert.equal(answer.model, 'gpt-x');
      assert.equal(answer.choices[0]?.finish_reason, 'stop');
      assert.equal(answer.choices[0].message.role, 'assistant');
      assert.equal(answer.usage?.completion_tokens, 16);
      assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + 16);
      const kept = record(id);
      assert.deepEqual(kept.usage, answer.usage);
      assert.equal(kept.status, 'completed');
      assert.equal(kept.model, 'gpt-x');
      assert.equal(kept.stream, false);
      assert.equal(kept.attempts, 1);
      assert.ok(kept.ended_at !== null && kept.started_at <= kept.ended_at);
    });

    it('streams to the openai client: role, one token per chunk, finish, usage, end', async () => {
      const stream = await client.chat.completions.create({
        model: 'gpt-x',
        messages: MESSAGES,
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
      const whole = await completion({ model: 'gpt-x', max_tokens: 5 });
      assert.equal(text, whole.choices[0]?.message.content, 'streamed or not, the same request gets the same text');
    });

    it('sends no usage in a stream that did not ask for it', async () => {
      for (const chunk of await chunks()) assert.ok(!('usage' in chunk) && chunk.choices.length === 1);
    });

    it('writes text whose token count a local tokenizer agrees with, cut anywhere', async () => {
      for (const tokens of [1, 2, 3, 7, 16, 200]) {
        const answer = await completion({ metadata: { twin: JSON.stringify({ output_tokens: tokens }) } });
        const text = answer.choices[0]?.message.content ?? '';
        assert.equal(answer.usage?.completion_tokens, tokens);
        assert.equal(o200k.encode(text).length, tokens);
        assert.equal(cl100k.encode(text).length, tokens);
      }
    });

    it('answers the same request with the same text and another request with another', async () => {
      const contents = await Promise.all(
        ['one', 'one', 'two'].map(async (content) => {
          const answer = await completion({ messages: [{ role: 'user', content }] });
          return answer.choices[0]?.message.content;
        }),
      );
      assert.equal(contents[0], contents[1]);
      assert.notEqual(contents[0], contents[2]);
    });

    it('produces the smaller of its target and the maximum, under either name of the field', async () => {
      for (const field of ['max_tokens', 'max_completion_tokens']) {
        const cut = await completion({ [field]: 3 });
        assert.equal(cut.usage?.completion_tokens, 3);
        assert.equal(cut.choices[0]?.finish_reason, 'length');
        const whole = await completion({ [field]: 16 });
        assert.equal(whole.usage?.completion_tokens, 16);
        assert.equal(whole.choices[0]?.finish_reason, 'stop');
      }
    });

    it('answers n choices with different texts and counts them all', async () => {
      const answer = await completion({ n: 3, max_tokens: 4 });
      assert.equal(new Set(answer.choices.map((choice) => choice.message.content)).size, 3);
      assert.equal(answer.usage?.completion_tokens, 12);
      const streamed = await chunks({ n: 3, max_tokens: 4, stream_options: { include_usage: true } });
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
      assert.equal((streamed.at(-1)?.usage as Usage).completion_tokens, 12);
    });

    it('calls the required function with valid arguments, streamed or not', async () => {
      const tools = ['look_up', 'write_down'].map((name) => ({
        type: 'function' as const,
        function: { name, parameters: { type: 'object', properties: { text: { type: 'string' } } } },
      }));
      const answer = await client.chat.completions.create({
        model: 'm',
        messages: MESSAGES,
        tools,
        tool_choice: 'required',
      });
      const call = answer.choices[0]?.message.tool_calls?.[0];
      assert.ok(call?.type === 'function');
      assert.equal(call.function.name, 'look_up');
      const args = JSON.parse(call.function.arguments) as { text: string };
      assert.equal(args.text.trim().split(' ').length, answer.usage?.completion_tokens);
      assert.equal(answer.choices[0]?.finish_reason, 'tool_calls');
      assert.equal(answer.choices[0].message.content, null);

      const final = await client.chat.completions
        .stream({
          model: 'm',
          messages: MESSAGES,
          tools,
          tool_choice: { type: 'function', function: { name: 'write_down' } },
        })
        .finalChatCompletion();
      const streamed = final.choices[0]?.message.tool_calls?.[0];
      assert.ok(streamed?.type === 'function');
      assert.equal(streamed.function.name, 'write_down');
      assert.equal(streamed.function.arguments, call.function.arguments);
    });

    it('counts a prompt as one token per four bytes, at least one per message, tools included', async () => {
      const promptOf = async (body: object): Promise<number | undefined> =>
        (await completion(body)).usage?.prompt_tokens;
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
      const answer = await client.chat.completions.create(
        { model: 'm', messages: MESSAGES },
        { headers: { 'x-request-id': id } },
      );
      assert.equal(answer.usage?.prompt_tokens_details?.cached_tokens, 4);
      assert.equal(answer.usage.completion_tokens_details?.reasoning_tokens, 6);
      assert.equal(answer.usage.completion_tokens, 16);
      assert.equal(o200k.encode(answer.choices[0]?.message.content ?? '').length, 10);
      assert.deepEqual(record(id).usage, answer.usage);
      const spent = await completion({ max_tokens: 5 });
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
      const reply = await ask({}, newId());
      assert.match(reply.headers.get('x-request-id') ?? '', /^req-twin-\d+$/);
    });

    it('serves the route without /v1, and 404 elsewhere', async () => {
      const body = { model: 'm', messages: MESSAGES };
      const short = await post(body, { path: '/chat/completions' });
      assert.equal(short.status, 200);
      await short.text();
      const unknown = await post(body, { path: '/v1/other' });
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
      assert.equal(record(id).status, 'failed');
      assert.equal(record(id).usage, null);
      twin.configure({ api_key: 'sk-right' });
      const create = (apiKey: string): Promise<unknown> =>
        client.withOptions({ apiKey }).chat.completions.create({ model: 'm', messages: MESSAGES });
      await assert.rejects(create('sk-wrong'), OpenAI.AuthenticationError);
      await create('sk-right');
    });

    const BAD_BODIES: readonly (readonly [string, unknown, string | null])[] = [
      ['text that is not JSON', '{"model":', null],
      ['an empty body', '', null],
      ['an array', [], null],
      ['no model', { messages: MESSAGES }, 'model'],
      ['no messages', { model: 'm' }, 'messages'],
      ['empty messages', { model: 'm', messages: [] }, 'messages'],
      ['a message without role', { model: 'm', messages: [{}] }, 'messages[0].role'],
      ['max_tokens 0', { model: 'm', messages: MESSAGES, max_tokens: 0 }, 'max_tokens'],
      ['negative max_tokens', { model: 'm', messages: MESSAGES, max_tokens: -1 }, 'max_tokens'],
      ['n 129', { model: 'm', messages: MESSAGES, n: 129 }, 'n'],
      ['stream as text', { model: 'm', messages: MESSAGES, stream: 'yes' }, 'stream'],
      [
        'stream_options without stream',
        { model: 'm', messages: MESSAGES, stream_options: { include_usage: true } },
        'stream_options',
      ],
      ['tool_choice without tools', { model: 'm', messages: MESSAGES, tool_choice: 'required' }, 'tool_choice'],
      ['unreadable steering', { model: 'm', messages: MESSAGES, metadata: { twin: '{' } }, 'metadata.twin'],
      ['unknown steering', { model: 'm', messages: MESSAGES, metadata: { twin: { tokens: 1 } } }, 'tokens'],
    ];
    for (const [name, body, param] of BAD_BODIES) {
      it(`answers 400 and produces nothing for ${name}`, async () => {
        const id = newId();
        const response = await post(body, { id });
        assert.equal(response.status, 400);
        const { error } = (await response.json()) as { error: { message: string; type: string; param: string | null } };
        assert.equal(error.type, 'invalid_request_error');
        assert.equal(error.param, param);
        assert.equal(record(id).status, 'failed');
        assert.equal(record(id).completion_tokens, 0);
        assert.equal(record(id).usage, null);
      });
    }
  });

  describe('is steered', () => {
    it('by four layers, the later one wins: defaults, model, request, rule', async () => {
      twin.configure({ output_tokens: 10, models: { special: { output_tokens: 11 } } });
      const tokensOf = async (body: object): Promise<number | undefined> =>
        (await completion(body)).usage?.completion_tokens;
      const metadata = { twin: { output_tokens: 12 } };
      assert.equal(await tokensOf({}), 10);
      assert.equal(await tokensOf({ model: 'special' }), 11);
      assert.equal(await tokensOf({ model: 'special', metadata }), 12);
      twin.faults.add({ fault: { type: 'output', output_tokens: 13, reasoning_tokens: 2, cached_tokens: 1 } });
      const answer = await completion({ model: 'special', metadata });
      assert.equal(answer.usage?.completion_tokens, 13);
      assert.equal(o200k.encode(answer.choices[0]?.message.content ?? '').length, 11);
    });

    it('over HTTP, and tells its knobs', async () => {
      const changed = await control('POST', 'config', { output_tokens: 3, models: { a: { latency_ms: 1 } } });
      assert.equal(changed.status, 200);
      const { body } = await control<Record<string, unknown>>('GET', 'config');
      assert.equal(body['output_tokens'], 3);
      assert.deepEqual(body['models'], { a: { latency_ms: 1 } });
      assert.equal((await completion()).usage?.completion_tokens, 3);
      await control('POST', 'reset');
      assert.equal((await completion()).usage?.completion_tokens, 16);
    });

    it('in time: latency, first token and pace add up, in streams and in whole answers', async () => {
      const metadata = { twin: { latency_ms: 30, first_token_ms: 30, chunk_interval_ms: 15, output_tokens: 5 } };
      for (const stream of [true, false]) {
        const startedAt = performance.now();
        const response = await post({ model: 'm', messages: MESSAGES, stream, metadata });
        const headersMs = performance.now() - startedAt;
        await response.text();
        const totalMs = performance.now() - startedAt;
        assert.ok(headersMs >= 29, `headers after ${headersMs} ms`);
        assert.ok(totalMs >= 119, `end after ${totalMs} ms`);
      }
    });

    it('in time: a stream sends its headers before the first token, and each token when it is produced', async () => {
      for (const [steering, tokens] of [
        [{ first_token_ms: HOUR_MS }, 0],
        [{ chunk_interval_ms: HOUR_MS }, 1],
      ] as const) {
        const id = newId();
        const abort = new AbortController();
        const body = { model: 'm', messages: MESSAGES, stream: true, metadata: { twin: steering } };
        const response = await post(body, { id, signal: abort.signal });
        const payloads = await readEvents(response, 1 + tokens);
        assert.equal(payloads.length, 1 + tokens);
        assert.equal(record(id).completion_tokens, tokens);
        abort.abort();
        await recordBecomes(id, 'aborted');
      }
    });

    it('in time: a fixed total replaces the pace', async () => {
      const metadata = { twin: { total_ms: 80, chunk_interval_ms: HOUR_MS, output_tokens: 4 } };
      for (const stream of [true, false]) {
        const startedAt = performance.now();
        await ask({ stream, metadata });
        assert.ok(performance.now() - startedAt >= 79);
      }
    });

    it('keeps a connection alive over plain and streamed answers', async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      const ports = new Set<number | undefined>();
      for (const stream of [true, false, true]) {
        const { localPort } = await rawReads(twin.url, { model: 'm', messages: MESSAGES, stream }, agent);
        ports.add(localPort);
      }
      agent.destroy();
      assert.equal(ports.size, 1);
    });

    for (const [path, body] of [
      ['config', { latency: 5 }],
      ['config', { latency_ms: -1 }],
      ['config', { output_tokens: 1.5 }],
      ['config', { models: { a: { tokens: 1 } } }],
      ['config', 'not json'],
      ['faults', { fault: { type: 'explode' } }],
      ['faults', { fault: { type: 'status' } }],
      ['faults', { fault: { type: 'status', status: 200 } }],
      ['faults', { fault: { type: 'usage' } }],
      ['faults', { fault: { type: 'eof', after: 1 } }],
      ['faults', { fault: { type: 'eof' }, times: 0 }],
      ['faults', { fault: { type: 'eof' }, match: { id: 'x' } }],
      ['faults', {}],
    ] as const) {
      it(`answers 400 to POST ${path} ${JSON.stringify(body)}, so that a typing error cannot pass as a knob`, async () => {
        const answer = await control<{ error: { message: string } }>('POST', path, body);
        assert.equal(answer.status, 400);
        assert.notEqual(answer.body.error.message, '');
        assert.deepEqual(twin.faults.list(), []);
      });
    }
  });

  describe('counts what it produced', () => {
    it('until the client of a stream left, and no further', async () => {
      const id = newId();
      const abort = new AbortController();
      const body = {
        model: 'm',
        messages: MESSAGES,
        stream: true,
        metadata: { twin: { chunk_interval_ms: 5, output_tokens: 1000 } },
      };
      const response = await post(body, { id, signal: abort.signal });
      await readEvents(response, 1 + 3);
      assert.equal(record(id).status, 'running');
      assert.equal(record(id).ended_at, null);
      assert.equal(record(id).usage, null);
      abort.abort();
      const aborted = await recordBecomes(id, 'aborted');
      assert.ok(aborted.completion_tokens >= 3 && aborted.completion_tokens < 1000, `${aborted.completion_tokens}`);
      assert.equal(aborted.usage?.completion_tokens, aborted.completion_tokens);
      assert.ok(aborted.prompt_tokens > 0);
      await events({ metadata: { twin: { chunk_interval_ms: 5, output_tokens: 8 } } });
      assert.deepEqual(record(id), aborted, 'nothing was produced while another answer of the same pace ran');
    });

    it('until the client of a whole answer left', async () => {
      const id = newId();
      const abort = new AbortController();
      const metadata = { twin: { chunk_interval_ms: 5, output_tokens: 1000 } };
      const pending = post({ model: 'm', messages: MESSAGES, metadata }, { id, signal: abort.signal });
      await until('a few tokens', () => ((twin.request(id)?.completion_tokens ?? 0) >= 3 ? true : undefined));
      abort.abort();
      await assert.rejects(pending);
      const aborted = await recordBecomes(id, 'aborted');
      assert.ok(aborted.completion_tokens >= 3 && aborted.completion_tokens < 1000, `${aborted.completion_tokens}`);
    });

    it('for a client that reads slowly: production waits instead of filling memory', async () => {
      const id = newId();
      const abort = new AbortController();
      const body = { model: 'm', messages: MESSAGES, stream: true, metadata: { twin: { output_tokens: 1_000_000 } } };
      await post(body, { id, signal: abort.signal });
      assert.ok(record(id).completion_tokens < 1_000_000);
      abort.abort();
      await recordBecomes(id, 'aborted');
    });

    it('twice for an id that came twice', async () => {
      const id = newId();
      const { usage } = await completion({}, id);
      await events({}, id);
      const kept = record(id);
      assert.ok(usage);
      assert.equal(kept.prompt_tokens, 2 * usage.prompt_tokens);
      assert.equal(kept.attempts, 2);
      assert.equal(kept.completion_tokens, 32);
      assert.equal(kept.usage?.completion_tokens, 32);
      assert.equal(twin.requests().totals.requests, 1);
      assert.equal(twin.requests().totals.attempts, 2);
    });

    it('also for a request that came without an id', async () => {
      await completion();
      const [kept] = twin.requests().data;
      assert.match(kept?.request_id ?? '', /^unnamed-/);
      assert.equal(kept?.completion_tokens, 16);
    });

    it('and tells it over HTTP: one record, 404 for an unknown id, pages in order with totals, forgetting', async () => {
      const ids = Array.from({ length: 5 }, newId);
      for (const id of ids) await completion({ max_tokens: 2 }, id);
      const one = await control<RequestRecord>('GET', `requests/${ids[0]}`);
      assert.deepEqual(one.body, record(ids[0]!));
      assert.equal((await control('GET', 'requests/never')).status, 404);
      assert.equal((await control('GET', 'requests/%ff')).status, 400);

      const seen: string[] = [];
      let since: number | null = 0;
      while (since !== null) {
        const page: { body: RequestPage } = await control('GET', `requests?since_ordinal=${since}&limit=2`);
        assert.ok(page.body.data.length <= 2);
        assert.equal(page.body.totals.completed, 5);
        assert.equal(page.body.totals.completion_tokens, 10);
        seen.push(...page.body.data.map((kept) => kept.request_id));
        since = page.body.next_ordinal;
      }
      assert.deepEqual(seen, ids);
      assert.equal((await control('GET', 'requests?limit=0')).status, 400);

      await control('DELETE', 'requests');
      assert.equal((await control('GET', `requests/${ids[0]}`)).status, 404);
      assert.equal(twin.requests().totals.requests, 0);
    });

    it('within bounded memory: the oldest ended records go, the totals stay', async () => {
      const small = await startUpstreamTwin({ maxRecords: 4 });
      try {
        for (let index = 1; index <= 10; index += 1) {
          const response = await fetch(`${small.url}/v1/chat/completions`, {
            method: 'POST',
            headers: { authorization: 'Bearer x', 'x-request-id': `r${index}` },
            body: JSON.stringify({ model: 'm', messages: MESSAGES }),
          });
          await response.text();
        }
        const { data, totals } = small.requests();
        assert.deepEqual(
          data.map((kept) => kept.request_id),
          ['r7', 'r8', 'r9', 'r10'],
        );
        assert.equal(totals.completed, 10);
        assert.equal(totals.completion_tokens, 160);
      } finally {
        await small.close();
      }
    });
  });

  describe('breaks as told', () => {
    it('refuse: destroys the socket before any answer', async () => {
      const id = newId();
      twin.faults.add({ fault: { type: 'refuse' } });
      await assert.rejects(ask({}, id), /fetch failed/);
      assert.equal(record(id).status, 'failed');
      assert.equal(record(id).usage, null);
      assert.equal(record(id).model, 'm');
    });

    it('status: a typed error with retry-after, or any body', async () => {
      const id = newId();
      twin.faults.add({ fault: { type: 'status', status: 429, retry_after: 7 } });
      await assert.rejects(
        client.chat.completions.create({ model: 'm', messages: MESSAGES }, { headers: { 'x-request-id': id } }),
        (error) => error instanceof OpenAI.RateLimitError && error.headers.get('retry-after') === '7',
      );
      assert.equal(record(id).usage, null);
      twin.faults.add({ fault: { type: 'status', status: 503, body: 'upstream connect error' } });
      const text = await ask();
      assert.deepEqual([text.status, text.text], [503, 'upstream connect error']);
      twin.faults.add({ fault: { type: 'status', status: 400, body: { detail: [1] } } });
      const json = await ask({ stream: true });
      assert.deepEqual([json.status, json.text], [400, '{"detail":[1]}']);
    });

    it('hang: says nothing until the client leaves', async () => {
      const id = newId();
      twin.faults.add({ fault: { type: 'hang' } });
      const abort = new AbortController();
      const pending = post({ model: 'm', messages: MESSAGES }, { id, signal: abort.signal });
      await recordBecomes(id, 'running');
      abort.abort();
      await assert.rejects(pending);
      assert.equal((await recordBecomes(id, 'aborted')).usage, null, 'no model worked on it');
    });

    it('hang after chunks: headers and chunks, then silence', async () => {
      for (const stream of [true, false]) {
        const id = newId();
        twin.faults.add({ fault: { type: 'hang', after_chunks: 2 } });
        const abort = new AbortController();
        const response = await post({ model: 'm', messages: MESSAGES, stream }, { id, signal: abort.signal });
        assert.equal(response.status, 200);
        assert.equal(record(id).status, 'running');
        assert.equal(record(id).completion_tokens, 2);
        abort.abort();
        const aborted = await recordBecomes(id, 'aborted');
        assert.equal(aborted.usage?.completion_tokens, 2);
      }
    });

    it('error_chunk: an error among the chunks, which the openai client throws', async () => {
      const id = newId();
      twin.faults.add({ fault: { type: 'error_chunk', after_chunks: 3, message: 'engine lost' } });
      const stream = await client.chat.completions.create(
        { model: 'm', messages: MESSAGES, stream: true },
        { headers: { 'x-request-id': id } },
      );
      const received: unknown[] = [];
      await assert.rejects(
        async () => {
          for await (const chunk of stream) received.push(chunk);
        },
        (error) => error instanceof OpenAI.APIError && error.message.includes('engine lost'),
      );
      assert.equal(received.length, 1 + 3);
      assert.equal(record(id).status, 'failed');
      assert.equal(record(id).completion_tokens, 3);

      twin.faults.add({ fault: { type: 'error_chunk' } });
      const whole = await ask();
      assert.equal(whole.status, 200);
      assert.ok('error' in (JSON.parse(whole.text) as object));
    });

    it('eof: a clean end without finish and [DONE]', async () => {
      const id = newId();
      const cut = await brokenStream({ type: 'eof', after_chunks: 2 }, id);
      assert.equal(cut.broke, false);
      const payloads = dataOf(cut.text);
      assert.equal(payloads.length, 1 + 2);
      assert.ok(payloads.every((payload) => payload !== '[DONE]' && payload.includes('"finish_reason":null')));
      assert.equal(record(id).status, 'failed');
      assert.equal(record(id).usage?.completion_tokens, 2);

      assert.deepEqual(await brokenStream({ type: 'eof' }, newId()), { text: '', broke: false });
    });

    it('eof past the last token: everything but finish and [DONE]', async () => {
      const id = newId();
      const cut = await brokenStream({ type: 'eof', after_chunks: 999 }, id);
      assert.equal(dataOf(cut.text).length, 1 + 16);
      assert.equal(record(id).completion_tokens, 16);
      assert.equal(record(id).status, 'failed');
    });

    it('eof of a whole answer: JSON cut in the middle, or nothing', async () => {
      twin.faults.add({ fault: { type: 'eof', after_chunks: 4 } });
      const half = await ask();
      assert.equal(half.status, 200);
      assert.match(half.text, /^\{"id"/);
      assert.throws(() => JSON.parse(half.text) as unknown);
      twin.faults.add({ fault: { type: 'eof' } });
      assert.deepEqual((await ask()).text, '');
    });

    it('reset: the connection breaks after the chunks arrived', async () => {
      for (const after_chunks of [0, 3]) {
        const id = newId();
        const cut = await brokenStream({ type: 'reset', after_chunks }, id);
        assert.equal(cut.broke, true);
        assert.equal(dataOf(cut.text).length, after_chunks === 0 ? 0 : 1 + after_chunks);
        assert.equal(record(id).status, 'failed');
        assert.equal(record(id).completion_tokens, after_chunks);
      }
      twin.faults.add({ fault: { type: 'reset', after_chunks: 4 } });
      const response = await post({ model: 'm', messages: MESSAGES });
      assert.equal(response.status, 200);
      await assert.rejects(response.text());
    });

    const USAGES: readonly (readonly [string, Fault, string])[] = [
      ['null', { type: 'usage', usage: null }, 'null'],
      [
        'negative',
        { type: 'usage', usage: { prompt_tokens: -5, completion_tokens: 1 } },
        '{"prompt_tokens":-5,"completion_tokens":1}',
      ],
      ['without its fields', { type: 'usage', usage: {} }, '{}'],
      ['a string', { type: 'usage', usage: { prompt_tokens: '12' } }, '{"prompt_tokens":"12"}'],
      ['NaN', { type: 'usage', usage_raw: '{"prompt_tokens":NaN}' }, '{"prompt_tokens":NaN}'],
      [
        'beyond 2^53',
        { type: 'usage', usage_raw: '{"completion_tokens":9007199254740993}' },
        '{"completion_tokens":9007199254740993}',
      ],
    ];
    for (const [name, fault, text] of USAGES) {
      it(`usage ${name}: is sent as told while the record keeps the truth`, async () => {
        const ids = [newId(), newId()];
        twin.faults.add({ times: 2, fault });
        const whole = await ask({}, ids[0]);
        assert.ok(whole.text.endsWith(`,"usage":${text}}`), whole.text);
        const payloads = await events({ stream_options: { include_usage: true } }, ids[1]);
        assert.ok(payloads.at(-2)?.endsWith(`"choices":[],"usage":${text}}`), payloads.at(-2));
        for (const id of ids) assert.equal(record(id).usage?.completion_tokens, 16);
      });
    }

    it('no_usage: leaves it out although it was asked for', async () => {
      twin.faults.add({ times: 2, fault: { type: 'no_usage' } });
      assert.equal((await completion()).usage, undefined);
      const received = await chunks({ stream_options: { include_usage: true } });
      assert.equal(received.at(-1)?.choices[0]?.finish_reason, 'stop');
      assert.ok(received.every((chunk) => chunk.usage === null));
    });

    it('late_usage: the usage comes well after the finish reason', async () => {
      const id = newId();
      twin.faults.add({ fault: { type: 'late_usage', ms: HOUR_MS } });
      const stream = await client.chat.completions.create(
        { model: 'm', messages: MESSAGES, stream: true, stream_options: { include_usage: true } },
        { headers: { 'x-request-id': id } },
      );
      for await (const chunk of stream) {
        assert.equal(chunk.usage, null);
        if (chunk.choices[0]?.finish_reason !== 'stop') continue;
        assert.equal(record(id).status, 'running');
        break;
      }
      assert.equal((await recordBecomes(id, 'aborted')).completion_tokens, 16);

      twin.faults.add({ times: 2, fault: { type: 'late_usage', ms: 60 } });
      for (const body of [{}, { stream: true, stream_options: { include_usage: true } }]) {
        const startedAt = performance.now();
        const reply = await ask(body);
        assert.ok(performance.now() - startedAt >= 59);
        assert.ok(reply.text.includes('"usage":{"prompt_tokens"'));
      }
    });

    it('html: a web page with status 200', async () => {
      const id = newId();
      twin.faults.add({ fault: { type: 'html' } });
      const reply = await ask({ stream: true }, id);
      assert.equal(reply.status, 200);
      assert.match(reply.headers.get('content-type') ?? '', /^text\/html/);
      assert.match(reply.text, /^<!doctype html>/);
      assert.equal(record(id).status, 'failed');
      assert.equal(record(id).usage, null);
      twin.faults.add({ fault: { type: 'html', body: '<p>hi' } });
      assert.equal((await ask()).text, '<p>hi');
    });

    it('empty: a valid answer without content and tokens', async () => {
      const id = newId();
      twin.faults.add({ times: 2, fault: { type: 'empty' } });
      const answer = await completion({}, id);
      assert.equal(answer.choices[0]?.message.content, '');
      assert.equal(answer.choices[0].finish_reason, 'stop');
      assert.equal(answer.usage?.completion_tokens, 0);
      assert.equal(record(id).status, 'completed');
      const received = await chunks({ stream_options: { include_usage: true } });
      assert.equal(received.length, 3);
      assert.equal((received.at(-1)?.usage as Usage).completion_tokens, 0);
    });

    it('slow: other times than configured', async () => {
      const startedAt = performance.now();
      twin.faults.add({ fault: { type: 'slow', first_ms: 30, chunk_ms: 20 } });
      await events({ max_tokens: 3 });
      assert.ok(performance.now() - startedAt >= 69);
      const againAt = performance.now();
      twin.faults.add({ fault: { type: 'slow', total_ms: 50 } });
      await ask();
      assert.ok(performance.now() - againAt >= 49);
    });

    it('exceed_max_tokens: produces and counts more than was asked for', async () => {
      const id = newId();
      twin.faults.add({ times: 2, fault: { type: 'exceed_max_tokens', tokens: 7 } });
      const answer = await completion({ max_tokens: 20 }, id);
      assert.equal(answer.usage?.completion_tokens, 27);
      assert.equal(o200k.encode(answer.choices[0]?.message.content ?? '').length, 27);
      assert.equal(record(id).completion_tokens, 27);
      assert.equal((await completion()).usage?.completion_tokens, 16 + 7, 'without a maximum, above the target');
    });

    it('model_name: answers in the name of another model', async () => {
      const id = newId();
      twin.faults.add({ fault: { type: 'model_name', model: 'other-2026' } });
      assert.equal((await completion({}, id)).model, 'other-2026');
      assert.equal(record(id).model, 'm', 'the record names the model that was asked for');
    });

    it('garbage_sse: one broken line among good ones, or a broken body', async () => {
      twin.faults.add({ fault: { type: 'garbage_sse', after_chunks: 2 } });
      const payloads = await events();
      assert.throws(() => JSON.parse(payloads[3] ?? '') as unknown);
      const good = payloads.filter((payload, index) => index !== 3 && payload !== '[DONE]');
      for (const payload of good) JSON.parse(payload);
      assert.equal(good.length, 1 + 16 + 1);
      assert.equal(payloads.at(-1), '[DONE]');
      twin.faults.add({ fault: { type: 'garbage_sse' } });
      const whole = await ask();
      assert.throws(() => JSON.parse(whole.text) as unknown);
    });

    it('comments: legal framing with characters split over two writes, which the openai client reads', async () => {
      twin.faults.add({ times: null, fault: { type: 'comments' } });
      const plain = await startUpstreamTwin();
      try {
        const body = { model: 'm', messages: MESSAGES, max_tokens: 8 };
        const expected = await new OpenAI({ apiKey: 'x', baseURL: `${plain.url}/v1` }).chat.completions.create(body);
        const stream = await client.chat.completions.create({ ...body, stream: true });
        let text = '';
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
        assert.equal(text, expected.choices[0]?.message.content);
        assert.equal((await completion(body)).choices[0]?.message.content, text);
      } finally {
        await plain.close();
      }

      const { reads } = await rawReads(twin.url, { model: 'm', messages: MESSAGES, max_tokens: 8, stream: true });
      const all = Buffer.concat(reads).toString('utf8');
      assert.ok(all.includes(': keep-alive\r\n\r\n\r\n'));
      assert.ok(!/[^\r]\n/.test(all), 'every line ends with CRLF');
      const endsInsideCharacter = (read: Buffer): boolean => Buffer.from(read.toString('utf8')).compare(read) !== 0;
      assert.ok(reads.some(endsInsideCharacter), 'at least one read ended inside a character');
    });

    it('in combination: one rule, several faults', async () => {
      const id = newId();
      const startedAt = performance.now();
      twin.faults.add({
        fault: [
          { type: 'slow', first_ms: 30 },
          { type: 'reset', after_chunks: 2 },
        ],
      });
      const response = await post({ model: 'm', messages: MESSAGES, stream: true }, { id });
      await assert.rejects(response.text());
      assert.ok(performance.now() - startedAt >= 29);
      assert.equal(record(id).completion_tokens, 2);
    });

    it('only the requests that match, in the order of the rules, as often as told', async () => {
      twin.faults.add({ match: { model: 'a' }, fault: { type: 'status', status: 500 } });
      twin.faults.add({ match: { model: 'a' }, fault: { type: 'status', status: 501 } });
      twin.faults.add({ match: { stream: true, model: 'b' }, times: 2, fault: { type: 'status', status: 502 } });
      const statusOf = async (body: object): Promise<number> => (await ask(body)).status;
      assert.equal(await statusOf({ model: 'c' }), 200);
      assert.equal(await statusOf({ model: 'b' }), 200);
      assert.equal(await statusOf({ model: 'a' }), 500);
      assert.equal(await statusOf({ model: 'a' }), 501);
      assert.equal(await statusOf({ model: 'a' }), 200);
      assert.equal(await statusOf({ model: 'b', stream: true }), 502);
      assert.equal(twin.faults.list()[0]?.remaining, 1);
      assert.equal(await statusOf({ model: 'b', stream: true }), 502);
      assert.equal(await statusOf({ model: 'b', stream: true }), 200);
    });

    it('over HTTP: rules are added, listed, and last until cleared when they have no limit', async () => {
      const id = newId();
      const rule = { match: { request_id: id }, times: null, fault: { type: 'status', status: 500 } };
      const added = await control<{ id: string }>('POST', 'faults', rule);
      assert.equal(added.status, 201);
      assert.match(added.body.id, /^fault-/);
      const listed = await control<{ data: { id: string; remaining: number | null }[] }>('GET', 'faults');
      assert.deepEqual(
        listed.body.data.map(({ id: ruleId, remaining }) => [ruleId, remaining]),
        [[added.body.id, null]],
      );
      for (let call = 0; call < 3; call += 1) assert.equal((await ask({}, id)).status, 500);
      assert.equal(record(id).attempts, 3);
      await control('DELETE', 'faults');
      assert.equal((await ask({}, id)).status, 200);
    });
  });

  describe('as a process', () => {
    let folder: string;
    let running: ChildProcess | undefined;

    beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'upstream-twin-'))));
    afterEach(async () => {
      if (running?.exitCode === null && running.signalCode === null) {
        running.kill('SIGKILL');
        await once(running, 'exit');
      }
      rmSync(folder, { recursive: true });
    });

    async function launch(environment: Record<string, string>): Promise<string> {
      running = spawn(process.execPath, [MAIN], {
        env: { PATH: process.env['PATH'], ...environment },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      assert.ok(running.stdout);
      const [line] = (await once(createInterface(running.stdout), 'line')) as [string];
      return `http://127.0.0.1:${(JSON.parse(line) as { listening: number }).listening}`;
    }

    async function stop(signal: NodeJS.Signals): Promise<unknown> {
      assert.ok(running);
      const exited = once(running, 'exit');
      running.kill(signal);
      return (await exited)[0];
    }

    function call(url: string, id: string, extra: object = {}): Promise<Response> {
      return fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: 'Bearer sk-env', 'x-request-id': id },
        body: JSON.stringify({ model: 'm', messages: MESSAGES, ...extra }),
      });
    }

    async function lookUp(url: string, id: string): Promise<RequestRecord> {
      const response = await fetch(`${url}/_twin/requests/${id}`);
      assert.equal(response.status, 200);
      return (await response.json()) as RequestRecord;
    }

    it('takes its knobs from the environment and stops cleanly on SIGTERM, also under an open stream', async () => {
      const url = await launch({
        TWIN_PORT: '0',
        TWIN_LATENCY_MS: '30',
        TWIN_CHUNK_INTERVAL_MS: '2',
        TWIN_OUTPUT_TOKENS: '4',
        TWIN_API_KEY: 'sk-env',
        TWIN_MODELS: 'x, y',
      });
      const startedAt = performance.now();
      const answer = (await (await call(url, 'one')).json()) as Completion;
      assert.ok(performance.now() - startedAt >= 35);
      assert.equal(answer.usage?.completion_tokens, 4);
      const knobs = (await (await fetch(`${url}/_twin/config`)).json()) as Record<string, unknown>;
      assert.deepEqual(
        [knobs['latency_ms'], knobs['chunk_interval_ms'], knobs['output_tokens'], knobs['api_key'], knobs['models']],
        [30, 2, 4, 'sk-env', { x: {}, y: {} }],
      );
      const open = await call(url, 'two', { stream: true, metadata: { twin: { chunk_interval_ms: HOUR_MS } } });
      const cut = assert.rejects(open.text());
      assert.equal(await stop('SIGTERM'), 0);
      await cut;
    });

    it('still answers lookups after kill -9: ended requests exactly, running ones as aborted', async () => {
      const dataFile = join(folder, 'twin.jsonl');
      const first = await launch({ TWIN_DATA_FILE: dataFile });
      await (await call(first, 'ended')).text();
      await (await call(first, 'ended')).text();
      const ended = await lookUp(first, 'ended');
      const open = await call(first, 'open', { stream: true, metadata: { twin: { chunk_interval_ms: HOUR_MS } } });
      const cut = assert.rejects(open.text());
      await stop('SIGKILL');
      await cut;
      appendFileSync(dataFile, '{"ordinal":3,"request_id":"to');

      const second = await launch({ TWIN_DATA_FILE: dataFile });
      assert.deepEqual(await lookUp(second, 'ended'), ended);
      assert.equal(ended.attempts, 2);
      const aborted = await lookUp(second, 'open');
      assert.equal(aborted.status, 'aborted');
      assert.ok(aborted.prompt_tokens > 0);
      assert.equal(readFileSync(dataFile, 'utf8').trimEnd().split('\n').length, 2, 'compacted at the start');

      await (await call(second, 'new')).text();
      assert.equal((await lookUp(second, 'new')).ordinal, 3);
      await fetch(`${second}/_twin/requests`, { method: 'DELETE' });
      assert.equal(readFileSync(dataFile, 'utf8'), '');
    });

    it('exits with 1 and names every bad variable, or the taken port', async () => {
      const failing = async (environment: Record<string, string>): Promise<string> => {
        const child = spawn(process.execPath, [MAIN], { env: environment, stdio: ['ignore', 'ignore', 'pipe'] });
        let stderr = '';
        child.stderr.on('data', (part: Buffer) => (stderr += part.toString()));
        const [code] = (await once(child, 'close')) as [number];
        assert.equal(code, 1);
        return stderr;
      };
      const [bad, taken] = await Promise.all([
        failing({ TWIN_PORT: '70000', TWIN_LATENCY_MS: 'soon' }),
        failing({ TWIN_PORT: String(twin.port) }),
      ]);
      assert.match(bad, /TWIN_PORT.*TWIN_LATENCY_MS/);
      assert.match(taken, /EADDRINUSE/);
    });
  });
});

/** Reads a stream until it has sent `count` payloads and leaves it open. */
async function readEvents(response: Response, count: number): Promise<string[]> {
  assert.ok(response.body);
  const reader = response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  let text = '';
  while (dataOf(text).length < count) {
    const { done, value } = await reader.read();
    assert.equal(done, false, 'the stream ended early');
    text += Buffer.from(value ?? []).toString();
  }
  return dataOf(text);
}

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}

/** The payloads of the `data:` lines of a stream's text. */
function dataOf(text: string): string[] {
  return text
    .split(/\r?\n/)
    .filter((line) => line.startsWith('data: '))
    .map((line) => line.slice('data: '.length));
}

/** The response body as the separate reads in which it arrived, and the client's port. */
async function rawReads(
  url: string,
  body: object,
  agent = new Agent(),
): Promise<{ reads: Buffer[]; localPort: number | undefined }> {
  const reads: Buffer[] = [];
  const request = httpRequest(`${url}/v1/chat/completions`, {
    agent,
    method: 'POST',
    headers: { authorization: 'Bearer x' },
  });
  request.end(JSON.stringify(body));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const { localPort } = response.socket;
  for await (const part of response as AsyncIterable<Buffer>) reads.push(part);
  return { reads, localPort };
}

/** Polls until `probe` returns something; fails after two seconds. */
async function until<T>(what: string, probe: () => T | undefined): Promise<T> {
  const deadline = performance.now() + 2_000;
  for (;;) {
    const found = probe();
    if (found !== undefined) return found;
    if (performance.now() > deadline) assert.fail(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
