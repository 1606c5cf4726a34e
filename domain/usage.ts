/**
 * What one request consumed, in one form for all dialects: totals that include their parts.
 *
 * `inputTokens` contains cached, cache-write, audio and image input; `outputTokens` contains reasoning, audio
 * and image output. A dialect that reports parts outside the total (Anthropic's cache, some providers'
 * reasoning) is added up here, so rating never has to know who reported it.
 *
 * Upstream numbers are evidence, not truth: anything that is not a whole number between 0 and 2^53 − 1 makes
 * the usage invalid, and the caller falls back to a local count marked `estimated`. Nothing here can turn a
 * wrong number into a credit.
 */

export interface Usage {
  readonly inputTokens: number;
  readonly cachedInputTokens: number;
  readonly cacheWrite5mTokens: number;
  readonly cacheWrite1hTokens: number;
  readonly audioInputTokens: number;
  readonly imageInputTokens: number;
  readonly outputTokens: number;
  readonly reasoningTokens: number;
  readonly audioOutputTokens: number;
  readonly imageOutputTokens: number;
  /** Answers beyond the first: a flat price per request is due for each of them as well. Absent: none. */
  readonly furtherAnswers?: number;
  readonly images: number;
  readonly webSearches: number;
  /** Billed seconds, already rounded up to whole ones. */
  readonly seconds: number;
}

export const NO_USAGE: Usage = {
  inputTokens: 0,
  cachedInputTokens: 0,
  cacheWrite5mTokens: 0,
  cacheWrite1hTokens: 0,
  audioInputTokens: 0,
  imageInputTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  audioOutputTokens: 0,
  imageOutputTokens: 0,
  furtherAnswers: 0,
  images: 0,
  webSearches: 0,
  seconds: 0,
};

/** The dimensions that a log row has no column of its own for; kept as JSON beside it when not zero. */
export const DETAIL_FIELDS = [
  'cacheWrite5mTokens',
  'cacheWrite1hTokens',
  'audioInputTokens',
  'imageInputTokens',
  'audioOutputTokens',
  'imageOutputTokens',
  'furtherAnswers',
  'images',
  'webSearches',
  'seconds',
] as const satisfies readonly (keyof Usage)[];

export type ParsedUsage =
  | {
      readonly ok: true;
      readonly usage: Usage;
      /** Parts that exceeded their total and were cut to it. */ readonly clamped: boolean;
    }
  | { readonly ok: false; readonly reason: string };

interface ParseOptions {
  /** False where the provider reports reasoning tokens beside, not inside, its output total. */
  readonly reasoningInOutput: boolean;
}

class InvalidCount extends Error {}

function count(source: Record<string, unknown>, field: string): number {
  const value = source[field];
  if (value === undefined || value === null) return 0;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new InvalidCount(`${field} is not a whole number between 0 and 2^53 - 1`);
  }
  return value;
}

/** A total must be reported: taken as 0, a missing one would give its side of the answer away. */
function total(source: Record<string, unknown>, field: string): number {
  if (source[field] === undefined || source[field] === null) throw new InvalidCount(`${field} is missing`);
  return count(source, field);
}

function section(source: Record<string, unknown>, field: string): Record<string, unknown> {
  const value = source[field];
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw new InvalidCount(`${field} is not an object`);
  return value as Record<string, unknown>;
}

/** Reads `usage` of a chat completion (OpenAI's shape: cached ⊂ prompt, reasoning ⊂ completion). */
export function parseOpenAiUsage(raw: unknown, options: ParseOptions): ParsedUsage {
  return guarded(raw, (source) => {
    const prompt = section(source, 'prompt_tokens_details');
    const completion = section(source, 'completion_tokens_details');
    const reasoningTokens = count(completion, 'reasoning_tokens');
    const reported = total(source, 'completion_tokens');
    return {
      ...NO_USAGE,
      inputTokens: total(source, 'prompt_tokens'),
      cachedInputTokens: count(prompt, 'cached_tokens'),
      cacheWrite5mTokens: count(prompt, 'cache_write_tokens'),
      audioInputTokens: count(prompt, 'audio_tokens'),
      imageInputTokens: count(prompt, 'image_tokens'),
      outputTokens: options.reasoningInOutput ? reported : safeSum(reported, reasoningTokens),
      reasoningTokens,
      audioOutputTokens: count(completion, 'audio_tokens'),
      imageOutputTokens: count(completion, 'image_tokens'),
    };
  });
}

/** Reads `usage` of Anthropic's messages API, where `input_tokens` excludes what was read from or written to the cache. */
export function parseAnthropicUsage(raw: unknown, options: ParseOptions): ParsedUsage {
  return guarded(raw, (source) => {
    const cachedInputTokens = count(source, 'cache_read_input_tokens');
    const written = count(source, 'cache_creation_input_tokens');
    const byLife = section(source, 'cache_creation');
    const cacheWrite1hTokens = count(byLife, 'ephemeral_1h_input_tokens');
    // The total is authoritative; what the split does not name is the five-minute default.
    const cacheWrite5mTokens = Math.max(written - cacheWrite1hTokens, count(byLife, 'ephemeral_5m_input_tokens'));
    const reasoningTokens = count(section(source, 'output_tokens_details'), 'thinking_tokens');
    const reported = total(source, 'output_tokens');
    return {
      ...NO_USAGE,
      inputTokens: safeSum(total(source, 'input_tokens'), cachedInputTokens, cacheWrite5mTokens, cacheWrite1hTokens),
      cachedInputTokens,
      cacheWrite5mTokens,
      cacheWrite1hTokens,
      outputTokens: options.reasoningInOutput ? reported : safeSum(reported, reasoningTokens),
      reasoningTokens,
      webSearches: count(section(source, 'server_tool_use'), 'web_search_requests'),
    };
  });
}

function safeSum(...counts: number[]): number {
  const sum = counts.reduce((total, value) => total + value, 0);
  if (!Number.isSafeInteger(sum)) throw new InvalidCount('the sum of token counts is beyond 2^53 - 1');
  return sum;
}

function guarded(raw: unknown, read: (source: Record<string, unknown>) => Usage): ParsedUsage {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw))
    return { ok: false, reason: 'usage is not an object' };
  try {
    return clampParts(read(raw as Record<string, unknown>));
  } catch (error) {
    if (error instanceof InvalidCount) return { ok: false, reason: error.message };
    throw error;
  }
}

/**
 * Parts that add up to more than their total are cut, in the order cached, cache writes, audio, image (input)
 * and reasoning, audio, image (output), so that no token is charged twice.
 */
function clampParts(usage: Usage): ParsedUsage {
  let inputLeft = usage.inputTokens;
  let outputLeft = usage.outputTokens;
  let clamped = false;
  const fromInput = (wanted: number): number => {
    const taken = Math.min(wanted, inputLeft);
    inputLeft -= taken;
    clamped ||= taken < wanted;
    return taken;
  };
  const fromOutput = (wanted: number): number => {
    const taken = Math.min(wanted, outputLeft);
    outputLeft -= taken;
    clamped ||= taken < wanted;
    return taken;
  };
  const parts: Usage = {
    ...usage,
    cachedInputTokens: fromInput(usage.cachedInputTokens),
    cacheWrite5mTokens: fromInput(usage.cacheWrite5mTokens),
    cacheWrite1hTokens: fromInput(usage.cacheWrite1hTokens),
    audioInputTokens: fromInput(usage.audioInputTokens),
    imageInputTokens: fromInput(usage.imageInputTokens),
    reasoningTokens: fromOutput(usage.reasoningTokens),
    audioOutputTokens: fromOutput(usage.audioOutputTokens),
    imageOutputTokens: fromOutput(usage.imageOutputTokens),
  };
  return { ok: true, usage: parts, clamped };
}
