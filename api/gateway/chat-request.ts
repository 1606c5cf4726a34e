/**
 * Reading the body of `POST /v1/chat/completions`: what we must understand of it to price it. Fields that cannot change
 * the price are passed on unread, known or not. Fields that can are an allowlist: the ones below that we account for are
 * let through, every other one is refused before the upstream is called.
 */
import { Refusal } from '../../domain/errors.ts';
import type { PriceRow } from '../../domain/prices.ts';
import type { Reach } from '../../domain/rating.ts';
import type { Model } from '../../db/catalogue.ts';

/** The parts of a chat request that the gateway acts on. */
export interface ChatRequest {
  readonly body: Readonly<Record<string, unknown>>;
  readonly model: string;
  readonly stream: boolean;
  /** Whether the client asked for the usage chunk of a stream. */
  readonly wantsUsage: boolean;
  /** Number of answers asked for. */
  readonly choices: number;
  /** The larger of the two limits a client can set per answer; null when it set none. */
  readonly outputTokensMax: number | null;
  /** What the body can reach beside text; null where it has text only. */
  readonly input: { readonly audio: boolean; readonly image: boolean; readonly other: boolean };
  readonly output: { readonly audio: boolean; readonly image: boolean };
  readonly webSearch: boolean;
  /** Upper bound of tokens a prediction can add to the output: rejected ones are billed. */
  readonly predictionTokens: number;
  /** Size of the body in bytes: a token is at least one byte, so this bounds the text input. */
  readonly bodyBytes: number;
}

const CHOICES_MAX = 128;
const TOKENS_MAX = 2 ** 31;

/** Fields of other vendors' and newer APIs that change what is charged and that we do not account for. */
const UNSUPPORTED_FIELDS = [
  'background',
  'plugins',
  'provider',
  'models',
  'route',
  'fallbacks',
  'transforms',
  'best_of',
  'use_beam_search',
  'speed',
  'inference_geo',
  'fast_mode',
  'context_management',
  'max_tool_calls',
  'mcp_servers',
  'container',
  'web_search',
  'enable_search',
  'enable_web_search',
  'search_options',
  'search_parameters',
] as const;

/** Parses and checks a body. Throws a Refusal that names the field. */
export function parseChatRequest(raw: Buffer): ChatRequest {
  const body = parseJsonObject(raw);
  const model = body['model'];
  if (typeof model !== 'string' || model === '') throw invalid('model', 'must be a non-empty string');
  const messages = body['messages'];
  if (!Array.isArray(messages) || messages.length === 0) throw invalid('messages', 'must be a non-empty array');
  const stream = optional(body, 'stream', 'boolean') ?? false;
  const wantsUsage = readWantsUsage(body, stream);
  const choices = optionalInteger(body, 'n', 1, CHOICES_MAX) ?? 1;
  const limits = [
    optionalInteger(body, 'max_tokens', 1, TOKENS_MAX),
    optionalInteger(body, 'max_completion_tokens', 1, TOKENS_MAX),
  ].filter((limit) => limit !== null);
  refuseUnsupported(body);
  return {
    body,
    model,
    stream,
    wantsUsage,
    choices,
    outputTokensMax: limits.length === 0 ? null : Math.max(...limits),
    input: readInputKinds(messages),
    output: readModalities(body),
    webSearch: isSet(body['web_search_options']),
    predictionTokens: isSet(body['prediction']) ? printedBytes(body, 'prediction') : 0,
    bodyBytes: raw.length,
  };
}

/** Digits that may be a number beyond 2^53, such as a 64-bit seed. */
const LONG_NUMBER = /[0-9]{16}/;

/** Keeps a whole number that JavaScript cannot hold as its text, so that it goes on digit for digit. */
function keepLongNumber(_name: string, value: unknown, context?: { source?: string }): unknown {
  const isLong = Number.isInteger(value) && !Number.isSafeInteger(value);
  return isLong && context?.source !== undefined ? JSON.rawJSON(context.source) : value;
}

function parseJsonObject(raw: Buffer): Record<string, unknown> {
  let body: unknown;
  try {
    const text = raw.toString('utf8');
    // Looking at every value costs several times the parsing, so only bodies that need it pay for it.
    body = LONG_NUMBER.test(text) ? JSON.parse(text, keepLongNumber) : JSON.parse(text);
  } catch {
    throw new Refusal('invalid_body', { message: 'The request body is not valid JSON.' });
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new Refusal('invalid_body', { message: 'The request body must be a JSON object.' });
  }
  return body as Record<string, unknown>;
}

function invalid(param: string, message: string): Refusal {
  return new Refusal('invalid_body', { param, message: `${param} ${message}.` });
}

function unsupported(param: string, message = 'changes the price and is not supported here'): Refusal {
  return new Refusal('unsupported_parameter', { param, message: `${param} ${message}.` });
}

/** Bytes of a field as JSON. */
function printedBytes(body: Record<string, unknown>, field: string): number {
  try {
    return Buffer.byteLength(JSON.stringify(body[field]));
  } catch (error) {
    if (error instanceof RangeError) throw invalid(field, 'is nested too deeply');
    throw error;
  }
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function optional(body: Record<string, unknown>, field: string, type: 'boolean'): boolean | null {
  const value = body[field];
  if (!isSet(value)) return null;
  if (typeof value !== type) throw invalid(field, `must be a ${type}`);
  return value as boolean;
}

function optionalInteger(body: Record<string, unknown>, field: string, least: number, most: number): number | null {
  const value = body[field];
  if (!isSet(value)) return null;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
    throw invalid(field, `must be a whole number from ${least} to ${most}`);
  }
  return value;
}

function readWantsUsage(body: Record<string, unknown>, stream: boolean): boolean {
  const options = body['stream_options'];
  if (!isSet(options)) return false;
  if (typeof options !== 'object' || Array.isArray(options)) throw invalid('stream_options', 'must be an object');
  if (!stream) throw invalid('stream_options', 'is only allowed with stream: true');
  const include = (options as Record<string, unknown>)['include_usage'];
  if (isSet(include) && typeof include !== 'boolean')
    throw invalid('stream_options.include_usage', 'must be a boolean');
  return include === true;
}

/** Which kinds of input the messages carry; anything that is not known to be text counts as `other`. */
function readInputKinds(messages: readonly unknown[]): ChatRequest['input'] {
  const kinds = { audio: false, image: false, other: false };
  for (const [index, message] of messages.entries()) {
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw invalid(`messages[${index}]`, 'must be an object');
    }
    const { role, content, audio } = message as Record<string, unknown>;
    if (typeof role !== 'string') throw invalid(`messages[${index}].role`, 'must be a string');
    // An earlier spoken answer is referred to by id: its length is unknown here.
    if (isSet(audio)) kinds.audio = true;
    if (!isSet(content) || typeof content === 'string') continue;
    if (!Array.isArray(content)) throw invalid(`messages[${index}].content`, 'must be a string or an array of parts');
    for (const [n, part] of content.entries()) {
      if (typeof part !== 'object' || part === null)
        throw invalid(`messages[${index}].content[${n}]`, 'must be an object');
      switch ((part as Record<string, unknown>)['type']) {
        case 'text':
        case 'refusal':
          break;
        case 'image_url':
          kinds.image = true;
          break;
        case 'input_audio':
          kinds.audio = true;
          break;
        default:
          kinds.other = true;
      }
    }
  }
  return kinds;
}

function readModalities(body: Record<string, unknown>): ChatRequest['output'] {
  const modalities = body['modalities'];
  if (!isSet(modalities)) return { audio: false, image: false };
  if (!Array.isArray(modalities)) throw invalid('modalities', 'must be an array');
  for (const modality of modalities) {
    if (typeof modality !== 'string') throw unsupported('modalities', 'may only hold strings');
    if (modality !== 'text' && modality !== 'audio' && modality !== 'image') {
      throw unsupported('modalities', `"${modality.slice(0, 40)}" is not supported`);
    }
  }
  return { audio: modalities.includes('audio'), image: modalities.includes('image') };
}

function refuseUnsupported(body: Record<string, unknown>): void {
  for (const field of UNSUPPORTED_FIELDS) {
    if (isSet(body[field]) && body[field] !== false) throw unsupported(field);
  }
  const tier = body['service_tier'];
  if (isSet(tier) && tier !== 'auto' && tier !== 'default')
    throw unsupported('service_tier', 'may only be "auto" or "default"');
  const tools = body['tools'];
  if (!isSet(tools)) return;
  if (!Array.isArray(tools)) throw invalid('tools', 'must be an array');
  for (const [index, tool] of tools.entries()) {
    if (typeof tool !== 'object' || tool === null) throw invalid(`tools[${index}]`, 'must be an object');
    const type = (tool as Record<string, unknown>)['type'];
    // Functions and custom tools run at the client; every other tool runs, and is charged, at the provider.
    if (type !== 'function' && type !== 'custom') throw unsupported(`tools[${index}].type`);
  }
}

/** Refuses what the model has no price for although its use would be charged by the provider. */
export function checkPricedFields(request: ChatRequest, row: PriceRow): void {
  if (request.webSearch && row.web_search === undefined) throw unsupported('web_search_options');
  if (request.output.audio && row.audio_out === undefined)
    throw unsupported('modalities', '"audio" has no price on this model');
  if (request.output.image && row.image_out === undefined)
    throw unsupported('modalities', '"image" has no price on this model');
}

/** Output tokens that a stream holds at first; it grows before they are used up. */
export const STREAM_SLICE_TOKENS = 4096;
/** The smallest slice worth starting a stream for: a paragraph, which the customer then gets for the money left. */
export const STREAM_LEAST_TOKENS = 256;

/** What a request can reach, with `outputPerChoice` output tokens for each of its answers. */
export function reachOf(request: ChatRequest, model: Model, outputPerChoice: number): Reach {
  const { input, output } = request;
  // What is not text cannot be measured from the body: it may fill the whole context.
  const textOnly = !input.audio && !input.image && !input.other;
  return {
    inputTokens: textOnly ? Math.min(request.bodyBytes, model.contextLength) : model.contextLength,
    outputTokens: outputPerChoice * request.choices + request.predictionTokens,
    audioInput: input.audio || input.other,
    imageInput: input.image || input.other,
    audioOutput: output.audio,
    imageOutput: output.image,
    images: 0,
    webSearches: request.webSearch ? request.choices : 0,
    seconds: 0,
  };
}

/** Most output tokens per answer: what the client allowed, else the model's default for answers that cannot grow their hold. */
export function outputLimit(request: ChatRequest, model: Model): number {
  const limit = request.outputTokensMax ?? (request.stream ? model.contextLength : model.defaultOutputTokens);
  return Math.min(limit, model.contextLength);
}

/** The body for the upstream: its own model name, usage always asked for, and a limit where a hold depends on one. */
export function upstreamBody(
  request: ChatRequest,
  model: Model,
  upstreamModel: string,
  outputCap: number | null = null,
): string {
  const body: Record<string, unknown> = { ...request.body, model: upstreamModel };
  if (request.stream) {
    body['stream_options'] = { ...(request.body['stream_options'] as object | undefined), include_usage: true };
    if (outputCap !== null && outputCap < outputLimit(request, model)) {
      const limits = ['max_tokens', 'max_completion_tokens'].filter((field) => isSet(body[field]));
      for (const field of limits.length === 0 ? ['max_completion_tokens'] : limits) {
        body[field] = Math.min(outputCap, Number(body[field] ?? outputCap));
      }
    }
  } else if (request.outputTokensMax === null) {
    body['max_completion_tokens'] = outputLimit(request, model);
  }
  return JSON.stringify(body);
}

/** The text of a request, for counting tokens locally when the upstream does not. */
export function textOf(request: ChatRequest): string {
  const texts: string[] = [];
  for (const message of request.body['messages'] as { content?: unknown }[]) {
    if (typeof message.content === 'string') texts.push(message.content);
    else if (Array.isArray(message.content)) {
      for (const part of message.content as { text?: unknown }[])
        if (typeof part.text === 'string') texts.push(part.text);
    }
  }
  if (isSet(request.body['tools'])) texts.push(JSON.stringify(request.body['tools']));
  return texts.join('\n');
}
