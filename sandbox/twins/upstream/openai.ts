/**
 * OpenAI's chat completions as the twin speaks them: requests read as strictly as the provider reads them where
 * it matters to a gateway (`stream_options` without `stream` is an error), answers written field for field.
 *
 * Texts are joined from parts prepared once per answer; no JSON is built per token. `include_usage` follows the
 * provider: `usage: null` on every chunk and one more chunk without choices before [DONE].
 */
import { readMetadataSteering } from './config.ts';
import type { AnswerWriter, Dialect } from './dialect.ts';
import { BadInput, type JsonObject, isObject, readBoolean, readCount, readString } from '../input.ts';
import type { AnswerPlan, Ask } from './plan.ts';
import { usageReport } from './requests.ts';
import { seedOf, tokenText } from './words.ts';

export const openAiDialect: Dialect = {
  requestIdHeader: 'x-request-id',
  presentedKey: (headers) => /^Bearer (\S+)$/.exec(headers.authorization ?? '')?.[1],
  read: readChatCompletion,
  usage: usageReport,
  errorBody,
  write: chatCompletionWriter,
};

const MAX_CHOICES = 128;

function readChatCompletion(body: unknown): Ask {
  if (!isObject(body)) throw new BadInput('The body must be a JSON object.');
  if (body['model'] === undefined) throw new BadInput('you must provide a model parameter', 'model');
  const model = readString(body['model'], 'model');
  const { messages, texts } = readMessages(body['messages']);
  const stream = present(body, 'stream', readBoolean) ?? false;
  const last = texts.at(-1) ?? '';
  return {
    model,
    stream,
    wantsUsage: readIncludeUsage(body['stream_options'], stream),
    choices: present(body, 'n', (value, field) => readCount(value, field, 1, MAX_CHOICES)) ?? 1,
    promptTokens: promptTokens(messages, texts, body['tools']),
    maxTokens: present(body, 'max_completion_tokens', readMaximum) ?? present(body, 'max_tokens', readMaximum) ?? null,
    toolName: readRequiredTool(body['tool_choice'], body['tools']),
    seed: seedOf(`${texts.length} ${model} ${last}`),
    steering: readMetadataSteering(body['metadata']),
  };
}

/** OpenAI treats null as absent. */
function present<T>(body: JsonObject, field: string, read: (value: unknown, field: string) => T): T | undefined {
  const value = body[field];
  return value === undefined || value === null ? undefined : read(value, field);
}

function readMaximum(value: unknown, field: string): number {
  return readCount(value, field, 1);
}

function readMessages(value: unknown): { messages: readonly JsonObject[]; texts: readonly string[] } {
  if (!Array.isArray(value) || value.length === 0) {
    throw new BadInput("'messages' must be a non-empty array.", 'messages');
  }
  const messages = value.map((message: unknown, index) => {
    if (!isObject(message)) throw new BadInput(`'messages[${index}]' must be an object.`, 'messages');
    readString(message['role'], `messages[${index}].role`);
    return message;
  });
  return { messages, texts: messages.map((message) => textOf(message['content'])) };
}

/** The text of a message's content, which is a string or a list of parts. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  let text = '';
  for (const part of content as unknown[]) {
    if (isObject(part) && typeof part['text'] === 'string') text += part['text'];
  }
  return text;
}

/**
 * A stand-in for a tokenizer that anybody can compute: one token per four bytes of text, rounded up per message
 * and at least one. Tool definitions and earlier tool calls are text to a model, so they count as well.
 */
function promptTokens(messages: readonly JsonObject[], texts: readonly string[], tools: unknown): number {
  let tokens = 0;
  messages.forEach((message, index) => {
    const calls = message['tool_calls'];
    const bytes = Buffer.byteLength(texts[index] ?? '') + (calls === undefined ? 0 : jsonBytes(calls));
    tokens += Math.max(1, Math.ceil(bytes / 4));
  });
  return tools === undefined || tools === null ? tokens : tokens + Math.ceil(jsonBytes(tools) / 4);
}

function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

function readIncludeUsage(options: unknown, stream: boolean): boolean {
  if (options === undefined || options === null) return false;
  if (!isObject(options)) throw new BadInput("'stream_options' must be an object.", 'stream_options');
  if (!stream) {
    throw new BadInput("The 'stream_options' parameter is only allowed when 'stream' is enabled.", 'stream_options');
  }
  return present(options, 'include_usage', readBoolean) ?? false;
}

/** The function an answer must call; null when it may write text. */
function readRequiredTool(choice: unknown, tools: unknown): string | null {
  const isNamed = isObject(choice) && choice['type'] === 'function';
  if (choice !== 'required' && !isNamed) return null;
  if (!Array.isArray(tools) || tools.length === 0) {
    throw new BadInput("'tool_choice' is only allowed when 'tools' are specified.", 'tool_choice');
  }
  const source: unknown = isNamed ? choice['function'] : (tools[0] as JsonObject | null)?.['function'];
  return readString(isObject(source) ? source['name'] : undefined, isNamed ? 'tool_choice' : 'tools');
}

function errorBody(status: number, message: string, param: string | null = null): string {
  return JSON.stringify({ error: { message, type: errorType(status), param, code: errorCode(status) } });
}

function errorType(status: number): string {
  if (status >= 500) return 'server_error';
  return status === 429 ? 'rate_limit_error' : 'invalid_request_error';
}

function errorCode(status: number): string | null {
  if (status === 401) return 'invalid_api_key';
  return status === 429 ? 'rate_limit_exceeded' : null;
}

function chatCompletionWriter(plan: AnswerPlan, ask: Ask, ordinal: number): AnswerWriter {
  const id = `chatcmpl-twin-${ordinal}-${plan.seed.toString(36)}`;
  const created = Math.floor(Date.now() / 1000);
  const common = `"created":${created},"model":${JSON.stringify(plan.shownModel)},"service_tier":"default","system_fingerprint":"fp_twin"`;
  const chunkStart = `data: {"id":"${id}","object":"chat.completion.chunk",${common},"choices":[`;
  const chunkEnd = `]${ask.wantsUsage ? ',"usage":null' : ''}}\n\n`;
  const indices = Array.from({ length: plan.choices }, (_, index) => index);
  const finishReason = plan.finishReason === 'tool_call' ? 'tool_calls' : plan.finishReason;
  const toolName = plan.toolName === null ? null : JSON.stringify(plan.toolName);

  /** One chunk per choice, as OpenAI sends them. */
  const chunks = (delta: (choice: number) => string, reason: string): string =>
    indices
      .map(
        (choice) =>
          `${chunkStart}{"index":${choice},"delta":${delta(choice)},"logprobs":null,"finish_reason":${reason}}${chunkEnd}`,
      )
      .join('');

  const callId = (choice: number): string => `call_twin_${ordinal}_${choice}`;

  /** The argument text of the one call: valid JSON unless the maximum cut it. */
  const argument = (choice: number, index: number): string => {
    const isFirst = index === 0;
    const isLast = index === plan.visibleTokens - 1 && finishReason === 'tool_calls';
    return `${isFirst ? '{"text":"' : ''}${tokenText(plan.seed, choice, index)}${isLast ? '"}' : ''}`;
  };

  const message = (choice: number, tokens: number): string => {
    let text = '';
    for (let index = 0; index < tokens; index += 1) {
      text += toolName === null ? tokenText(plan.seed, choice, index) : argument(choice, index);
    }
    return toolName === null
      ? `{"role":"assistant","content":"${text}","refusal":null,"annotations":[]}`
      : `{"role":"assistant","content":null,"refusal":null,"annotations":[],"tool_calls":[{"id":"${callId(choice)}","type":"function","function":{"name":${toolName},"arguments":${JSON.stringify(text)}}}]}`;
  };

  return {
    opening: () =>
      chunks(
        (choice) =>
          toolName === null
            ? '{"role":"assistant","content":"","refusal":null}'
            : `{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"index":0,"id":"${callId(choice)}","type":"function","function":{"name":${toolName},"arguments":""}}]}`,
        'null',
      ),
    token: (index) =>
      chunks(
        (choice) =>
          toolName === null
            ? `{"content":"${tokenText(plan.seed, choice, index)}"}`
            : `{"tool_calls":[{"index":0,"function":{"arguments":${JSON.stringify(argument(choice, index))}}}]}`,
        'null',
      ),
    garbage: () => (ask.stream ? `${chunkStart}{"index":0,"delta":{"cont\n\n` : `{"id":"${id}","choices":[{"ind`),
    error: (text) => {
      const body = errorBody(500, text);
      return ask.stream ? `data: ${body}\n\n` : body;
    },
    closing: () => chunks(() => '{}', `"${finishReason}"`),
    usage: (usageText) => `${chunkStart}],"usage":${usageText}}\n\n`,
    done: () => 'data: [DONE]\n\n',
    whole: (tokens) => {
      const choices = indices.map(
        (choice) =>
          `{"index":${choice},"message":${message(choice, tokens)},"logprobs":null,"finish_reason":"${finishReason}"}`,
      );
      const usage = plan.usageText === null ? '' : `,"usage":${plan.usageText}`;
      return `{"id":"${id}","object":"chat.completion",${common},"choices":[${choices.join(',')}]${usage}}`;
    },
  };
}
