/** Sums that several usage shapes have in common. */
import type { TokenCounts } from '../token-counts.ts';

/** The counts of every shape. */
export const WHOLE = ['input', 'output'] as const;

/** The three counts that all of OpenAI's imitators have. */
export function totals(counts: TokenCounts): Record<string, number> {
  return {
    prompt_tokens: counts.promptTokens,
    completion_tokens: counts.completionTokens,
    total_tokens: counts.promptTokens + counts.completionTokens,
  };
}

/** The part of the output that a provider without further kinds would call text. */
export function textTokens(counts: TokenCounts): number {
  return counts.completionTokens - counts.reasoningTokens - counts.audioTokens - counts.imageTokens;
}

/** Tokens written to a cache, of whatever life. */
export function written(counts: TokenCounts): number {
  return counts.cacheWriteTokens + counts.cacheWrite1hTokens;
}
