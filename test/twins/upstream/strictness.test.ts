/** Fields that the upstream twin refuses, and fields that it accepts and ignores, as providers have been seen to do. */
import assert from 'node:assert/strict';

import { startUpstreamTwin, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { ask, completion, newId, record, steered } from './fixture.ts';

describe('upstream twin is strict or lenient as configured', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  it('refuses named fields, also within others, in the words of a provider, and counts nothing', async () => {
    twin.configure({ strict: { refuses: ['max_completion_tokens', 'stream_options.include_usage'] } });
    for (const [body, field] of [
      [{ max_completion_tokens: 5 }, 'max_completion_tokens'],
      [{ stream: true, stream_options: { include_usage: true } }, 'stream_options.include_usage'],
    ] as const) {
      const id = newId();
      const refused = await ask(twin, body, id);
      assert.equal(refused.status, 422);
      const { detail } = JSON.parse(refused.text) as { detail: { loc: string[] }[] };
      assert.deepEqual(detail[0]?.loc, ['body', field]);
      assert.equal(record(twin, id).usage, null);
      assert.equal(record(twin, id).status, 'failed');
    }
    assert.equal((await ask(twin, { max_tokens: 5, stream: true, stream_options: {} })).status, 200);
  });

  it('refuses everything that it does not know', async () => {
    twin.configure({ strict: { accepts: ['model', 'messages', 'max_tokens'], status: 400, shape: 'openai' } });
    const refused = await ask(twin, { top_k: 4 });
    assert.equal(refused.status, 400);
    assert.equal((JSON.parse(refused.text) as { error: { param: string } }).error.param, 'top_k');
    assert.equal((await ask(twin, { max_tokens: 4 })).status, 200);
  });

  it('refuses for one model alone', async () => {
    twin.configure({ models: { strict: { strict: { refuses: ['n'] } } } });
    assert.equal((await ask(twin, { model: 'strict', n: 1 })).status, 422);
    assert.equal((await ask(twin, { n: 1 })).status, 200);
  });

  for (const [ignores, max_completion_tokens, max_tokens, produced] of [
    [['max_completion_tokens'], 5, undefined, 20_000],
    [['max_completion_tokens'], 5, 7, 7],
    [['max_tokens'], undefined, 7, 20_000],
    [['max_tokens'], 5, 7, 5],
    [['max_tokens', 'max_completion_tokens'], 5, 7, 20_000],
  ] as const) {
    it(`ignores ${ignores.join(' and ')} and produces ${produced} tokens`, async () => {
      const id = newId();
      const knobs = { output_tokens: 20_000, ignores };
      const answer = await completion(twin, steered(knobs, { max_completion_tokens, max_tokens }), id);
      assert.equal(answer.usage?.completion_tokens, produced);
      assert.equal(record(twin, id).completion_tokens, produced);
      assert.equal(answer.choices[0]?.finish_reason, produced === 20_000 ? 'stop' : 'length');
    });
  }

  it('caps the output at its own bound, asked or not', async () => {
    const knobs = { output_tokens: 100, output_cap: 30 };
    for (const [max_tokens, produced] of [
      [undefined, 30],
      [1000, 30],
      [10, 10],
    ] as const) {
      const answer = await completion(twin, steered(knobs, { max_tokens }));
      assert.equal(answer.usage?.completion_tokens, produced);
      assert.equal(answer.choices[0]?.finish_reason, 'length');
    }
  });

  it('ignores how many answers were asked for, and which tool must be called', async () => {
    const tools = [{ type: 'function', function: { name: 'f' } }];
    const body = { n: 4, tools, tool_choice: 'required' };
    const answer = await completion(twin, steered({ ignores: ['n', 'tool_choice'] }, body));
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.usage?.completion_tokens, 16);
    assert.notEqual(answer.choices[0]?.message.content, null);
  });
});
