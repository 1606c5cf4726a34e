/**
 * Usage that is no use, or that contradicts itself: each seen in public bug reports of providers and of the gateways in
 * front of them. A bill cannot be right by such a report alone; it must be flagged.
 */
import { type TokenCounts, usageReport } from '../token-counts.ts';
import type { UsageShape } from './shape.ts';

function odd(
  usage: (counts: TokenCounts) => unknown,
  contradiction: string,
  source = 'public bug reports of gateways',
): UsageShape {
  return { report: (counts) => ({ top: { usage: usage(counts) } }), tells: [], places: ['own'], contradiction, source };
}

export const ODD_SHAPES = {
  null: odd(() => null, 'says nothing'),
  empty: odd(() => ({}), 'says nothing'),
  zeros: odd(
    () => ({ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }),
    'no tokens beside a text',
    'gateways that send a first usage before they know one',
  ),
  zero_total: odd(
    () => ({ total_tokens: 0, total_characters: 0 }),
    'no tokens beside a text',
    'MiniMax, every chunk before the last; MiniMax-AI/MiniMax-M2.5 issue 2',
  ),
  nulls: odd(() => ({ prompt_tokens: null, completion_tokens: null, total_tokens: null }), 'says nothing'),
  minus_one: odd(() => ({ prompt_tokens: -1, completion_tokens: -1, total_tokens: -1 }), 'below zero'),
  text: odd(
    (counts) => ({
      prompt_tokens: String(counts.promptTokens),
      completion_tokens: String(counts.completionTokens),
      total_tokens: String(counts.promptTokens + counts.completionTokens),
    }),
    'numbers as text',
  ),
  fractions: odd(
    (counts) => ({ prompt_tokens: counts.promptTokens + 0.5, completion_tokens: counts.completionTokens + 0.5 }),
    'half tokens',
  ),
  total_only: odd((counts) => ({ total_tokens: counts.promptTokens + counts.completionTokens }), 'only a total'),
  prompt_only: odd((counts) => ({ prompt_tokens: counts.promptTokens }), 'no output'),
  completion_only: odd((counts) => ({ completion_tokens: counts.completionTokens }), 'no input'),
  list: odd((counts) => [usageReport(counts)], 'a list'),
  total_below_parts: odd(
    (counts) => ({ ...usageReport(counts), total_tokens: Math.max(0, counts.promptTokens - 1) }),
    'the total is smaller than its parts',
  ),
  total_above_parts: odd(
    (counts) => ({ ...usageReport(counts), total_tokens: counts.promptTokens + counts.completionTokens + 1000 }),
    'the total is larger than its parts, by more than was produced',
  ),
  added_input_in_total: odd(
    (counts) => ({
      prompt_tokens: counts.promptTokens - counts.addedPromptTokens,
      completion_tokens: counts.completionTokens,
      total_tokens: counts.promptTokens + counts.completionTokens,
    }),
    'input that no part tells is in the total, where thoughts would be as well',
    'Gemini, toolUsePromptTokenCount through proxies',
  ),
  cached_above_prompt: odd(
    (counts) => ({ ...usageReport(counts), prompt_tokens_details: { cached_tokens: counts.promptTokens + 100 } }),
    'more cached than read',
  ),
  reasoning_above_completion: odd(
    (counts) => ({
      ...usageReport(counts),
      completion_tokens_details: { reasoning_tokens: counts.completionTokens + 100 },
    }),
    'more reasoning than output, within it by the total',
  ),
  two_names: odd(
    (counts) => ({ ...usageReport(counts), input_tokens: 0, output_tokens: 0 }),
    'two names for one count, of which one is zero',
    'OpenAI-compatible proxies that send both names',
  ),
  two_names_differ: odd(
    (counts) => ({ ...usageReport(counts), input_tokens: counts.promptTokens + 7, output_tokens: 1 }),
    'two names for one count with two values',
  ),
  half: odd(
    (counts) => ({
      prompt_tokens: counts.promptTokens >> 1,
      completion_tokens: counts.completionTokens >> 1,
      total_tokens: (counts.promptTokens >> 1) + (counts.completionTokens >> 1),
    }),
    'half of what was produced, and consistent in itself',
  ),
} as const satisfies Record<string, UsageShape>;
