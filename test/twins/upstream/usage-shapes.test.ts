/**
 * Every shape in which the upstream twin reports usage: each is computed from what was produced, stands where its
 * provider puts it, and says itself whether it contradicts the truth. A shape with a wrong number would make a right
 * bill look wrong.
 */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import {
  startUpstreamTwin,
  USAGE_SHAPE_NAMES,
  USAGE_SHAPES,
  type TokenCounts,
  type UpstreamTwin,
} from '../../../twins/upstream/twin.ts';
import { ask, events, jsonEvents, newId, numbersIn, record, steered } from './fixture.ts';

const DIMENSION_COUNT = {
  input: 'promptTokens',
  output: 'completionTokens',
  cached: 'cachedTokens',
  cache_write: 'cacheWriteTokens',
  cache_write_1h: 'cacheWrite1hTokens',
  input_audio: 'promptAudioTokens',
  input_image: 'promptImageTokens',
  reasoning: 'reasoningTokens',
  output_audio: 'audioTokens',
  output_image: 'imageTokens',
  web_searches: 'webSearches',
} as const;

const count = fc.integer({ min: 1, max: 1_000_000 });

/** Counts of which no part exceeds its whole. */
const COUNTS = fc
  .record({
    cachedTokens: count,
    cacheWriteTokens: count,
    promptAudioTokens: count,
    promptImageTokens: count,
    addedPromptTokens: count,
    reasoningTokens: count,
    audioTokens: count,
    imageTokens: count,
    webSearches: count,
    otherInput: count,
    otherOutput: count,
  })
  .map(({ otherInput, otherOutput, ...parts }): TokenCounts => ({
    ...parts,
    cacheWrite1hTokens: 0,
    hiddenTokens: 0,
    promptTokens:
      otherInput +
      parts.addedPromptTokens +
      parts.cachedTokens +
      parts.cacheWriteTokens +
      parts.promptAudioTokens +
      parts.promptImageTokens,
    completionTokens: otherOutput + parts.reasoningTokens + parts.audioTokens + parts.imageTokens,
  }));

/** Whether numbers tell a count: as it is, as the sum of two or three, or as what a total leaves over. */
function isTold(numbers: readonly number[], wanted: number): boolean {
  const seen = new Set(numbers);
  return numbers.some(
    (one) =>
      one === wanted ||
      seen.has(wanted - one) ||
      seen.has(wanted + one) ||
      numbers.some((other) => seen.has(wanted - one - other)),
  );
}

describe('upstream twin reports usage in every shape', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  it('has at least forty, each with its source, and the contradictory ones say why', () => {
    assert.ok(USAGE_SHAPE_NAMES.length >= 40, `${USAGE_SHAPE_NAMES.length}`);
    for (const name of USAGE_SHAPE_NAMES) {
      const shape = USAGE_SHAPES[name];
      assert.notEqual(shape.source, '', name);
      assert.equal(shape.contradiction === undefined, shape.tells.length > 0, `${name} tells counts or contradicts`);
    }
  });

  for (const name of USAGE_SHAPE_NAMES) {
    const shape = USAGE_SHAPES[name];
    if (shape.contradiction !== undefined) continue;
    it(`${name}: tells what it claims to tell, for any counts`, () => {
      fc.assert(
        fc.property(COUNTS, (counts) => {
          const numbers = numbersIn(shape.report(counts));
          for (const dimension of shape.tells) {
            assert.ok(isTold(numbers, counts[DIMENSION_COUNT[dimension]]), `${name} tells ${dimension}`);
          }
        }),
        { numRuns: 50 },
      );
    });
  }

  for (const name of USAGE_SHAPE_NAMES) {
    const shape = USAGE_SHAPES[name];
    it(`${name}: stands in a stream at ${shape.places.join(' and ')}, and in a whole answer`, async () => {
      const knobs = { usage: { shape: name }, output_tokens: 5, reasoning_tokens: 2, cached_tokens: 1 };
      const id = newId();
      const values = await jsonEvents(twin, steered(knobs), id);
      const kept = record(twin, id);
      const counts: TokenCounts = {
        promptTokens: kept.prompt_tokens,
        addedPromptTokens: 0,
        cachedTokens: 1,
        cacheWriteTokens: 0,
        cacheWrite1hTokens: 0,
        promptAudioTokens: 0,
        promptImageTokens: 0,
        completionTokens: 5,
        reasoningTokens: 2,
        audioTokens: 0,
        imageTokens: 0,
        hiddenTokens: 2,
        webSearches: 0,
      };
      const { top = {}, choice = {} } = shape.report(counts);
      const carries = (value: Record<string, unknown>): boolean =>
        holds(value, top) && holds((value['choices'] as Record<string, unknown>[])[0] ?? {}, choice);
      const whole = JSON.parse((await ask(twin, steered(knobs))).text) as Record<string, unknown>;
      assert.ok(carries(whole), JSON.stringify(whole));
      if (name === 'null') return;
      const at = values.flatMap((value, index) => (carries(value) ? [index] : []));
      const last = values.length - 1;
      const expected = new Set(
        shape.places.flatMap((place) => {
          if (place === 'every') return shape.places.includes('own') ? [last - 1] : [last];
          return [last];
        }),
      );
      for (const index of expected) assert.ok(at.includes(index), `${name} at ${index} of ${at.join()}`);
    });
  }

  it('at each place: before and after the finish reason, in every chunk, first, bare, after [DONE]', async () => {
    const placesOf = async (place: string): Promise<string[]> => {
      const payloads = await events(
        twin,
        steered(
          { output_tokens: 2, usage: { shape: 'minimal', places: [place as 'own'] } },
          { stream_options: { include_usage: true } },
        ),
      );
      return payloads.map((payload) => {
        if (payload === '[DONE]') return 'done';
        const { choices, usage } = JSON.parse(payload) as {
          choices?: { delta: { content?: string }; finish_reason: unknown }[];
          usage?: { completion_tokens: number };
        };
        const kind =
          choices === undefined
            ? 'bare'
            : choices.length === 0
              ? 'own'
              : choices[0]?.finish_reason != null
                ? 'finish'
                : choices[0]?.delta.content === ''
                  ? 'empty'
                  : 'token';
        return usage == null ? kind : `${kind}:${usage.completion_tokens}`;
      });
    };
    assert.deepEqual(await placesOf('own'), ['empty', 'token', 'token', 'finish', 'own:2', 'done']);
    assert.deepEqual(await placesOf('own_with_choice'), ['empty', 'token', 'token', 'finish', 'empty:2', 'done']);
    assert.deepEqual(await placesOf('finish'), ['empty', 'token', 'token', 'finish:2', 'done']);
    assert.deepEqual(await placesOf('every'), ['empty:0', 'token:1', 'token:2', 'finish:2', 'done']);
    assert.deepEqual(await placesOf('content'), ['empty:0', 'token:1', 'token:2', 'finish', 'done']);
    assert.deepEqual(await placesOf('first'), ['empty:0', 'token', 'token', 'finish', 'done']);
    assert.deepEqual(await placesOf('before_finish'), ['empty', 'token', 'token', 'own:2', 'finish', 'done']);
    assert.deepEqual(await placesOf('bare'), ['empty', 'token', 'token', 'finish', 'bare:2', 'done']);
    assert.deepEqual(await placesOf('after_done'), ['empty', 'token', 'token', 'finish', 'done', 'own:2']);
  });

  it('several times in one stream: a good one and an emptier one behind it', async () => {
    const reports = [
      { shape: 'zero_total', place: 'content' },
      { shape: 'deepseek', place: 'finish' },
      { shape: 'empty', place: 'own' },
    ] as const;
    const values = await jsonEvents(twin, steered({ output_tokens: 2, usage: { reports } }));
    const totals = values.map((value) => (value['usage'] as { total_tokens?: number } | null)?.total_tokens);
    assert.deepEqual(totals.slice(0, 3), [0, 0, 0]);
    assert.ok((totals[3] ?? 0) > 2);
    assert.equal(totals[4], undefined);
    assert.deepEqual(values[4]?.['usage'], {});
  });

  it('unasked where the provider sends it always, and never where it ignores the wish', async () => {
    const hasUsage = async (knobs: object, wish: object): Promise<boolean> =>
      (await events(twin, steered(knobs, wish))).some((payload) => /"usage":\{/.test(payload));
    const wish = { stream_options: { include_usage: true } };
    assert.equal(await hasUsage({}, {}), false);
    assert.equal(await hasUsage({ usage: { shape: 'mistral' } }, {}), true);
    assert.equal(await hasUsage({ usage: { shape: 'openai', unasked: true } }, {}), true);
    assert.equal(await hasUsage({ ignores: ['stream_options'] }, wish), false);
    assert.equal(await hasUsage({ ignores: ['stream_options'], usage: { shape: 'groq' } }, wish), true);
  });

  it('of the prompt with all its parts, which never exceed it', async () => {
    const id = newId();
    const knobs = {
      added_prompt_tokens: 1000,
      cached_tokens: 100,
      cache_write_tokens: 200,
      cache_write_1h_tokens: 300,
      prompt_audio_tokens: 50,
      prompt_image_tokens: 60,
      web_searches: 3,
    };
    await ask(twin, steered(knobs), id);
    const kept = record(twin, id);
    assert.equal(kept.prompt_tokens, 1007);
    assert.deepEqual(
      [kept.added_prompt_tokens, kept.cached_tokens, kept.cache_write_tokens, kept.cache_write_1h_tokens],
      [1000, 100, 200, 300],
    );
    assert.deepEqual([kept.prompt_audio_tokens, kept.prompt_image_tokens, kept.web_searches], [50, 60, 3]);
    const small = newId();
    await ask(twin, steered({ cached_tokens: 5, cache_write_tokens: 5 }), small);
    assert.deepEqual([record(twin, small).cached_tokens, record(twin, small).cache_write_tokens], [5, 2]);
  });
});

/** Whether an object has all the fields, equal. */
function holds(value: Record<string, unknown>, fields: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(fields).every(([name, field]) => JSON.stringify(value[name]) === JSON.stringify(field));
}
