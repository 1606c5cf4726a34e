/**
 * The fields of `POST /v1/chat/completions`: which ones are read because they decide what a request can cost, and which
 * ones are passed on unread because they cannot. Every other field is refused unless the operator vouches for it.
 *
 * Sources: OpenAI's reference of chat completions, and the parameter lists of servers and providers that speak it
 * (vLLM, SGLang, llama.cpp; DeepSeek, Mistral, xAI, Groq, Cerebras, Together, Fireworks, Qwen, Moonshot, Z.ai,
 * OpenRouter).
 *
 * Left out on purpose, because they change the price or what is held for: other tiers and times (`deferred`,
 * `background`, `speed`, `priority`), other models (`models`, `route`, `lora_path`, `provider`), several generations
 * for one answer (`best_of`, `use_beam_search`), limits under other names (`max_new_tokens`, `max_output_tokens`,
 * `n_predict`), tools of the provider (`plugins`, `mcp_servers`, `search_parameters`, `enable_search`), input that is
 * not in the body or grows there (`chat_template`, `documents`, `input_ids`, `prompt`, `safe_prompt`, `prompt_mode`,
 * `mm_processor_kwargs`, `vl_high_resolution_images`), code (`custom_logit_processor`, `logits_processors`,
 * `vllm_xargs`), what is charged apart (`moderation`, `safety_model`, `guardrails`), chunks of many tokens
 * (`stream_interval`), and `extra_body`, which holds any of them.
 */

/** Fields that are looked into. */
export const READ_FIELDS = [
  'model',
  'messages',
  'stream',
  'stream_options',
  'n',
  'max_tokens',
  'max_completion_tokens',
  'modalities',
  'audio',
  'prediction',
  'tools',
  'web_search_options',
  'service_tier',
  'reasoning',
  'thinking',
  'thinking_budget',
  'thinking_token_budget',
  'max_thinking_tokens',
  'chat_template_kwargs',
] as const;
export type ReadField = (typeof READ_FIELDS)[number];

/** Fields that change how an answer reads, where it is kept or how it is found again, and nothing of its price. */
export const PASSED_FIELDS = [
  // OpenAI
  'frequency_penalty',
  'function_call',
  'functions',
  'logit_bias',
  'logprobs',
  'metadata',
  'parallel_tool_calls',
  'presence_penalty',
  'prompt_cache_key',
  'prompt_cache_options',
  'prompt_cache_retention',
  'reasoning_effort',
  'response_format',
  'safety_identifier',
  'seed',
  'stop',
  'store',
  'temperature',
  'tool_choice',
  'top_logprobs',
  'top_p',
  'user',
  'verbosity',
  // Sampling: vLLM, SGLang, llama.cpp and providers that run them
  'allowed_token_ids',
  'bad_words',
  'dry_allowed_length',
  'dry_base',
  'dry_multiplier',
  'dry_penalty_last_n',
  'dry_sequence_breakers',
  'dynatemp_exponent',
  'dynatemp_range',
  'ignore_eos',
  'length_penalty',
  'min_keep',
  'min_p',
  'min_tokens',
  'mirostat',
  'mirostat_eta',
  'mirostat_lr',
  'mirostat_target',
  'mirostat_tau',
  'no_stop_trim',
  'repeat_last_n',
  'repeat_penalty',
  'repetition_detection',
  'repetition_penalty',
  'samplers',
  'stop_regex',
  'stop_token_ids',
  'top_a',
  'top_k',
  'top_n_sigma',
  'typical_p',
  'watermarking',
  'xtc_probability',
  'xtc_threshold',
  // Form of the answer
  'ebnf',
  'grammar',
  'guided_choice',
  'guided_decoding_backend',
  'guided_grammar',
  'guided_json',
  'guided_regex',
  'guided_whitespace_pattern',
  'json_schema',
  'regex',
  'structural_tag',
  'structured_outputs',
  // How the prompt and the answer are written down
  'add_generation_prompt',
  'add_special_tokens',
  'continue_final_message',
  'include_stop_str_in_output',
  'logprob_token_ids',
  'n_probs',
  'parse_tool_calls',
  'post_sampling_probs',
  'return_token_ids',
  'return_tokens_as_token_ids',
  'skip_special_tokens',
  'spaces_between_special_tokens',
  'timings_per_token',
  'tool_stream',
  'usage',
  // Less input or less time
  'context_length_exceeded_behavior',
  'document_image_limit',
  'document_page_limit',
  'prompt_truncate_len',
  't_max_predict_ms',
  'truncate_prompt_tokens',
  'truncation_side',
  // Reasoning: whether there is any, and where it is shown
  'clear_thinking',
  'disable_reasoning',
  'enable_thinking',
  'include_reasoning',
  'preserve_thinking',
  'reasoning_format',
  'reasoning_history',
  'reasoning_split',
  'separate_reasoning',
  'stream_reasoning',
  // Other names of OpenAI's fields, caches and identities
  'cache_prompt',
  'cache_salt',
  'disable_tool_validation',
  'do_sample',
  'prompt_cache_isolation_key',
  'random_seed',
  'session_id',
  'user_id',
] as const;

/** Members of a read field that cannot make a request dearer; every other one is refused. */
export const MEMBERS = {
  stream_options: ['include_usage', 'include_obfuscation', 'continuous_usage_stats'],
  audio: ['voice', 'format'],
  web_search_options: ['search_context_size', 'user_location'],
  reasoning: ['effort', 'enabled', 'exclude', 'generate_summary', 'max_tokens', 'summary'],
  thinking: ['budget_tokens', 'clear_thinking', 'display', 'keep', 'type'],
  // Names of arguments that templates take; vLLM and SGLang would also let the template itself be replaced here.
  chat_template_kwargs: [
    'add_vision_id',
    'clear_thinking',
    'enable_thinking',
    'low_effort',
    'preserve_thinking',
    'reasoning_effort',
    'thinking',
    'thinking_budget',
    'thinking_mode',
  ],
  tools: ['type', 'function', 'custom', 'cache_control', 'defer_loading', 'strict'],
} as const satisfies Partial<Record<ReadField, readonly string[]>>;

/** Tiers that cost what the price list says. */
export const SERVICE_TIERS = ['auto', 'default'] as const;
export const MODALITIES = ['text', 'audio', 'image'] as const;
/** Tools that run at the client; every other one runs, and is charged, at the provider. */
export const TOOL_TYPES = ['function', 'custom'] as const;

/**
 * A name as a server compares it that ignores case, as Go's decoder does: by Unicode's simple folding, where the long s
 * and the Kelvin sign are an s and a k.
 */
export function foldedName(name: string): string {
  return name.toLowerCase().toUpperCase().toLowerCase();
}

const FOLDED = new Set([...READ_FIELDS, ...PASSED_FIELDS].map(foldedName));

/** Whether a name that is none of the fields is one of them to a server that ignores case. */
export function isAlmostField(name: string): boolean {
  return FOLDED.has(foldedName(name));
}

/** Fields whose meaning the gateway's own money depends on: nobody can vouch for another reading of them. */
const RESERVED = new Set(
  ['model', 'messages', 'stream', 'stream_options', 'n', 'max_tokens', 'max_completion_tokens'].map(foldedName),
);

/** Whether an operator may let a field of this name pass whatever it holds. */
export function isVouchable(name: string): boolean {
  return !RESERVED.has(foldedName(name));
}
