/**
 * The golden table: what providers really send, from their documentation, their SDKs' recorded answers and public bug
 * reports, and the one usage that each of it means. Below it: what is no evidence, what a stream's many reports come
 * to, and properties that hold for any JSON. Contradictions are in `contradictions.test.ts`.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatUsd } from '../../../../domain/money.ts';
import { compilePrices, isPriceProblem, type PriceText } from '../../../../domain/requests/prices.ts';
import { rate } from '../../../../domain/requests/rating.ts';
import {
  mergeReportedUsage,
  rawUsageOf,
  readReportedUsage,
  type ReadUsage,
  type ReportedUsage,
} from '../../../../domain/usage/reported-usage.ts';
import { USAGE_FLAGS, type UsageFlag } from '../../../../domain/usage/contradictions.ts';
import { NO_USAGE, type Usage } from '../../../../domain/usage/usage.ts';

type Json = Record<string, unknown>;

interface Row {
  /** Its peculiarity. */
  readonly what: string;
  /** Where it is documented, recorded or reported. */
  readonly source: string;
  /** The messages of a stream in their order, or one whole answer. */
  readonly sent: readonly unknown[];
  /** The fields of the usage that are not 0. */
  readonly means: Partial<Usage>;
  readonly flags?: readonly UsageFlag[];
  /** The flag of the price version; true unless stated. */
  readonly reasoningInOutput?: boolean;
}

/** A whole answer or the last chunk of a stream with this usage. */
const answer = (usage: unknown): Json => ({ id: 'chatcmpl-1', object: 'chat.completion', choices: [], usage });
const chunk = (more: Json): Json => ({ id: 'chatcmpl-1', object: 'chat.completion.chunk', choices: [], ...more });
/** A chunk with one choice that carries something. */
const choice = (inside: Json): Json => chunk({ choices: [{ index: 0, delta: {}, finish_reason: null, ...inside }] });
const text = (content: string): Json => choice({ delta: { content } });

const TABLE: readonly Row[] = [
  // OpenAI and those who follow its names.
  {
    what: 'OpenAI: details with zeros',
    source: 'vercel/ai packages/openai/src/chat/__fixtures__/openai-text.chunks.txt',
    sent: [
      text('Hi'),
      answer({
        prompt_tokens: 16,
        completion_tokens: 300,
        total_tokens: 316,
        prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
        completion_tokens_details: {
          reasoning_tokens: 0,
          audio_tokens: 0,
          accepted_prediction_tokens: 0,
          rejected_prediction_tokens: 0,
        },
      }),
    ],
    means: { inputTokens: 16, outputTokens: 300 },
  },
  {
    what: 'OpenAI: reasoning inside the output',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gpt-5-mini, test_tool_choice_matrix)',
    sent: [
      answer({
        prompt_tokens: 156,
        completion_tokens: 561,
        total_tokens: 717,
        prompt_tokens_details: { audio_tokens: 0, cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 512, audio_tokens: 0 },
      }),
    ],
    means: { inputTokens: 156, outputTokens: 561, reasoningTokens: 512 },
  },
  {
    what: 'OpenAI: a prompt that was written to the cache',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gpt-5.6, test_openai_chat_prompt_cache_e2e)',
    sent: [
      answer({
        prompt_tokens: 4020,
        completion_tokens: 4,
        total_tokens: 4024,
        prompt_tokens_details: { audio_tokens: 0, cache_write_tokens: 4012, cached_tokens: 0 },
      }),
    ],
    means: { inputTokens: 4020, cacheWrite5mTokens: 4012, outputTokens: 4 },
  },
  {
    what: 'OpenAI: audio input',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gpt-4o-audio-preview)',
    sent: [
      answer({
        prompt_tokens: 81,
        completion_tokens: 72,
        total_tokens: 153,
        prompt_tokens_details: { audio_tokens: 69, cached_tokens: 0, image_tokens: 0, text_tokens: 12 },
        completion_tokens_details: { audio_tokens: 0, reasoning_tokens: 0, text_tokens: 72 },
      }),
    ],
    means: { inputTokens: 81, audioInputTokens: 69, outputTokens: 72 },
  },
  {
    what: 'OpenAI: the names of its responses',
    source: 'vercel/ai packages/azure/src/__fixtures__/openai-file-search-tool.1.chunks.txt',
    sent: [
      {
        type: 'response.completed',
        response: {
          usage: {
            input_tokens: 3737,
            input_tokens_details: { cached_tokens: 2304 },
            output_tokens: 621,
            output_tokens_details: { reasoning_tokens: 512 },
            total_tokens: 4358,
          },
        },
      },
    ],
    means: { inputTokens: 3737, cachedInputTokens: 2304, outputTokens: 621, reasoningTokens: 512 },
  },
  {
    what: 'OpenAI: cache writes in its responses',
    source: 'pydantic/genai-prices tests/dataset/usages.json (openai.gpt-5.6-luna, test_bedrock_mantle)',
    sent: [
      answer({
        input_tokens: 142,
        input_tokens_details: { cache_write_tokens: 27, cached_tokens: 0 },
        output_tokens: 33,
        output_tokens_details: { reasoning_tokens: 11 },
        total_tokens: 175,
      }),
    ],
    means: { inputTokens: 142, cacheWrite5mTokens: 27, outputTokens: 33, reasoningTokens: 11 },
  },
  {
    what: 'Azure: DeepSeek with null details and reasoning on the top level',
    source: 'vercel/ai packages/azure/src/__fixtures__/azure-deepseek-reasoning.1.chunks.txt',
    sent: [
      answer({
        prompt_tokens: 19,
        total_tokens: 1739,
        completion_tokens: 1720,
        prompt_tokens_details: null,
        reasoning_tokens: 0,
      }),
    ],
    means: { inputTokens: 19, outputTokens: 1720 },
  },
  {
    what: 'Azure: audio tokens on the top level',
    source: 'vercel/ai packages/azure/src/__fixtures__/azure-deepseek-reasoning.1.json',
    sent: [answer({ prompt_tokens: 19, completion_tokens: 1969, total_tokens: 1988, audio_prompt_tokens: 0 })],
    means: { inputTokens: 19, outputTokens: 1969 },
  },
  {
    what: 'vLLM: usage beside an empty choice, no details',
    source: 'https://github.com/gpustack/gpustack/pull/440',
    sent: [
      text('x'),
      choice({ delta: { content: '' }, finish_reason: 'stop' }),
      chunk({ usage: { prompt_tokens: 30, total_tokens: 61, completion_tokens: 31 } }),
    ],
    means: { inputTokens: 30, outputTokens: 31 },
  },
  {
    what: 'vLLM: running totals in every chunk',
    source: 'https://github.com/vllm-project/vllm-omni/pull/2313',
    sent: [
      { ...text(' approach'), usage: { prompt_tokens: 33, total_tokens: 66, completion_tokens: 33 } },
      { ...text(' allows'), usage: { prompt_tokens: 33, total_tokens: 67, completion_tokens: 34 } },
      { ...text(' for'), usage: { prompt_tokens: 33, total_tokens: 68, completion_tokens: 35 } },
    ],
    means: { inputTokens: 33, outputTokens: 35 },
  },
  {
    what: 'vLLM: usage null in every chunk but the last',
    source: 'https://github.com/sgl-project/sglang/issues/954',
    sent: [
      { ...text('a'), usage: null },
      { ...text('b'), usage: null },
      chunk({ usage: { prompt_tokens: 21, completion_tokens: 9, total_tokens: 30 } }),
    ],
    means: { inputTokens: 21, outputTokens: 9 },
  },
  {
    what: 'SGLang: reasoning on the top level',
    source: 'https://github.com/sgl-project/sglang/pull/15562',
    sent: [
      answer({
        prompt_tokens: 12,
        total_tokens: 512,
        completion_tokens: 500,
        prompt_tokens_details: null,
        reasoning_tokens: 420,
      }),
    ],
    means: { inputTokens: 12, outputTokens: 500, reasoningTokens: 420 },
  },
  {
    what: 'an embedding: nothing but a prompt and the same total',
    source: 'pydantic/genai-prices tests/dataset/usages.json (text-embedding-3-small)',
    sent: [answer({ prompt_tokens: 4, total_tokens: 4 })],
    means: { inputTokens: 4 },
    flags: ['output_from_total'],
  },
  {
    what: 'Hugging Face: null details',
    source: 'pydantic/genai-prices tests/dataset/usages.json (Qwen2.5-VL, test_huggingface)',
    sent: [
      answer({
        prompt_tokens: 448,
        completion_tokens: 38,
        completion_tokens_details: null,
        prompt_tokens_details: null,
        total_tokens: 486,
      }),
    ],
    means: { inputTokens: 448, outputTokens: 38 },
  },
  {
    what: 'Cerebras: prediction tokens',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gpt-oss-120b, test_cerebras)',
    sent: [
      answer({
        prompt_tokens: 79,
        completion_tokens: 37,
        total_tokens: 116,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: {
          accepted_prediction_tokens: 0,
          reasoning_tokens: 25,
          rejected_prediction_tokens: 0,
        },
      }),
    ],
    means: { inputTokens: 79, outputTokens: 37, reasoningTokens: 25 },
  },
  {
    what: 'SambaNova: rates and times, some with fractions, beside the counts',
    source: 'Portkey-AI/gateway src/providers/sambanova/chatComplete.ts',
    sent: [
      answer({
        completion_tokens: 51,
        completion_tokens_after_first_per_sec: 203.197,
        completion_tokens_per_sec: 135.13,
        end_time: 1746852567.74,
        is_last_response: true,
        prompt_tokens: 10,
        start_time: 1746852567.36,
        time_to_first_token: 0.12,
        total_latency: 0.37,
        total_tokens: 61,
        total_tokens_per_sec: 161.6,
      }),
    ],
    means: { inputTokens: 10, outputTokens: 51 },
  },
  {
    what: 'MindIE: times beside the counts, usage with the finish reason',
    source: 'https://github.com/gpustack/gpustack/pull/440',
    sent: [
      {
        ...choice({ finish_reason: 'stop' }),
        usage: {
          completion_tokens: 7,
          prompt_tokens: 9,
          time_per_output_token_ms: 6.49,
          time_to_first_token_ms: 76.794,
          tokens_per_second: 154.015,
          total_tokens: 16,
        },
      },
    ],
    means: { inputTokens: 9, outputTokens: 7 },
  },
  {
    what: 'Zhipu: nearly all output is reasoning',
    source: 'pydantic/genai-prices tests/dataset/usages.json (glm-4.7, test_zai)',
    sent: [
      answer({
        prompt_tokens: 13,
        completion_tokens: 369,
        total_tokens: 382,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 366 },
      }),
    ],
    means: { inputTokens: 13, outputTokens: 369, reasoningTokens: 366 },
  },
  {
    what: 'Alibaba: reasoning in a stream',
    source: 'vercel/ai packages/alibaba/src/__fixtures__/alibaba-reasoning.chunks.txt',
    sent: [
      answer({
        prompt_tokens: 24,
        completion_tokens: 1355,
        total_tokens: 1379,
        completion_tokens_details: { reasoning_tokens: 1084 },
        prompt_tokens_details: { cached_tokens: 0 },
      }),
    ],
    means: { inputTokens: 24, outputTokens: 1355, reasoningTokens: 1084 },
  },

  // Cache fields of their own.
  {
    what: 'Moonshot: the usage of a stream inside its choice',
    source: 'https://github.com/northes/go-moonshot/issues/17',
    sent: [
      text('你好'),
      choice({ finish_reason: 'stop', usage: { prompt_tokens: 19, completion_tokens: 13, total_tokens: 32 } }),
    ],
    means: { inputTokens: 19, outputTokens: 13 },
  },
  {
    what: 'Moonshot: cached tokens at two places of the usage inside the choice',
    source: 'https://github.com/AstrBotDevs/AstrBot/issues/6614',
    sent: [
      choice({
        finish_reason: 'stop',
        usage: {
          prompt_tokens: 1336,
          completion_tokens: 31,
          total_tokens: 1367,
          cached_tokens: 1280,
          prompt_tokens_details: { cached_tokens: 1280 },
        },
      }),
    ],
    means: { inputTokens: 1336, cachedInputTokens: 1280, outputTokens: 31 },
  },
  {
    what: 'Moonshot: cached tokens on the top level only',
    source: 'vercel/ai packages/moonshotai/src/__fixtures__/moonshotai-reasoning.json',
    sent: [
      answer({
        prompt_tokens: 20,
        completion_tokens: 30,
        total_tokens: 50,
        cached_tokens: 10,
        completion_tokens_details: { reasoning_tokens: 22 },
      }),
    ],
    means: { inputTokens: 20, cachedInputTokens: 10, outputTokens: 30, reasoningTokens: 22 },
  },
  {
    what: 'Moonshot: usage inside the choice and, where it was asked for, in a chunk of its own as well',
    source: 'https://platform.kimi.ai/docs/api/chat.md',
    sent: [
      choice({ finish_reason: 'stop', usage: { prompt_tokens: 19, completion_tokens: 13, total_tokens: 32 } }),
      answer({ prompt_tokens: 19, completion_tokens: 13, total_tokens: 32, cached_tokens: 0 }),
    ],
    means: { inputTokens: 19, outputTokens: 13 },
  },
  {
    what: 'Moonshot: two answers, each with the usage of its own',
    source: 'https://platform.kimi.ai/docs/api/chat.md',
    sent: [
      chunk({
        choices: [{ index: 0, delta: {}, finish_reason: 'stop', usage: { prompt_tokens: 19, completion_tokens: 13 } }],
      }),
      chunk({
        choices: [{ index: 1, delta: {}, finish_reason: 'stop', usage: { prompt_tokens: 19, completion_tokens: 21 } }],
      }),
    ],
    means: { inputTokens: 19, outputTokens: 34 },
    flags: ['answers_added_up'],
  },
  {
    what: 'DeepSeek: hits and misses beside the details',
    source: 'vercel/ai packages/deepseek/src/chat/__fixtures__/deepseek-tool-call.chunks.txt',
    sent: [
      answer({
        prompt_tokens: 339,
        completion_tokens: 83,
        total_tokens: 422,
        prompt_tokens_details: { cached_tokens: 320 },
        completion_tokens_details: { reasoning_tokens: 39 },
        prompt_cache_hit_tokens: 320,
        prompt_cache_miss_tokens: 19,
      }),
    ],
    means: { inputTokens: 339, cachedInputTokens: 320, outputTokens: 83, reasoningTokens: 39 },
  },
  {
    what: 'DeepSeek: hits and misses without details',
    source: 'https://docs.rs/crate/ds-api/0.10.7/source/src/raw/response/non_streaming/usage.rs',
    sent: [
      answer({
        prompt_tokens: 563,
        completion_tokens: 116,
        total_tokens: 679,
        prompt_cache_hit_tokens: 512,
        prompt_cache_miss_tokens: 51,
      }),
    ],
    means: { inputTokens: 563, cachedInputTokens: 512, outputTokens: 116 },
  },
  {
    what: 'Mistral: its own name for cached tokens',
    source: 'pydantic/genai-prices tests/dataset/usages.json (mistral-large, test_tool_choice_matrix)',
    sent: [answer({ prompt_tokens: 70, completion_tokens: 12, total_tokens: 82, num_cached_tokens: 69 })],
    means: { inputTokens: 70, cachedInputTokens: 69, outputTokens: 12 },
  },
  {
    what: 'Mistral: details in the second spelling',
    source: 'vercel/ai packages/mistral/src/convert-mistral-usage.test.ts',
    sent: [
      answer({
        prompt_tokens: 150,
        completion_tokens: 25,
        total_tokens: 175,
        prompt_token_details: { cached_tokens: 50 },
      }),
    ],
    means: { inputTokens: 150, cachedInputTokens: 50, outputTokens: 25 },
  },
  {
    what: 'Mistral: cached tokens that differ by their name',
    source: 'vercel/ai packages/mistral/src/convert-mistral-usage.test.ts',
    sent: [
      answer({
        prompt_tokens: 100,
        completion_tokens: 20,
        total_tokens: 120,
        num_cached_tokens: 40,
        prompt_tokens_details: { cached_tokens: 30 },
      }),
    ],
    means: { inputTokens: 100, cachedInputTokens: 40, outputTokens: 20 },
    flags: ['places_differ'],
  },
  {
    what: 'Mistral: seconds of audio',
    source: 'https://docs.mistral.ai/api (UsageInfo.prompt_audio_seconds)',
    sent: [answer({ prompt_audio_seconds: 30, prompt_tokens: 150, completion_tokens: 42, total_tokens: 192 })],
    means: { inputTokens: 150, outputTokens: 42, seconds: 30 },
  },
  {
    what: 'Hugging Face: cached tokens on the top level',
    source: 'pydantic/genai-prices tests/dataset/usages.json (DeepSeek-R1, test_huggingface)',
    sent: [answer({ cached_tokens: 0, completion_tokens: 29, prompt_tokens: 19, total_tokens: 48 })],
    means: { inputTokens: 19, outputTokens: 29 },
  },
  {
    what: 'DashScope: a prompt that was written to its cache, under a name of Anthropic inside the details',
    source: 'https://www.alibabacloud.com/help/en/model-studio/context-cache',
    sent: [
      answer({
        prompt_tokens: 1512,
        completion_tokens: 10,
        total_tokens: 1522,
        prompt_tokens_details: {
          cached_tokens: 0,
          cache_creation_input_tokens: 1500,
          cache_creation: { ephemeral_5m_input_tokens: 1500 },
          cache_type: 'ephemeral',
        },
      }),
    ],
    means: { inputTokens: 1512, cacheWrite5mTokens: 1500, outputTokens: 10 },
  },
  {
    what: 'DashScope: its own API',
    source: 'https://www.alibabacloud.com/help/en/model-studio/context-cache',
    sent: [
      {
        output: { text: 'Hi' },
        usage: {
          input_tokens: 3019,
          output_tokens: 104,
          total_tokens: 3123,
          prompt_tokens_details: { cached_tokens: 2048 },
        },
      },
    ],
    means: { inputTokens: 3019, cachedInputTokens: 2048, outputTokens: 104 },
  },
  {
    what: 'OpenRouter: cache reads and writes of Claude, with prices beside them',
    source: 'pydantic/genai-prices tests/dataset/usages.json (claude-4.6-sonnet, test_openrouter_cache_messages)',
    sent: [
      answer({
        prompt_tokens: 3329,
        completion_tokens: 53,
        total_tokens: 3382,
        cost: 0.00219855,
        cost_details: { upstream_inference_cost: 0.00219855, upstream_inference_prompt_cost: 0.00140355 },
        is_byok: false,
        prompt_tokens_details: { audio_tokens: 0, cache_write_tokens: 115, cached_tokens: 3211, video_tokens: 0 },
        completion_tokens_details: { audio_tokens: 0, image_tokens: 0, reasoning_tokens: 0 },
      }),
    ],
    means: { inputTokens: 3329, cachedInputTokens: 3211, cacheWrite5mTokens: 115, outputTokens: 53 },
  },
  {
    what: 'OpenRouter: video input',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gemini-2.5-flash, test_openrouter)',
    sent: [
      answer({
        prompt_tokens: 270,
        completion_tokens: 28,
        total_tokens: 298,
        prompt_tokens_details: { audio_tokens: 0, cache_write_tokens: 0, cached_tokens: 0, video_tokens: 258 },
        completion_tokens_details: { image_tokens: 0, reasoning_tokens: 0 },
      }),
    ],
    means: { inputTokens: 270, imageInputTokens: 258, outputTokens: 28 },
  },
  {
    what: 'OpenRouter: searches of a tool that ran there',
    source: 'https://openrouter.ai/docs/use-cases/usage-accounting',
    sent: [
      answer({
        prompt_tokens: 194,
        completion_tokens: 2,
        total_tokens: 196,
        server_tool_use: { web_search_requests: 2 },
      }),
    ],
    means: { inputTokens: 194, outputTokens: 2, webSearches: 2 },
  },
  {
    what: 'OpenRouter: the look-up of a finished generation, whose `usage` is a price',
    source: 'https://docs.rs/crate/openrouter/latest/source/responses/generation.json',
    sent: [
      {
        data: {
          id: 'gen-1737842317-9ifH6Yzo5icEdfD0I8SI',
          total_cost: 0,
          provider_name: 'Google AI Studio',
          tokens_prompt: 10,
          tokens_completion: 30,
          native_tokens_prompt: 4,
          native_tokens_completion: 521,
          native_tokens_reasoning: null,
          usage: 0,
        },
      },
    ],
    means: { inputTokens: 4, outputTokens: 521 },
  },
  {
    what: 'OpenRouter: cached tokens of a look-up',
    source: 'https://github.com/OpenRouterTeam/ai-sdk-provider/issues/234',
    sent: [
      {
        data: {
          tokens_prompt: 1701,
          tokens_completion: 9,
          native_tokens_prompt: 1701,
          native_tokens_completion: 10,
          native_tokens_completion_images: 0,
          native_tokens_reasoning: 0,
          native_tokens_cached: 1536,
        },
      },
    ],
    means: { inputTokens: 1701, cachedInputTokens: 1536, outputTokens: 10 },
  },
  {
    what: 'OpenRouter: a look-up whose reasoning is beside its completion',
    source: 'https://github.com/Effect-TS/effect/pull/8170',
    sent: [{ data: { native_tokens_prompt: 100, native_tokens_completion: 293, native_tokens_reasoning: 321 } }],
    means: { inputTokens: 100, outputTokens: 614, reasoningTokens: 321 },
    flags: ['reasoning_beside_output'],
  },

  // Groq.
  {
    what: 'Groq: usage under its own field',
    source: 'https://github.com/vercel/ai/issues/1651',
    sent: [
      {
        ...choice({ finish_reason: 'stop' }),
        x_groq: {
          id: 'req_01hy8ppkajfqk987jv2vx88m9r',
          usage: {
            queue_time: 0.07535312,
            prompt_tokens: 23,
            prompt_time: 0.006,
            completion_tokens: 19,
            completion_time: 0.022,
            total_tokens: 42,
            total_time: 0.028,
          },
        },
      },
    ],
    means: { inputTokens: 23, outputTokens: 19 },
  },
  {
    what: 'Groq: the same usage under both fields',
    source: 'vercel/ai packages/groq/src/__fixtures__/groq-reasoning.chunks.txt',
    sent: [
      {
        ...choice({ finish_reason: 'stop' }),
        x_groq: {
          usage: {
            queue_time: 0.17,
            prompt_tokens: 17,
            completion_tokens: 1107,
            total_tokens: 1124,
            completion_tokens_details: { reasoning_tokens: 963 },
          },
        },
      },
      chunk({
        usage: {
          queue_time: 0.17,
          prompt_tokens: 17,
          completion_tokens: 1107,
          total_tokens: 1124,
          completion_tokens_details: { reasoning_tokens: 963 },
        },
      }),
    ],
    means: { inputTokens: 17, outputTokens: 1107, reasoningTokens: 963 },
  },
  {
    what: 'Groq: cached tokens',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gpt-oss-120b, test_groq)',
    sent: [
      answer({
        completion_time: 0.57,
        completion_tokens: 96,
        completion_tokens_details: { reasoning_tokens: 59 },
        prompt_time: 0.56,
        prompt_tokens: 336,
        prompt_tokens_details: { cached_tokens: 256 },
        total_tokens: 432,
      }),
    ],
    means: { inputTokens: 336, cachedInputTokens: 256, outputTokens: 96, reasoningTokens: 59 },
  },

  // Anthropic.
  {
    what: 'Anthropic: the input excludes what was written to the cache, and the split by lifetime',
    source: 'pydantic/genai-prices tests/dataset/usages.json (claude-sonnet-4-5, test_tool_search)',
    sent: [
      {
        type: 'message',
        usage: {
          cache_creation: { ephemeral_1h_input_tokens: 0, ephemeral_5m_input_tokens: 1069 },
          cache_creation_input_tokens: 1069,
          cache_read_input_tokens: 0,
          inference_geo: 'not_available',
          input_tokens: 7,
          output_tokens: 60,
          service_tier: 'standard',
        },
      },
    ],
    means: { inputTokens: 1076, cacheWrite5mTokens: 1069, outputTokens: 60 },
  },
  {
    what: 'Anthropic: read from and written to the cache, thinking inside the output',
    source: 'pydantic/genai-prices tests/dataset/usages.json (claude-sonnet-5, test_code_execution_files_vcr)',
    sent: [
      {
        type: 'message',
        usage: {
          cache_creation: { ephemeral_1h_input_tokens: 0, ephemeral_5m_input_tokens: 574 },
          cache_creation_input_tokens: 574,
          cache_read_input_tokens: 20443,
          input_tokens: 6,
          output_tokens: 489,
          output_tokens_details: { thinking_tokens: 77 },
          server_tool_use: { web_fetch_requests: 0, web_search_requests: 0 },
        },
      },
    ],
    means: {
      inputTokens: 21023,
      cachedInputTokens: 20443,
      cacheWrite5mTokens: 574,
      outputTokens: 489,
      reasoningTokens: 77,
    },
  },
  {
    what: 'Anthropic: searches',
    source: 'pydantic/genai-prices tests/dataset/usages.json (claude-sonnet-4-5, test_pause_turn_web_search_vcr)',
    sent: [
      {
        type: 'message',
        usage: { input_tokens: 401468, output_tokens: 792, server_tool_use: { web_search_requests: 10 } },
      },
    ],
    means: { inputTokens: 401468, outputTokens: 792, webSearches: 10 },
  },
  {
    what: 'Anthropic: a stream begins with the input and ends with the output',
    source: 'vercel/ai packages/anthropic/src/__fixtures__/spliced-message-start.chunks.txt',
    sent: [
      { type: 'message_start', message: { id: 'msg_first', usage: { input_tokens: 17, output_tokens: 1 } } },
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Spark' } },
      { type: 'message_start', message: { id: 'msg_second', usage: { input_tokens: 17, output_tokens: 1 } } },
      { type: 'message_delta', delta: { stop_reason: 'tool_use' }, usage: { output_tokens: 65 } },
    ],
    means: { inputTokens: 17, outputTokens: 65 },
  },
  {
    what: 'Anthropic: the end of a stream corrects the input upwards',
    source: 'vercel/ai packages/anthropic/src/__fixtures__/anthropic-message-delta-input-tokens.chunks.txt',
    sent: [
      { type: 'message_start', message: { usage: { input_tokens: 43, output_tokens: 1 } } },
      { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { input_tokens: 61, output_tokens: 2 } },
    ],
    means: { inputTokens: 61, outputTokens: 2 },
  },
  {
    what: 'Anthropic: a later start with zeros does not undo the first',
    source: 'vercel/ai packages/anthropic/src/__fixtures__/anthropic-programmatic-tool-calling.1.chunks.txt',
    sent: [
      { type: 'message_start', message: { usage: { input_tokens: 3369, output_tokens: 5 } } },
      {
        type: 'message_delta',
        usage: {
          input_tokens: 3369,
          cache_read_input_tokens: 0,
          output_tokens: 725,
          server_tool_use: { web_search_requests: 0 },
        },
      },
      { type: 'message_start', message: { usage: { input_tokens: 0, output_tokens: 0 } } },
    ],
    means: { inputTokens: 3369, outputTokens: 725 },
  },
  {
    what: 'Anthropic: what a compaction consumed is outside the totals',
    source:
      'pydantic/genai-prices tests/dataset/usages.json (claude-sonnet-4-6, test_anthropic_compaction_usage_with_cache)',
    sent: [
      {
        type: 'message',
        usage: {
          input_tokens: 180,
          output_tokens: 8,
          cache_creation_input_tokens: 0,
          cache_read_input_tokens: 0,
          iterations: [
            {
              type: 'compaction',
              input_tokens: 100,
              output_tokens: 82,
              cache_creation_input_tokens: 55096,
              cache_read_input_tokens: 0,
            },
            {
              type: 'message',
              input_tokens: 180,
              output_tokens: 8,
              cache_creation_input_tokens: 0,
              cache_read_input_tokens: 0,
            },
          ],
        },
      },
    ],
    means: { inputTokens: 55376, cacheWrite5mTokens: 55096, outputTokens: 90 },
  },
  {
    what: 'Anthropic: an advisor of another model is not in the totals',
    source: 'vercel/ai packages/anthropic/src/__fixtures__/anthropic-advisor-20260301.1.json',
    sent: [
      {
        type: 'message',
        usage: {
          input_tokens: 2414,
          output_tokens: 3200,
          iterations: [
            { type: 'message', input_tokens: 1051, output_tokens: 35 },
            { type: 'advisor_message', model: 'claude-opus-4-7', input_tokens: 2728, output_tokens: 874 },
            { type: 'message', input_tokens: 1363, output_tokens: 3165 },
          ],
        },
      },
    ],
    means: { inputTokens: 2414, outputTokens: 3200 },
    flags: ['other_model'],
  },
  {
    what: 'Anthropic: the answer of a fallback is what the totals say',
    source: 'vercel/ai packages/anthropic/src/__fixtures__/anthropic-fallback.chunks.txt',
    sent: [
      { type: 'message_start', message: { usage: { input_tokens: 408, output_tokens: 1 } } },
      {
        type: 'message_delta',
        usage: {
          input_tokens: 412,
          output_tokens: 264,
          iterations: [
            { type: 'message', model: 'claude-fable-5', input_tokens: 408, output_tokens: 0 },
            { type: 'fallback_message', model: 'claude-opus-4-8', input_tokens: 412, output_tokens: 264 },
          ],
        },
      },
    ],
    means: { inputTokens: 412, outputTokens: 264 },
  },
  {
    what: 'LiteLLM: Anthropic under OpenAI’s names, the cache inside the prompt',
    source: 'https://docs.litellm.ai/docs/completion/prompt_caching',
    sent: [
      answer({
        prompt_tokens: 2006,
        completion_tokens: 300,
        total_tokens: 2306,
        prompt_tokens_details: { cached_tokens: 1920 },
        completion_tokens_details: { reasoning_tokens: 0 },
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 1920,
      }),
    ],
    means: { inputTokens: 2006, cachedInputTokens: 1920, outputTokens: 300 },
  },
  {
    what: 'a proxy that leaves the cache out of prompt and total',
    source: 'https://github.com/decolua/9router/pull/2658',
    sent: [
      answer({
        prompt_tokens: 3,
        completion_tokens: 100,
        total_tokens: 103,
        cache_creation_input_tokens: 12304,
        cache_read_input_tokens: 11000,
      }),
    ],
    means: { inputTokens: 23307, cachedInputTokens: 11000, cacheWrite5mTokens: 12304, outputTokens: 100 },
    flags: ['cache_beside_input', 'total_below_sides'],
  },
  {
    what: 'a proxy whose prompt contains the cache and whose total does not',
    source: 'https://github.com/browser-use/browser-use/pull/4294',
    sent: [answer({ prompt_tokens: 11003, completion_tokens: 100, total_tokens: 103, cache_read_input_tokens: 11000 })],
    means: { inputTokens: 11003, cachedInputTokens: 11000, outputTokens: 100 },
    flags: ['total_below_sides'],
  },

  // Bedrock.
  {
    what: 'Bedrock: written to the cache beside the input, under two names',
    source: 'pydantic/genai-prices tests/dataset/usages.json (nova, test_bedrock_single_tool_choice_preserves_cache)',
    sent: [
      {
        usage: {
          cacheReadInputTokenCount: 0,
          cacheReadInputTokens: 0,
          cacheWriteInputTokenCount: 2492,
          cacheWriteInputTokens: 2492,
          inputTokens: 22,
          outputTokens: 13,
          serverToolUsage: {},
          totalTokens: 2527,
        },
      },
    ],
    means: { inputTokens: 2514, cacheWrite5mTokens: 2492, outputTokens: 13 },
  },
  {
    what: 'Bedrock: the split of writes by lifetime',
    source: 'https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html',
    sent: [
      {
        usage: {
          cacheDetails: [
            { inputTokens: 1074, ttl: '1h' },
            { inputTokens: 1000, ttl: '5m' },
          ],
          cacheReadInputTokens: 0,
          cacheWriteInputTokens: 2074,
          inputTokens: 3,
          outputTokens: 288,
          totalTokens: 2365,
        },
      },
    ],
    means: { inputTokens: 2077, cacheWrite5mTokens: 1000, cacheWrite1hTokens: 1074, outputTokens: 288 },
  },
  {
    what: 'Bedrock: the last event of a stream',
    source: 'vercel/ai packages/amazon-bedrock/src/__fixtures__/amazon-bedrock-text.chunks.txt',
    sent: [
      { contentBlockDelta: { delta: { text: 'Hi' } } },
      {
        metadata: {
          metrics: { latencyMs: 2040 },
          usage: { inputTokens: 22, outputTokens: 55, serverToolUsage: {}, totalTokens: 77 },
        },
      },
    ],
    means: { inputTokens: 22, outputTokens: 55 },
  },

  // Gemini.
  {
    what: 'Gemini: thoughts beside the candidates',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gemini-2.5-pro, test_google)',
    sent: [
      {
        usageMetadata: {
          candidatesTokenCount: 778,
          promptTokenCount: 1106,
          promptTokensDetails: [{ modality: 'TEXT', tokenCount: 1106 }],
          thoughtsTokenCount: 1089,
          totalTokenCount: 2973,
        },
      },
    ],
    means: { inputTokens: 1106, outputTokens: 1867, reasoningTokens: 1089 },
  },
  {
    what: 'Gemini: nothing but thoughts, counts of 0 left out',
    source: 'https://github.com/router-for-me/CLIProxyAPI/issues/5733',
    sent: [{ usageMetadata: { promptTokenCount: 21, thoughtsTokenCount: 60, totalTokenCount: 81 } }],
    means: { inputTokens: 21, outputTokens: 60, reasoningTokens: 60 },
  },
  {
    what: 'Gemini: a blocked prompt has no output',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gemini-1.5-flash, test_google_model_safety_settings)',
    sent: [
      {
        usageMetadata: {
          promptTokenCount: 14,
          promptTokensDetails: [{ modality: 'TEXT', tokenCount: 14 }],
          totalTokenCount: 14,
        },
      },
    ],
    means: { inputTokens: 14 },
  },
  {
    what: 'Gemini: what its tools read is input',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gemini-2.5-pro, test_google_model_web_search_tool)',
    sent: [
      {
        usageMetadata: {
          candidatesTokenCount: 201,
          promptTokenCount: 17,
          thoughtsTokenCount: 213,
          toolUsePromptTokenCount: 119,
          toolUsePromptTokensDetails: [{ modality: 'TEXT', tokenCount: 119 }],
          totalTokenCount: 550,
        },
      },
    ],
    means: { inputTokens: 136, outputTokens: 414, reasoningTokens: 213 },
  },
  {
    what: 'Gemini: cached content',
    source: 'pydantic/genai-prices tests/dataset/usages.json (gemini-2.5-flash, test_google_model_cached_content)',
    sent: [
      {
        usageMetadata: {
          cacheTokensDetails: [{ modality: 'TEXT', tokenCount: 3512 }],
          cachedContentTokenCount: 3512,
          candidatesTokenCount: 2,
          promptTokenCount: 3520,
          promptTokensDetails: [{ modality: 'TEXT', tokenCount: 3520 }],
          thoughtsTokenCount: 42,
          totalTokenCount: 3564,
        },
      },
    ],
    means: { inputTokens: 3520, cachedInputTokens: 3512, outputTokens: 44, reasoningTokens: 42 },
  },
  {
    what: 'Gemini: an image as output',
    source:
      'pydantic/genai-prices tests/dataset/usages.json (gemini-3-pro-image-preview, test_google_image_generation)',
    sent: [
      {
        usageMetadata: {
          candidatesTokenCount: 1780,
          candidatesTokensDetails: [{ modality: 'IMAGE', tokenCount: 1120 }],
          promptTokenCount: 33,
          promptTokensDetails: [{ modality: 'TEXT', tokenCount: 33 }],
          thoughtsTokenCount: 529,
          totalTokenCount: 2342,
        },
      },
    ],
    means: { inputTokens: 33, outputTokens: 2309, reasoningTokens: 529, imageOutputTokens: 1120 },
  },
  {
    what: 'Gemini: video and audio as input, a modality without a count',
    source:
      'pydantic/genai-prices tests/dataset/usages.json (gemini-2.0-flash, test_google_model_video_as_binary_content)',
    sent: [
      {
        usageMetadata: {
          candidatesTokenCount: 162,
          promptTokenCount: 268,
          promptTokensDetails: [
            { modality: 'AUDIO' },
            { modality: 'TEXT', tokenCount: 10 },
            { modality: 'VIDEO', tokenCount: 258 },
          ],
          totalTokenCount: 430,
        },
      },
    ],
    means: { inputTokens: 268, imageInputTokens: 258, outputTokens: 162 },
  },
  {
    what: 'Gemini: the first chunks of a stream know no counts',
    source:
      'vercel/ai packages/google/src/__fixtures__/google-stream-tool-call-array-arguments-missing-terminal-function-call.chunks.txt',
    sent: [
      { usageMetadata: { trafficType: 'PROVISIONED_THROUGHPUT' } },
      {
        usageMetadata: {
          promptTokenCount: 54,
          candidatesTokenCount: 74,
          totalTokenCount: 249,
          trafficType: 'PROVISIONED_THROUGHPUT',
          promptTokensDetails: [{ modality: 'TEXT', tokenCount: 54 }],
          candidatesTokensDetails: [{ modality: 'TEXT', tokenCount: 74 }],
          thoughtsTokenCount: 121,
        },
      },
    ],
    means: { inputTokens: 54, outputTokens: 195, reasoningTokens: 121 },
  },
  {
    what: 'Gemini: its interactions',
    source: 'vercel/ai packages/google/src/interactions/__fixtures__/google-search.chunks.txt',
    sent: [
      {
        interaction: {
          usage: {
            total_tokens: 1983,
            total_input_tokens: 22,
            input_tokens_by_modality: [{ modality: 'text', tokens: 22 }],
            total_cached_tokens: 0,
            total_output_tokens: 590,
            total_tool_use_tokens: 198,
            total_thought_tokens: 1173,
          },
        },
      },
    ],
    means: { inputTokens: 220, outputTokens: 1763, reasoningTokens: 1173 },
  },
  {
    what: 'Gemini: the Python names',
    source: 'https://github.com/mozilla-ai/any-llm/issues/1290',
    sent: [
      {
        usage_metadata: {
          prompt_token_count: 20,
          candidates_token_count: 198,
          thoughts_token_count: 405,
          total_token_count: 623,
        },
      },
    ],
    means: { inputTokens: 20, outputTokens: 603, reasoningTokens: 405 },
  },
  {
    what: 'Gemini at its OpenAI endpoint: thoughts show only in the total',
    source: 'https://github.com/mozilla-ai/any-llm/pull/1291',
    sent: [answer({ prompt_tokens: 20, completion_tokens: 151, total_tokens: 553 })],
    means: { inputTokens: 20, outputTokens: 533, reasoningTokens: 382 },
    flags: ['unlisted_output'],
  },
  {
    what: 'Gemini behind LiteLLM: reasoning listed, and outside the completion',
    source: 'https://github.com/BerriAI/litellm/issues/10667',
    sent: [
      answer({
        prompt_tokens: 19693,
        completion_tokens: 7,
        total_tokens: 20309,
        completion_tokens_details: { reasoning_tokens: 609, audio_tokens: null, text_tokens: null },
        prompt_tokens_details: null,
      }),
    ],
    means: { inputTokens: 19693, outputTokens: 616, reasoningTokens: 609 },
    flags: ['reasoning_beside_output'],
  },
  {
    what: 'Gemini behind a proxy: a completion of 0 beside reasoning',
    source: 'https://github.com/router-for-me/CLIProxyAPI/issues/5733',
    sent: [
      answer({
        prompt_tokens: 21,
        completion_tokens: 0,
        total_tokens: 81,
        completion_tokens_details: { reasoning_tokens: 60 },
      }),
    ],
    means: { inputTokens: 21, outputTokens: 60, reasoningTokens: 60 },
    flags: ['reasoning_beside_output'],
  },

  // xAI.
  {
    what: 'xAI: reasoning beside the completion, told by the total',
    source: 'vercel/ai packages/xai/src/__fixtures__/xai-text.chunks.txt',
    sent: [
      answer({
        prompt_tokens: 12,
        completion_tokens: 1,
        total_tokens: 303,
        prompt_tokens_details: { text_tokens: 12, audio_tokens: 0, image_tokens: 0, cached_tokens: 11 },
        completion_tokens_details: { reasoning_tokens: 290, audio_tokens: 0 },
        num_sources_used: 0,
        cost_in_usd_ticks: 1466250,
      }),
    ],
    means: { inputTokens: 12, cachedInputTokens: 11, outputTokens: 291, reasoningTokens: 290 },
    flags: ['reasoning_beside_output'],
  },
  {
    what: 'xAI: the same where the price version says so is no contradiction',
    source: 'https://github.com/Wei-Shaw/sub2api/issues/5771',
    sent: [
      answer({
        prompt_tokens: 10120,
        completion_tokens: 1499,
        total_tokens: 14428,
        prompt_tokens_details: { cached_tokens: 128 },
        completion_tokens_details: { reasoning_tokens: 2809 },
      }),
    ],
    means: { inputTokens: 10120, cachedInputTokens: 128, outputTokens: 4308, reasoningTokens: 2809 },
    reasoningInOutput: false,
  },
  {
    what: 'xAI: its responses have reasoning inside, whatever the price version says',
    source: 'vercel/ai packages/xai/src/responses/__fixtures__/xai-text-with-reasoning-streaming.1.chunks.txt',
    sent: [
      {
        response: {
          usage: {
            input_tokens: 216,
            input_tokens_details: { cached_tokens: 192 },
            output_tokens: 923,
            output_tokens_details: { reasoning_tokens: 323 },
            total_tokens: 1139,
            num_sources_used: 0,
          },
        },
      },
    ],
    means: { inputTokens: 216, cachedInputTokens: 192, outputTokens: 923, reasoningTokens: 323 },
    reasoningInOutput: false,
    flags: ['reasoning_inside_output'],
  },
  {
    what: 'xAI behind OpenRouter: reasoning inside, for the same model',
    source: 'pydantic/genai-prices tests/dataset/usages.json (x-ai/grok-4, test_openrouter_with_native_options)',
    sent: [
      answer({
        prompt_tokens: 687,
        completion_tokens: 240,
        total_tokens: 927,
        prompt_tokens_details: { audio_tokens: 0, cached_tokens: 682 },
        completion_tokens_details: { reasoning_tokens: 165 },
      }),
    ],
    means: { inputTokens: 687, cachedInputTokens: 682, outputTokens: 240, reasoningTokens: 165 },
    reasoningInOutput: false,
    flags: ['reasoning_inside_output'],
  },
  {
    what: 'xAI: cached tokens beside the prompt, told by the total',
    source: 'vercel/ai packages/xai/src/convert-xai-chat-usage.test.ts',
    sent: [
      answer({
        prompt_tokens: 4142,
        completion_tokens: 254,
        total_tokens: 8724,
        prompt_tokens_details: { cached_tokens: 4328 },
      }),
    ],
    means: { inputTokens: 8470, cachedInputTokens: 4328, outputTokens: 254 },
    flags: ['cache_beside_input'],
  },
  {
    what: 'xAI: searches by its tools',
    source: 'vercel/ai packages/xai/src/responses/__fixtures__/xai-x-search-tool.chunks.txt',
    sent: [
      {
        response: {
          usage: {
            input_tokens: 27236,
            input_tokens_details: { cached_tokens: 4585 },
            output_tokens: 3077,
            output_tokens_details: { reasoning_tokens: 1091 },
            total_tokens: 30313,
            num_sources_used: 0,
            server_side_tool_usage_details: { web_search_calls: 3, x_search_calls: 1 },
          },
        },
      },
    ],
    means: {
      inputTokens: 27236,
      cachedInputTokens: 4585,
      outputTokens: 3077,
      reasoningTokens: 1091,
      webSearches: 3,
    },
  },
  {
    what: 'Baseten: one token more of reasoning than of output, confirmed by the total',
    source: 'https://github.com/vercel/ai/pull/18614',
    sent: [
      answer({
        prompt_tokens: 951,
        completion_tokens: 6000,
        total_tokens: 6952,
        prompt_tokens_details: { cached_tokens: 60 },
        completion_tokens_details: { reasoning_tokens: 6001 },
      }),
    ],
    means: { inputTokens: 951, cachedInputTokens: 60, outputTokens: 6001, reasoningTokens: 6001 },
    flags: ['output_below_reasoning'],
  },

  // Perplexity, Cohere, MiniMax, local servers.
  {
    what: 'Perplexity: deep research bills what it read and thought outside its total',
    source: 'https://github.com/bgeneto/open-webui-cost-tracker/issues/6',
    sent: [
      answer({
        prompt_tokens: 108,
        completion_tokens: 3256,
        total_tokens: 3364,
        citation_tokens: 7299,
        num_search_queries: 74,
        reasoning_tokens: 73248,
      }),
    ],
    means: { inputTokens: 7407, outputTokens: 76504, reasoningTokens: 73248, webSearches: 74 },
  },
  {
    what: 'Perplexity: running totals in every chunk, a price beside them',
    source: 'vercel/ai packages/perplexity/src/__fixtures__/perplexity-citations.chunks.txt',
    sent: [
      {
        ...text('a'),
        usage: { prompt_tokens: 10, completion_tokens: 1, total_tokens: 11, search_context_size: 'low' },
      },
      {
        ...choice({ finish_reason: 'stop' }),
        usage: {
          prompt_tokens: 10,
          completion_tokens: 25,
          total_tokens: 35,
          search_context_size: 'low',
          cost: { input_tokens_cost: 0.00001, output_tokens_cost: 0.000025, request_cost: 0.005, total_cost: 0.005035 },
        },
      },
    ],
    means: { inputTokens: 10, outputTokens: 25 },
  },
  {
    what: 'Cohere: it bills less than it processed',
    source: 'vercel/ai packages/cohere/src/__fixtures__/cohere-empty-tool-call.chunks.txt',
    sent: [
      { type: 'content-delta', delta: { message: { content: { text: 'Hi' } } } },
      {
        type: 'message-end',
        delta: {
          finish_reason: 'COMPLETE',
          usage: {
            billed_units: { input_tokens: 46, output_tokens: 14 },
            tokens: { input_tokens: 1445, output_tokens: 43 },
            cached_tokens: 704,
          },
        },
      },
    ],
    means: { inputTokens: 46, outputTokens: 14 },
  },
  {
    what: 'Cohere: its first version',
    source: 'https://docs.cohere.com/v1/reference/chat',
    sent: [
      {
        text: 'Hi',
        meta: {
          api_version: { version: '1' },
          billed_units: { input_tokens: 7, output_tokens: 2 },
          tokens: { input_tokens: 71 },
        },
      },
    ],
    means: { inputTokens: 7, outputTokens: 2 },
  },
  {
    what: 'MiniMax: characters beside the tokens',
    source: 'https://github.com/router-for-me/CLIProxyAPI/pull/3221',
    sent: [
      { ...text('a'), usage: null },
      {
        ...choice({ finish_reason: 'stop' }),
        usage: {
          total_tokens: 171,
          total_characters: 0,
          prompt_tokens: 71,
          completion_tokens: 100,
          completion_tokens_details: { reasoning_tokens: 85 },
        },
      },
    ],
    means: { inputTokens: 71, outputTokens: 100, reasoningTokens: 85 },
  },
  {
    what: 'Ollama: its own API',
    source: 'https://github.com/stdapi-ai/stdapi.ai/issues/252',
    sent: [
      { model: 'llama3', message: { role: 'assistant', content: 'Hi' }, done: false },
      {
        model: 'llama3',
        message: { role: 'assistant', content: '' },
        done: true,
        prompt_eval_count: 26,
        prompt_eval_cached_count: 20,
        eval_count: 298,
        total_duration: 4883583458,
      },
    ],
    means: { inputTokens: 26, cachedInputTokens: 20, outputTokens: 298 },
  },
  {
    what: 'llama.cpp: timings where there is no usage',
    source: 'https://github.com/ggml-org/llama.cpp/pull/15827',
    sent: [
      text('Hi'),
      chunk({
        timings: {
          cache_n: 236,
          prompt_n: 1,
          prompt_ms: 30.958,
          prompt_per_second: 32.3018,
          predicted_n: 35,
          predicted_ms: 661.064,
        },
      }),
    ],
    means: { inputTokens: 237, cachedInputTokens: 236, outputTokens: 35 },
  },
  {
    what: 'llama.cpp: timings beside usage count once',
    source: 'https://github.com/ggml-org/llama.cpp/pull/15444',
    sent: [
      chunk({
        usage: { completion_tokens: 35, prompt_tokens: 237, total_tokens: 272 },
        timings: { cache_n: 236, prompt_n: 1, predicted_n: 35 },
      }),
    ],
    means: { inputTokens: 237, outputTokens: 35 },
  },
  {
    what: 'Cloudflare: usage inside the envelope of its API',
    source: 'https://developers.cloudflare.com/workers-ai/get-started/rest-api',
    sent: [
      {
        result: { response: 'Hi', usage: { prompt_tokens: 26, completion_tokens: 5, total_tokens: 31 } },
        success: true,
        errors: [],
      },
    ],
    means: { inputTokens: 26, outputTokens: 5 },
  },
  {
    what: 'DeepInfra: an estimated cost beside the counts',
    source: 'https://deepinfra.com/docs/openai_api',
    sent: [answer({ prompt_tokens: 15, completion_tokens: 16, total_tokens: 31, estimated_cost: 0.0000268 })],
    means: { inputTokens: 15, outputTokens: 16 },
  },

  // Reports that come more than once.
  {
    what: 'a placeholder of zeros before the real report',
    source: 'https://github.com/router-for-me/CLIProxyAPI/issues/4053',
    sent: [
      answer({ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }),
      answer({
        prompt_tokens: 39320,
        completion_tokens: 26,
        total_tokens: 39346,
        prompt_tokens_details: { cached_tokens: 33280 },
      }),
    ],
    means: { inputTokens: 39320, cachedInputTokens: 33280, outputTokens: 26 },
  },
  {
    what: 'a chunk without usage after the report',
    source: 'https://github.com/openai/openai-agents-python/pull/2126',
    sent: [
      { ...choice({ finish_reason: 'stop' }), usage: { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 } },
      chunk({ usage: null }),
      chunk({}),
    ],
    means: { inputTokens: 9, outputTokens: 4 },
  },
  {
    what: 'zeros at the end, with empty details',
    source: 'https://github.com/BerriAI/litellm/issues/17136',
    sent: [
      answer({ prompt_tokens: 9, completion_tokens: 4, total_tokens: 13, prompt_tokens_details: { cached_tokens: 8 } }),
      answer({ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, prompt_tokens_details: null }),
    ],
    means: { inputTokens: 9, cachedInputTokens: 8, outputTokens: 4 },
  },
  {
    what: 'a first report without the cache, a last one with it',
    source: 'https://github.com/kittors/CliRelay/pull/522',
    sent: [
      answer({ prompt_tokens: 900, completion_tokens: 4, total_tokens: 904 }),
      answer({ prompt_tokens: 900, completion_tokens: 4, total_tokens: 904, cached_tokens: 768 }),
    ],
    means: { inputTokens: 900, cachedInputTokens: 768, outputTokens: 4 },
  },
  {
    what: 'two places of one chunk that differ',
    source: 'https://github.com/Portkey-AI/gateway/issues/1338',
    sent: [
      {
        ...answer({ prompt_tokens: 20, completion_tokens: 3, total_tokens: 23 }),
        x_groq: { usage: { prompt_tokens: 20, completion_tokens: 5, total_tokens: 25 } },
      },
    ],
    means: { inputTokens: 20, outputTokens: 5 },
    flags: ['places_differ'],
  },
  {
    what: 'a last report that counts less than one before it',
    source: 'https://github.com/ogx-ai/ogx/issues/5122',
    sent: [
      answer({ prompt_tokens: 20, completion_tokens: 50, total_tokens: 70 }),
      answer({ prompt_tokens: 20, completion_tokens: 5, total_tokens: 25 }),
    ],
    means: { inputTokens: 20, outputTokens: 50 },
    flags: ['report_shrank'],
  },
];

/** Reports that real providers sent and that cannot be charged by. */
const UNUSABLE: readonly { what: string; source: string; sent: unknown; names: string }[] = [
  {
    what: 'OpenAI: a negative completion',
    source: 'https://github.com/64bit/async-openai/issues/404',
    sent: answer({ prompt_tokens: 1151, completion_tokens: -35, total_tokens: 1116 }),
    names: 'completion_tokens',
  },
  {
    what: 'OpenRouter: fractions of tokens for images',
    source: 'https://github.com/BerriAI/litellm/issues/28024',
    sent: answer({ prompt_tokens: 12, completion_tokens: 14417.92, total_tokens: 14429.92 }),
    names: 'completion_tokens',
  },
  {
    what: 'SGLang: responses whose total is the output, without an input',
    source: 'https://github.com/sgl-project/sglang/issues/10012',
    sent: answer({ output_tokens: 200, total_tokens: 200 }),
    names: 'input',
  },
  {
    what: 'a reranker: a total alone',
    source: 'vercel/ai packages/voyage/src/reranking/__fixtures__/voyage-reranking.1.json',
    sent: answer({ total_tokens: 12 }),
    names: 'input',
  },
  {
    what: 'the end of a stream whose beginning was lost',
    source: 'vercel/ai packages/anthropic/src/__fixtures__/spliced-message-start.chunks.txt',
    sent: { type: 'message_delta', usage: { output_tokens: 65 } },
    names: 'input',
  },
];

function merged(sent: readonly unknown[]): ReportedUsage {
  const reported = sent.reduce<ReportedUsage | null>(mergeReportedUsage, null);
  assert.ok(reported !== null, 'usage was found');
  return reported;
}

function read(sent: readonly unknown[], reasoningInOutput = true): ReadUsage {
  return readReportedUsage(merged(sent), { reasoningInOutput });
}

function accepted(sent: readonly unknown[], reasoningInOutput = true): Extract<ReadUsage, { ok: true }> {
  const result = read(sent, reasoningInOutput);
  if (!result.ok) assert.fail(`refused: ${result.reason}`);
  return result;
}

describe('reported usage: the golden table', () => {
  for (const { what, source, sent, means, flags = [], reasoningInOutput = true } of TABLE) {
    it(`${what} (${source})`, () => {
      const result = accepted(sent, reasoningInOutput);
      assert.deepEqual(result.usage, { ...NO_USAGE, ...means });
      assert.deepEqual(result.flags.toSorted(), [...flags].toSorted());
    });
  }

  for (const { what, source, sent, names } of UNUSABLE) {
    it(`${what} is no evidence (${source})`, () => {
      const result = read([sent]);
      assert.ok(!result.ok, 'accepted');
      assert.ok(result.reason.includes(names), `"${result.reason}" does not name ${names}`);
      assert.deepEqual(result.raw, (sent as { usage: unknown }).usage, 'what was sent is kept as evidence');
    });
  }

  it('the golden table has at least 70 rows, each with its source, and meets every flag', () => {
    assert.ok(TABLE.length >= 70, `${TABLE.length} rows`);
    assert.ok(TABLE.every(({ source }) => source.length > 10));
    const met = new Set(TABLE.flatMap(({ flags = [] }) => flags));
    // These have no public report; usage-contradictions.test.ts has them.
    const others: UsageFlag[] = ['cache_inside_input', 'total_unreadable', 'cache_split_differs', 'parts_cut'];
    assert.deepEqual([...met, ...others].toSorted(), [...USAGE_FLAGS].toSorted());
  });
});

/** The cost of a report at these prices. */
function costOf(prices: PriceText, sent: readonly unknown[], reasoningInOutput = true): string {
  const version = compilePrices({ prices, reasoning_in_output: reasoningInOutput });
  if (isPriceProblem(version)) assert.fail(version.message);
  return formatUsd(rate(version.tiers, accepted(sent, reasoningInOutput).usage).cost);
}

describe('reported usage: what the readings are worth', () => {
  it('Moonshot: 100,000 cached tokens cost $0.008 and not $0.06, 7.5 times as much', () => {
    const usage = { prompt_tokens: 100_000, completion_tokens: 0, total_tokens: 100_000, cached_tokens: 100_000 };
    const prices = { input: '0.6', cached_input: '0.08', output: '2.5' };
    assert.equal(costOf(prices, [choice({ finish_reason: 'stop', usage })]), '0.008000000000');
  });

  it('DeepSeek: a prompt that is nearly all cached costs $0.001932 and not $0.028, also without OpenAI’s details', () => {
    const usage = {
      prompt_tokens: 100_000,
      completion_tokens: 0,
      total_tokens: 100_000,
      prompt_cache_hit_tokens: 98_000,
      prompt_cache_miss_tokens: 2_000,
    };
    assert.equal(costOf({ input: '0.28', cached_input: '0.014', output: '0.42' }, [answer(usage)]), '0.001932000000');
  });

  it('Gemini at its OpenAI endpoint: 382 thoughts of $0.00382 are not given away', () => {
    const sent = [answer({ prompt_tokens: 20, completion_tokens: 151, total_tokens: 553 })];
    assert.equal(costOf({ input: '1.25', output: '10' }, sent), '0.005355000000');
  });

  it('xAI: the cost is the one stated by xAI, $0.0232856, not $0.0162631', () => {
    const sent = [
      answer({
        prompt_tokens: 10120,
        completion_tokens: 1499,
        total_tokens: 14428,
        prompt_tokens_details: { cached_tokens: 128 },
        completion_tokens_details: { reasoning_tokens: 2809 },
        cost_in_usd_ticks: 232856000,
      }),
    ];
    const prices = { input: '1.25', cached_input: '0.2', output: '2.5' };
    for (const reasoningInOutput of [true, false]) {
      assert.equal(costOf(prices, sent, reasoningInOutput), '0.023285600000', String(reasoningInOutput));
    }
  });

  it('Perplexity: a deep research of $0.260606 is not sold for $0.026264', () => {
    const usage = {
      prompt_tokens: 108,
      completion_tokens: 3256,
      total_tokens: 3364,
      citation_tokens: 7299,
      num_search_queries: 74,
      reasoning_tokens: 73248,
    };
    assert.equal(costOf({ input: '2', output: '8', reasoning: '3' }, [answer(usage)]), '0.260606000000');
  });

  it('DashScope: 1,500 tokens written to the cache cost a quarter more than fresh ones', () => {
    const usage = {
      prompt_tokens: 1500,
      completion_tokens: 0,
      total_tokens: 1500,
      prompt_tokens_details: { cached_tokens: 0, cache_creation_input_tokens: 1500 },
    };
    assert.equal(costOf({ input: '0.4', cache_write_5m: '0.5', output: '1.2' }, [answer(usage)]), '0.000750000000');
  });
});

const NOT_COUNTS: readonly [value: unknown, why: string][] = [
  [-1, 'negative'],
  [-(2 ** 53), 'hugely negative'],
  [0.5, 'a fraction'],
  [NaN, 'NaN'],
  [Infinity, 'infinite'],
  [2 ** 53, '2^53'],
  [1e300, 'beyond any count'],
  ['7', 'text'],
  ['NaN', 'NaN as text'],
  ['', 'empty text'],
  [true, 'a boolean'],
  [{}, 'an object'],
  [[7], 'an array'],
];

const COMPLETE: Json = {
  prompt_tokens: 1_000,
  completion_tokens: 500,
  prompt_tokens_details: { cached_tokens: 400, cache_write_tokens: 50, audio_tokens: 30, image_tokens: 20 },
  completion_tokens_details: { reasoning_tokens: 300, audio_tokens: 40, image_tokens: 10 },
  cached_tokens: 400,
  prompt_cache_hit_tokens: 400,
  prompt_cache_miss_tokens: 600,
  num_search_queries: 2,
};

const ANTHROPIC: Json = {
  input_tokens: 1_000,
  output_tokens: 500,
  cache_read_input_tokens: 400,
  cache_creation_input_tokens: 90,
  cache_creation: { ephemeral_5m_input_tokens: 50, ephemeral_1h_input_tokens: 40 },
  output_tokens_details: { thinking_tokens: 300 },
  server_tool_use: { web_search_requests: 2 },
};

/** `outer` or `outer.inner` for every count of a report. */
function pathsOf(report: Json): string[] {
  return Object.entries(report).flatMap(([outer, value]) =>
    typeof value === 'object' && value !== null ? Object.keys(value).map((inner) => `${outer}.${inner}`) : [outer],
  );
}

function withValue(report: Json, path: string, value: unknown): Json {
  const [outer = '', inner] = path.split('.');
  if (inner === undefined) return { ...report, [outer]: value };
  return { ...report, [outer]: { ...(report[outer] as Json), [inner]: value } };
}

describe('reported usage: what is no evidence', () => {
  for (const [name, complete] of [
    ['OpenAI', COMPLETE],
    ['Anthropic', ANTHROPIC],
  ] as const) {
    for (const [value, why] of NOT_COUNTS) {
      it(`${name}: a count that is ${why} is refused by name, whichever field it stands in`, () => {
        for (const path of pathsOf(complete)) {
          const result = read([answer(withValue(complete, path, value))]);
          assert.ok(!result.ok, `${path} was accepted`);
          assert.ok(result.reason.includes(path.split('.').at(-1) ?? path), result.reason);
        }
      });
    }

    it(`${name}: a section that is no object is refused by name`, () => {
      for (const section of Object.keys(complete).filter((field) => typeof complete[field] === 'object')) {
        for (const value of ['', 'none', 0, 7, true, [], [7]]) {
          const result = read([answer({ ...complete, [section]: value })]);
          assert.ok(!result.ok && result.reason.includes(section), `${section} ${JSON.stringify(value)}`);
        }
      }
    });

    it(`${name}: a part that is null or absent is 0`, () => {
      const [input = '', output = ''] = Object.keys(complete);
      const bare = accepted([answer({ [input]: 10, [output]: 5 })]).usage;
      assert.deepEqual(bare, { ...NO_USAGE, inputTokens: 10, outputTokens: 5 });
      const nulls = Object.fromEntries(Object.keys(complete).map((field) => [field, null]));
      assert.deepEqual(accepted([answer({ ...nulls, [input]: 10, [output]: 5 })]).usage, bare);
    });

    // Accepted as 0, a lost whole would give its side of the answer away without even the mark `estimated`.
    it(`${name}: without a total, a side that is missing or null is not 0`, () => {
      for (const field of Object.keys(complete).slice(0, 2)) {
        for (const lost of [undefined, null]) {
          // Hits and misses of the cache would be an input, too.
          const report = { ...complete, prompt_cache_miss_tokens: null, [field]: lost };
          assert.equal(read([answer(report)]).ok, false, field);
        }
      }
    });
  }

  it('a whole number is one however JSON writes it', () => {
    const usage: unknown = JSON.parse('{"prompt_tokens":12.0,"completion_tokens":1e2,"total_tokens":1.12e2}');
    assert.deepEqual(accepted([answer(usage)]).usage, { ...NO_USAGE, inputTokens: 12, outputTokens: 100 });
  });

  it('an empty report is missing usage, not a free request', () => {
    assert.equal(read([answer({})]).ok, false);
    assert.equal(read([answer({ service_tier: 'standard' })]).ok, false);
  });

  it('counts whose sum is beyond 2^53 - 1 are refused, not rounded', () => {
    const most = Number.MAX_SAFE_INTEGER;
    for (const report of [
      { input_tokens: most, cache_read_input_tokens: 1, output_tokens: 0 },
      { prompt_tokens: 1, completion_tokens: most, reasoning_tokens: 1, citation_tokens: 0 },
    ]) {
      const result = read([answer(report)]);
      assert.ok(!result.ok && result.reason.includes('sum'), JSON.stringify(report));
    }
  });

  for (const [value, why] of [
    ['10', 'text'],
    [10, 'a number'],
    [true, 'a boolean'],
    [[1, 16], 'an array'],
  ] as const) {
    it(`usage that is ${why} is no report, and is kept as evidence`, () => {
      const result = read([answer(value)]);
      assert.deepEqual(result, { ok: false, reason: 'usage is not an object', raw: value });
    });
  }

  it('nothing is reported by a message without usage, and what was reported before stays as it is', () => {
    const before = merged([answer({ prompt_tokens: 1, completion_tokens: 2 })]);
    for (const message of [
      null,
      undefined,
      7,
      'usage',
      [],
      {},
      text('usage'),
      chunk({ usage: null }),
      { usage: undefined },
    ]) {
      assert.equal(mergeReportedUsage(null, message), null);
      assert.equal(mergeReportedUsage(before, message), before);
    }
    assert.equal(rawUsageOf(null), null);
  });

  it('an echo of the request in a chat completion is not taken for usage', () => {
    const forged = { cached_tokens: 1_000_000, prompt_tokens: 0 };
    const message = {
      ...text('Hi'),
      metadata: { usage: forged },
      message: { usage: forged },
      response: { usage: forged },
      data: { native_tokens_prompt: 0 },
    };
    assert.equal(mergeReportedUsage(null, message), null);
  });

  it('an unreadable place does not spoil a readable one', () => {
    const usage = { prompt_tokens: 5, completion_tokens: 6 };
    const result = accepted([answer('n/a'), answer(usage), answer(17)]);
    assert.deepEqual([result.usage.inputTokens, result.usage.outputTokens, result.raw], [5, 6, usage]);
  });

  it('a later count that is none does not replace one', () => {
    const result = accepted([
      answer({ prompt_tokens: 5, completion_tokens: 6, prompt_tokens_details: { cached_tokens: 4 } }),
      answer({ prompt_tokens: 'many', completion_tokens: -1, prompt_tokens_details: 'none' }),
    ]);
    assert.deepEqual(result.usage, { ...NO_USAGE, inputTokens: 5, cachedInputTokens: 4, outputTokens: 6 });
  });
});

describe('reported usage: properties', () => {
  const number = fc.oneof(fc.nat(1_000), fc.maxSafeNat(), fc.double(), fc.integer(), fc.constantFrom(0, 2 ** 53, -1));
  const value = fc.oneof({ weight: 4, arbitrary: number }, { weight: 1, arbitrary: fc.jsonValue() });
  const names = fc.constantFrom(
    ...Object.keys(COMPLETE),
    ...Object.keys(ANTHROPIC),
    'total_tokens',
    'totalTokens',
    'inputTokens',
    'outputTokens',
    'cacheReadInputTokens',
    'cacheDetails',
    'promptTokenCount',
    'candidatesTokenCount',
    'thoughtsTokenCount',
    'promptTokensDetails',
    'citation_tokens',
    'reasoning_tokens',
    'iterations',
    'billed_units',
    'prompt_audio_seconds',
    '__proto__',
  );
  const details = fc.dictionary(
    fc.constantFrom('cached_tokens', 'reasoning_tokens', 'audio_tokens', 'image_tokens', 'cache_write_tokens', 'type'),
    value,
  );
  const list = fc.array(
    fc.record({ modality: fc.constantFrom('AUDIO', 'IMAGE', 'TEXT'), tokenCount: value, type: fc.constant('message') }),
    { maxLength: 3 },
  );
  const report = fc.dictionary(names, fc.oneof({ weight: 6, arbitrary: value }, details, list), { maxKeys: 12 });
  const message = fc.oneof(
    fc.jsonValue(),
    report.map(answer),
    report.map((usage) => choice({ usage })),
    report.map((usage) => ({ x_groq: { usage }, message: { usage }, delta: { usage } })),
    report.map((usageMetadata) => ({ usageMetadata })),
    fc.tuple(report, report).map(([a, b]) =>
      chunk({
        choices: [
          { index: 0, usage: a },
          { index: 1, usage: b },
        ],
      }),
    ),
  );

  it('whatever a provider sends: never an exception, and what is accepted has whole parts that fit their totals', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 6 }), fc.boolean(), (messages, reasoningInOutput) => {
        const reported = messages.reduce<ReportedUsage | null>(mergeReportedUsage, null);
        if (reported === null) return;
        const result = readReportedUsage(reported, { reasoningInOutput });
        if (!result.ok) return;
        const { usage } = result;
        for (const [field, tokens] of Object.entries(usage) as [string, number][]) {
          assert.ok(Number.isSafeInteger(tokens) && tokens >= 0, `${field} is ${tokens}`);
        }
        const input =
          usage.cachedInputTokens +
          usage.cacheWrite5mTokens +
          usage.cacheWrite1hTokens +
          usage.audioInputTokens +
          usage.imageInputTokens;
        assert.ok(input <= usage.inputTokens);
        assert.ok(usage.reasoningTokens + usage.audioOutputTokens + usage.imageOutputTokens <= usage.outputTokens);
        assert.ok(result.flags.every((flag) => USAGE_FLAGS.includes(flag)));
      }),
      { numRuns: 3_000 },
    );
  });

  it('a further report never makes less of any count, whatever else it says', () => {
    const counts = fc.record(
      {
        prompt_tokens: value,
        completion_tokens: value,
        prompt_tokens_details: fc.oneof(details, value),
        cached_tokens: value,
      },
      { requiredKeys: [] },
    );
    const countsOf = (raw: unknown): [string, number][] =>
      Object.entries((raw ?? {}) as Json).flatMap(([field, entry]): [string, number][] => {
        if (typeof entry === 'number') return Number.isSafeInteger(entry) && entry >= 0 ? [[field, entry]] : [];
        return typeof entry === 'object' && !Array.isArray(entry)
          ? countsOf(entry).map(([inner, count]) => [`${field}.${inner}`, count])
          : [];
      });
    fc.assert(
      fc.property(fc.array(counts, { minLength: 2, maxLength: 5 }), (reports) => {
        let before = new Map<string, number>();
        let reported: ReportedUsage | null = null;
        for (const report of reports) {
          reported = mergeReportedUsage(reported, answer(report));
          const now = new Map(countsOf(rawUsageOf(reported)));
          for (const [field, count] of before) assert.ok((now.get(field) ?? -1) >= count, `${field} was ${count}`);
          before = now;
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('reports in any order give the same counts', () => {
    const counts = fc.record({ prompt_tokens: fc.nat(99), completion_tokens: fc.nat(99), cached_tokens: fc.nat(9) });
    fc.assert(
      fc.property(fc.array(counts, { minLength: 1, maxLength: 5 }), (reports) => {
        const sent = reports.map(answer);
        assert.deepEqual(accepted(sent).usage, accepted(sent.toReversed()).usage);
      }),
    );
  });

  it('ten thousand reports with ever new fields and answers do not pile up', () => {
    let reported: ReportedUsage | null = null;
    for (let i = 0; i < 10_000; i += 1) {
      reported = mergeReportedUsage(reported, answer({ [`field_${i}`]: i, details: { [`inner_${i}`]: i } }));
      reported = mergeReportedUsage(reported, chunk({ choices: [{ index: i, usage: { prompt_tokens: i } }] }));
    }
    assert.ok(JSON.stringify(rawUsageOf(reported)).length < 20_000);
    assert.ok((reported?.answers.size ?? 0) <= 128);
  });

  it('usage that is nested a hundred thousand levels deep is still read and merged', () => {
    const deep: unknown = JSON.parse(`{"x":${'['.repeat(100_000)}${']'.repeat(100_000)}}`);
    const deeper: unknown = JSON.parse(`${'{"x":'.repeat(10_000)}1${'}'.repeat(10_000)}`);
    for (const usage of [deep, deeper]) {
      const sent = [answer(usage), answer(usage), answer({ prompt_tokens: 1, completion_tokens: 2 })];
      assert.equal(accepted(sent).usage.outputTokens, 2);
    }
  });
});
