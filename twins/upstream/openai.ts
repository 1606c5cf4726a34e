/**
 * OpenAI's chat completions as the twin reads them: as strictly as the provider does where it matters to a gateway
 * (`stream_options` without `stream` is an error). Answers are written in `openai-writer.ts`.
 */
import type { Ask } from './answer-plan.ts';
import type { Dialect } from './dialect.ts';
import { errorText } from './error-shapes.ts';
import { BadInput, type JsonObject, isObject, readBoolean, readCount, readString } from '../kit/input.ts';
import { chatCompletionWriter } from './openai-writer.ts';
import { readMetadataSteering } from './steering.ts';
import { seedOf } from './words.ts';

export const openAiDialect: Dialect = {
  presentedKey: (headers) => /^Bearer (\S+)$/.exec(headers.authorization ?? '')?.[1],
  read: readChatCompletion,
  errorBody: (facts, shape = 'openai') => errorText(shape, facts),
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
    promptTokens: promptTokens(messages, texts, body),
    maxima: readMaxima(body),
    toolName: readRequiredTool(body['tool_choice'], body['tools']),
    wantsLogprobs: present(body, 'logprobs', readBoolean) ?? false,
    seed: seedOf(`${texts.length} ${model} ${last}`),
    steering: readMetadataSteering(body['metadata']),
    body,
  };
}

function readMaxima(body: JsonObject): Ask['maxima'] {
  const completion = present(body, 'max_completion_tokens', readMaximum);
  const tokens = present(body, 'max_tokens', readMaximum);
  return {
    ...(completion !== undefined && { max_completion_tokens: completion }),
    ...(tokens !== undefined && { max_tokens: tokens }),
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

/** Fields of a message that a model reads besides the content. */
const READ_IN_MESSAGES = ['name', 'tool_calls', 'function_call', 'refusal', 'reasoning_content', 'reasoning'];

/** Fields of the body that a model reads besides the messages. */
const READ_IN_BODY = ['tools', 'functions', 'response_format'];

/**
 * A stand-in for a tokenizer that anybody can compute: one token per four bytes of text, rounded up per message
 * and at least one. Names, earlier tool calls and reasoning, tool definitions and schemas are text to a model as well.
 */
function promptTokens(messages: readonly JsonObject[], texts: readonly string[], body: JsonObject): number {
  const inMessages = messages.reduce((sum, message, index) => {
    const bytes = Buffer.byteLength(texts[index] ?? '') + bytesOf(message, READ_IN_MESSAGES);
    return sum + Math.max(1, Math.ceil(bytes / 4));
  }, 0);
  return inMessages + Math.ceil(bytesOf(body, READ_IN_BODY) / 4);
}

function bytesOf(source: JsonObject, fields: readonly string[]): number {
  return fields.reduce((sum, field) => {
    const value = source[field];
    if (value === undefined || value === null) return sum;
    return sum + (typeof value === 'string' ? Buffer.byteLength(value) : jsonBytes(value));
  }, 0);
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
