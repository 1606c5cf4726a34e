/**
 * The names under which providers report what a request consumed, translated into one vocabulary.
 *
 * A quantity may stand under several names at once: OpenAI's details beside DeepSeek's or Moonshot's fields of the top
 * level. 0 is a placeholder that contradicts nothing; of two different counts the larger one is taken and the
 * difference is noted. A count is a whole number from 0 to 2^53 - 1 (12.0 is one in JSON). `null` and absence say
 * nothing. Anything else in a field that decides the price (text, even "12", a fraction, a negative number, a list)
 * makes the report unusable, by name: the caller then counts for itself and marks the row `estimated`. Only an
 * unreadable total is ignored, since it is there to check the others. Fields that nobody knows are not read.
 */

import { pathsAmong, pathsOf, type Quantity } from './names.ts';

/** A usage object as a provider sent it. */
export type Report = Readonly<Record<string, unknown>>;

/** A report in one vocabulary. `undefined` where it is silent about a whole; parts default to 0. */
export interface Counts {
  readonly input: number | undefined;
  readonly output: number | undefined;
  readonly total: number | undefined;
  readonly cacheRead: number;
  readonly cacheMiss: number;
  readonly cacheWrite5m: number;
  readonly cacheWrite1h: number;
  readonly audioInput: number;
  readonly imageInput: number;
  /** Input that the whole never contains: results of tools that ran at the provider, sources it read. */
  readonly addedInput: number;
  readonly reasoning: number;
  readonly audioOutput: number;
  readonly imageOutput: number;
  readonly webSearches: number;
  /** Seconds of audio, rounded up. */
  readonly seconds: number;
  /** By its names, the input excludes what was read from and written to the cache (Anthropic, Bedrock). */
  readonly isCacheBeside: boolean;
  /** Cache counts carry Anthropic's names, whose definition puts them outside the input, also in OpenAI's shape. */
  readonly hasAnthropicCache: boolean;
  /** By its names, the output excludes reasoning (Gemini); null where the names leave that open. */
  readonly isReasoningBeside: boolean | null;
  /** Two names of one quantity carry different counts. */
  readonly differs: boolean;
  readonly isTotalUnreadable: boolean;
  /** Another model worked as well, at prices that this report does not show. */
  readonly hasOtherModel: boolean;
}

/** A report that cannot be charged by; the message names the field. */
export class InvalidCount extends Error {}

/** Input totals that exclude the cache counts beside them, as Anthropic reports. */
const INPUT_WITHOUT_CACHE = ['input_tokens', 'inputTokens', 'inputTokenCount', 'prompt_n'] as const;
const ANTHROPIC_CACHE = [
  'cache_read_input_tokens',
  'cache_creation_input_tokens',
  'claude_cache_creation_5_m_tokens',
  'claude_cache_creation_1_h_tokens',
] as const;
/** Gemini's JSON leaves counts of 0 out. */
const GEMINI_INPUT = ['promptTokenCount', 'prompt_token_count', 'total_input_tokens'] as const;
const GEMINI_REASONING = ['thoughtsTokenCount', 'thoughts_token_count', 'total_thought_tokens'] as const;

/** Lists of counts by modality: `[{modality: "AUDIO", tokenCount: 7}]`. */
const MODALITIES = {
  input: ['promptTokensDetails', 'prompt_tokens_details', 'input_tokens_by_modality'],
  cached: ['cacheTokensDetails', 'cache_tokens_details', 'cached_tokens_by_modality'],
  output: ['candidatesTokensDetails', 'candidates_tokens_details', 'output_tokens_by_modality'],
} as const;
/** A report has a handful of each; what is longer is no report. */
const LIST_MAX = 64;

/** Reads one report. Throws InvalidCount naming the field that makes it unusable. */
export function readCounts(sent: Report): Counts {
  // Cohere bills by these units; the token counts beside them include its own templates.
  const billed = sent['billed_units'];
  const report = withIterations(isObject(billed) ? billed : sent);
  const paths = pathsAmong(Object.keys(report));
  let differs = false;
  const reported = (quantity: Quantity): number | undefined => {
    let found: number | undefined;
    for (const path of paths.get(quantity) ?? []) {
      const value = countAt(report, path);
      if (value === undefined) continue;
      differs ||= found !== undefined && found !== value && found !== 0 && value !== 0;
      found = Math.max(found ?? 0, value);
    }
    return found;
  };
  const part = (quantity: Quantity): number => reported(quantity) ?? 0;

  const written = part('cacheWrite');
  const cacheWrite1h = Math.max(part('cacheWrite1h'), writtenFor('1h', report));
  const isPerplexity = has(report, ['citation_tokens']);
  const isGemini = has(report, GEMINI_INPUT);
  const total = readTotal(report);
  return {
    // Their JSON leaves 0 out, so only what has no Gemini name at all is silent.
    input: reported('input'),
    output: reported('output') ?? (isGemini ? 0 : undefined),
    // Perplexity's total knows neither what it read nor what it thought.
    total: isPerplexity || total === 'unreadable' ? undefined : total,
    cacheRead: part('cacheRead'),
    cacheMiss: part('cacheMiss'),
    // The part that the split by lifetime does not name is the five-minute default.
    cacheWrite5m: Math.max(written - cacheWrite1h, part('cacheWrite5m')),
    cacheWrite1h,
    audioInput: Math.max(
      part('audioInput'),
      modality(report, 'input', ['AUDIO']) - modality(report, 'cached', ['AUDIO']),
    ),
    imageInput: Math.max(
      sumOf(part('imageInput'), part('videoInput')),
      modality(report, 'input', VISUAL) - modality(report, 'cached', VISUAL),
    ),
    addedInput: sumOf(part('toolInput'), part('citations')),
    reasoning: part('reasoning'),
    audioOutput: Math.max(part('audioOutput'), modality(report, 'output', ['AUDIO'])),
    imageOutput: Math.max(part('imageOutput'), modality(report, 'output', VISUAL)),
    webSearches: part('webSearches'),
    seconds: secondsOf(report),
    isCacheBeside:
      has(report, INPUT_WITHOUT_CACHE) &&
      !has(report, ['prompt_tokens', 'input_tokens_details', 'prompt_tokens_details']),
    hasAnthropicCache: has(report, ANTHROPIC_CACHE),
    isReasoningBeside: has(report, GEMINI_REASONING) || isPerplexity ? true : null,
    differs,
    isTotalUnreadable: total === 'unreadable',
    hasOtherModel: iterationsOf(report).some((iteration) => iteration['type'] === 'advisor_message'),
  };
}

const VISUAL = ['IMAGE', 'VIDEO', 'DOCUMENT'] as const;

/** The sum of counts. Throws InvalidCount beyond 2^53 - 1. */
export function sumOf(...counts: readonly number[]): number {
  const sum = counts.reduce((total, value) => total + value, 0);
  if (!Number.isSafeInteger(sum)) throw new InvalidCount('the sum of token counts is beyond 2^53 - 1');
  return sum;
}

export function isObject(value: unknown): value is Report {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function has(report: Report, names: readonly string[]): boolean {
  return names.some((name) => report[name] !== undefined && report[name] !== null);
}

/** The count at a path; undefined where the report is silent. */
function countAt(report: Report, path: readonly string[]): number | undefined {
  let value: unknown = report;
  for (const [depth, name] of path.entries()) {
    if (value === undefined || value === null) return undefined;
    // Gemini's Python names use OpenAI's name of a section for a list by modality.
    if (Array.isArray(value) && MODALITIES.input.some((list) => list === path[depth - 1]) && isListByModality(value)) {
      return undefined;
    }
    if (!isObject(value)) throw new InvalidCount(`${path[depth - 1] ?? 'usage'} is not an object`);
    value = value[name];
  }
  return count(value, path.at(-1) ?? '');
}

function count(value: unknown, name: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isCount(value)) throw new InvalidCount(`${name} is not a whole number between 0 and 2^53 - 1`);
  return value;
}

function readTotal(report: Report): number | undefined | 'unreadable' {
  try {
    for (const path of pathsOf('total')) {
      const value = countAt(report, path);
      if (value !== undefined && value > 0) return value;
    }
    return undefined;
  } catch (error) {
    if (error instanceof InvalidCount) return 'unreadable';
    throw error;
  }
}

function isListByModality(list: readonly unknown[]): boolean {
  return list.length > 0 && list.every((entry) => isObject(entry) && typeof entry['modality'] === 'string');
}

/** Tokens of some modalities in whichever list names them. */
function modality(report: Report, side: keyof typeof MODALITIES, wanted: readonly string[]): number {
  let tokens = 0;
  for (const name of MODALITIES[side]) {
    const list = report[name];
    if (!Array.isArray(list)) continue;
    for (const entry of (list as unknown[]).slice(0, LIST_MAX)) {
      if (!isObject(entry) || typeof entry['modality'] !== 'string') continue;
      if (!wanted.includes(entry['modality'].toUpperCase())) continue;
      tokens = sumOf(tokens, count(entry['tokenCount'] ?? entry['token_count'] ?? entry['tokens'], name) ?? 0);
    }
  }
  return tokens;
}

/** Bedrock's split of cache writes by lifetime: `cacheDetails: [{ttl: "1h", inputTokens: 7}]`. */
function writtenFor(ttl: string, report: Report): number {
  const list = report['cacheDetails'];
  if (!Array.isArray(list)) return 0;
  let tokens = 0;
  for (const entry of (list as unknown[]).slice(0, LIST_MAX)) {
    if (isObject(entry) && entry['ttl'] === ttl) {
      tokens = sumOf(tokens, count(entry['inputTokens'], 'cacheDetails') ?? 0);
    }
  }
  return tokens;
}

/** Seconds of audio that Mistral bills; a part of a second is a whole one. */
function secondsOf(report: Report): number {
  const seconds = report['prompt_audio_seconds'];
  if (typeof seconds === 'number' && seconds >= 0 && seconds <= Number.MAX_SAFE_INTEGER) return Math.ceil(seconds);
  return count(seconds, 'prompt_audio_seconds') ?? 0;
}

const ITERATION_COUNTS = [
  'input_tokens',
  'output_tokens',
  'cache_read_input_tokens',
  'cache_creation_input_tokens',
] as const;

function iterationsOf(report: Report): readonly Report[] {
  const list = report['iterations'];
  return Array.isArray(list) ? (list as unknown[]).slice(0, LIST_MAX).filter(isObject) : [];
}

/**
 * Anthropic's totals leave out what a compaction consumed; its list of iterations has it. An answer that another model
 * gave after the first one refused (`fallback_message`) is already what the totals say.
 */
function withIterations(report: Report): Report {
  const iterations = iterationsOf(report);
  if (iterations.length === 0 || iterations.some((iteration) => iteration['type'] === 'fallback_message'))
    return report;
  const own = iterations.filter(({ type }) => type === 'message' || type === 'compaction');
  const sums = ITERATION_COUNTS.map((name) => {
    const sum = sumOf(...own.map((iteration) => count(iteration[name], name) ?? 0));
    return [name, Math.max(sum, count(report[name], name) ?? 0)] as const;
  });
  return { ...report, ...Object.fromEntries(sums) };
}
