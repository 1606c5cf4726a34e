/**
 * What one event of a chat stream says, in all the ways in which servers say it: a chunk, the end, nothing, an error in
 * one of a dozen shapes, or something that nobody can read. Also tells errors from answers in bodies that are not
 * streamed.
 */
import type { SseEvent } from '../../core/streams/sse.ts';

/** One choice of a chunk. Fields are as the provider sent them. */
export type ChunkChoice = Readonly<Record<string, unknown>>;

export interface Chunk {
  readonly id?: unknown;
  readonly created?: unknown;
  readonly choices?: readonly ChunkChoice[] | null;
  readonly [field: string]: unknown;
}

export type StreamEvent =
  | { readonly kind: 'chunk'; readonly chunk: Chunk }
  /** `[DONE]`. */
  | { readonly kind: 'done' }
  /** A comment, a field without data, `data: null`: passed on or dropped, it says nothing. */
  | { readonly kind: 'nothing' }
  /** The provider says that it failed; `body` is what it said, parsed where that was possible. */
  | { readonly kind: 'error'; readonly body: unknown }
  | { readonly kind: 'unreadable'; readonly text: string };

const DONE = /^\s*\[DONE\]\s*$/i;

/** Reads one event. */
export function readStreamEvent(event: SseEvent): StreamEvent {
  if (event.data === null) {
    if (event.name === 'error') return { kind: 'error', body: event.foreign };
    if (event.foreign === null) return { kind: 'nothing' };
    const body = parseJson(event.foreign);
    return body !== undefined && isErrorBody(body)
      ? { kind: 'error', body }
      : { kind: 'unreadable', text: event.foreign };
  }
  if (DONE.test(event.data)) return { kind: 'done' };
  const body = parseJson(event.data);
  if (event.name === 'error') return { kind: 'error', body: body ?? event.data };
  if (body === null) return { kind: 'nothing' };
  if (isErrorBody(body)) return { kind: 'error', body };
  return isChunk(body) ? { kind: 'chunk', chunk: body } : { kind: 'unreadable', text: event.data };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function isChunk(body: unknown): body is Chunk {
  if (!isObject(body)) return false;
  const { choices } = body;
  return choices === undefined || choices === null || areChoices(choices);
}

/** True for the choices of a chunk or of a whole answer. */
export function areChoices(choices: unknown): choices is ChunkChoice[] {
  return Array.isArray(choices) && choices.every(isObject);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * True when a body under status 200 says that the provider failed: OpenAI's `error`, vLLM's `object: "error"`,
 * Anthropic's `type: "error"`, OpenRouter's error beside or inside a choice, FastAPI's `detail`, `errors`, MiniMax's
 * `base_resp`, Baidu's `error_code`, and a bare message or code where an answer should be.
 */
export function isErrorBody(body: unknown): boolean {
  if (Array.isArray(body)) return body.length > 0 && isErrorBody(body[0]);
  if (!isObject(body)) return false;
  if (isSaid(body['error']) || body['object'] === 'error' || body['type'] === 'error') return true;
  if (isObject(body['base_resp']) && isFailureCode(body['base_resp']['status_code'])) return true;
  const { choices } = body;
  if (areChoices(choices) && choices.length > 0) return choices.some(isFailedChoice);
  if (isSaid(body['errors']) || isSaid(body['error_code']) || isSaid(body['error_msg']) || isSaid(body['detail']))
    return true;
  const isAnswer = choices !== undefined && choices !== null;
  return (
    !isAnswer && !isSaid(body['usage']) && (isSaid(body['message']) || isSaid(body['msg']) || hasFailureCode(body))
  );
}

function isFailedChoice(choice: ChunkChoice): boolean {
  return choice['finish_reason'] === 'error' || isSaid(choice['error']);
}

/** Something other than the ways in which servers write "none". */
function isSaid(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === '' || value === 0) return false;
  return typeof value !== 'object' || Object.keys(value).length > 0;
}

function hasFailureCode(body: Record<string, unknown>): boolean {
  return ['code', 'status', 'status_code', 'statusCode'].some((field) => isFailureCode(body[field]));
}

/** Codes of success are 0 and those below 300; words like `success` are no codes. */
function isFailureCode(code: unknown): boolean {
  return typeof code === 'number' && code !== 0 && (code < 0 || code >= 300);
}
