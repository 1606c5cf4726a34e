/**
 * Every way in which the upstream twin breaks, as a client sees it, and what it counts meanwhile. Each stands for what
 * a provider has been seen to do: a fault that is not what its name says would leave the gateway untested against it.
 */
import assert from 'node:assert/strict';

import * as o200k from 'gpt-tokenizer/encoding/o200k_base';
import OpenAI from 'openai';

import { startUpstreamTwin, type Fault, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import {
  ask,
  chunks,
  clientOf,
  completion,
  dataOf,
  events,
  HOUR_MS,
  newId,
  post,
  QUESTION,
  rawReads,
  record,
  recordBecomes,
} from './fixture.ts';

describe('upstream twin breaks as told', () => {
  let twin: UpstreamTwin;
  let client: OpenAI;

  before(async () => {
    twin = await startUpstreamTwin();
    client = clientOf(twin);
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  /** Reads a stream that is expected to break; what arrived before the break. */
  async function brokenStream(fault: Fault, id: string): Promise<{ text: string; broke: boolean }> {
    twin.faults.add({ match: { request_id: id }, fault });
    const response = await post(twin, { ...QUESTION, stream: true }, { id });
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

  it('refuse: destroys the socket before any answer', async () => {
    const id = newId();
    twin.faults.add({ fault: { type: 'refuse' } });
    await assert.rejects(ask(twin, {}, id), /fetch failed/);
    assert.equal(record(twin, id).status, 'failed');
    assert.equal(record(twin, id).usage, null);
    assert.equal(record(twin, id).model, 'm');
  });

  it('status: a typed error with retry-after, or any body', async () => {
    const id = newId();
    twin.faults.add({ fault: { type: 'status', status: 429, retry_after: 7 } });
    await assert.rejects(
      client.chat.completions.create(QUESTION, { headers: { 'x-request-id': id } }),
      (error) => error instanceof OpenAI.RateLimitError && error.headers.get('retry-after') === '7',
    );
    assert.equal(record(twin, id).usage, null);
    twin.faults.add({ fault: { type: 'status', status: 503, body: 'upstream connect error' } });
    const text = await ask(twin);
    assert.deepEqual([text.status, text.text], [503, 'upstream connect error']);
    twin.faults.add({ fault: { type: 'status', status: 400, body: { detail: [1] } } });
    const json = await ask(twin, { stream: true });
    assert.deepEqual([json.status, json.text], [400, '{"detail":[1]}']);
  });

  it('hang: says nothing until the client leaves', async () => {
    const id = newId();
    twin.faults.add({ fault: { type: 'hang' } });
    const abort = new AbortController();
    const pending = post(twin, QUESTION, { id, signal: abort.signal });
    await recordBecomes(twin, id, 'running');
    abort.abort();
    await assert.rejects(pending);
    assert.equal((await recordBecomes(twin, id, 'aborted')).usage, null, 'no model worked on it');
  });

  it('hang after chunks: headers and chunks, then silence', async () => {
    for (const stream of [true, false]) {
      const id = newId();
      twin.faults.add({ fault: { type: 'hang', after_chunks: 2 } });
      const abort = new AbortController();
      const response = await post(twin, { ...QUESTION, stream }, { id, signal: abort.signal });
      assert.equal(response.status, 200);
      assert.equal(record(twin, id).status, 'running');
      assert.equal(record(twin, id).completion_tokens, 2);
      abort.abort();
      const aborted = await recordBecomes(twin, id, 'aborted');
      assert.equal(aborted.usage?.completion_tokens, 2);
    }
  });

  it('error_chunk: an error among the chunks, which the openai client throws', async () => {
    const id = newId();
    twin.faults.add({ fault: { type: 'error_chunk', after_chunks: 3, message: 'engine lost' } });
    const stream = await client.chat.completions.create(
      { ...QUESTION, stream: true },
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
    assert.equal(record(twin, id).status, 'failed');
    assert.equal(record(twin, id).completion_tokens, 3);

    twin.faults.add({ fault: { type: 'error_chunk' } });
    const whole = await ask(twin);
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
    assert.equal(record(twin, id).status, 'failed');
    assert.equal(record(twin, id).usage?.completion_tokens, 2);

    assert.deepEqual(await brokenStream({ type: 'eof' }, newId()), { text: '', broke: false });
  });

  it('eof past the last token: everything but finish and [DONE]', async () => {
    const id = newId();
    const cut = await brokenStream({ type: 'eof', after_chunks: 999 }, id);
    assert.equal(dataOf(cut.text).length, 1 + 16);
    assert.equal(record(twin, id).completion_tokens, 16);
    assert.equal(record(twin, id).status, 'failed');
  });

  it('eof of a whole answer: JSON cut in the middle, or nothing', async () => {
    twin.faults.add({ fault: { type: 'eof', after_chunks: 4 } });
    const half = await ask(twin);
    assert.equal(half.status, 200);
    assert.match(half.text, /^\{"id"/);
    assert.throws(() => JSON.parse(half.text) as unknown);
    twin.faults.add({ fault: { type: 'eof' } });
    assert.deepEqual((await ask(twin)).text, '');
  });

  it('reset: the connection breaks after the chunks arrived', async () => {
    for (const after_chunks of [0, 3]) {
      const id = newId();
      const cut = await brokenStream({ type: 'reset', after_chunks }, id);
      assert.equal(cut.broke, true);
      assert.equal(dataOf(cut.text).length, after_chunks === 0 ? 0 : 1 + after_chunks);
      assert.equal(record(twin, id).status, 'failed');
      assert.equal(record(twin, id).completion_tokens, after_chunks);
    }
    twin.faults.add({ fault: { type: 'reset', after_chunks: 4 } });
    const response = await post(twin, QUESTION);
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
      const whole = await ask(twin, {}, ids[0]);
      assert.ok(whole.text.endsWith(`,"usage":${text}}`), whole.text);
      const payloads = await events(twin, { stream_options: { include_usage: true } }, ids[1]);
      assert.ok(payloads.at(-2)?.endsWith(`"choices":[],"usage":${text}}`), payloads.at(-2));
      for (const id of ids) assert.equal(record(twin, id).usage?.completion_tokens, 16);
    });
  }

  it('no_usage: leaves it out although it was asked for', async () => {
    twin.faults.add({ times: 2, fault: { type: 'no_usage' } });
    assert.equal((await completion(twin)).usage, undefined);
    const received = await chunks(twin, { stream_options: { include_usage: true } });
    assert.equal(received.at(-1)?.choices[0]?.finish_reason, 'stop');
    assert.ok(received.every((chunk) => chunk.usage === null));
  });

  it('late_usage: the usage comes well after the finish reason', async () => {
    const id = newId();
    twin.faults.add({ fault: { type: 'late_usage', ms: HOUR_MS } });
    const stream = await client.chat.completions.create(
      { ...QUESTION, stream: true, stream_options: { include_usage: true } },
      { headers: { 'x-request-id': id } },
    );
    for await (const chunk of stream) {
      assert.equal(chunk.usage, null);
      if (chunk.choices[0]?.finish_reason !== 'stop') continue;
      assert.equal(record(twin, id).status, 'running');
      break;
    }
    assert.equal((await recordBecomes(twin, id, 'aborted')).completion_tokens, 16);

    twin.faults.add({ times: 2, fault: { type: 'late_usage', ms: 60 } });
    for (const body of [{}, { stream: true, stream_options: { include_usage: true } }]) {
      const startedAt = performance.now();
      const reply = await ask(twin, body);
      assert.ok(performance.now() - startedAt >= 59);
      assert.ok(reply.text.includes('"usage":{"prompt_tokens"'));
    }
  });

  it('html: a web page with status 200', async () => {
    const id = newId();
    twin.faults.add({ fault: { type: 'html' } });
    const reply = await ask(twin, { stream: true }, id);
    assert.equal(reply.status, 200);
    assert.match(reply.headers.get('content-type') ?? '', /^text\/html/);
    assert.match(reply.text, /^<!doctype html>/);
    assert.equal(record(twin, id).status, 'failed');
    assert.equal(record(twin, id).usage, null);
    twin.faults.add({ fault: { type: 'html', body: '<p>hi' } });
    assert.equal((await ask(twin)).text, '<p>hi');
  });

  it('empty: a valid answer without content and tokens', async () => {
    const id = newId();
    twin.faults.add({ times: 2, fault: { type: 'empty' } });
    const answer = await completion(twin, {}, id);
    assert.equal(answer.choices[0]?.message.content, '');
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.equal(answer.usage?.completion_tokens, 0);
    assert.equal(record(twin, id).status, 'completed');
    const received = await chunks(twin, { stream_options: { include_usage: true } });
    assert.equal(received.length, 3);
    assert.equal(received.at(-1)?.usage?.completion_tokens, 0);
  });

  it('slow: other times than configured', async () => {
    const startedAt = performance.now();
    twin.faults.add({ fault: { type: 'slow', first_ms: 30, chunk_ms: 20 } });
    await events(twin, { max_tokens: 3 });
    assert.ok(performance.now() - startedAt >= 69);
    const againAt = performance.now();
    twin.faults.add({ fault: { type: 'slow', total_ms: 50 } });
    await ask(twin);
    assert.ok(performance.now() - againAt >= 49);
  });

  it('exceed_max_tokens: produces and counts more than was asked for', async () => {
    const id = newId();
    twin.faults.add({ times: 2, fault: { type: 'exceed_max_tokens', tokens: 7 } });
    const answer = await completion(twin, { max_tokens: 20 }, id);
    assert.equal(answer.usage?.completion_tokens, 27);
    assert.equal(o200k.encode(answer.choices[0]?.message.content ?? '').length, 27);
    assert.equal(record(twin, id).completion_tokens, 27);
    assert.equal((await completion(twin)).usage?.completion_tokens, 16 + 7, 'without a maximum, above the target');
  });

  it('model_name: answers in the name of another model', async () => {
    const id = newId();
    twin.faults.add({ fault: { type: 'model_name', model: 'other-2026' } });
    assert.equal((await completion(twin, {}, id)).model, 'other-2026');
    assert.equal(record(twin, id).model, 'm', 'the record names the model that was asked for');
  });

  it('garbage_sse: one broken line among good ones, or a broken body', async () => {
    twin.faults.add({ fault: { type: 'garbage_sse', after_chunks: 2 } });
    const payloads = await events(twin);
    assert.throws(() => JSON.parse(payloads[3] ?? '') as unknown);
    const good = payloads.filter((payload, index) => index !== 3 && payload !== '[DONE]');
    for (const payload of good) JSON.parse(payload);
    assert.equal(good.length, 1 + 16 + 1);
    assert.equal(payloads.at(-1), '[DONE]');
    twin.faults.add({ fault: { type: 'garbage_sse' } });
    const whole = await ask(twin);
    assert.throws(() => JSON.parse(whole.text) as unknown);
  });

  it('comments: legal framing with characters split over two writes, which the openai client reads', async () => {
    twin.faults.add({ times: null, fault: { type: 'comments' } });
    const plain = await startUpstreamTwin();
    try {
      const body = { ...QUESTION, max_tokens: 8 };
      const expected = await clientOf(plain).chat.completions.create(body);
      const stream = await client.chat.completions.create({ ...body, stream: true });
      let text = '';
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
      assert.equal(text, expected.choices[0]?.message.content);
      assert.equal((await completion(twin, body)).choices[0]?.message.content, text);
    } finally {
      await plain.close();
    }

    const { reads } = await rawReads(twin, { ...QUESTION, max_tokens: 8, stream: true });
    const all = Buffer.concat(reads).toString('utf8');
    assert.ok(all.includes(': keep-alive\r\n\r\n\r\n'));
    assert.ok(!/[^\r]\n/.test(all), 'every line ends with CRLF');
    const endsInsideCharacter = (read: Buffer): boolean => Buffer.from(read.toString('utf8')).compare(read) !== 0;
    assert.ok(reads.some(endsInsideCharacter), 'at least one read ended inside a character');
  });
});
