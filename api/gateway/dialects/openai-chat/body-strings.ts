/**
 * The text of a request that a model reads: every string of the body with the names of its fields, whatever the fields
 * are, and numbers as text. It is an estimate's input, so what is not known is counted.
 *
 * Left out are fields that only steer the call and never become part of a prompt, the names that every message has, and
 * the payloads of images, audio and files inside parts that are not text: those are estimated as they were held.
 */

/** Top-level fields that steer the call; every other field, known or not, may reach the model. */
const CONTROL_FIELDS = new Set([
  'model',
  'stream',
  'stream_options',
  'n',
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'max_tokens',
  'max_completion_tokens',
  'seed',
  'presence_penalty',
  'frequency_penalty',
  'repetition_penalty',
  'logit_bias',
  'logprobs',
  'top_logprobs',
  'user',
  'metadata',
  'store',
  'service_tier',
  'safety_identifier',
  'prompt_cache_key',
  'parallel_tool_calls',
  'reasoning_effort',
  'modalities',
]);
/** Names in messages that are the API's frame and not the model's text. */
const FRAME_NAMES = new Set([
  'role',
  'content',
  'type',
  'text',
  'refusal',
  'name',
  'id',
  'tool_calls',
  'tool_call_id',
  'function',
  'function_call',
  'arguments',
  'custom',
  'input',
  'image_url',
  'input_audio',
  'file',
  'url',
  'detail',
  'data',
  'format',
  'file_data',
  'filename',
  'file_id',
  'cache_control',
]);
const TEXT_PARTS = new Set(['text', 'refusal', 'input_text', 'output_text', 'thinking', 'reasoning', 'tool_result']);
/** The payload of an image, a sound or a file; a document of text may be one as well, and is held like them. */
const DATA_URL = /^data:[^,]{0,200};base64,/i;
const PAYLOAD_FIELDS = new Set(['data', 'file_data']);

/** Values of these are words of the API, unless they are too long for one. */
const WORD_FIELDS = new Set(['role', 'type']);
const WORD_CHARACTERS_MAX = 32;
/**
 * What chat formats put around a message, its role included, in OpenAI's. The first message's is left out: formats
 * differ, and an estimate must not charge a short prompt several times over.
 */
const TOKENS_PER_FURTHER_MESSAGE = 4;

interface Waiting {
  readonly value: unknown;
  /** In messages the frame's names are no text. */
  readonly isInMessage: boolean;
  /** In parts that are not text, payloads are no text. */
  readonly isOtherPart: boolean;
}

/** Tokens of a request that no string stands for. */
export function frameTokens(body: unknown): number {
  const messages = isObject(body) ? body['messages'] : undefined;
  return Array.isArray(messages) ? Math.max(0, messages.length - 1) * TOKENS_PER_FURTHER_MESSAGE : 0;
}

/**
 * All strings of a request's body that may reach its model, in no particular order. Never fails, however deep it is.
 */
export function* stringsOf(body: unknown): Generator<string> {
  if (!isObject(body)) {
    yield* textsIn([{ value: body, isInMessage: false, isOtherPart: false }]);
    return;
  }
  for (const [field, value] of Object.entries(body)) {
    if (CONTROL_FIELDS.has(field)) continue;
    const isInMessage = field === 'messages';
    if (!isInMessage) yield field;
    yield* textsIn([{ value, isInMessage, isOtherPart: false }]);
  }
}

function* textsIn(waiting: Waiting[]): Generator<string> {
  // Not recursive: a body is nested as deeply as its sender likes.
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { value, isInMessage, isOtherPart } = next;
    if (typeof value === 'string') {
      if (value !== '' && !(isOtherPart && DATA_URL.test(value))) yield value;
    } else if (typeof value === 'number' || typeof value === 'boolean') {
      yield String(value);
    } else if (Array.isArray(value)) {
      for (const entry of value as unknown[]) waiting.push({ value: entry, isInMessage, isOtherPart });
    } else if (isObject(value)) {
      const isOther = isOtherPart || (isInMessage && isOtherKind(value));
      for (const [name, entry] of Object.entries(value)) {
        if (isOther && PAYLOAD_FIELDS.has(name) && typeof entry === 'string') continue;
        if (isInMessage && WORD_FIELDS.has(name) && isWord(entry)) continue;
        if (!isInMessage || !FRAME_NAMES.has(name)) yield name;
        waiting.push({ value: entry, isInMessage, isOtherPart: isOther });
      }
    }
  }
}

/** A part of a message that is an image, audio, a file or something unknown. Messages and tool calls are text. */
function isOtherKind(value: Record<string, unknown>): boolean {
  const { type } = value;
  if (typeof type !== 'string' || 'role' in value) return false;
  return !TEXT_PARTS.has(type) && !('function' in value) && !('custom' in value);
}

function isWord(value: unknown): boolean {
  return typeof value === 'string' && value.length <= WORD_CHARACTERS_MAX;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
