/**
 * Reading what an upstream reports: which numbers are evidence, which are refused so that the caller estimates, and
 * how parts that exceed their total are cut. What the numbers cost is rating.test.ts.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  DETAIL_FIELDS,
  NO_USAGE,
  parseAnthropicUsage,
  parseOpenAiUsage,
  type ParsedUsage,
  type Usage,
} from '../../domain/usage.ts';

type Raw = Record<string, unknown>;

interface Dialect {
  readonly name: string;
  readonly parse: (raw: unknown, options: { reasoningInOutput: boolean }) => ParsedUsage;
  /** A complete, valid report with every field that is read. */
  readonly complete: Raw;
  /** The two totals: without both there is nothing to charge by. */
  readonly totals: readonly [string, string];
  readonly sections: readonly string[];
}

const OPENAI: Dialect = {
  name: 'OpenAI',
  parse: parseOpenAiUsage,
  complete: {
    prompt_tokens: 1_000,
    completion_tokens: 500,
    total_tokens: 1_500,
    prompt_tokens_details: { cached_tokens: 400, cache_write_tokens: 50, audio_tokens: 30, image_tokens: 20 },
    completion_tokens_details: { reasoning_tokens: 300, audio_tokens: 40, image_tokens: 10 },
  },
  totals: ['prompt_tokens', 'completion_tokens'],
  sections: ['prompt_tokens_details', 'completion_tokens_details'],
};

const ANTHROPIC: Dialect = {
  name: 'Anthropic',
  parse: parseAnthropicUsage,
  complete: {
    input_tokens: 1_000,
    output_tokens: 500,
    cache_read_input_tokens: 400,
    cache_creation_input_tokens: 90,
    cache_creation: { ephemeral_5m_input_tokens: 50, ephemeral_1h_input_tokens: 40 },
    output_tokens_details: { thinking_tokens: 300 },
    server_tool_use: { web_search_requests: 2 },
  },
  totals: ['input_tokens', 'output_tokens'],
  sections: ['cache_creation', 'output_tokens_details', 'server_tool_use'],
};

const DIALECTS = [OPENAI, ANTHROPIC];

/** Fields that are read neither for money nor for the log: whatever they hold is no reason to refuse. */
const UNREAD = new Set(['total_tokens']);

const INSIDE = { reasoningInOutput: true };
const BESIDE = { reasoningInOutput: false };

/** `outer` or `outer.inner` for every count of a report. */
function countPaths(complete: Raw): string[] {
  return Object.entries(complete).flatMap(([outer, value]) =>
    typeof value === 'object' && value !== null ? Object.keys(value).map((inner) => `${outer}.${inner}`) : [outer],
  );
}

/** The report with one count replaced. */
function withCount(complete: Raw, path: string, value: unknown): Raw {
  const [outer = '', inner] = path.split('.');
  if (inner === undefined) return { ...complete, [outer]: value };
  return { ...complete, [outer]: { ...(complete[outer] as Raw), [inner]: value } };
}

function accepted(parsed: ParsedUsage): { usage: Usage; clamped: boolean } {
  if (!parsed.ok) assert.fail(`refused: ${parsed.reason}`);
  return parsed;
}

function assertRefused(parsed: ParsedUsage, naming: string): void {
  if (parsed.ok) assert.fail(`accepted as ${JSON.stringify(parsed.usage)}`);
  assert.ok(parsed.reason.includes(naming), `"${parsed.reason}" does not name ${naming}`);
}

const NOT_COUNTS: readonly [value: unknown, why: string][] = [
  [-1, 'negative'],
  [-(2 ** 53), 'hugely negative'],
  [0.5, 'a fraction'],
  [NaN, 'NaN'],
  [Infinity, 'infinite'],
  [2 ** 53, '2^53'],
  [1e300, 'beyond any count'],
  ['7', 'text'],
  ['', 'empty text'],
  [true, 'a boolean'],
  [7n, 'a bigint'],
  [{}, 'an object'],
  [[7], 'an array'],
];

describe('usage: whole reports', () => {
  it('OpenAI: totals contain their parts', () => {
    const { usage, clamped } = accepted(parseOpenAiUsage(OPENAI.complete, INSIDE));
    assert.equal(clamped, false);
    assert.deepEqual(usage, {
      ...NO_USAGE,
      inputTokens: 1_000,
      cachedInputTokens: 400,
      cacheWrite5mTokens: 50,
      audioInputTokens: 30,
      imageInputTokens: 20,
      outputTokens: 500,
      reasoningTokens: 300,
      audioOutputTokens: 40,
      imageOutputTokens: 10,
    });
  });

  it('OpenAI, reasoning beside the output: the output total is the sum', () => {
    const { usage } = accepted(parseOpenAiUsage(OPENAI.complete, BESIDE));
    assert.equal(usage.outputTokens, 800);
    assert.equal(usage.reasoningTokens, 300);
  });

  it('Anthropic: the input total is what was read, written and new', () => {
    const { usage, clamped } = accepted(
      parseAnthropicUsage({ ...ANTHROPIC.complete, output_tokens_details: null }, INSIDE),
    );
    assert.equal(clamped, false);
    assert.deepEqual(usage, {
      ...NO_USAGE,
      inputTokens: 1_490,
      cachedInputTokens: 400,
      cacheWrite5mTokens: 50,
      cacheWrite1hTokens: 40,
      outputTokens: 500,
      webSearches: 2,
    });
  });

  it("Anthropic: thinking is reasoning, under the name that Anthropic's SDK gives it", () => {
    const { usage } = accepted(parseAnthropicUsage(ANTHROPIC.complete, INSIDE));
    assert.equal(usage.outputTokens, 500);
    assert.equal(usage.reasoningTokens, 300);
  });

  it('fields that nobody knows yet do not spoil a report', () => {
    for (const { parse, complete } of DIALECTS) {
      const more = { ...complete, service_tier: 'standard', cost: -1, nested: { tokens: 'many' } };
      assert.deepEqual(parse(more, INSIDE), parse(complete, INSIDE));
    }
  });
});

describe('usage: what is no evidence', () => {
  for (const { name, parse, complete, totals, sections } of DIALECTS) {
    const paths = countPaths(complete).filter((path) => !UNREAD.has(path));

    for (const [value, why] of NOT_COUNTS) {
      it(`${name}: a count that is ${why} is refused by name, whichever field it stands in`, () => {
        for (const path of paths) {
          const field = path.split('.').at(-1) ?? path;
          assertRefused(parse(withCount(complete, path, value), INSIDE), field);
        }
      });
    }

    it(`${name}: 2^53 - 1 is a count in every part, 0 in every field`, () => {
      for (const path of paths) {
        accepted(parse(withCount(complete, path, 0), INSIDE));
      }
      for (const total of totals) {
        const alone = { [totals[0]]: 0, [totals[1]]: 0, [total]: Number.MAX_SAFE_INTEGER };
        accepted(parse(alone, INSIDE));
      }
    });

    it(`${name}: a part that is null or absent is 0`, () => {
      const [input, output] = totals;
      const bare = accepted(parse({ [input]: 10, [output]: 5 }, INSIDE)).usage;
      assert.deepEqual(bare, { ...NO_USAGE, inputTokens: 10, outputTokens: 5 });
      const nulls = Object.fromEntries(Object.keys(complete).map((field) => [field, null]));
      assert.deepEqual(accepted(parse({ ...nulls, [input]: 10, [output]: 5 }, INSIDE)).usage, bare);
    });

    for (const [raw, why] of [
      [undefined, 'undefined'],
      [null, 'null'],
      ['10', 'text'],
      [10, 'a number'],
      [[complete], 'an array'],
      [() => complete, 'a function'],
    ] as const) {
      it(`${name}: ${why} is not a report`, () => {
        assertRefused(parse(raw, INSIDE), 'usage');
      });
    }

    it(`${name}: an empty report is missing usage, not a free request`, () => {
      assertRefused(parse({}, INSIDE), 'missing');
    });

    // Accepted as 0, a lost total would give its side of the answer away without even the mark `estimated`.
    for (const total of totals) {
      it(`${name}: without ${total} the usage is missing, not 0`, () => {
        const rest = Object.fromEntries(Object.entries(complete).filter(([field]) => field !== total));
        assertRefused(parse(rest, INSIDE), total);
      });

      it(`${name}: with ${total} null the usage is missing, not 0`, () => {
        assertRefused(parse({ ...complete, [total]: null }, INSIDE), total);
      });
    }

    for (const section of sections) {
      it(`${name}: ${section} that is not an object is refused by name`, () => {
        for (const value of ['', 'none', 0, 7, true, [], [7]]) {
          assertRefused(parse({ ...complete, [section]: value }, INSIDE), section);
        }
      });
    }

    it(`${name}: parts that add up beyond 2^53 - 1 are refused, not rounded`, () => {
      const most = Number.MAX_SAFE_INTEGER;
      const [input, output] = totals;
      if (name === 'Anthropic') {
        assertRefused(parse({ [input]: most, cache_read_input_tokens: 1, [output]: 0 }, INSIDE), 'sum');
        assertRefused(parse({ [input]: most, cache_creation_input_tokens: most, [output]: 0 }, INSIDE), 'sum');
      } else {
        const reasoning = { completion_tokens_details: { reasoning_tokens: 1 } };
        assertRefused(parse({ [input]: 0, [output]: most, ...reasoning }, BESIDE), 'sum');
        accepted(parse({ [input]: 0, [output]: most, ...reasoning }, INSIDE));
      }
    });
  }
});

describe('usage: parts that exceed their total', () => {
  /** prompt, completion, then the parts reported and the parts that are left, each in the order of cutting. */
  const cuts: readonly [
    guarantee: string,
    totals: readonly [number, number],
    input: readonly [cached: number, written: number, audio: number, image: number],
    output: readonly [reasoning: number, audio: number, image: number],
    left: readonly number[],
    clamped: boolean,
  ][] = [
    ['parts that fit are left alone', [100, 50], [40, 30, 20, 10], [30, 10, 10], [40, 30, 20, 10, 30, 10, 10], false],
    ['cached is cut last', [100, 0], [100, 30, 20, 10], [0, 0, 0], [100, 0, 0, 0, 0, 0, 0], true],
    ['cache writes are cut before cached', [100, 0], [60, 50, 20, 10], [0, 0, 0], [60, 40, 0, 0, 0, 0, 0], true],
    ['audio input is cut before cache writes', [100, 0], [60, 30, 20, 10], [0, 0, 0], [60, 30, 10, 0, 0, 0, 0], true],
    ['image input is cut first', [100, 0], [60, 30, 5, 10], [0, 0, 0], [60, 30, 5, 5, 0, 0, 0], true],
    ['reasoning is cut last', [0, 50], [0, 0, 0, 0], [80, 10, 10], [0, 0, 0, 0, 50, 0, 0], true],
    ['audio output is cut before reasoning', [0, 50], [0, 0, 0, 0], [45, 10, 10], [0, 0, 0, 0, 45, 5, 0], true],
    ['image output is cut first', [0, 50], [0, 0, 0, 0], [30, 15, 10], [0, 0, 0, 0, 30, 15, 5], true],
    ['input that is short does not cut output', [10, 50], [20, 0, 0, 0], [30, 10, 10], [10, 0, 0, 0, 30, 10, 10], true],
    ['parts of 0 tokens are all cut', [0, 0], [1, 1, 1, 1], [1, 1, 1], [0, 0, 0, 0, 0, 0, 0], true],
  ];
  for (const [guarantee, [prompt, completion], input, output, left, clamped] of cuts) {
    it(guarantee, () => {
      const raw = {
        prompt_tokens: prompt,
        completion_tokens: completion,
        prompt_tokens_details: {
          cached_tokens: input[0],
          cache_write_tokens: input[1],
          audio_tokens: input[2],
          image_tokens: input[3],
        },
        completion_tokens_details: { reasoning_tokens: output[0], audio_tokens: output[1], image_tokens: output[2] },
      };
      const parsed = accepted(parseOpenAiUsage(raw, INSIDE));
      const { usage } = parsed;
      assert.deepEqual(
        [
          usage.cachedInputTokens,
          usage.cacheWrite5mTokens,
          usage.audioInputTokens,
          usage.imageInputTokens,
          usage.reasoningTokens,
          usage.audioOutputTokens,
          usage.imageOutputTokens,
        ],
        left,
      );
      assert.deepEqual([usage.inputTokens, usage.outputTokens], [prompt, completion], 'totals are never changed');
      assert.equal(parsed.clamped, clamped);
    });
  }

  it('whatever is accepted has whole parts that fit their totals', () => {
    const count = fc.oneof(fc.nat(100), fc.maxSafeNat(), fc.constant(Number.MAX_SAFE_INTEGER));
    const reports = DIALECTS.map((dialect) =>
      fc
        .tuple(...countPaths(dialect.complete).map((path) => fc.tuple(fc.constant(path), count)))
        .map((counts) => counts.reduce<Raw>((raw, [path, value]) => withCount(raw, path, value), dialect.complete))
        .map((raw) => ({ dialect, raw })),
    );
    fc.assert(
      fc.property(fc.oneof(...reports), fc.boolean(), ({ dialect, raw }, reasoningInOutput) => {
        const parsed = dialect.parse(raw, { reasoningInOutput });
        if (!parsed.ok) return;
        const { usage } = parsed;
        for (const [field, tokens] of Object.entries(usage) as [string, number][]) {
          assert.ok(Number.isSafeInteger(tokens) && tokens >= 0, `${field} is ${tokens}`);
        }
        const input =
          usage.cachedInputTokens +
          usage.cacheWrite5mTokens +
          usage.cacheWrite1hTokens +
          usage.audioInputTokens +
          usage.imageInputTokens;
        const output = usage.reasoningTokens + usage.audioOutputTokens + usage.imageOutputTokens;
        assert.ok(input <= usage.inputTokens);
        assert.ok(output <= usage.outputTokens);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('usage: the log row', () => {
  it('every dimension has a column of its own or is kept as detail, none is both', () => {
    const columns = ['inputTokens', 'cachedInputTokens', 'outputTokens', 'reasoningTokens'];
    assert.deepEqual([...columns, ...DETAIL_FIELDS].toSorted(), Object.keys(NO_USAGE).toSorted());
  });

  it('no usage is 0 of everything', () => {
    assert.ok(Object.values(NO_USAGE).every((tokens) => tokens === 0));
  });
});
