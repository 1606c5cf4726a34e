/**
 * The cost of a request, from the upstream's own usage object to the last pico-USD: one table of golden rows
 * (reported-usage.ts and rating.ts together), one table of holds, and the properties that tie the two.
 *
 * The expected amounts are worked out by hand from the price lists below, never by the code under test. Rows that
 * name a public issue repeat the usage reported there and the cost that the provider really charged.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatUsd, picoUsd, usd, type PicoUsd } from '../../../../domain/money.ts';
import {
  compilePrices,
  isPriceProblem,
  tiersAt,
  TOKEN_DIMENSIONS,
  UNIT_DIMENSIONS,
  type PriceText,
  type PriceVersion,
  type PriceVersionText,
} from '../../../../domain/requests/prices.ts';
import { rate, worstCase, type Rated, type Reach } from '../../../../domain/requests/rating.ts';
import { mergeReportedUsage, readReportedUsage, type ReadUsage } from '../../../../domain/usage/reported-usage.ts';
import { NO_USAGE, type Usage } from '../../../../domain/usage/usage.ts';

const CLAUDE: PriceText = {
  input: '3',
  cached_input: '0.3',
  cache_write_5m: '3.75',
  cache_write_1h: '6',
  output: '15',
  web_search: '0.01',
};
const CLAUDE_LONG: PriceText = {
  input: '6',
  cached_input: '0.6',
  cache_write_5m: '7.5',
  cache_write_1h: '12',
  output: '22.5',
  web_search: '0.01',
};
const FLASH: PriceText = { input: '1.25', cached_input: '0.125', output: '10' };
const FLASH_LONG: PriceText = { input: '2.5', cached_input: '0.25', output: '15' };

const PRICE_LISTS = {
  chat: { prices: { input: '2.5', cached_input: '1.25', output: '10' } },
  plain: { prices: { input: '3', output: '15' } },
  claude: { prices: CLAUDE },
  claude_long: { prices: CLAUDE, tiers: [{ min_input_tokens: 200_001, prices: CLAUDE_LONG }] },
  flash_long: { prices: FLASH, tiers: [{ min_input_tokens: 200_001, prices: FLASH_LONG }] },
  thinker: { prices: { input: '2', output: '8', reasoning: '3' } },
  outside: { prices: { input: '3', output: '15' }, reasoning_in_output: false },
  outside_own: { prices: { input: '3', output: '15', reasoning: '20' }, reasoning_in_output: false },
  voice: { prices: { input: '2.5', output: '10', audio_in: '40', audio_out: '80' } },
  vision: { prices: { input: '5', output: '10', image_in: '10', image_out: '40' } },
  per_call: { prices: { request: '0.04' } },
  call_and_tokens: { prices: { input: '1', output: '1', request: '0.005' } },
  picture: { prices: { request: '0.000000000001', image: '0.03' } },
  speech: { prices: { second: '0.0001' } },
  // Cheaper from 16:30 to 00:30 UTC, every day.
  night: {
    prices: { input: '0.27', output: '1.10' },
    windows: [{ from: '16:30', to: '00:30', prices: { input: '0.135', output: '0.55' } }],
  },
  // Dearer on working days, and dearer still for long input within those hours.
  rush: {
    prices: { input: '2', output: '10' },
    windows: [
      {
        days: [1, 2, 3, 4, 5],
        from: '09:00',
        to: '17:00',
        prices: { input: '4', output: '20' },
        tiers: [{ min_input_tokens: 1_000, prices: { input: '5', output: '25' } }],
      },
    ],
  },
  free: { prices: { input: '0', output: '0' } },
  pico: { prices: { input: '0.000001', output: '0.000001' } },
  odd: { prices: { input: '0.000123', output: '1.999999' } },
  absurd: { prices: { input: '20000000000', output: '15' } },
  // Lists of public issues.
  opus: { prices: { input: '5', cache_write_5m: '6.25', output: '25' } },
  gpt5: { prices: FLASH },
  gemini: { prices: { input: '1.25', cached_input: '0.625', output: '10' } },
  glm: { prices: { input: '1.4', cached_input: '0.26', output: '4.4' } },
  grok: { prices: { input: '2', cached_input: '0.5', output: '6' } },
  pro: { prices: { input: '30', output: '180' } },
  nano: { prices: { input: '0.05', cached_input: '0.005', output: '0.4' } },
} satisfies Record<string, PriceVersionText>;

/**
 * guarantee | price list, `@` time of the hold where it matters | dialect and what the upstream reports | cost in USD.
 * Instead of a cost: `refused <field>` (the usage is invalid, the caller estimates) or `beyond` (more than the ledger
 * can store). `clamped` after a cost: parts exceeded their total and were cut to it. 2026-03-02 is a Monday.
 */
const TABLE = `
an ordinary call is input plus output                         | chat            | openai prompt=1000 output=500                                   | 0.007500000000
one token of each class is exact                              | chat            | openai prompt=1 output=1                                        | 0.000012500000
input without output is paid                                  | chat            | openai prompt=1000 output=0                                     | 0.002500000000
output without input is paid                                  | chat            | openai prompt=0 output=500                                      | 0.005000000000
0 tokens cost nothing                                         | chat            | openai prompt=0 output=0                                        | 0.000000000000
0 tokens cost nothing in Anthropic's shape                    | claude          | anthropic input=0 output=0                                      | 0.000000000000

cached input is a part of the prompt, not added to it         | chat            | openai prompt=1000 cached=400 output=10                         | 0.002100000000
a prompt that was cached whole pays only the cached price     | chat            | openai prompt=400 cached=400 output=10                          | 0.000600000000
cached input without a price of its own is input              | plain           | openai prompt=1000 cached=400 output=10                         | 0.003150000000
more cached input than prompt stands beside the prompt        | chat            | openai prompt=100 cached=900 output=10                          | 0.001475000000
more cached input than prompt is cut where the total says so  | chat            | openai prompt=100 cached=900 output=10 total=110                | 0.000225000000 clamped
one cached token of a cheap model is not rounded away         | nano            | openai prompt=1 cached=1 output=0                               | 0.000000005000
a cache write is a part of the prompt in OpenAI's shape       | claude          | openai prompt=1000 cached=600 written=300 output=10             | 0.001755000000
cache reads and writes of more than the prompt are all paid   | claude          | openai prompt=1000 cached=600 written=900 output=0              | 0.003855000000
cached input, then cache writes, are cut to a sure prompt     | claude          | openai prompt=1000 cached=600 written=900 output=0 total=1000   | 0.001680000000 clamped
absent details are zero                                       | chat            | openai prompt=1000 cached=null output=500 reasoning=null        | 0.007500000000

Anthropic's input excludes what was read from the cache       | claude          | anthropic input=100 read=900 output=50                          | 0.001320000000
a cache write lives five minutes unless the split says more   | claude          | anthropic input=100 written=1000 output=50                      | 0.004800000000
cache writes of 5 m and 1 h have prices of their own          | claude          | anthropic input=10 read=100 written=1000 5m=400 1h=600 output=20 | 0.005460000000
the split alone is enough                                     | claude          | anthropic input=10 5m=400 1h=600 output=20                      | 0.005430000000
what the split does not name is a five-minute write           | claude          | anthropic input=10 written=1000 1h=500 output=20                | 0.005205000000
cache writes without a price of their own are input           | plain           | anthropic input=100 written=900 output=10                       | 0.003150000000
cache reads without a price of their own are input            | plain           | anthropic input=100 read=900 output=10                          | 0.003150000000
Anthropic's nulls are zero                                    | claude          | anthropic input=100 read=null written=null output=50            | 0.001050000000
web searches are paid each, on top of tokens                  | claude          | anthropic input=100 output=50 searches=3                        | 0.031050000000

reasoning is a part of the output, not added to it            | plain           | openai prompt=1000 output=500 reasoning=400                     | 0.010500000000
all of the output may be reasoning                            | plain           | openai prompt=1000 output=500 reasoning=500                     | 0.010500000000
reasoning with a price of its own                             | thinker         | openai prompt=100 output=1000 reasoning=700                     | 0.004700000000
more reasoning than output stands beside the output           | thinker         | openai prompt=100 output=10 reasoning=700                       | 0.002380000000
more reasoning than output is cut where the total says so     | thinker         | openai prompt=100 output=10 reasoning=700 total=110             | 0.000230000000 clamped
reasoning that is reported beside the output is added         | outside         | openai prompt=1000 output=500 reasoning=5000                    | 0.085500000000
reasoning beside the output with a price of its own           | outside_own     | openai prompt=1000 output=500 reasoning=5000                    | 0.110500000000
reasoning beside an output of 0 is still paid                 | outside_own     | openai prompt=1000 output=0 reasoning=5000                      | 0.103000000000
Anthropic's thinking is a part of the output                  | plain           | anthropic input=1000 output=500 thinking=400                    | 0.010500000000
Anthropic's thinking with a price of its own                  | thinker         | anthropic input=100 output=1000 thinking=700                    | 0.004700000000

audio in and out have prices of their own                     | voice           | openai prompt=500 audio_in=400 output=250 audio_out=200         | 0.032750000000
audio without a price of its own is input and output          | plain           | openai prompt=500 audio_in=400 output=250 audio_out=200         | 0.005250000000
audio that was cached is charged as cached, once              | chat            | openai prompt=500 cached=500 audio_in=400 output=0              | 0.000625000000 clamped
images in and out have prices of their own                    | vision          | openai prompt=500 image_in=400 output=1050 image_out=1000       | 0.045000000000
images without a price of their own are input and output      | plain           | openai prompt=500 image_in=400 output=250 image_out=200         | 0.005250000000
reasoning and audio share one output                          | voice           | openai prompt=0 output=100 reasoning=30 audio_out=60            | 0.005200000000

a flat price per call does not depend on tokens               | per_call        | openai prompt=123456 output=7890                                | 0.040000000000
a flat price per call is due at 0 tokens                      | per_call        | openai prompt=0 output=0                                        | 0.040000000000
a price per call is added to token prices                     | call_and_tokens | openai prompt=100 output=200                                    | 0.005300000000
a flat price per call is due for each answer                  | per_call        | counted further=99                                              | 4.000000000000
images are paid each, a unit price may be one pico-USD        | picture         | counted images=4                                                | 0.120000000001
seconds are paid each                                         | speech          | counted seconds=61                                              | 0.006100000000
searches are not paid where they have no price                | plain           | anthropic input=1000 output=500 searches=3                      | 0.010500000000
a free model costs nothing                                    | free            | openai prompt=123456 output=7890                                | 0.000000000000

one token below the tier                                      | flash_long      | openai prompt=200000 output=10                                  | 0.250100000000
at the tier the whole request has the tier's prices           | flash_long      | openai prompt=200001 output=10                                  | 0.500152500000
one token above the tier                                      | flash_long      | openai prompt=200002 output=10                                  | 0.500155000000
cached input counts towards the tier                          | flash_long      | openai prompt=200001 cached=200000 output=10                    | 0.050152500000
output does not count towards the tier                        | flash_long      | openai prompt=1 output=300000                                   | 3.000001250000
Anthropic's cache reads count up to the tier                  | claude_long     | anthropic input=1000 read=199000 output=10                      | 0.062850000000
Anthropic's cache reads count towards the tier                | claude_long     | anthropic input=1001 read=199000 output=10                      | 0.125631000000
Anthropic's cache writes count towards the tier               | claude_long     | anthropic input=1 written=200000 output=0                       | 1.500006000000

the minute before the window                                  | night@2026-03-02T16:29:59.999Z | openai prompt=1000 output=1000                   | 0.001370000000
the first minute of the window                                | night@2026-03-02T16:30:00.000Z | openai prompt=1000 output=1000                   | 0.000685000000
the last minute of the window, after midnight                 | night@2026-03-03T00:29:59.999Z | openai prompt=1000 output=1000                   | 0.000685000000
the first minute after the window                             | night@2026-03-03T00:30:00.000Z | openai prompt=1000 output=1000                   | 0.001370000000
a tier inside a window, below                                 | rush@2026-03-02T12:00:00.000Z  | openai prompt=999 output=1                       | 0.004016000000
a tier inside a window, reached                               | rush@2026-03-02T12:00:00.000Z  | openai prompt=1000 output=1                      | 0.005025000000
a window of working days does not apply on a Sunday           | rush@2026-03-01T12:00:00.000Z  | openai prompt=1000 output=1                      | 0.002010000000

the smallest price times one token is one pico-USD            | pico            | openai prompt=1 output=0                                        | 0.000000000001
six decimals of price are exact                               | odd             | openai prompt=7 output=3                                        | 0.000006000858
2^53 - 1 tokens are exact                                     | chat            | openai prompt=2^53-1 output=0                                   | 22517998136.852477500000
2^53 - 1 tokens in and out are exact                          | pico            | openai prompt=2^53-1 output=2^53-1                              | 18014.398509481982
2^53 - 1 tokens that were all cached                          | chat            | openai prompt=2^53-1 cached=2^53-1 output=0                     | 11258999068.426238750000
2^53 tokens are no evidence                                   | chat            | openai prompt=2^53 output=0                                     | refused prompt_tokens
2^53 tokens of output are no evidence                         | chat            | openai prompt=0 output=2^53                                     | refused completion_tokens
parts whose sum is 2^53 are no evidence                       | claude          | anthropic input=2^53-1 read=1 output=0                          | refused sum
output and reasoning beside it whose sum is 2^53              | outside         | openai prompt=0 output=2^53-1 reasoning=1                       | refused sum
a cost above 1e20 USD is refused, not wrapped                 | absurd          | openai prompt=2^53-1 output=0                                   | beyond
negative tokens are never a credit                            | chat            | openai prompt=-1000 output=500                                  | refused prompt_tokens
a negative part is never a credit                             | chat            | openai prompt=1000 cached=-400 output=500                       | refused cached_tokens
half a token is no evidence                                   | chat            | openai prompt=1000 output=0.5                                   | refused completion_tokens
a count in text is no evidence                                | claude          | anthropic input="100" output=50                                 | refused input_tokens

litellm 9812: a cache write is not charged as input too       | claude          | anthropic input=3 written=12304 read=0 output=550               | 0.054399000000
litellm 11364: cache reads are not charged as input           | claude          | anthropic input=6 read=30940 written=460 output=102             | 0.012555000000
bifrost 3451: a cache write in a stream, once                 | opus            | anthropic input=6 written=159217 output=2745                    | 1.063761250000
bifrost 904: cached tokens at the cached price                | gpt5            | openai prompt=1239328 cached=1188096 output=12909               | 0.341642000000
litellm 6215: cached is a part of the prompt                  | chat            | openai prompt=2006 cached=1920 output=300 reasoning=0           | 0.005615000000
litellm 15945: cached is a part of the prompt                 | gpt5            | openai prompt=9126 cached=4864 output=3197                      | 0.037905500000
litellm 14849: cache hits are not charged twice               | gemini          | openai prompt=262960 cached=257955 output=1744 reasoning=0      | 0.184918125000
litellm 31714: the cached price is applied                    | glm             | openai prompt=27147 cached=27146 output=351                     | 0.008603760000
litellm 37407: a cached image is charged once                 | grok            | openai prompt=2461 cached=2432 image_in=1142 output=606         | 0.004910000000 clamped
opencode 534: cache reads and writes of one OpenRouter call   | claude          | openai prompt=15328 cached=15252 written=70 output=457          | 0.011711100000
opencode 17566: reasoning is not added to the output          | pro             | openai prompt=14746 output=1944 reasoning=1360                  | 0.792300000000
litellm 18599: output beside the reasoning is not forgotten   | nano            | openai prompt=0 output=977 reasoning=768                        | 0.000390800000
llmgateway 3435: Anthropic's thinking is not added            | plain           | anthropic input=51 output=136 thinking=31                       | 0.002193000000
`;

/** Where a dialect reports what the table calls by its short name. */
const OPENAI_FIELDS: Readonly<Record<string, string>> = {
  prompt: 'prompt_tokens',
  cached: 'prompt_tokens_details.cached_tokens',
  written: 'prompt_tokens_details.cache_write_tokens',
  audio_in: 'prompt_tokens_details.audio_tokens',
  image_in: 'prompt_tokens_details.image_tokens',
  output: 'completion_tokens',
  reasoning: 'completion_tokens_details.reasoning_tokens',
  audio_out: 'completion_tokens_details.audio_tokens',
  image_out: 'completion_tokens_details.image_tokens',
  total: 'total_tokens',
};
const ANTHROPIC_FIELDS: Readonly<Record<string, string>> = {
  input: 'input_tokens',
  read: 'cache_read_input_tokens',
  written: 'cache_creation_input_tokens',
  '5m': 'cache_creation.ephemeral_5m_input_tokens',
  '1h': 'cache_creation.ephemeral_1h_input_tokens',
  output: 'output_tokens',
  thinking: 'output_tokens_details.thinking_tokens',
  searches: 'server_tool_use.web_search_requests',
};
const COUNTED_FIELDS: Readonly<Record<string, keyof Usage>> = {
  further: 'furtherAnswers',
  images: 'images',
  seconds: 'seconds',
};

interface Row {
  readonly guarantee: string;
  readonly version: PriceVersion;
  readonly heldAt: Date;
  readonly reported: string;
  readonly expected: string;
}

function compile(text: PriceVersionText): PriceVersion {
  const version = compilePrices(text);
  if (isPriceProblem(version)) throw new Error(`not a price version: ${version.field} ${version.message}`);
  return version;
}

function rowOf(line: string): Row {
  const cells = line.split('|').map((cell) => cell.trim());
  const [guarantee, prices, reported, expected] = cells;
  assert.ok(cells.length === 4 && guarantee && prices && reported && expected, `not a row: ${line}`);
  const [list = '', heldAt = '2026-03-02T12:00:00.000Z'] = prices.split('@');
  assert.ok(Object.hasOwn(PRICE_LISTS, list), `not a price list: ${list}`);
  const version = compile(PRICE_LISTS[list as keyof typeof PRICE_LISTS]);
  return { guarantee, version, heldAt: new Date(heldAt), reported, expected };
}

const ROWS = TABLE.split('\n')
  .filter((line) => line.trim() !== '')
  .map(rowOf);

function valueOf(text: string): unknown {
  if (text === '2^53') return 2 ** 53;
  if (text === '2^53-1') return 2 ** 53 - 1;
  return JSON.parse(text);
}

/** The dialect's own usage object, from the table's short form. */
function rawUsage(fields: Readonly<Record<string, string>>, pairs: readonly string[]): Record<string, unknown> {
  const raw: Record<string, unknown> = {};
  for (const pair of pairs) {
    const [name = '', text = ''] = pair.split('=');
    const path = fields[name];
    assert.ok(path !== undefined, `not a field: ${name}`);
    const [outer = '', inner] = path.split('.');
    if (inner === undefined) raw[outer] = valueOf(text);
    else raw[outer] = { ...(raw[outer] as object | undefined), [inner]: valueOf(text) };
  }
  return raw;
}

function readUsage(usage: unknown, options: { reasoningInOutput: boolean }): ReadUsage {
  const reported = mergeReportedUsage(null, { usage });
  return reported === null ? { ok: false, reason: 'nothing', raw: null } : readReportedUsage(reported, options);
}

function readRow({ reported, version }: Row): ReadUsage {
  const [dialect, ...pairs] = reported.split(/\s+/);
  const options = { reasoningInOutput: version.reasoningInOutput };
  switch (dialect) {
    case 'openai':
      return readUsage(rawUsage(OPENAI_FIELDS, pairs), options);
    case 'anthropic':
      return readUsage(rawUsage(ANTHROPIC_FIELDS, pairs), options);
    case 'counted': {
      // Units that the gateway counts itself; no upstream reports them.
      return { ok: true, usage: { ...NO_USAGE, ...rawUsage(COUNTED_FIELDS, pairs) }, flags: [], raw: null };
    }
    default:
      throw new Error(`not a dialect: ${dialect}`);
  }
}

/** A receipt must add up on its own: that is what a customer can check. */
function assertReceiptAddsUp({ cost, lines }: Rated): void {
  let sum = 0n;
  for (const line of lines) {
    assert.equal(line.amount, line.quantity * line.unitPrice, `line ${line.dimension}`);
    assert.ok(line.quantity > 0n && line.unitPrice > 0n, `line ${line.dimension} says nothing`);
    sum += line.amount;
  }
  assert.equal(cost, sum);
}

function assertRefused(parsed: ReadUsage, field: string): void {
  assert.ok(!parsed.ok, 'accepted');
  assert.ok(parsed.reason.includes(field), `"${parsed.reason}" does not name ${field}`);
}

describe('rating: from what the upstream reports to the exact cost', () => {
  for (const row of ROWS) {
    it(`${row.guarantee}: ${row.reported} ⇒ ${row.expected}`, () => {
      const parsed = readRow(row);
      const [verdict, detail = ''] = row.expected.split(' ');
      if (verdict === 'refused') {
        assertRefused(parsed, detail);
        return;
      }
      assert.ok(parsed.ok, 'the usage was refused');
      const tiers = tiersAt(row.version, row.heldAt);
      if (verdict === 'beyond') {
        assert.throws(() => rate(tiers, parsed.usage), RangeError);
        return;
      }
      const rated = rate(tiers, parsed.usage);
      assert.equal(formatUsd(rated.cost), formatUsd(usd(verdict ?? '')));
      assert.equal(parsed.flags.includes('parts_cut'), detail === 'clamped');
      assertReceiptAddsUp(rated);
    });
  }

  it('the receipt names each dimension with its quantity and price, and leaves out what costs nothing', () => {
    const usage = {
      ...NO_USAGE,
      inputTokens: 1_110,
      cachedInputTokens: 100,
      cacheWrite1hTokens: 1_000,
      outputTokens: 20,
    };
    const { lines } = rate(compile(PRICE_LISTS.claude).tiers, usage);
    assert.deepEqual(
      lines.map((line) => [line.dimension, line.quantity, formatUsd(line.unitPrice), formatUsd(line.amount)]),
      [
        ['input', 10n, '0.000003000000', '0.000030000000'],
        ['cached_input', 100n, '0.000000300000', '0.000030000000'],
        ['cache_write_1h', 1_000n, '0.000006000000', '0.006000000000'],
        ['output', 20n, '0.000015000000', '0.000300000000'],
      ],
    );
  });
});

const TEXT_ONLY: Reach = {
  inputTokens: 0,
  outputTokens: 0,
  audioInput: false,
  imageInput: false,
  audioOutput: false,
  imageOutput: false,
  images: 0,
  webSearches: 0,
  seconds: 0,
};

describe('worst case: what a hold must cover', () => {
  const holds: readonly [guarantee: string, list: keyof typeof PRICE_LISTS, reach: Partial<Reach>, expected: string][] =
    [
      ['input and output at their prices', 'plain', { inputTokens: 1_000, outputTokens: 500 }, '0.0105'],
      ['nothing is cached until the upstream says so', 'chat', { inputTokens: 1_000, outputTokens: 500 }, '0.0075'],
      [
        'input may all be written to the most expensive cache',
        'claude',
        { inputTokens: 1_000, outputTokens: 500 },
        '0.0135',
      ],
      ['output may all be dearer reasoning', 'outside_own', { inputTokens: 1_000, outputTokens: 500 }, '0.013'],
      ['cheaper reasoning does not lower the hold', 'thinker', { inputTokens: 1_000, outputTokens: 500 }, '0.006'],
      ['audio prices do not touch a text request', 'voice', { inputTokens: 1_000, outputTokens: 500 }, '0.0075'],
      [
        'audio input may be all of the input',
        'voice',
        { inputTokens: 1_000, outputTokens: 500, audioInput: true },
        '0.045',
      ],
      [
        'audio output may be all of the output',
        'voice',
        { inputTokens: 1_000, outputTokens: 500, audioOutput: true },
        '0.0425',
      ],
      ['image prices do not touch a text request', 'vision', { inputTokens: 1_000, outputTokens: 500 }, '0.01'],
      [
        'image input may be all of the input',
        'vision',
        { inputTokens: 1_000, outputTokens: 500, imageInput: true },
        '0.015',
      ],
      [
        'image output may be all of the output',
        'vision',
        { inputTokens: 1_000, outputTokens: 500, imageOutput: true },
        '0.025',
      ],
      ['one token short of a tier', 'flash_long', { inputTokens: 200_000, outputTokens: 10 }, '0.2501'],
      ['a tier that can be reached is held', 'flash_long', { inputTokens: 200_001, outputTokens: 10 }, '0.5001525'],
      ['a flat price per call', 'per_call', { inputTokens: 9_999, outputTokens: 9_999 }, '0.04'],
      ['a flat price per call is held for each answer', 'per_call', { inputTokens: 9_999, furtherAnswers: 99 }, '4'],
      ['units are held by their number', 'picture', { images: 4 }, '0.120000000001'],
      ['searches come on top of tokens', 'claude', { inputTokens: 100, webSearches: 3 }, '0.0306'],
      ['seconds are held by their number', 'speech', { seconds: 61 }, '0.0061'],
      ['a free model holds nothing', 'free', { inputTokens: 9_999, outputTokens: 9_999 }, '0'],
    ];
  for (const [guarantee, list, reach, expected] of holds) {
    it(`${guarantee}: ${list} ${JSON.stringify(reach)} ⇒ ${expected}`, () => {
      const hold = worstCase(compile(PRICE_LISTS[list]).tiers, { ...TEXT_ONLY, ...reach });
      assert.equal(formatUsd(hold), formatUsd(usd(expected)));
    });
  }

  it('a cheaper tier for long input does not lower the hold, since the real input may stay below it', () => {
    const { tiers } = compile({
      prices: { input: '4', output: '8' },
      tiers: [{ min_input_tokens: 1_000, prices: { input: '1', output: '2' } }],
    });
    assert.equal(worstCase(tiers, { ...TEXT_ONLY, inputTokens: 2_000, outputTokens: 10 }), usd('0.00808'));
  });

  it('a price per call is held at the highest tier that can be reached', () => {
    const { tiers } = compile({
      prices: { request: '0.01' },
      tiers: [{ min_input_tokens: 1_000, prices: { request: '0.02' } }],
    });
    assert.equal(worstCase(tiers, { ...TEXT_ONLY, inputTokens: 999 }), usd('0.01'));
    assert.equal(worstCase(tiers, { ...TEXT_ONLY, inputTokens: 1_000 }), usd('0.02'));
  });

  it('a hold beyond 1e20 USD is refused, not wrapped', () => {
    const reach = { ...TEXT_ONLY, inputTokens: Number.MAX_SAFE_INTEGER };
    assert.throws(() => worstCase(compile(PRICE_LISTS.absurd).tiers, reach), RangeError);
  });
});

/** Decimal USD per million tokens or per unit, as the catalogue would write it; 0 and one pico-USD included. */
const tokenPriceText = fc
  .oneof(fc.constantFrom(0, 1), fc.integer({ min: 0, max: 200_000_000 }))
  .map((micros) => formatUsd(picoUsd(BigInt(micros) * 1_000_000n)));
const unitPriceText = fc.integer({ min: 0, max: 2_000_000_000 }).map((pico) => formatUsd(picoUsd(BigInt(pico))));

const PRICE_BY_DIMENSION = Object.fromEntries([
  ...TOKEN_DIMENSIONS.map((dimension) => [dimension, tokenPriceText]),
  ...UNIT_DIMENSIONS.map((dimension) => [dimension, unitPriceText]),
]) as Record<string, fc.Arbitrary<string>>;

/**
 * Up to three further tiers, dearer or cheaper. Each row prices the same dimensions, whichever those are: a tier
 * that forgot one would be refused by the compiler.
 */
const tiersArbitrary = fc
  .record({
    dimensions: fc.subarray([...TOKEN_DIMENSIONS, ...UNIT_DIMENSIONS]),
    starts: fc.uniqueArray(fc.integer({ min: 1, max: 2_000_000 }), { maxLength: 3 }),
  })
  .chain(({ dimensions, starts }) => {
    const row = fc.record(Object.fromEntries(dimensions.map((name) => [name, PRICE_BY_DIMENSION[name]!])));
    return fc.array(row, { minLength: starts.length + 1, maxLength: starts.length + 1 }).map(([prices, ...rest]) => {
      const sorted = starts.toSorted((a, b) => a - b);
      const tiers = sorted.map((start, index) => ({ min_input_tokens: start, prices: rest[index]! }));
      return compile({ prices: prices!, tiers }).tiers;
    });
  });

const reachArbitrary: fc.Arbitrary<Reach> = fc.record({
  inputTokens: fc.integer({ min: 0, max: 3_000_000 }),
  outputTokens: fc.integer({ min: 0, max: 200_000 }),
  audioInput: fc.boolean(),
  imageInput: fc.boolean(),
  audioOutput: fc.boolean(),
  imageOutput: fc.boolean(),
  furtherAnswers: fc.integer({ min: 0, max: 127 }),
  images: fc.integer({ min: 0, max: 20 }),
  webSearches: fc.integer({ min: 0, max: 20 }),
  seconds: fc.integer({ min: 0, max: 10_000 }),
});

/** A number up to `most`, with both ends often: the ends are where a bound is missed. */
const upTo = (most: number): fc.Arbitrary<number> =>
  fc.oneof(fc.constantFrom(0, most), fc.integer({ min: 0, max: most }));

/** Any usage that the reach allows: totals within it, parts within their totals, no class it excludes. */
function usageWithin(reach: Reach): fc.Arbitrary<Usage> {
  return fc.record({ inputTokens: upTo(reach.inputTokens), outputTokens: upTo(reach.outputTokens) }).chain((total) =>
    fc
      .record({
        cachedInputTokens: upTo(total.inputTokens),
        cacheWrite5mTokens: upTo(total.inputTokens),
        cacheWrite1hTokens: upTo(total.inputTokens),
        audioInputTokens: upTo(reach.audioInput ? total.inputTokens : 0),
        imageInputTokens: upTo(reach.imageInput ? total.inputTokens : 0),
        reasoningTokens: upTo(total.outputTokens),
        audioOutputTokens: upTo(reach.audioOutput ? total.outputTokens : 0),
        imageOutputTokens: upTo(reach.imageOutput ? total.outputTokens : 0),
        furtherAnswers: upTo(reach.furtherAnswers ?? 0),
        images: upTo(reach.images),
        webSearches: upTo(reach.webSearches),
        seconds: upTo(reach.seconds),
      })
      .map((wanted): Usage => {
        let inputLeft = total.inputTokens;
        let outputLeft = total.outputTokens;
        const fromInput = (tokens: number): number => {
          const taken = Math.min(tokens, inputLeft);
          inputLeft -= taken;
          return taken;
        };
        const fromOutput = (tokens: number): number => {
          const taken = Math.min(tokens, outputLeft);
          outputLeft -= taken;
          return taken;
        };
        return {
          ...total,
          ...wanted,
          imageInputTokens: fromInput(wanted.imageInputTokens),
          audioInputTokens: fromInput(wanted.audioInputTokens),
          cacheWrite1hTokens: fromInput(wanted.cacheWrite1hTokens),
          cacheWrite5mTokens: fromInput(wanted.cacheWrite5mTokens),
          cachedInputTokens: fromInput(wanted.cachedInputTokens),
          imageOutputTokens: fromOutput(wanted.imageOutputTokens),
          audioOutputTokens: fromOutput(wanted.audioOutputTokens),
          reasoningTokens: fromOutput(wanted.reasoningTokens),
        };
      }),
  );
}

/** Values that an upstream may put where a count belongs; mostly counts, or too few reports would be accepted. */
const anyCount: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 24, arbitrary: fc.nat() },
  { weight: 6, arbitrary: fc.maxSafeNat() },
  {
    weight: 1,
    arbitrary: fc.constantFrom(0, -0, -1, 2 ** 53 - 1, 2 ** 53, NaN, Infinity, 0.5, 1e308, '7', null, [], {}),
  },
  { weight: 1, arbitrary: fc.anything() },
);

/** An object of the dialect's shape whose fields are present or not, sane or not. */
function anyUsage(fields: Readonly<Record<string, string>>): fc.Arbitrary<unknown> {
  const outer: Record<string, fc.Arbitrary<unknown>> = {};
  const inner: Record<string, Record<string, fc.Arbitrary<unknown>>> = {};
  for (const path of Object.values(fields)) {
    const [name = '', part] = path.split('.');
    if (part === undefined) outer[name] = anyCount;
    else (inner[name] ??= {})[part] = anyCount;
  }
  for (const [name, parts] of Object.entries(inner)) {
    outer[name] = fc.oneof(
      { weight: 9, arbitrary: fc.record(parts, { requiredKeys: [] }) },
      { weight: 1, arbitrary: fc.anything() },
    );
  }
  return fc.oneof(
    { weight: 8, arbitrary: fc.record(outer) },
    { weight: 1, arbitrary: fc.record(outer, { requiredKeys: [] }) },
    { weight: 1, arbitrary: fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true }) },
  );
}

const DIALECTS = [
  { name: 'OpenAI', fields: OPENAI_FIELDS },
  { name: 'Anthropic', fields: ANTHROPIC_FIELDS },
] as const;

/** Every token dimension at one pico-USD per token, no unit prices: the cost is then the number of tokens charged. */
const ONE_PICO_EACH = compile({ prices: Object.fromEntries(TOKEN_DIMENSIONS.map((name) => [name, '0.000001'])) }).tiers;

describe('rating: properties', () => {
  it('the worst case is never below the cost of any usage within the reach', () => {
    const reachAndUsage = reachArbitrary.chain((reach) => fc.tuple(fc.constant(reach), usageWithin(reach)));
    fc.assert(
      fc.property(tiersArbitrary, reachAndUsage, (tiers, [reach, usage]) => {
        const { cost } = rate(tiers, usage);
        assert.ok(worstCase(tiers, reach) >= cost);
      }),
      { numRuns: 2_000 },
    );
  });

  it('a wider reach never lowers the worst case', () => {
    const wider = (reach: Reach, more: Reach): Reach => ({
      inputTokens: reach.inputTokens + more.inputTokens,
      outputTokens: reach.outputTokens + more.outputTokens,
      audioInput: reach.audioInput || more.audioInput,
      imageInput: reach.imageInput || more.imageInput,
      audioOutput: reach.audioOutput || more.audioOutput,
      imageOutput: reach.imageOutput || more.imageOutput,
      furtherAnswers: (reach.furtherAnswers ?? 0) + (more.furtherAnswers ?? 0),
      images: reach.images + more.images,
      webSearches: reach.webSearches + more.webSearches,
      seconds: reach.seconds + more.seconds,
    });
    fc.assert(
      fc.property(tiersArbitrary, reachArbitrary, reachArbitrary, (tiers, reach, more) => {
        assert.ok(worstCase(tiers, wider(reach, more)) >= worstCase(tiers, reach));
      }),
      { numRuns: 500 },
    );
  });

  for (const { name, fields } of DIALECTS) {
    for (const reasoningInOutput of [true, false]) {
      const reasoning = reasoningInOutput ? 'inside' : 'beside';

      it(`${name}, reasoning ${reasoning} the output: whatever is reported is refused or costs at least nothing`, () => {
        let accepted = 0;
        fc.assert(
          fc.property(tiersArbitrary, anyUsage(fields), (tiers, raw) => {
            const parsed = readUsage(raw, { reasoningInOutput });
            if (!parsed.ok) {
              assert.notEqual(parsed.reason, '');
              return;
            }
            accepted += 1;
            const rated = rate(tiers, parsed.usage);
            assert.ok(rated.cost >= 0n);
            assertReceiptAddsUp(rated);
          }),
          { numRuns: 2_000 },
        );
        assert.ok(accepted > 500, `the generator is too wild: only ${accepted} usages were accepted`);
      });

      it(`${name}, reasoning ${reasoning} the output: each accepted token is charged in exactly one class`, () => {
        fc.assert(
          fc.property(anyUsage(fields), (raw) => {
            const parsed = readUsage(raw, { reasoningInOutput });
            if (!parsed.ok) return;
            const { inputTokens, outputTokens } = parsed.usage;
            const charged: PicoUsd = rate(ONE_PICO_EACH, parsed.usage).cost;
            assert.equal(charged, BigInt(inputTokens) + BigInt(outputTokens));
          }),
          { numRuns: 2_000 },
        );
      });
    }
  }
});
