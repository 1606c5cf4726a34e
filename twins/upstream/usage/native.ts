/** Usage in the words of other protocols than OpenAI's chat completions, as proxies let it through. */
import type { TokenCounts } from '../token-counts.ts';
import { textTokens, WHOLE, written } from './counts.ts';
import type { UsageShape } from './shape.ts';

/** Anthropic counts beside each other what others count within each other. */
function anthropicUsage(counts: TokenCounts): Record<string, unknown> {
  return {
    input_tokens: counts.promptTokens - counts.cachedTokens - written(counts),
    cache_creation_input_tokens: written(counts),
    cache_read_input_tokens: counts.cachedTokens,
    cache_creation: {
      ephemeral_5m_input_tokens: counts.cacheWriteTokens,
      ephemeral_1h_input_tokens: counts.cacheWrite1hTokens,
    },
    output_tokens: counts.completionTokens,
    server_tool_use: { web_search_requests: counts.webSearches },
    service_tier: 'standard',
  };
}

export const NATIVE_SHAPES = {
  anthropic: {
    report: (counts) => ({ top: { usage: anthropicUsage(counts) } }),
    tells: [...WHOLE, 'cached', 'cache_write', 'cache_write_1h', 'web_searches'],
    places: ['own'],
    source: 'Anthropic API reference, messages: usage',
  },
  gemini_native: {
    report: (counts) => ({
      top: {
        usageMetadata: {
          promptTokenCount: counts.promptTokens - counts.addedPromptTokens,
          toolUsePromptTokenCount: counts.addedPromptTokens,
          cachedContentTokenCount: counts.cachedTokens,
          candidatesTokenCount: counts.completionTokens - counts.reasoningTokens,
          thoughtsTokenCount: counts.reasoningTokens,
          totalTokenCount: counts.promptTokens + counts.completionTokens,
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'reasoning'],
    places: ['every'],
    isUnasked: true,
    source: 'Gemini API reference, GenerateContentResponse: UsageMetadata',
  },
  dashscope_native: {
    report: (counts) => ({
      top: {
        usage: {
          input_tokens: counts.promptTokens,
          output_tokens: counts.completionTokens,
          total_tokens: counts.promptTokens + counts.completionTokens,
          prompt_tokens_details: { cached_tokens: counts.cachedTokens },
          output_tokens_details: { reasoning_tokens: counts.reasoningTokens, text_tokens: textTokens(counts) },
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'reasoning'],
    places: ['every'],
    isUnasked: true,
    source: 'Alibaba Cloud Model Studio, DashScope API reference: usage',
  },
  cohere_native: {
    report: (counts) => ({
      top: {
        usage: {
          billed_units: { input_tokens: counts.promptTokens, output_tokens: counts.completionTokens },
          tokens: { input_tokens: counts.promptTokens, output_tokens: counts.completionTokens },
        },
      },
    }),
    tells: WHOLE,
    places: ['own'],
    isUnasked: true,
    source: 'Cohere API reference, chat v2: usage',
  },
  bedrock: {
    report: (counts) => ({
      top: {
        usage: {
          inputTokens: counts.promptTokens - counts.cachedTokens - written(counts),
          outputTokens: counts.completionTokens,
          totalTokens: counts.promptTokens + counts.completionTokens,
          cacheReadInputTokens: counts.cachedTokens,
          cacheWriteInputTokens: written(counts),
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'cache_write'],
    places: ['own'],
    isUnasked: true,
    source: 'Amazon Bedrock API reference, TokenUsage',
  },
  openai_responses: {
    report: (counts) => ({
      top: {
        usage: {
          input_tokens: counts.promptTokens,
          input_tokens_details: { cached_tokens: counts.cachedTokens },
          output_tokens: counts.completionTokens,
          output_tokens_details: { reasoning_tokens: counts.reasoningTokens },
          total_tokens: counts.promptTokens + counts.completionTokens,
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'reasoning'],
    places: ['own'],
    source: 'OpenAI API reference, responses: usage; sent on chat routes by proxies',
  },
} as const satisfies Record<string, UsageShape>;
