/** Silence, signs of life and clients that leave: when the upstream twin sends, and how long it goes on producing. */
import assert from 'node:assert/strict';

import { startUpstreamTwin, type Fault, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { until } from '../../support/until.ts';
import { ask, dataOf, newId, post, QUESTION, readEvents, record, recordBecomes, steered } from './fixture.ts';

describe('upstream twin takes its time', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  const STREAM = { ...QUESTION, stream: true, stream_options: { include_usage: true }, max_tokens: 2 };

  for (const [at, payloads] of [
    ['finish', 1 + 2 + 1],
    ['usage', 1 + 2 + 1 + 1],
    ['done', 1 + 2 + 1 + 1 + 1],
  ] as const) {
    it(`stays open after ${at === 'done' ? '[DONE]' : `the ${at}`}, with everything produced`, async () => {
      const id = newId();
      twin.faults.add({ fault: { type: 'hang', at } });
      const abort = new AbortController();
      const response = await post(twin, STREAM, { id, signal: abort.signal });
      assert.equal((await readEvents(response, payloads)).length, payloads);
      assert.equal((await recordBecomes(twin, id, 'completed')).completion_tokens, 2);
      abort.abort();
    });
  }

  it('pauses and goes on, wherever it is told, several times', async () => {
    for (const stream of [true, false]) {
      const id = newId();
      twin.faults.add({
        fault: [
          { type: 'hang', after_chunks: 1, ms: 20 },
          { type: 'hang', at: 'finish', ms: 20 },
          { type: 'hang', at: 'done', ms: 20 },
          { type: 'hang', ms: 20 },
        ],
      });
      const startedAt = performance.now();
      const { text } = await ask(twin, { stream, max_tokens: 2 }, id);
      assert.ok(performance.now() - startedAt >= 78, 'four pauses');
      assert.ok(stream ? text.endsWith('data: [DONE]\n\n') : text.endsWith('}'));
      assert.equal(record(twin, id).status, 'completed');
    }
  });

  it('is silent before an HTTP error as well', async () => {
    twin.faults.add({
      fault: [
        { type: 'hang', ms: 40 },
        { type: 'status', status: 503 },
      ],
    });
    const startedAt = performance.now();
    assert.equal((await ask(twin)).status, 503);
    assert.ok(performance.now() - startedAt >= 39);
  });

  for (const [name, fault] of [
    ['reset', { type: 'reset', at: 'usage' }],
    ['eof', { type: 'eof', at: 'usage' }],
  ] as const satisfies readonly (readonly [string, Fault])[]) {
    it(`breaks after the usage (${name}): all but [DONE] was sent`, async () => {
      const id = newId();
      twin.faults.add({ fault });
      const response = await post(twin, STREAM, { id });
      const payloads = await readEvents(response, 1 + 2 + 1 + 1);
      assert.ok(payloads.at(-1)?.includes('"usage":{'));
      await until('the end of it', () => record(twin, id).status !== 'running');
      assert.equal(record(twin, id).completion_tokens, 2);
    });
  }

  it('sends signs of life before the first token, between tokens and while it hangs', async () => {
    const heartbeat = { every_ms: 10, text: ': PROCESSING\n\n' };
    const comments = (text: string): number => text.split(heartbeat.text).length - 1;
    const slow = await ask(twin, steered({ heartbeat, first_token_ms: 100, output_tokens: 1 }, { stream: true }));
    assert.ok(comments(slow.text) >= 2, slow.text);
    assert.ok(slow.text.startsWith(': PROCESSING') || dataOf(slow.text)[0]?.includes('"role"'));
    assert.ok(slow.text.endsWith('data: [DONE]\n\n'));

    twin.faults.add({ fault: { type: 'hang', after_chunks: 0 } });
    const abort = new AbortController();
    const id = newId();
    const hanging = await post(twin, { ...STREAM, ...steered({ heartbeat }) }, { id, signal: abort.signal });
    assert.ok(hanging.body);
    const reader = hanging.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
    let text = '';
    while (comments(text) < 3) text += Buffer.from((await reader.read()).value ?? []).toString();
    abort.abort();
    await recordBecomes(twin, id, 'aborted');
  });

  it('sends blanks before a whole answer while it works', async () => {
    const knobs = { heartbeat: { every_ms: 10, text: '\n' }, total_ms: 100 };
    const { text } = await ask(twin, steered(knobs));
    assert.match(text, /^\n{2,}\{/);
    JSON.parse(text);
  });

  it('goes on producing to the end although the client has left, which counts', async () => {
    for (const stream of [true, false]) {
      const id = newId();
      const abort = new AbortController();
      const knobs = { notices_leaving_ms: null, chunk_interval_ms: 2, output_tokens: 50 };
      const pending = post(twin, { ...QUESTION, ...steered(knobs), stream }, { id, signal: abort.signal });
      await until('a few tokens', () => (twin.request(id)?.completion_tokens ?? 0) >= 2);
      abort.abort();
      await pending.catch(() => undefined);
      assert.equal((await recordBecomes(twin, id, 'completed')).completion_tokens, 50);
    }
  });

  it('goes on for a while after the client has left, and stops then', async () => {
    const id = newId();
    const abort = new AbortController();
    const knobs = { notices_leaving_ms: 30, chunk_interval_ms: 1, output_tokens: 1_000_000 };
    const response = await post(twin, { ...QUESTION, ...steered(knobs), stream: true }, { id, signal: abort.signal });
    await readEvents(response, 3);
    abort.abort();
    const aborted = await recordBecomes(twin, id, 'aborted');
    assert.ok(aborted.completion_tokens < 1_000_000);
  });

  it('goes on for a client that left while it did not read', async () => {
    const id = newId();
    const abort = new AbortController();
    const knobs = { notices_leaving_ms: null, output_tokens: 200_000 };
    await post(twin, { ...QUESTION, ...steered(knobs), stream: true }, { id, signal: abort.signal });
    assert.ok(record(twin, id).completion_tokens < 200_000);
    abort.abort();
    assert.equal((await recordBecomes(twin, id, 'completed')).completion_tokens, 200_000);
  });

  it('forgets a client that left while it hung, although it would go on producing', async () => {
    const id = newId();
    const abort = new AbortController();
    twin.faults.add({ fault: { type: 'hang', after_chunks: 2 } });
    const body = { ...QUESTION, ...steered({ notices_leaving_ms: null }), stream: true };
    const response = await post(twin, body, { id, signal: abort.signal });
    await readEvents(response, 1 + 2);
    abort.abort();
    assert.equal((await recordBecomes(twin, id, 'aborted')).completion_tokens, 2);
  });
});
