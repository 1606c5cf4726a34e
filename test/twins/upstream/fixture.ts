/**
 * Common parts of the upstream twin's tests: one question to a model, the unmodified `openai` client and raw HTTP to
 * ask it with, and a look at what the twin has counted. Bench and chaos take its counts as the truth, so a wrong one
 * that passed here would make every proof built on it worthless.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';

import OpenAI from 'openai';

import type { RequestRecord, SteeringInput, UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { until } from '../../support/until.ts';

/** A twin in this process, or in one of its own. */
type Address = Pick<UpstreamTwin, 'url'>;

interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly completion_tokens_details: { readonly reasoning_tokens: number };
}

interface Completion {
  readonly model: string;
  readonly choices: readonly { readonly message: { readonly content: string }; readonly finish_reason: string }[];
  readonly usage?: Usage;
}

interface Chunk {
  readonly choices: readonly {
    readonly index: number;
    readonly delta: { readonly role?: string; readonly content?: string };
    readonly finish_reason: string | null;
  }[];
  readonly usage?: Usage | null;
}

/** The key of every caller here; a twin takes any key until one is set. */
export const API_KEY = 'sk-test';

/** The longest time the twin takes for a knob: what waits for it does not happen in a test. */
export const HOUR_MS = 3_600_000;

export const QUESTION = { model: 'm', messages: [{ role: 'user' as const, content: 'Say something about rivers.' }] };

/** The library unmodified; only its repetition of failed calls is off, so that a failure shows. */
export function clientOf({ url }: Address): OpenAI {
  return new OpenAI({ apiKey: API_KEY, baseURL: `${url}/v1`, maxRetries: 0 });
}

/** A request id that no other test uses. */
export function newId(): string {
  return `req_${randomUUID()}`;
}

/** A text is sent as it is: it may be no JSON. */
export function post(
  { url }: Address,
  body: unknown,
  { id, signal, path = '/v1/chat/completions' }: { id?: string; signal?: AbortSignal; path?: string } = {},
): Promise<Response> {
  return fetch(url + path, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${API_KEY}`,
      'content-type': 'application/json',
      ...(id !== undefined && { 'x-request-id': id }),
    },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...(signal !== undefined && { signal }),
  });
}

/** The question with other or more fields, and its answer read to the end. */
export async function ask(twin: Address, body: object = {}, id?: string): Promise<Reply> {
  const response = await post(twin, { ...QUESTION, ...body }, id === undefined ? {} : { id });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** A whole answer, which must come. */
export async function completion(twin: Address, body: object = {}, id?: string): Promise<Completion> {
  const reply = await ask(twin, body, id);
  assert.equal(reply.status, 200, reply.text);
  return JSON.parse(reply.text) as Completion;
}

/** The payloads of a streamed answer, which must come. */
export async function events(twin: Address, body: object = {}, id?: string): Promise<string[]> {
  const reply = await ask(twin, { stream: true, ...body }, id);
  assert.equal(reply.status, 200, reply.text);
  return dataOf(reply.text);
}

/** The chunks of a streamed answer, which must end as told. */
export async function chunks(twin: Address, body: object = {}): Promise<Chunk[]> {
  const payloads = await events(twin, body);
  assert.equal(payloads.pop(), '[DONE]');
  return payloads.map((payload) => JSON.parse(payload) as Chunk);
}

/** A stream's payloads that are JSON; usage is asked for. */
export async function jsonEvents(twin: Address, body: object = {}, id?: string): Promise<Record<string, unknown>[]> {
  const payloads = await events(twin, { stream_options: { include_usage: true }, ...body }, id);
  return payloads
    .filter((payload) => payload !== '[DONE]')
    .map((payload) => JSON.parse(payload) as Record<string, unknown>);
}

/** Knobs for one request. */
export function steered(knobs: SteeringInput, body: object = {}): object {
  return { ...body, metadata: { twin: JSON.stringify(knobs) } };
}

/** All values in a JSON value that are text, wherever they stand. */
export function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(textsIn);
}

/** All values in a JSON value that are numbers. */
export function numbersIn(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(numbersIn);
}

/** The payloads of the `data:` lines of a stream's text, in order. */
export function dataOf(text: string): string[] {
  return text
    .split(/\r?\n/)
    .filter((line) => line.startsWith('data: '))
    .map((line) => line.slice('data: '.length));
}

/** Reads a stream until it has sent `count` payloads and leaves it open. */
export async function readEvents(response: Response, count: number): Promise<string[]> {
  assert.ok(response.body);
  const reader = response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  let text = '';
  while (dataOf(text).length < count) {
    const { done, value } = await reader.read();
    assert.equal(done, false, 'the stream ended early');
    text += Buffer.from(value ?? []).toString();
  }
  return dataOf(text);
}

/** An answer as it came over the wire. */
interface RawAnswer {
  /** The body as the separate reads in which it arrived. */
  readonly reads: Buffer[];
  readonly headers: IncomingHttpHeaders;
  /** The 1xx responses before it. */
  readonly informational: number[];
  /** The client's. */
  readonly localPort: number | undefined;
}

/** Asks as plainly as HTTP allows, so that nothing hides what the twin does with its bytes and connections. */
export async function rawReads({ url }: Address, body: object, agent = new Agent(), id?: string): Promise<RawAnswer> {
  const reads: Buffer[] = [];
  const informational: number[] = [];
  const request = httpRequest(`${url}/v1/chat/completions`, {
    agent,
    method: 'POST',
    headers: { authorization: `Bearer ${API_KEY}`, ...(id !== undefined && { 'x-request-id': id }) },
  });
  request.on('information', ({ statusCode }) => informational.push(statusCode));
  request.end(JSON.stringify(body));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const { localPort } = response.socket;
  for await (const part of response as AsyncIterable<Buffer>) reads.push(part);
  return { reads, headers: response.headers, informational, localPort };
}

/** The twin's count for a request that reached it. */
export function record(twin: UpstreamTwin, id: string): RequestRecord {
  const found = twin.request(id);
  assert.ok(found, `no record of ${id}`);
  return found;
}

export function recordBecomes(twin: UpstreamTwin, id: string, status: RequestRecord['status']): Promise<RequestRecord> {
  return until(`${id} to be ${status}`, () => {
    const found = twin.request(id);
    return found?.status === status && found;
  });
}
