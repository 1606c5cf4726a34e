/**
 * Which answers of a stream have ended. Real servers write "", "null" or a word of their own into every chunk where the
 * interface promises null, so a word ends an answer only if it is one that vendors document, or if nothing of that
 * answer follows it.
 */

/** Words that some server writes for "not yet". */
const NOT_YET = /^\s*(|null|none|nil|undefined)\s*$/i;

/**
 * Documented finish reasons: OpenAI's, Anthropic's and Gemini's through compatible servers, Mistral's `model_length`,
 * DeepSeek's `insufficient_system_resource`, Z.ai's `sensitive` and `network_error`, Cohere's, Hugging Face's,
 * Bedrock's.
 */
const DOCUMENTED = new Set([
  'stop',
  'length',
  'tool_calls',
  'function_call',
  'content_filter',
  'end_turn',
  'max_tokens',
  'stop_sequence',
  'tool_use',
  'pause_turn',
  'refusal',
  'model_length',
  'model_context_window_exceeded',
  'insufficient_system_resource',
  'sensitive',
  'network_error',
  'eos',
  'eos_token',
  'complete',
  'safety',
  'recitation',
  'blocklist',
  'prohibited_content',
  'spii',
  'malformed_function_call',
  'guardrail_intervened',
  'content_filtered',
  'time_limit',
  'error_toxic',
  'error_limit',
]);

/** True for a finish reason that says the answer goes on. */
function isNotYet(reason: unknown): boolean {
  return typeof reason !== 'string' || NOT_YET.test(reason);
}

export class ChoiceEnds {
  /** The word that ended each answer. */
  readonly #ended = new Map<unknown, string>();
  /** Words of this stream after which content has followed: they mean nothing here. */
  readonly #meaningless = new Set<string>();
  readonly #begun = new Set<unknown>();

  /** Notes what a chunk says of one answer, in the order in which it says it: content, then its reason. */
  note(index: unknown, hasContent: boolean, reason: unknown): void {
    this.#begun.add(index);
    const before = this.#ended.get(index);
    if (hasContent && before !== undefined) {
      this.#ended.delete(index);
      if (!DOCUMENTED.has(before)) this.#meaningless.add(before);
    }
    if (isNotYet(reason)) return;
    const word = (reason as string).trim().toLowerCase();
    if (DOCUMENTED.has(word) || !this.#meaningless.has(word)) this.#ended.set(index, word);
  }

  /** True when the word says nothing in this stream, so that a client must not take it for an end either. */
  isMeaningless(reason: unknown): boolean {
    return isNotYet(reason) || this.#meaningless.has((reason as string).trim().toLowerCase());
  }

  /** How many answers have ended. */
  get count(): number {
    return this.#ended.size;
  }

  /** The answers that have begun and not ended. */
  get open(): unknown[] {
    return [...this.#begun].filter((index) => !this.#ended.has(index));
  }
}
