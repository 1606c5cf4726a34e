/**
 * The usage shapes of hosted providers that say they are compatible with OpenAI, as they document them. Each is
 * computed from the true counts, so a bill that read it rightly comes to the twin's own record.
 */
import { usageReport } from '../token-counts.ts';
import { textTokens, totals, WHOLE, written } from './counts.ts';
import type { UsageShape } from './shape.ts';

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
  // Anthropic's cache counts beside OpenAI's prompt, which the total tells.
  cache_beside_prompt: {
    report: (counts) => ({
      top: {
        usage: {
          prompt_tokens: counts.promptTokens - counts.cachedTokens - written(counts),
          completion_tokens: counts.completionTokens,
          total_tokens: counts.promptTokens + counts.completionTokens,
          cache_read_input_tokens: counts.cachedTokens,
          cache_creation_input_tokens: written(counts),
        },
      },
    }),
    tells: [...WHOLE, 'cached', 'cache_write'],
    places: ['own'],
    source: 'proxies in front of Anthropic that rename the two totals alone',
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
    source: 'Gemini API, OpenAI compatibility; mozilla-ai/any-llm issue 1290',
  },
  // The same, with the thoughts told beside the candidates.
  gemini_thoughts: {
    report: (counts) => ({
      top: {
        usage: {
          prompt_tokens: counts.promptTokens,
          completion_tokens: counts.completionTokens - counts.reasoningTokens,
          total_tokens: counts.promptTokens + counts.completionTokens,
          completion_tokens_details: { reasoning_tokens: counts.reasoningTokens },
        },
      },
    }),
    tells: [...WHOLE, 'reasoning'],
    places: ['own'],
    source: 'router-for-me/CLIProxyAPI issue 5733',
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
    source: 'Moonshot AI API, chat; earendil-works/pi issue 2017',
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
    source: 'xAI docs, consumption and rate limits; vercel/ai pull request 12425; Wei-Shaw/sub2api issue 5771',
  },
  mistral: {
    report: (counts) => ({ top: { usage: totals(counts) } }),
    tells: WHOLE,
    places: ['finish'],
    isUnasked: true,
    source: 'Mistral AI API, chat: the last chunk has usage',
  },
  // Three spellings of one count, in the same object.
  mistral_cached: {
    report: (counts) => ({
      top: {
        usage: {
          ...totals(counts),
          num_cached_tokens: counts.cachedTokens,
          prompt_audio_seconds: null,
          prompt_token_details: { cached_tokens: counts.cachedTokens },
          prompt_tokens_details: { cached_tokens: counts.cachedTokens },
        },
      },
    }),
    tells: [...WHOLE, 'cached'],
    places: ['finish'],
    isUnasked: true,
    source: 'Mistral AI API reference, chat: usage; vercel/ai issue 14382',
  },
  // Reasoning and what was read of the sources stand beside the two totals, and outside the third.
  perplexity: {
    report: (counts) => {
      const prompt = counts.promptTokens - counts.addedPromptTokens;
      const completion = counts.completionTokens - counts.reasoningTokens;
      return {
        top: {
          usage: {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            search_context_size: 'low',
            citation_tokens: counts.addedPromptTokens,
            num_search_queries: counts.webSearches,
            reasoning_tokens: counts.reasoningTokens,
            cost: { input_tokens_cost: 0.00002, output_tokens_cost: 0.00012, request_cost: 0.005, total_cost: 0.00514 },
          },
        },
      };
    },
    tells: [...WHOLE, 'reasoning', 'web_searches'],
    places: ['every'],
    isUnasked: true,
    source: 'Perplexity docs, sonar-deep-research: usage',
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
  deepinfra: {
    report: (counts) => ({ top: { usage: { ...totals(counts), estimated_cost: 0.0000123 } } }),
    tells: WHOLE,
    places: ['finish'],
    isUnasked: true,
    source: 'DeepInfra docs, OpenAI chat completions: usage.estimated_cost',
  },
  sambanova: {
    report: (counts) => ({
      top: {
        usage: {
          acceptance_rate: 4.058,
          completion_tokens_after_first_per_sec: 248.2,
          completion_tokens_per_sec: 195.1,
          is_last_response: true,
          stop_reason: 'stop',
          time_to_first_token: 0.21,
          total_latency: 1.3,
          ...totals(counts),
          prompt_tokens_details: { cached_tokens: counts.cachedTokens },
        },
      },
    }),
    tells: [...WHOLE, 'cached'],
    places: ['own'],
    isUnasked: true,
    source: 'SambaNova API reference, chat completion: usage',
  },
  siliconflow: {
    report: (counts) => ({
      top: {
        usage: { ...totals(counts), completion_tokens_details: { reasoning_tokens: counts.reasoningTokens } },
      },
    }),
    tells: [...WHOLE, 'reasoning'],
    places: ['every'],
    isUnasked: true,
    source: 'SiliconFlow API manual, chat completions: usage of every chunk',
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
} as const satisfies Record<string, UsageShape>;
