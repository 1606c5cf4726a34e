/**
 * A model provider that a test writes byte by byte, for what the upstream twin does not do: it keeps the bodies and
 * headers it was sent, and lets the test decide when each part of an answer leaves. Beside it, how a test adds models.
 */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { loadCatalogue, type CatalogueModel } from '../../db/requests/catalogue.ts';
import { isFreeModel } from '../../domain/requests/request.ts';
import { createCustomer, get } from './gateway-client.ts';
import type { TestStack } from './stack.ts';
import { until } from './until.ts';

/** A call as it arrived. */
export interface UpstreamCall {
  readonly requestId: string;
  readonly headers: IncomingHttpHeaders;
  /** The bytes of the body, unparsed. */
  readonly text: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Answers a call. A script that throws ends the test run: it is a mistake of the test. */
export type UpstreamScript = (response: ServerResponse, call: UpstreamCall) => void | Promise<void>;

export interface ScriptedUpstream {
  /** Up to and including `/v1`. */
  readonly baseUrl: string;
  /** In order of arrival. */
  readonly calls: readonly UpstreamCall[];
  /** How the calls that follow are answered. */
  script(script: UpstreamScript): void;
  close(): Promise<void>;
}

export async function startScriptedUpstream(): Promise<ScriptedUpstream> {
  const calls: UpstreamCall[] = [];
  let script: UpstreamScript = (response) => sendCompletion(response, completion('Hello'));
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const text = Buffer.concat(parts).toString('utf8');
      const call: UpstreamCall = {
        requestId: String(request.headers['x-request-id']),
        headers: request.headers,
        text,
        body: JSON.parse(text) as Record<string, unknown>,
      };
      calls.push(call);
      void script(response, call);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    calls,
    script: (next) => (script = next),
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** The usage of an answer of one prompt token and as many as are given. */
export function usage(completionTokens: number, more: object = {}): Record<string, unknown> {
  return { prompt_tokens: 1, completion_tokens: completionTokens, total_tokens: completionTokens + 1, ...more };
}

/** A whole answer with this text; `more` replaces or adds fields. */
export function completion(content: string, more: object = {}): Record<string, unknown> {
  return {
    id: 'chatcmpl-scripted',
    object: 'chat.completion',
    created: 1_700_000_000,
    model: 'scripted-upstream-name',
    choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
    usage: usage(1),
    ...more,
  };
}

export function sendCompletion(response: ServerResponse, body: object | string, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

/** One event of a stream with one choice; `more` replaces or adds fields of the chunk. */
export function chunk(delta: object, finishReason: string | null = null, more: object = {}): string {
  return event({ choices: [{ index: 0, delta, finish_reason: finishReason }], ...more });
}

/** One event with these fields. */
export function event(fields: object): string {
  const common = {
    id: 'chatcmpl-scripted',
    object: 'chat.completion.chunk',
    created: 1_700_000_000,
    model: 'scripted',
  };
  return `data: ${JSON.stringify({ ...common, ...fields })}\n\n`;
}

export const DONE = 'data: [DONE]\n\n';

export function openStream(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.flushHeaders();
}

/** Writes at the reader's pace; false once the reader has gone. */
export async function writePaced(response: ServerResponse, text: string): Promise<boolean> {
  if (response.destroyed) return false;
  if (response.write(text)) return true;
  const settled = new AbortController();
  const { signal } = settled;
  // Whichever comes first removes the other's listener.
  await Promise.race([once(response, 'drain', { signal }), once(response, 'close', { signal })]).finally(() =>
    settled.abort(),
  );
  return !response.destroyed;
}

/** A catalogue entry with every field that a test rarely cares for. */
export function modelOf(
  model: Pick<CatalogueModel, 'id' | 'prices'> &
    Partial<CatalogueModel> & { readonly baseUrl: string; readonly upstreamModel?: string },
): CatalogueModel {
  const { baseUrl, upstreamModel = 'upstream-model', ...entry } = model;
  return {
    dialect: 'openai',
    context_length: 100_000,
    default_output_tokens: 1000,
    hidden_output: false,
    request_timeout_seconds: 60,
    upstreams: [{ base_url: baseUrl, api_key_env: 'UPSTREAM_TEST_KEY', model: upstreamModel, lookup: null }],
    ...entry,
  };
}

/** Adds models and waits until the gateway offers them. */
export async function addModels(stack: TestStack, models: readonly CatalogueModel[]): Promise<void> {
  await loadCatalogue(stack.database.pool('management', { max: 1 }), models);
  const { secret } = await createCustomer(stack, '0');
  for (const { id, prices } of models) {
    if (Object.keys(prices).length === 0 && !isFreeModel(id)) continue; // Without a price it is never listed.
    await until(`${id} to be offered`, async () => (await get(stack, secret, `/v1/models/${id}`)).status === 200);
  }
}
