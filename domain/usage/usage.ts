/**
 * The usage of one request, in one form for all dialects: totals that include their parts.
 *
 * `inputTokens` contains cached, cache-write, audio and image input; `outputTokens` contains reasoning, audio
 * and image output. Providers that report parts outside the total (Anthropic's cache, Gemini's thoughts) are
 * added up by `reported-usage.ts`, so rating never has to know who reported it.
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
