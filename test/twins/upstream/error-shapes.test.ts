/** How the upstream twin says that something failed: in each provider's body, as an HTTP error and within a 200. */
import assert from 'node:assert/strict';

import { ERROR_SHAPE_NAMES, startUpstreamTwin, type Fault, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { ask, dataOf, newId, post, QUESTION, rawReads, record } from './fixture.ts';

const MESSAGE = 'This model is out of words.';

describe('upstream twin fails in the words of every provider', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  for (const shape of ERROR_SHAPE_NAMES) {
    it(`${shape}: as an HTTP error, in a stream and as a whole answer`, async () => {
      const isMute = shape === 'empty' || shape === 'null';
      twin.faults.add({
        fault: { type: 'status', status: 422, shape, message: MESSAGE, param: 'max_completion_tokens' },
      });
      const id = newId();
      const failed = await ask(twin, {}, id);
      assert.equal(failed.status, 422);
      assert.equal(failed.text.includes(MESSAGE), !isMute, failed.text);
      assert.equal(record(twin, id).usage, null);

      twin.faults.add({ times: 2, fault: { type: 'error_chunk', after_chunks: 2, shape, message: MESSAGE } });
      const streamed = await ask(twin, { stream: true });
      assert.equal(streamed.status, 200);
      const payloads = dataOf(streamed.text);
      assert.equal(payloads.at(-1)?.includes(MESSAGE), !isMute);
      assert.equal(payloads.length, 1 + 2 + 1);
      const whole = await ask(twin);
      assert.equal(whole.status, 200);
      assert.equal(whole.text.includes(MESSAGE), !isMute);
    });
  }

  it('with another status than OpenAI knows, and with codes', async () => {
    twin.faults.add({ fault: { type: 'status', status: 529, shape: 'anthropic' } });
    const overloaded = await ask(twin);
    assert.equal(overloaded.status, 529);
    assert.ok(overloaded.text.includes('overloaded_error'));
    twin.faults.add({ fault: { type: 'status', status: 400, code: 'context_length_exceeded', param: 'messages' } });
    const { error } = JSON.parse((await ask(twin)).text) as { error: Record<string, unknown> };
    assert.deepEqual([error['code'], error['param']], ['context_length_exceeded', 'messages']);
  });

  it('with every form of retry-after', async () => {
    for (const headers of [
      { 'retry-after': 'Wed, 21 Oct 2099 07:28:00 GMT' },
      { 'retry-after-ms': '1500' },
      { 'retry-after': '2.5', 'x-ratelimit-reset-requests': '1s' },
    ]) {
      twin.faults.add({ fault: { type: 'status', status: 429, headers } });
      const reply = await ask(twin);
      for (const [name, value] of Object.entries(headers)) assert.equal(reply.headers.get(name), value);
    }
  });

  it('with bodies that are huge, empty or no text', async () => {
    twin.faults.add({ fault: { type: 'status', status: 500, padding: 1_000_000 } });
    const huge = (await ask(twin)).text;
    assert.equal(huge.length, 1_000_000);
    JSON.parse(huge);
    twin.faults.add({ fault: { type: 'status', status: 502, body: '' } });
    assert.equal((await ask(twin)).text, '');
    twin.faults.add({ fault: { type: 'status', status: 500, body_base64: '//79', content_type: 'text/plain' } });
    const { reads, headers } = await rawReads(twin, QUESTION);
    assert.equal(Buffer.concat(reads).toString('hex'), 'fffefd');
    assert.equal(headers['content-type'], 'text/plain');
  });

  it('after tokens that nobody saw, which are counted', async () => {
    for (const fault of [
      { type: 'status', status: 500, produced: 7 },
      { type: 'refuse', produced: 7 },
      { type: 'refuse', produced: 7, how: 'reset' },
    ] as const satisfies readonly Fault[]) {
      const id = newId();
      twin.faults.add({ fault });
      await ask(twin, { n: 2 }, id).catch(() => undefined);
      const kept = record(twin, id);
      assert.equal(kept.status, 'failed');
      assert.equal(kept.completion_tokens, 14);
      assert.equal(kept.hidden_tokens, 14);
      assert.ok(kept.prompt_tokens > 0);
    }
  });

  it('in its own errors, where it is told: a wrong path, a wrong key, a bad body', async () => {
    twin.configure({ error_shape: 'detail_text', api_key: 'sk-test' });
    const path = await post(twin, QUESTION, { path: '/v1/v1/chat/completions' });
    assert.equal(path.status, 404);
    assert.deepEqual(Object.keys((await path.json()) as object), ['detail']);
    const body = await ask(twin, { messages: [] });
    assert.equal(body.status, 400);
    assert.deepEqual(Object.keys(JSON.parse(body.text) as object), ['detail']);
    twin.configure({ api_key: 'another' });
    assert.equal((await ask(twin)).status, 401);
  });

  const CONTENT = 2;
  const PLACES: readonly (readonly [string, Fault, string])[] = [
    ['before content', { type: 'error_chunk' }, 'E'],
    ['after content', { type: 'error_chunk', after_chunks: 1 }, 'oxE'],
    ['after the finish reason', { type: 'error_chunk', at: 'finish' }, 'oxxfE'],
    ['after the usage', { type: 'error_chunk', at: 'usage' }, 'oxxfuE'],
    ['after the end', { type: 'error_chunk', at: 'done' }, 'oxxfudE'],
    ['in passing, after content', { type: 'error_chunk', after_chunks: 1, goes_on: true }, 'oxExfud'],
    ['in passing, after the usage', { type: 'error_chunk', at: 'usage', goes_on: true }, 'oxxfuEd'],
  ];
  for (const [name, fault, expected] of PLACES) {
    it(`within a stream ${name}, while the record says what was produced by then`, async () => {
      const id = newId();
      twin.faults.add({ fault });
      const { text } = await ask(
        twin,
        { stream: true, stream_options: { include_usage: true }, max_tokens: CONTENT },
        id,
      );
      const order = dataOf(text).map((payload) => {
        if (payload === '[DONE]') return 'd';
        const chunk = JSON.parse(payload) as {
          error?: unknown;
          choices: { delta: { role?: string }; finish_reason: unknown }[];
        };
        if (chunk.error !== undefined) return 'E';
        const [choice] = chunk.choices;
        if (choice === undefined) return 'u';
        return choice.finish_reason === null ? (choice.delta.role === undefined ? 'x' : 'o') : 'f';
      });
      assert.equal(order.join(''), expected);
      assert.equal(record(twin, id).completion_tokens, expected.split('x').length - 1);
    });
  }

  it('as an event of its own name, or as a line that is no event', async () => {
    twin.faults.add({
      fault: { type: 'error_chunk', after_chunks: 1, carrier: 'event', shape: 'anthropic', message: MESSAGE },
    });
    const named = (await ask(twin, { stream: true })).text;
    assert.match(named, /\n\nevent: error\ndata: \{"type":"error",[^\n]*\n\n$/);
    twin.faults.add({ fault: { type: 'error_chunk', after_chunks: 1, carrier: 'bare', body: { error: MESSAGE } } });
    const bare = (await ask(twin, { stream: true })).text;
    assert.ok(bare.endsWith(`\n\n{"error":"${MESSAGE}"}\n`));
  });
});
