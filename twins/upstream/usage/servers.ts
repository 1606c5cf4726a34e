/** The usage shapes of open servers that people run themselves. */
import { totals, WHOLE } from './counts.ts';
import type { UsageShape } from './shape.ts';

export const SERVER_SHAPES = {
  minimal: {
    report: (counts) => ({ top: { usage: totals(counts) } }),
    tells: WHOLE,
    places: ['own'],
    source: 'OpenAI API reference before prompt_tokens_details; llama.cpp server',
  },
  vllm: {
    report: (counts) => ({
      top: { usage: { ...totals(counts), prompt_tokens_details: null, completion_tokens_details: null } },
    }),
    tells: WHOLE,
    places: ['own'],
    source: 'vLLM, OpenAI-compatible server: UsageInfo',
  },
  vllm_continuous: {
    report: (counts) => ({ top: { usage: { ...totals(counts), prompt_tokens_details: null } } }),
    tells: WHOLE,
    places: ['every', 'own'],
    source: 'vLLM, stream_options.continuous_usage_stats',
  },
  sglang: {
    report: (counts) => ({
      top: {
        usage: {
          ...totals(counts),
          prompt_tokens_details: { cached_tokens: counts.cachedTokens },
          reasoning_tokens: counts.reasoningTokens,
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'reasoning'],
    places: ['own'],
    source: 'SGLang, OpenAI-compatible server: UsageInfo',
  },
  null_details: {
    report: (counts) => ({
      top: {
        usage: {
          ...totals(counts),
          prompt_tokens_details: { cached_tokens: null, audio_tokens: null },
          completion_tokens_details: { reasoning_tokens: null, audio_tokens: null },
        },
      },
    }),
    tells: WHOLE,
    places: ['own'],
    source: 'servers that write their unset fields',
  },
  llama_cpp: {
    report: (counts) => ({
      top: {
        usage: totals(counts),
        timings: {
          cache_n: counts.cachedTokens,
          prompt_n: counts.promptTokens - counts.cachedTokens,
          predicted_n: counts.completionTokens,
        },
      },
    }),
    tells: WHOLE,
    places: ['own'],
    source: 'llama.cpp server README, timings',
  },
} as const satisfies Record<string, UsageShape>;
