/** How the upstream twin is told what to answer and at which pace: which knob wins, and that a misspelt one fails. */
import assert from 'node:assert/strict';
import { Agent } from 'node:http';

import * as o200k from 'gpt-tokenizer/encoding/o200k_base';

import { startUpstreamTwin, type UpstreamTwin, type UpstreamTwinConfig } from '../../../twins/upstream/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import {
  ask,
  completion,
  HOUR_MS,
  newId,
  post,
  QUESTION,
  rawReads,
  readEvents,
  record,
  recordBecomes,
} from './fixture.ts';

describe('upstream twin is steered', () => {
  let twin: UpstreamTwin;
  let untouched: UpstreamTwinConfig;
  const control = new TwinControl(() => twin.url);

  before(async () => {
    twin = await startUpstreamTwin();
    untouched = twin.config();
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  it('by four layers, the later one wins: defaults, model, request, rule', async () => {
    twin.configure({ output_tokens: 10, models: { special: { output_tokens: 11 } } });
    const tokensOf = async (body: object): Promise<number | undefined> =>
      (await completion(twin, body)).usage?.completion_tokens;
    const metadata = { twin: { output_tokens: 12 } };
    assert.equal(await tokensOf({}), 10);
    assert.equal(await tokensOf({ model: 'special' }), 11);
    assert.equal(await tokensOf({ model: 'special', metadata }), 12);
    twin.faults.add({ fault: { type: 'output', output_tokens: 13, reasoning_tokens: 2, cached_tokens: 1 } });
    const answer = await completion(twin, { model: 'special', metadata });
    assert.equal(answer.usage?.completion_tokens, 13);
    assert.equal(o200k.encode(answer.choices[0]?.message.content ?? '').length, 11);
  });

  it('by a rule with any knobs, for one request', async () => {
    twin.faults.add({ fault: { type: 'steer', knobs: { output_tokens: 3, finish: { word: 'eos' } } } });
    const steered = await completion(twin);
    assert.equal(steered.usage?.completion_tokens, 3);
    assert.equal(steered.choices[0]?.finish_reason, 'eos');
    assert.equal((await completion(twin)).choices[0]?.finish_reason, 'stop');
  });

  it('steering over HTTP works for a client that lists the knobs first', async () => {
    const forms = await control.show<Record<string, Record<string, { source: string }> | string[]>>('forms');
    for (const table of ['output_forms', 'usage_shapes', 'error_shapes']) {
      const rows = Object.entries(forms[table] ?? {}) as [string, { source: string }][];
      assert.ok(rows.length > 20, table);
      for (const [name, { source }] of rows) assert.notEqual(source, '', name);
    }
  });

  it('over HTTP, and tells its knobs, which it takes as it told them', async () => {
    await control.steer('config', { output_tokens: 3, models: { a: { latency_ms: 1 } } });
    const knobs = await control.show<Record<string, unknown>>('config');
    assert.equal(knobs['output_tokens'], 3);
    assert.deepEqual(knobs['models'], { a: { latency_ms: 1 } });
    assert.equal((await completion(twin)).usage?.completion_tokens, 3);
    await control.steer('config', knobs);
    assert.deepEqual(await control.show('config'), knobs);
    await control.steer('reset');
    assert.equal((await completion(twin)).usage?.completion_tokens, 16);
  });

  it('in time: latency, first token and pace add up, in streams and in whole answers', async () => {
    const metadata = { twin: { latency_ms: 30, first_token_ms: 30, chunk_interval_ms: 15, output_tokens: 5 } };
    for (const stream of [true, false]) {
      const startedAt = performance.now();
      const response = await post(twin, { ...QUESTION, stream, metadata });
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
      const body = { ...QUESTION, stream: true, metadata: { twin: steering } };
      const response = await post(twin, body, { id, signal: abort.signal });
      const payloads = await readEvents(response, 1 + tokens);
      assert.equal(payloads.length, 1 + tokens);
      assert.equal(record(twin, id).completion_tokens, tokens);
      abort.abort();
      await recordBecomes(twin, id, 'aborted');
    }
  });

  it('in time: a fixed total replaces the pace', async () => {
    const metadata = { twin: { total_ms: 80, chunk_interval_ms: HOUR_MS, output_tokens: 4 } };
    for (const stream of [true, false]) {
      const startedAt = performance.now();
      await ask(twin, { stream, metadata });
      assert.ok(performance.now() - startedAt >= 79);
    }
  });

  it('keeps a connection alive over plain and streamed answers', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ports = new Set<number | undefined>();
    for (const stream of [true, false, true]) {
      const { localPort } = await rawReads(twin, { ...QUESTION, stream }, agent);
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
    ['config', { segments: [{ form: 'text' }] }],
    ['config', { segments: [{ form: 'poem', tokens: 1 }] }],
    ['config', { segments: Array(3).fill({ form: 'text', tokens: 400_000 }) }],
    ['config', { segments: [{ form: 'audio', tokens: 1_000_000 }] }],
    ['config', { usage: {} }],
    ['config', { usage: { shape: 'openai', reports: [] } }],
    ['config', { usage: { shape: 'openai', places: ['middle'] } }],
    ['config', { usage: { reports: [{ shape: 'openai' }] } }],
    ['config', { finish: { words: 'stop' } }],
    ['config', { framing: { line_end: 'lfcr' } }],
    ['config', { framing: { insert: [{ at: 'each' }] } }],
    ['config', { framing: { insert: [{ at: 'never', text: '' }] } }],
    ['config', { framing: { insert: [{ at: 'each', text: 'x', repeat: 1e9 }] } }],
    ['config', { framing: { insert: [{ at: 'each', base64: '?' }] } }],
    ['config', { framing: { split: 0 } }],
    ['config', { framing: { encoding: 'zip' } }],
    ['config', { strict: { refuses: 'n' } }],
    ['config', { ignores: ['model'] }],
    ['config', { headers: { 'a b': 'c' } }],
    ['config', { headers: { a: 'b\r\nc' } }],
    ['config', { informational: [200] }],
    ['config', { heartbeat: { every_ms: 0, text: ':' } }],
    ['config', { connections: { reused: 'refuse' } }],
    ['config', { lookup: { status: 200 } }],
    ['config', { error_shape: 'none' }],
    ['config', { models: { a: { framing: { bom: 1 } } } }],
    ['faults', { fault: { type: 'explode' } }],
    ['faults', { fault: { type: 'status' } }],
    ['faults', { fault: { type: 'status', status: 200 } }],
    ['faults', { fault: { type: 'usage' } }],
    ['faults', { fault: { type: 'eof', after: 1 } }],
    ['faults', { fault: { type: 'eof' }, times: 0 }],
    ['faults', { fault: { type: 'hang', at: 'start' } }],
    ['faults', { fault: { type: 'hang', at: 'done', after_chunks: 1 } }],
    ['faults', { fault: { type: 'steer' } }],
    ['faults', { fault: { type: 'steer', knobs: { tokens: 1 } } }],
    ['faults', { fault: { type: 'error_chunk', shape: 'mine' } }],
    ['faults', { fault: { type: 'status', status: 400, body_base64: '?' } }],
    ['faults', { fault: { type: 'eof' }, match: { id: 'x' } }],
    ['faults', {}],
  ] as const) {
    it(`answers 400 to POST ${path} ${JSON.stringify(body)}, so that a typing error cannot pass as a knob`, async () => {
      const response = await post(twin, body, { path: `/_twin/${path}` });
      assert.equal(response.status, 400);
      const { error } = (await response.json()) as { error: { message: string } };
      assert.notEqual(error.message, '');
      assert.deepEqual(twin.faults.list(), []);
      assert.deepEqual(twin.config(), untouched);
    });
  }
});
