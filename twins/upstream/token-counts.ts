/**
 * Input and output of a model, in the twin's own terms, and OpenAI's usage object for it. These counts are the
 * truth that every usage shape (`usage/`) is computed from and that bills are compared with.
 */

/**
 * Tokens of an answer, all its choices together. Cached, cache writes, audio and image input are parts of the prompt;
 * reasoning, audio and images are parts of the completion; hidden is the part that no byte of the answer shows.
 */
export interface TokenCounts {
  readonly promptTokens: number;
  /** The part of the prompt that is in no message: search results, a hidden system prompt, pictures. */
  readonly addedPromptTokens: number;
  readonly cachedTokens: number;
  /** Written to a cache that lasts five minutes. */
  readonly cacheWriteTokens: number;
  /** Written to a cache that lasts an hour. */
  readonly cacheWrite1hTokens: number;
  readonly promptAudioTokens: number;
  readonly promptImageTokens: number;
  readonly completionTokens: number;
  readonly reasoningTokens: number;
  readonly audioTokens: number;
  readonly imageTokens: number;
  readonly hiddenTokens: number;
  readonly webSearches: number;
}

export const NO_TOKENS: TokenCounts = {
  promptTokens: 0,
  addedPromptTokens: 0,
  cachedTokens: 0,
  cacheWriteTokens: 0,
  cacheWrite1hTokens: 0,
  promptAudioTokens: 0,
  promptImageTokens: 0,
  completionTokens: 0,
  reasoningTokens: 0,
  audioTokens: 0,
  imageTokens: 0,
  hiddenTokens: 0,
  webSearches: 0,
};

/** The kind that an output token is counted as, which decides its price. */
export const COUNTED_AS = ['text', 'reasoning', 'audio', 'image'] as const;
export type CountedAs = (typeof COUNTED_AS)[number];

/** Output tokens of one kind, of all choices, produced at one moment. */
export interface Production {
  readonly tokens: number;
  readonly countedAs: CountedAs;
  readonly isHidden: boolean;
}

export type MutableCounts = { -readonly [K in keyof TokenCounts]: TokenCounts[K] };

export function addProduction(counts: MutableCounts, { tokens, countedAs, isHidden }: Production): void {
  counts.completionTokens += tokens;
  if (isHidden) counts.hiddenTokens += tokens;
  if (countedAs === 'reasoning') counts.reasoningTokens += tokens;
  else if (countedAs === 'audio') counts.audioTokens += tokens;
  else if (countedAs === 'image') counts.imageTokens += tokens;
}

/** OpenAI's usage object, as the twin reports it in answers and in records. */
export interface UsageReport {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: {
    readonly cached_tokens: number;
    readonly audio_tokens: number;
    /** Only where there are any: most providers do not have the field. */
    readonly cache_write_tokens?: number;
    readonly image_tokens?: number;
  };
  readonly completion_tokens_details: {
    readonly reasoning_tokens: number;
    readonly audio_tokens: number;
    readonly accepted_prediction_tokens: number;
    readonly rejected_prediction_tokens: number;
    readonly image_tokens?: number;
  };
}

/** OpenAI's usage object for the given counts. */
export function usageReport(counts: TokenCounts): UsageReport {
  const written = counts.cacheWriteTokens + counts.cacheWrite1hTokens;
  return {
    prompt_tokens: counts.promptTokens,
    completion_tokens: counts.completionTokens,
    total_tokens: counts.promptTokens + counts.completionTokens,
    prompt_tokens_details: {
      cached_tokens: counts.cachedTokens,
      audio_tokens: counts.promptAudioTokens,
      ...(written > 0 && { cache_write_tokens: written }),
      ...(counts.promptImageTokens > 0 && { image_tokens: counts.promptImageTokens }),
    },
    completion_tokens_details: {
      reasoning_tokens: counts.reasoningTokens,
      audio_tokens: counts.audioTokens,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
      ...(counts.imageTokens > 0 && { image_tokens: counts.imageTokens }),
    },
  };
}
