/**
 * The usage shapes of providers and servers, as they document them. Each is computed from the true counts, so a bill
 * that read it rightly comes to the twin's own record.
 */
import { type TokenCounts, usageReport } from './token-counts.ts';
import type { UsageShape } from './usage-shape.ts';

const WHOLE = ['input', 'output'] as const;

function totals(counts: TokenCounts): Record<string, number> {
  return {
    prompt_tokens: counts.promptTokens,
    completion_tokens: counts.completionTokens,
    total_tokens: counts.promptTokens + counts.completionTokens,
  };
}

/** The part of the output that a provider without further kinds would call text. */
function textTokens(counts: TokenCounts): number {
  return counts.completionTokens - counts.reasoningTokens - counts.audioTokens - counts.imageTokens;
}

function written(counts: TokenCounts): number {
  return counts.cacheWriteTokens + counts.cacheWrite1hTokens;
}

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

export const VENDOR_SHAPES = {
  openai: {
    report: (counts) => ({ top: { usage: usageReport(counts) } }),
    tells: [
      ...WHOLE,
      'cached',
      'cache_write',
      'input_audio',
      'input_image',
      'reasoning',
      'output_audio',
      'output_image',
    ],
    places: ['own'],
    source: 'OpenAI API reference, chat completions: usage',
  },
  openai_audio: {
    report: (counts) => ({
      top: {
        usage: {
          ...totals(counts),
          prompt_tokens_details: {
            cached_tokens: counts.cachedTokens,
            text_tokens: counts.promptTokens - counts.promptAudioTokens - counts.promptImageTokens,
            audio_tokens: counts.promptAudioTokens,
            image_tokens: counts.promptImageTokens,
          },
          completion_tokens_details: {
            text_tokens: textTokens(counts),
            reasoning_tokens: counts.reasoningTokens,
            audio_tokens: counts.audioTokens,
            image_tokens: counts.imageTokens,
          },
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'input_audio', 'input_image', 'reasoning', 'output_audio', 'output_image'],
    places: ['own'],
    source: 'OpenAI guides, audio: chat completions with gpt-4o-audio-preview',
  },
  minimal: {
    report: (counts) => ({ top: { usage: totals(counts) } }),
    tells: WHOLE,
    places: ['own'],
    source: 'OpenAI API reference before prompt_tokens_details; llama.cpp server',
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
  anthropic: {
    report: (counts) => ({ top: { usage: anthropicUsage(counts) } }),
    tells: [...WHOLE, 'cached', 'cache_write', 'cache_write_1h', 'web_searches'],
    places: ['own'],
    source: 'Anthropic API reference, messages: usage',
  },
  anthropic_in_openai: {
    report: (counts) => ({
      top: {
        usage: {
          ...usageReport(counts),
          cache_creation_input_tokens: written(counts),
          cache_read_input_tokens: counts.cachedTokens,
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'cache_write', 'reasoning'],
    places: ['own'],
    source: 'LiteLLM docs, prompt caching: Anthropic usage in OpenAI form',
  },
  gemini_openai: {
    // Thoughts are in the total alone: completion_tokens has the candidates only.
    report: (counts) => ({
      top: {
        usage: {
          prompt_tokens: counts.promptTokens,
          completion_tokens: counts.completionTokens - counts.reasoningTokens,
          total_tokens: counts.promptTokens + counts.completionTokens,
        },
      },
    }),
    tells: WHOLE,
    places: ['every'],
    isUnasked: true,
    source: 'Gemini API, OpenAI compatibility; thoughts missing from completion_tokens in public bug reports',
  },
  gemini_native: {
    report: (counts) => ({
      top: {
        usageMetadata: {
          promptTokenCount: counts.promptTokens,
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
  deepseek: {
    report: (counts) => ({
      top: {
        usage: {
          ...totals(counts),
          prompt_cache_hit_tokens: counts.cachedTokens,
          prompt_cache_miss_tokens: counts.promptTokens - counts.cachedTokens,
          completion_tokens_details: { reasoning_tokens: counts.reasoningTokens },
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'reasoning'],
    places: ['finish'],
    isUnasked: true,
    source: 'DeepSeek API reference, create chat completion: usage',
  },
  moonshot_choice: {
    report: (counts) => ({ choice: { usage: { ...totals(counts), cached_tokens: counts.cachedTokens } } }),
    tells: [...WHOLE, 'cached'],
    places: ['finish'],
    isUnasked: true,
    source: 'Moonshot AI API, chat: the last chunk has choices[0].usage',
  },
  moonshot: {
    report: (counts) => ({ top: { usage: { ...totals(counts), cached_tokens: counts.cachedTokens } } }),
    tells: [...WHOLE, 'cached'],
    places: ['own'],
    source: 'Moonshot AI API, chat: usage.cached_tokens',
  },
  groq: {
    report: (counts) => ({
      top: {
        x_groq: {
          id: 'req_twin',
          usage: { queue_time: 0.01, ...totals(counts), prompt_time: 0.001, completion_time: 0.1, total_time: 0.101 },
        },
      },
    }),
    tells: WHOLE,
    places: ['finish'],
    isUnasked: true,
    source: 'Groq API reference, chat: x_groq of the final chunk',
  },
  groq_details: {
    report: (counts) => ({
      top: {
        x_groq: {
          id: 'req_twin',
          usage: {
            queue_time: 0.01,
            ...totals(counts),
            prompt_tokens_details: { cached_tokens: counts.cachedTokens },
            completion_tokens_details: { reasoning_tokens: counts.reasoningTokens },
          },
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'reasoning'],
    places: ['finish'],
    isUnasked: true,
    source: 'Groq docs, prompt caching: usage',
  },
  dashscope: {
    report: (counts) => ({
      top: {
        usage: {
          ...totals(counts),
          prompt_tokens_details: {
            cached_tokens: counts.cachedTokens,
            cache_type: 'ephemeral',
            cache_creation_input_tokens: written(counts),
            cache_creation: { ephemeral_5m_input_tokens: counts.cacheWriteTokens },
          },
          completion_tokens_details: { reasoning_tokens: counts.reasoningTokens, text_tokens: textTokens(counts) },
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'cache_write', 'reasoning'],
    places: ['own'],
    source: 'Alibaba Cloud Model Studio, context cache: explicit cache',
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
  openrouter: {
    report: (counts) => ({
      top: {
        provider: 'Twin',
        usage: {
          ...totals(counts),
          cost: 0.00014,
          is_byok: false,
          prompt_tokens_details: {
            cached_tokens: counts.cachedTokens,
            cache_write_tokens: written(counts),
            audio_tokens: counts.promptAudioTokens,
            video_tokens: 0,
          },
          cost_details: {
            upstream_inference_cost: null,
            upstream_inference_prompt_cost: 0.00004,
            upstream_inference_completions_cost: 0.0001,
          },
          completion_tokens_details: {
            reasoning_tokens: counts.reasoningTokens,
            image_tokens: counts.imageTokens,
            audio_tokens: counts.audioTokens,
          },
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'cache_write', 'input_audio', 'reasoning', 'output_audio', 'output_image'],
    places: ['own_with_choice'],
    isUnasked: true,
    source: 'OpenRouter docs, usage accounting',
  },
  xai: {
    // Reasoning stands beside the completion, not within it.
    report: (counts) => ({
      top: {
        usage: {
          prompt_tokens: counts.promptTokens,
          completion_tokens: counts.completionTokens - counts.reasoningTokens,
          total_tokens: counts.promptTokens + counts.completionTokens,
          prompt_tokens_details: {
            text_tokens: counts.promptTokens - counts.promptImageTokens,
            audio_tokens: 0,
            image_tokens: counts.promptImageTokens,
            cached_tokens: counts.cachedTokens,
          },
          completion_tokens_details: {
            reasoning_tokens: counts.reasoningTokens,
            audio_tokens: 0,
            accepted_prediction_tokens: 0,
            rejected_prediction_tokens: 0,
          },
          num_sources_used: counts.webSearches,
          cost_in_usd_ticks: 1_234_500,
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'input_image', 'reasoning'],
    places: ['every'],
    isUnasked: true,
    source: 'xAI API reference, chat completions: usage',
  },
  mistral: {
    report: (counts) => ({ top: { usage: totals(counts) } }),
    tells: WHOLE,
    places: ['finish'],
    isUnasked: true,
    source: 'Mistral AI API, chat: the last chunk has usage',
  },
  mistral_cached: {
    report: (counts) => ({
      top: {
        usage: {
          ...totals(counts),
          num_cached_tokens: counts.cachedTokens,
          prompt_audio_seconds: null,
          prompt_token_details: { cached_tokens: counts.cachedTokens },
        },
      },
    }),
    tells: [...WHOLE, 'cached'],
    places: ['finish'],
    isUnasked: true,
    source: 'Mistral AI client, UsageInfo',
  },
  perplexity: {
    report: (counts) => ({
      top: {
        usage: {
          ...totals(counts),
          search_context_size: 'low',
          citation_tokens: 0,
          num_search_queries: counts.webSearches,
          reasoning_tokens: counts.reasoningTokens,
          cost: { input_tokens_cost: 0.00002, output_tokens_cost: 0.00012, request_cost: 0.005, total_cost: 0.00514 },
        },
      },
    }),
    tells: [...WHOLE, 'reasoning', 'web_searches'],
    places: ['every'],
    isUnasked: true,
    source: 'Perplexity API reference, chat completions: UsageInfo',
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
  together: {
    report: (counts) => ({ top: { usage: { ...totals(counts), cached_tokens: counts.cachedTokens } } }),
    tells: [...WHOLE, 'cached'],
    places: ['finish'],
    isUnasked: true,
    source: 'Together AI API reference, chat completions',
  },
  fireworks: {
    report: (counts) => ({
      top: { usage: { ...totals(counts), prompt_tokens_details: { cached_tokens: counts.cachedTokens } } },
    }),
    tells: [...WHOLE, 'cached'],
    places: ['finish'],
    isUnasked: true,
    source: 'Fireworks AI API reference, chat completions',
  },
  zhipu: {
    report: (counts) => ({
      top: { usage: { ...totals(counts), prompt_tokens_details: { cached_tokens: counts.cachedTokens } } },
    }),
    tells: [...WHOLE, 'cached'],
    places: ['finish'],
    isUnasked: true,
    source: 'Z.ai API reference, chat completion: usage of the last chunk',
  },
  minimax: {
    report: (counts) => ({
      top: {
        usage: {
          total_tokens: counts.promptTokens + counts.completionTokens,
          total_characters: 0,
          prompt_tokens: counts.promptTokens,
          completion_tokens: counts.completionTokens,
          completion_tokens_details: { reasoning_tokens: counts.reasoningTokens },
        },
        base_resp: { status_code: 0, status_msg: '' },
      },
    }),
    tells: [...WHOLE, 'reasoning'],
    places: ['own_with_choice'],
    isUnasked: true,
    source: 'MiniMax API reference, text chat completion v2',
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
  ollama: {
    report: (counts) => ({
      top: { prompt_eval_count: counts.promptTokens, eval_count: counts.completionTokens, done: true },
    }),
    tells: WHOLE,
    places: ['own'],
    isUnasked: true,
    source: 'Ollama API, generate a chat completion',
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
