/** The look-up of what a request consumed, as a provider offers it: late, slow, broken, wrong, and by either id. */
import assert from 'node:assert/strict';

import { startUpstreamTwin, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { ask, completion, newId, record, steered } from './fixture.ts';

interface Generation {
  readonly data: Readonly<Record<string, unknown>>;
}

describe('upstream twin is asked what it produced', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  async function lookUp(id: string, path = '/api/v1/generation'): Promise<{ status: number; body: Generation }> {
    const response = await fetch(`${twin.url}${path}?id=${encodeURIComponent(id)}`);
    return { status: response.status, body: (await response.json()) as Generation };
  }

  it('and tells by the id of the answer and by that of the request, in the counts it bills by', async () => {
    const id = newId();
    twin.configure({ ids: 'openrouter', cached_tokens: 2, reasoning_tokens: 5 });
    const { text } = await ask(twin, {}, id);
    const answerId = (JSON.parse(text) as { id: string }).id;
    assert.match(answerId, /^gen-/);
    assert.equal(record(twin, id).generation_id, answerId);
    for (const path of ['/generation', '/v1/generation', '/api/v1/generation']) {
      for (const known of [id, answerId]) {
        const { status, body } = await lookUp(known, path);
        assert.equal(status, 200);
        assert.deepEqual(
          [
            body.data['id'],
            body.data['native_tokens_prompt'],
            body.data['native_tokens_completion'],
            body.data['native_tokens_reasoning'],
            body.data['native_tokens_cached'],
          ],
          [answerId, record(twin, id).prompt_tokens, 16, 5, 2],
        );
        assert.notEqual(body.data['tokens_completion'], 16, 'the counts of another tokenizer stand beside them');
      }
    }
    assert.equal((await lookUp('gen-never')).status, 404);
  });

  it('late: an id is unknown at first', async () => {
    const id = newId();
    twin.configure({ lookup: { not_found_times: 2 } });
    await completion(twin, {}, id);
    const statuses = [await lookUp(id), await lookUp(id), await lookUp(id)].map(({ status }) => status);
    assert.deepEqual(statuses, [404, 404, 200]);
  });

  it('slowly, not at all, or wrong', async () => {
    const id = newId();
    await completion(twin, {}, id);
    twin.configure({ lookup: { latency_ms: 40 } });
    const startedAt = performance.now();
    await lookUp(id);
    assert.ok(performance.now() - startedAt >= 39);
    twin.configure({ lookup: { status: 500, shape: 'detail_text' } });
    const failed = await lookUp(id);
    assert.equal(failed.status, 500);
    assert.ok('detail' in failed.body);
    twin.configure({ lookup: { output_error: -7, input_error: 3 } });
    const { data } = (await lookUp(id)).body;
    assert.deepEqual(
      [data['native_tokens_completion'], data['native_tokens_prompt']],
      [9, record(twin, id).prompt_tokens + 3],
    );
    assert.equal(record(twin, id).completion_tokens, 16, 'the truth stays where it was');
  });

  for (const [style, pattern] of [
    ['openai', /^chatcmpl-[0-9a-f]{29}$/],
    ['anthropic', /^msg_01/],
    ['groq', /^chatcmpl-/],
    ['deepseek', /^[0-9a-f]{32}$/],
    ['constant', /^chatcmpl-0$/],
    ['empty', /^$/],
  ] as const) {
    it(`with ids as ${style} gives them, streamed and whole`, async () => {
      for (const stream of [true, false]) {
        const id = newId();
        const { text } = await ask(twin, steered({ ids: style }, { stream }), id);
        const first = stream ? (text.split('\n')[0] ?? '').slice('data: '.length) : text;
        assert.match((JSON.parse(first) as { id: string }).id, pattern);
      }
    });
  }

  it('with an answer that has no id', async () => {
    const id = newId();
    const { text, headers } = await ask(twin, steered({ ids: 'none' }), id);
    assert.ok(!('id' in (JSON.parse(text) as object)));
    assert.equal(headers.get('x-request-id'), null);
    assert.equal(record(twin, id).generation_id, null);
  });
});
