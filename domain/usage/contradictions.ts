/**
 * From what a report says to one usage, also where its numbers contradict each other.
 *
 * The rule, in this order; every step beyond the first is flagged:
 *  1. Names mean what their provider documents: OpenAI's totals contain their parts, Anthropic's input excludes its
 *     cache, Gemini's output excludes its thoughts, and the price version says whether reasoning is in the output.
 *  2. Where input and output then do not add up to the reported total, the reading that does is the true one: cache
 *     counts beside the input, reasoning beside the output, or a part that is larger than its whole.
 *  3. Without such a reading, a part that is larger than its whole stands beside it: it cannot be inside.
 *  4. The excess of the total over both sides is output that was not listed (Gemini's thoughts at its OpenAI endpoint):
 *     it was produced, so it is charged, as reasoning. (Beside an input of 0, which is a placeholder, it may be that
 *     input: such a report is for the caller to refuse.) A total below its sides is ignored: their counts are the
 *     evidence.
 *  5. An output that is missing is what the total leaves for it. A missing input makes the report unusable: we have the
 *     input and count it.
 *  6. Parts that still exceed their whole are cut to it, in the order cached, cache writes, audio, image (input) and
 *     reasoning, audio, image (output), so that no token is charged twice.
 * Cached input counts as cached wherever it stands, so a cache hit is never charged as fresh input.
 */
import { NO_USAGE, type Usage } from './usage.ts';
import { InvalidCount, sumOf, type Counts } from './fields.ts';

/** Why a report was not taken as it stands; stable words for the row, the log and the metrics. */
export const USAGE_FLAGS = [
  /** Two names or places carry different counts of one quantity; the larger one counts. */
  'places_differ',
  /** A later report of a stream had less than an earlier one; the larger count stands. */
  'report_shrank',
  /** Several answers reported their own usage: outputs are added up, the input counts once. */
  'answers_added_up',
  'cache_beside_input',
  'cache_inside_input',
  'reasoning_beside_output',
  'reasoning_inside_output',
  /** The output whole is smaller than the reasoning that the total confirms. */
  'output_below_reasoning',
  'unlisted_output',
  'total_below_sides',
  'total_unreadable',
  /** Cache hits and misses do not add up to the input. */
  'cache_split_differs',
  /** The output was missing and is taken from the total. */
  'output_from_total',
  /** Parts exceeded their whole and were cut to it. */
  'parts_cut',
  /** Another model worked for the answer; its tokens are not in this usage. */
  'other_model',
] as const;
export type UsageFlag = (typeof USAGE_FLAGS)[number];

export interface ReadOptions {
  /** False where the provider reports reasoning tokens beside, not inside, its output total. */
  readonly reasoningInOutput: boolean;
}

/** One way to understand a side of the report; what is chosen must be a count, the others may be beyond 2^53 - 1. */
interface Reading {
  readonly tokens: number;
  readonly flag: UsageFlag | null;
}

/** The usage that `counts` mean. Throws InvalidCount where a whole is missing or a sum is beyond 2^53 - 1. */
export function resolveCounts(counts: Counts, options: ReadOptions): { usage: Usage; flags: readonly UsageFlag[] } {
  const flags = new Set<UsageFlag>();
  if (counts.differs) flags.add('places_differ');
  if (counts.isTotalUnreadable) flags.add('total_unreadable');
  if (counts.hasOtherModel) flags.add('other_model');

  const { input, output } = sidesOf(counts, flags);
  const inputs = inputReadings(counts, input);
  const outputs = outputReadings(counts, output, options);
  const chosen = chooseByTotal(counts, inputs, outputs) ?? chooseByParts(counts, inputs, outputs);
  for (const { flag } of [chosen.input, chosen.output]) if (flag !== null) flags.add(flag);

  const inputTokens = sumOf(chosen.input.tokens, counts.addedInput);
  let outputTokens = sumOf(chosen.output.tokens);
  let reasoningTokens = counts.reasoning;
  const unlisted = (counts.total ?? 0) - inputTokens - outputTokens;
  if (unlisted > 0 && inputTokens > 0) {
    flags.add('unlisted_output');
    outputTokens = sumOf(outputTokens, unlisted);
    reasoningTokens = sumOf(reasoningTokens, unlisted);
  }
  if (unlisted < 0 && counts.total !== undefined) flags.add('total_below_sides');
  const usage = cutParts({ ...partsOf(counts), inputTokens, outputTokens, reasoningTokens });
  if (usage.isCut) flags.add('parts_cut');
  return { usage: usage.usage, flags: [...flags] };
}

/** Input and output as they are named, or what the total leaves for the output. */
function sidesOf(counts: Counts, flags: Set<UsageFlag>): { input: number; output: number } {
  const { total, output } = counts;
  const input = inputByCache(counts, flags);
  if (input === undefined) throw new InvalidCount('the input count is missing');
  if (output !== undefined) return { input, output };
  if (total === undefined) throw new InvalidCount('the output count is missing');
  flags.add('output_from_total');
  return { input, output: Math.max(0, total - counts.addedInput - input) };
}

/** DeepSeek's input is its cache hits and misses; the larger one counts, unless the total confirms the smaller. */
function inputByCache(
  { input, output, total, cacheRead, cacheMiss }: Counts,
  flags: Set<UsageFlag>,
): number | undefined {
  if (cacheMiss === 0) return input;
  const split = sumOf(cacheRead, cacheMiss);
  if (input === undefined) return split;
  if (split !== input) flags.add('cache_split_differs');
  return total === input + (output ?? 0) ? input : Math.max(input, split);
}

/** How the input can be meant, the documented way first. */
function inputReadings(counts: Counts, input: number): readonly [Reading, ...Reading[]] {
  const written = counts.cacheWrite5m + counts.cacheWrite1h;
  const inside: Reading = { tokens: input, flag: null };
  const beside = (cache: number): Reading => ({ tokens: input + cache, flag: null });
  const both = beside(counts.cacheRead + written);
  if (counts.isCacheBeside) return [both, { ...inside, flag: 'cache_inside_input' }];
  const others = [both, beside(counts.cacheRead), beside(written)];
  return [inside, ...others.map((reading) => ({ ...reading, flag: 'cache_beside_input' as const }))];
}

/** How the output can be meant, the documented way first. */
function outputReadings(counts: Counts, output: number, options: ReadOptions): readonly [Reading, ...Reading[]] {
  const { reasoning } = counts;
  const inside: Reading = { tokens: output, flag: null };
  const beside: Reading = { tokens: output + reasoning, flag: null };
  const raised: Reading = { tokens: Math.max(output, reasoning), flag: 'output_below_reasoning' };
  return (counts.isReasoningBeside ?? !options.reasoningInOutput)
    ? [beside, { ...inside, flag: 'reasoning_inside_output' }, raised]
    : [inside, { ...beside, flag: 'reasoning_beside_output' }, raised];
}

interface Chosen {
  readonly input: Reading;
  readonly output: Reading;
}

/** The first readings that add up to the total; null where none do, or the names forbid what would. */
function chooseByTotal(
  counts: Counts,
  inputs: readonly [Reading, ...Reading[]],
  outputs: readonly [Reading, ...Reading[]],
): Chosen | null {
  if (counts.total === undefined) return null;
  for (const input of inputs) {
    // Proxies put Anthropic's counts into OpenAI's shape and leave the cache out of input and total.
    if (counts.hasAnthropicCache && cacheOf(counts) > input.tokens) continue;
    for (const output of outputs) {
      if (input.tokens + output.tokens + counts.addedInput === counts.total) return { input, output };
    }
  }
  return null;
}

/**
 * The documented readings, except that a part larger than its whole stands beside it. Where some of the cache counts
 * may be inside, the smallest reading that has room for them is taken: nothing is charged that nobody counted.
 */
function chooseByParts(
  counts: Counts,
  inputs: readonly [Reading, ...Reading[]],
  outputs: readonly [Reading, ...Reading[]],
): Chosen {
  const cache = cacheOf(counts);
  const [documented, beside = documented] = inputs;
  const [output, reasoningBeside = output] = outputs;
  let input = documented;
  if (cache > documented.tokens) {
    input = beside;
    for (const reading of counts.hasAnthropicCache ? [] : inputs) {
      if (reading.tokens >= cache && reading.tokens < input.tokens) input = reading;
    }
  }
  return { input, output: counts.reasoning > output.tokens ? reasoningBeside : output };
}

function cacheOf({ cacheRead, cacheWrite5m, cacheWrite1h }: Counts): number {
  return cacheRead + cacheWrite5m + cacheWrite1h;
}

function partsOf(counts: Counts): Usage {
  return {
    ...NO_USAGE,
    cachedInputTokens: counts.cacheRead,
    cacheWrite5mTokens: counts.cacheWrite5m,
    cacheWrite1hTokens: counts.cacheWrite1h,
    audioInputTokens: counts.audioInput,
    imageInputTokens: counts.imageInput,
    audioOutputTokens: counts.audioOutput,
    imageOutputTokens: counts.imageOutput,
    webSearches: counts.webSearches,
    seconds: counts.seconds,
  };
}

const INPUT_PARTS = [
  'cachedInputTokens',
  'cacheWrite5mTokens',
  'cacheWrite1hTokens',
  'audioInputTokens',
  'imageInputTokens',
] as const;
const OUTPUT_PARTS = ['reasoningTokens', 'audioOutputTokens', 'imageOutputTokens'] as const;

function cutParts(usage: Usage): { usage: Usage; isCut: boolean } {
  const cut: Partial<Record<keyof Usage, number>> = {};
  let isCut = false;
  for (const [whole, parts] of [
    [usage.inputTokens, INPUT_PARTS],
    [usage.outputTokens, OUTPUT_PARTS],
  ] as const) {
    let left = whole;
    for (const part of parts) {
      const taken = Math.min(usage[part], left);
      isCut ||= taken < usage[part];
      cut[part] = taken;
      left -= taken;
    }
  }
  return { usage: { ...usage, ...cut }, isCut };
}
