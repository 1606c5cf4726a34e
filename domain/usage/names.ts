/**
 * Every name under which a known provider counts something of a request, by what it counts. Names of one quantity may
 * stand beside each other in one report; which of them is believed is said in usage-fields.ts. The golden table in the
 * tests names the source of each form.
 */

/** The names of each quantity, `outer.inner` for those in a section of their own. */
const NAMES = {
  input: [
    'prompt_tokens', // OpenAI and all that follow it
    'input_tokens', // Anthropic, OpenAI's responses, Cohere, DashScope
    'inputTokens', // Bedrock
    'inputTokenCount', // Bedrock's invocation metrics
    'promptTokenCount', // Gemini
    'prompt_token_count', // Gemini's Python names
    'total_input_tokens', // Gemini's interactions
    'native_tokens_prompt', // OpenRouter's look-up
    'prompt_eval_count', // Ollama
    'prompt_n', // llama.cpp's timings
  ],
  output: [
    'completion_tokens',
    'output_tokens',
    'outputTokens',
    'outputTokenCount',
    'candidatesTokenCount',
    'candidates_token_count',
    'total_output_tokens',
    'native_tokens_completion',
    'eval_count',
    'predicted_n',
  ],
  total: ['total_tokens', 'totalTokens', 'totalTokenCount', 'total_token_count'],
  cacheRead: [
    'prompt_tokens_details.cached_tokens', // OpenAI
    'prompt_token_details.cached_tokens', // Mistral, its second spelling
    'input_tokens_details.cached_tokens', // OpenAI's responses
    'input_tokens_details.cache_read_input_tokens', // Perplexity's responses
    'cached_tokens', // Moonshot, Hugging Face
    'num_cached_tokens', // Mistral
    'cached_prompt_text_tokens', // xAI's own SDK
    'prompt_cache_hit_tokens', // DeepSeek
    'cache_read_input_tokens', // Anthropic
    'cacheReadInputTokens', // Bedrock
    'cacheReadInputTokenCount',
    'cachedContentTokenCount', // Gemini
    'cached_content_token_count',
    'total_cached_tokens',
    'native_tokens_cached',
    'prompt_eval_cached_count', // Ollama
    'cache_n', // llama.cpp's timings
  ],
  cacheMiss: ['prompt_cache_miss_tokens'],
  cacheWrite: [
    'prompt_tokens_details.cache_write_tokens', // OpenAI, OpenRouter
    'prompt_tokens_details.cache_creation_input_tokens', // DashScope
    'prompt_tokens_details.cache_creation_tokens', // LiteLLM
    'prompt_tokens_details.cached_creation_tokens', // new-api
    'input_tokens_details.cache_write_tokens',
    'input_tokens_details.cache_creation_input_tokens',
    'cache_write_tokens',
    'cache_creation_input_tokens', // Anthropic
    'cacheWriteInputTokens', // Bedrock
    'cacheWriteInputTokenCount',
  ],
  cacheWrite5m: [
    'cache_creation.ephemeral_5m_input_tokens', // Anthropic
    'prompt_tokens_details.cache_creation.ephemeral_5m_input_tokens', // DashScope
    'prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens', // LiteLLM
    'claude_cache_creation_5_m_tokens', // new-api
  ],
  cacheWrite1h: [
    'cache_creation.ephemeral_1h_input_tokens',
    'prompt_tokens_details.cache_creation.ephemeral_1h_input_tokens',
    'prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens',
    'claude_cache_creation_1_h_tokens',
  ],
  audioInput: ['prompt_tokens_details.audio_tokens', 'input_tokens_details.audio_tokens', 'audio_prompt_tokens'],
  imageInput: ['prompt_tokens_details.image_tokens', 'input_tokens_details.image_tokens'],
  videoInput: ['prompt_tokens_details.video_tokens', 'input_tokens_details.video_tokens'],
  toolInput: ['toolUsePromptTokenCount', 'tool_use_prompt_token_count', 'total_tool_use_tokens'], // Gemini
  citations: ['citation_tokens'], // Perplexity
  reasoning: [
    'completion_tokens_details.reasoning_tokens', // OpenAI
    'output_tokens_details.reasoning_tokens', // OpenAI's responses
    'output_tokens_details.thinking_tokens', // Anthropic
    'reasoning_tokens', // Perplexity, SGLang, Azure's DeepSeek
    'thoughtsTokenCount', // Gemini
    'thoughts_token_count',
    'total_thought_tokens',
    'native_tokens_reasoning',
  ],
  audioOutput: ['completion_tokens_details.audio_tokens', 'output_tokens_details.audio_tokens'],
  imageOutput: [
    'completion_tokens_details.image_tokens',
    'output_tokens_details.image_tokens',
    'native_tokens_completion_images',
  ],
  webSearches: [
    'server_tool_use.web_search_requests', // Anthropic, OpenRouter
    'num_search_queries', // Perplexity
    'num_sources_used', // xAI
    'server_side_tool_usage_details.web_search_calls', // xAI's responses
  ],
} as const;

export type Quantity = keyof typeof NAMES;

const PATHS: ReadonlyMap<string, readonly (readonly string[])[]> = new Map(
  Object.entries(NAMES).map(([quantity, names]) => [quantity, names.map((name) => name.split('.'))]),
);

/** Every name under which tokens are counted, without the section that it stands in. */
export const COUNT_NAMES: ReadonlySet<string> = new Set([...PATHS.values()].flat().map((path) => path.at(-1) ?? ''));

/** The possible places of a quantity, as paths of names. */
export function pathsOf(quantity: Quantity): readonly (readonly string[])[] {
  return PATHS.get(quantity) ?? [];
}

/** The same by the first name of each path. */
const BY_FIRST_NAME: ReadonlyMap<string, readonly (readonly [Quantity, readonly string[]])[]> = Map.groupBy(
  [...PATHS].flatMap(([quantity, paths]) => paths.map((path) => [quantity as Quantity, path] as const)),
  ([, [first]]) => first ?? '',
);

/**
 * The paths of each quantity that may stand in an object with these fields: of a hundred that are known a report has a
 * few.
 */
export function pathsAmong(fields: Iterable<string>): ReadonlyMap<Quantity, readonly (readonly string[])[]> {
  const found = new Map<Quantity, (readonly string[])[]>();
  for (const field of fields) {
    for (const [quantity, path] of BY_FIRST_NAME.get(field) ?? []) {
      const paths = found.get(quantity);
      if (paths === undefined) found.set(quantity, [path]);
      else paths.push(path);
    }
  }
  return found;
}
