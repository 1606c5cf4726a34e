/**
 * The meaning of a report whose numbers contradict each other, one row per step of the rule in `contradictions.ts`.
 * Money stands on both sides: what was produced is never given away, and no token is charged twice.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { InvalidCount, readCounts, type Report } from '../../../../domain/usage/fields.ts';
import { resolveCounts, type UsageFlag } from '../../../../domain/usage/contradictions.ts';
import { NO_USAGE, type Usage } from '../../../../domain/usage/usage.ts';

function resolve(report: Report, reasoningInOutput = true): { usage: Usage; flags: readonly UsageFlag[] } {
  return resolveCounts(readCounts(report), { reasoningInOutput });
}

/** prompt, cached, completion, reasoning, total (null where absent) in OpenAI's shape. */
type Numbers = readonly [prompt: number, cached: number, output: number, reasoning: number, total: number | null];

function openAi([prompt, cached, output, reasoning, total]: Numbers): Report {
  return {
    prompt_tokens: prompt,
    completion_tokens: output,
    prompt_tokens_details: { cached_tokens: cached },
    completion_tokens_details: { reasoning_tokens: reasoning },
    ...(total === null ? {} : { total_tokens: total }),
  };
}

describe('usage contradictions: the rule', () => {
  const rows: readonly [
    guarantee: string,
    reported: Numbers,
    reasoningInOutput: boolean,
    means: readonly [input: number, cached: number, output: number, reasoning: number],
    flags: readonly UsageFlag[],
  ][] = [
    ['parts inside, as documented', [100, 40, 50, 30, 150], true, [100, 40, 50, 30], []],
    ['parts inside, without a total', [100, 40, 50, 30, null], true, [100, 40, 50, 30], []],
    ['a total of 0 says nothing', [100, 40, 50, 30, 0], true, [100, 40, 50, 30], []],
    ['reasoning beside, as the price version says', [100, 40, 50, 30, 180], false, [100, 40, 80, 30], []],
    ['reasoning beside, without a total', [100, 40, 50, 30, null], false, [100, 40, 80, 30], []],
    ['the total shows reasoning beside', [100, 0, 50, 30, 180], true, [100, 0, 80, 30], ['reasoning_beside_output']],
    ['the total shows reasoning inside', [100, 0, 50, 30, 150], false, [100, 0, 50, 30], ['reasoning_inside_output']],
    ['the total shows the cache beside', [100, 40, 50, 0, 190], true, [140, 40, 50, 0], ['cache_beside_input']],
    [
      'the total shows both beside',
      [100, 40, 50, 30, 220],
      true,
      [140, 40, 80, 30],
      ['cache_beside_input', 'reasoning_beside_output'],
    ],
    [
      'the total confirms the larger reasoning',
      [100, 0, 50, 60, 160],
      true,
      [100, 0, 60, 60],
      ['output_below_reasoning'],
    ],
    ['more cache than input is beside it', [100, 140, 50, 0, null], true, [240, 140, 50, 0], ['cache_beside_input']],
    [
      'more reasoning than output is beside it',
      [100, 0, 50, 60, null],
      true,
      [100, 0, 110, 60],
      ['reasoning_beside_output'],
    ],
    [
      'more cache than an input that the total confirms is cut',
      [100, 140, 50, 0, 150],
      true,
      [100, 100, 50, 0],
      ['parts_cut'],
    ],
    [
      'more reasoning than an output that the total confirms is cut',
      [100, 0, 50, 60, 150],
      true,
      [100, 0, 50, 50],
      ['parts_cut'],
    ],
    ['what the total has more is output', [100, 0, 50, 0, 190], true, [100, 0, 90, 40], ['unlisted_output']],
    [
      'what the total has more than all readings is output',
      [100, 40, 50, 30, 900],
      true,
      [100, 40, 800, 780],
      ['unlisted_output'],
    ],
    ['what the total has more beside an input of 0 may be the input', [0, 0, 50, 0, 60], true, [0, 0, 50, 0], []],
    ['a total below its sides is ignored', [100, 40, 50, 30, 149], true, [100, 40, 50, 30], ['total_below_sides']],
    ['an output of 0 whose tokens are in the total', [100, 0, 0, 0, 160], true, [100, 0, 60, 60], ['unlisted_output']],
  ];
  for (const [guarantee, reported, reasoningInOutput, [input, cached, output, reasoning], flags] of rows) {
    it(guarantee, () => {
      const resolved = resolve(openAi(reported), reasoningInOutput);
      assert.deepEqual(resolved.usage, {
        ...NO_USAGE,
        inputTokens: input,
        cachedInputTokens: cached,
        outputTokens: output,
        reasoningTokens: reasoning,
      });
      assert.deepEqual(resolved.flags.toSorted(), flags.toSorted());
    });
  }

  it('a total that cannot be read is ignored and flagged', () => {
    for (const total of ['150', -150, 150.5, {}, true]) {
      const { usage, flags } = resolve({ prompt_tokens: 100, completion_tokens: 50, total_tokens: total });
      assert.deepEqual([usage.inputTokens, usage.outputTokens, flags], [100, 50, ['total_unreadable']]);
    }
  });

  it('an output that is missing is what the total leaves; an input that is missing can be counted by the gateway', () => {
    const { usage, flags } = resolve({ prompt_tokens: 100, total_tokens: 150 });
    assert.deepEqual([usage.inputTokens, usage.outputTokens, flags], [100, 50, ['output_from_total']]);
    assert.throws(() => resolve({ completion_tokens: 50, total_tokens: 150 }), InvalidCount);
    assert.throws(() => resolve({ prompt_tokens: 100 }), InvalidCount);
  });

  it('Anthropic’s input with a total that already contains the cache is not added up twice', () => {
    const { usage, flags } = resolve({
      input_tokens: 1000,
      output_tokens: 50,
      total_tokens: 1050,
      cache_read_input_tokens: 900,
    });
    assert.deepEqual([usage.inputTokens, usage.cachedInputTokens, flags], [1000, 900, ['cache_inside_input']]);
  });

  it('cache reads inside and writes beside the input: the smallest reading with room for both', () => {
    const details = { cached_tokens: 600, cache_write_tokens: 900 };
    const { usage, flags } = resolve({ prompt_tokens: 1000, completion_tokens: 0, prompt_tokens_details: details });
    assert.deepEqual([usage.inputTokens, flags], [1600, ['cache_beside_input']]);
    const told = resolve({
      prompt_tokens: 1000,
      completion_tokens: 0,
      total_tokens: 1900,
      prompt_tokens_details: details,
    });
    assert.deepEqual([told.usage.inputTokens, told.flags], [1900, ['cache_beside_input']]);
  });

  it('cache hits and misses that do not add up to the input: the larger one, unless the total confirms the input', () => {
    const split = { prompt_cache_hit_tokens: 60, prompt_cache_miss_tokens: 60, completion_tokens: 10 };
    for (const [more, input] of [
      [{ prompt_tokens: 100 }, 120],
      [{ prompt_tokens: 100, total_tokens: 110 }, 100],
      [{ prompt_tokens: 200 }, 200],
      [{}, 120],
    ] as const) {
      const { usage, flags } = resolve({ ...split, ...more });
      assert.deepEqual([usage.inputTokens, usage.cachedInputTokens], [input, 60], JSON.stringify(more));
      assert.equal(flags.includes('cache_split_differs'), 'prompt_tokens' in more);
    }
  });

  it('a cache hit counts as cached under every name, and a 0 elsewhere does not hide it', () => {
    for (const name of ['cached_tokens', 'num_cached_tokens', 'prompt_cache_hit_tokens', 'cache_read_input_tokens']) {
      const { usage, flags } = resolve({
        prompt_tokens: 100,
        completion_tokens: 5,
        total_tokens: 105,
        prompt_tokens_details: { cached_tokens: 0 },
        [name]: 90,
      });
      assert.deepEqual([usage.inputTokens, usage.cachedInputTokens, flags], [100, 90, []], name);
    }
  });
});

describe('usage contradictions: parts that exceed their whole', () => {
  const cuts: readonly [
    guarantee: string,
    wholes: readonly [number, number],
    input: readonly [cached: number, written: number, audio: number, image: number],
    output: readonly [reasoning: number, audio: number, image: number],
    left: readonly number[],
  ][] = [
    ['parts that fit are left alone', [100, 50], [40, 30, 20, 10], [30, 10, 10], [40, 30, 20, 10, 30, 10, 10]],
    ['cached is cut last', [100, 0], [100, 30, 20, 10], [0, 0, 0], [100, 0, 0, 0, 0, 0, 0]],
    ['cache writes are cut before cached', [100, 0], [60, 50, 20, 10], [0, 0, 0], [60, 40, 0, 0, 0, 0, 0]],
    ['audio input is cut before cache writes', [100, 0], [60, 30, 20, 10], [0, 0, 0], [60, 30, 10, 0, 0, 0, 0]],
    ['image input is cut first', [100, 0], [60, 30, 5, 10], [0, 0, 0], [60, 30, 5, 5, 0, 0, 0]],
    ['reasoning is cut last', [0, 50], [0, 0, 0, 0], [80, 10, 10], [0, 0, 0, 0, 50, 0, 0]],
    ['audio output is cut before reasoning', [0, 50], [0, 0, 0, 0], [45, 10, 10], [0, 0, 0, 0, 45, 5, 0]],
    ['image output is cut first', [0, 50], [0, 0, 0, 0], [30, 15, 10], [0, 0, 0, 0, 30, 15, 5]],
    ['input that is short does not cut output', [10, 50], [20, 0, 0, 0], [30, 10, 10], [10, 0, 0, 0, 30, 10, 10]],
  ];
  for (const [guarantee, [prompt, completion], input, output, left] of cuts) {
    it(guarantee, () => {
      const { usage, flags } = resolve({
        prompt_tokens: prompt,
        completion_tokens: completion,
        // The total makes sure of the wholes: parts cannot stand beside them.
        total_tokens: prompt + completion,
        prompt_tokens_details: {
          cached_tokens: input[0],
          cache_write_tokens: input[1],
          audio_tokens: input[2],
          image_tokens: input[3],
        },
        completion_tokens_details: { reasoning_tokens: output[0], audio_tokens: output[1], image_tokens: output[2] },
      });
      const parts = [
        usage.cachedInputTokens,
        usage.cacheWrite5mTokens,
        usage.audioInputTokens,
        usage.imageInputTokens,
        usage.reasoningTokens,
        usage.audioOutputTokens,
        usage.imageOutputTokens,
      ];
      assert.deepEqual(parts, left);
      assert.deepEqual([usage.inputTokens, usage.outputTokens], [prompt, completion], 'wholes are never changed');
      assert.equal(
        flags.includes('parts_cut'),
        left.some((part, index) => part !== [...input, ...output][index]),
      );
    });
  }
});

describe('usage contradictions: properties', () => {
  const count = fc.nat(1_000);
  const report = fc.record(
    {
      prompt_tokens: count,
      completion_tokens: count,
      total_tokens: fc.nat(4_000),
      prompt_tokens_details: fc.record({ cached_tokens: count, cache_write_tokens: count }, { requiredKeys: [] }),
      reasoning_tokens: count,
      prompt_cache_hit_tokens: count,
      cache_read_input_tokens: count,
    },
    { requiredKeys: ['prompt_tokens', 'completion_tokens'] },
  );

  it('the charge is never less than the named sides, nor more than all named parts and the total together', () => {
    fc.assert(
      fc.property(report, fc.boolean(), (sent, reasoningInOutput) => {
        const { usage, flags } = resolve(sent, reasoningInOutput);
        assert.ok(usage.inputTokens >= sent.prompt_tokens);
        assert.ok(usage.outputTokens >= sent.completion_tokens);
        const charged = usage.inputTokens + usage.outputTokens;
        if (usage.inputTokens > 0) assert.ok(charged >= (sent.total_tokens ?? 0), 'the total was produced');
        const { cacheRead, cacheWrite5m, reasoning } = readCounts(sent);
        const named = sent.prompt_tokens + sent.completion_tokens + cacheRead + cacheWrite5m + reasoning;
        assert.ok(charged <= Math.max(named, sent.total_tokens ?? 0));
        if (charged > (sent.total_tokens ?? 0) && (sent.total_tokens ?? 0) > 0) {
          assert.ok(flags.includes('total_below_sides'), 'what does not add up is flagged');
        }
      }),
      { numRuns: 3_000 },
    );
  });
});
