/**
 * Common parts of gateway tests: customers with real clients, raw calls as any client could make them, and a look at
 * what the ledger knows afterwards. Judges nothing; what is right is each test's own to say.
 */
import assert from 'node:assert/strict';
import OpenAI, { APIError } from 'openai';
import { findBalance, type Balance } from '../../db/accounts/accounts.ts';
import type { KeySettings } from '../../db/accounts/api-keys.ts';
import { parseId, type KeyUuid } from '../../domain/ids.ts';
import type { ErrorCode } from '../../domain/errors.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { Outcome, RequestState } from '../../domain/requests/request.ts';
import type { TestAccount, TestStack } from './stack.ts';
import { until } from './until.ts';

/** Short, so that prompts are one token at the twin. */
export const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Hi' }];

/** How long a hook may take that starts a stack: two processes of ours on a machine that is busy with other tests. */
export const STACK_START_MS = 60_000;

/** Somebody who pays: an account, one of its keys, and an unmodified client that uses it. */
export interface Customer {
  readonly account: TestAccount;
  readonly keyId: KeyUuid;
  readonly secret: string;
  readonly openai: OpenAI;
}

/** A new account with `balance` USD and a first key. */
export async function createCustomer(
  stack: TestStack,
  balance: string,
  settings: Partial<KeySettings> = {},
): Promise<Customer> {
  return addKey(stack, await stack.createAccount(balance), settings);
}

/** Another key of an account. */
export async function addKey(
  stack: TestStack,
  account: TestAccount,
  settings: Partial<KeySettings> = {},
): Promise<Customer> {
  const { key, secret } = await stack.createKey(account, settings);
  return { account, keyId: key.id, secret, openai: openAiClient(stack, secret) };
}

/** An unmodified client, except that it does not retry: a test wants to see the first answer. */
export function openAiClient(stack: TestStack, apiKey: string): OpenAI {
  return new OpenAI({ apiKey, baseURL: `${stack.baseUrl}/v1`, maxRetries: 0 });
}

export interface RawCall {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** Posts a body as it is (objects as JSON) to the gateway with a key; `null` sends none. */
export function post(
  stack: TestStack,
  secret: string | null,
  body: string | Uint8Array<ArrayBuffer> | object | null,
  { method = 'POST', path = '/v1/chat/completions', headers = {}, signal }: RawCall = {},
): Promise<Response> {
  const isRaw = body === null || typeof body === 'string' || body instanceof Uint8Array;
  return fetch(stack.baseUrl + path, {
    method,
    headers: {
      'content-type': 'application/json',
      ...(secret === null ? {} : { authorization: `Bearer ${secret}` }),
      ...headers,
    },
    body: isRaw ? body : JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
}

export function get(stack: TestStack, secret: string, path: string): Promise<Response> {
  return fetch(stack.baseUrl + path, { headers: { authorization: `Bearer ${secret}` } });
}

/** The id that every answer carries. */
export function requestIdOf(response: { readonly headers: Headers }): string {
  const id = response.headers.get('x-request-id') ?? '';
  assert.match(id, /^req_[0-9a-f]{32}$/, 'every answer has x-request-id');
  return id;
}

/** An answer with the request id it came with. */
export interface Answered<T> {
  readonly data: T;
  readonly requestId: string;
}

/** Awaits an SDK call together with its request id. */
export async function answered<T>(call: {
  withResponse(): Promise<{ data: T; response: Response }>;
}): Promise<Answered<T>> {
  const { data, response } = await call.withResponse();
  return { data, requestId: requestIdOf(response) };
}

/** The error an SDK call or a stream ended with; fails when it ended well. */
export async function errorOf(call: PromiseLike<unknown>): Promise<APIError> {
  const result = await Promise.resolve(call).then(
    (value: unknown) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if (!('error' in result)) assert.fail(`an error was expected, got ${JSON.stringify(result.value)}`);
  if (!(result.error instanceof APIError)) throw result.error;
  return result.error;
}

/** The body of an error answer, checked to have OpenAI's shape. */
export async function refusalOf(response: Response): Promise<{
  readonly status: number;
  readonly code: ErrorCode;
  readonly type: string;
  readonly param: string | null;
  readonly message: string;
}> {
  requestIdOf(response);
  const text = await response.text();
  assert.ok(response.status >= 400, `a refusal was expected, got ${response.status}: ${text.slice(0, 300)}`);
  const { error, ...rest } = JSON.parse(text) as { error: Record<string, unknown> };
  assert.deepEqual(rest, {});
  assert.deepEqual(Object.keys(error).sort(), ['code', 'message', 'param', 'type']);
  return {
    status: response.status,
    code: error['code'] as ErrorCode,
    type: String(error['type']),
    param: error['param'] as string | null,
    message: String(error['message']),
  };
}

/** A chunk of a chat stream as it came over the wire. */
export interface WireChunk {
  readonly id?: string;
  readonly object?: string;
  readonly model?: string;
  readonly choices: readonly {
    readonly index: number;
    readonly delta: { readonly role?: string; readonly content?: string | null };
    readonly finish_reason: string | null;
  }[];
  readonly usage?: Readonly<Record<string, unknown>> | null;
  readonly holdfast?: { readonly ended_by: string };
  readonly error?: { readonly code: string; readonly type: string; readonly message: string };
}

/** The `data:` payloads of a stream, one by one as they arrive. Reads only framing that the gateway itself writes. */
export async function* payloadsOf(response: Response): AsyncGenerator<string, void, undefined> {
  assert.ok(response.body, 'a stream has a body');
  const decoder = new TextDecoder();
  let text = '';
  for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
    text += decoder.decode(bytes, { stream: true });
    const events = text.split(/\r?\n\r?\n/);
    text = events.pop() ?? '';
    for (const event of events.map((piece) => piece.trimStart())) {
      if (event.startsWith('data: ')) yield event.slice('data: '.length);
    }
  }
  assert.equal(text.trim(), '', 'a stream ends with a blank line');
}

export interface WireStream {
  readonly requestId: string;
  readonly chunks: readonly WireChunk[];
  /** Whether `[DONE]` was the last thing that came. */
  readonly done: boolean;
  readonly text: string;
}

/** Reads a whole stream. Fails when the answer is not one. */
export async function readStream(response: Response): Promise<WireStream> {
  if (response.status !== 200) assert.fail(`a stream was expected, got ${response.status}: ${await response.text()}`);
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/);
  const payloads: string[] = [];
  for await (const payload of payloadsOf(response)) payloads.push(payload);
  const done = payloads.at(-1) === '[DONE]';
  const chunks = (done ? payloads.slice(0, -1) : payloads).map((payload) => JSON.parse(payload) as WireChunk);
  return { requestId: requestIdOf(response), chunks, done, text: textOf(chunks) };
}

/** The text of the first choice. */
export function textOf(chunks: readonly WireChunk[]): string {
  return chunks
    .flatMap((chunk) => chunk.choices ?? [])
    .filter((choice) => choice.index === 0)
    .map((choice) => choice.delta.content ?? '')
    .join('');
}

/** The ledger's facts of a request. */
export interface RequestRow {
  readonly state: RequestState;
  readonly outcome: Outcome | null;
  readonly hold: PicoUsd;
  readonly listCost: PicoUsd | null;
  readonly cost: PicoUsd | null;
  readonly free: boolean;
  readonly stream: boolean;
  readonly estimated: boolean;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly cachedInputTokens: number | null;
  readonly reasoningTokens: number | null;
  readonly priceVersion: number | null;
  readonly modelId: string;
  readonly refusalCode: string | null;
  readonly rawUsage: unknown;
  readonly usageDetail: unknown;
  readonly clientLeftAt: Date | null;
  readonly firstTokenMs: number | null;
  readonly workflowId: string | null;
}

/** The row of a request; null when there is none. */
export async function findRow(stack: TestStack, requestId: string): Promise<RequestRow | null> {
  const uuid = parseId('request', requestId);
  assert.ok(uuid, `${requestId} is a request id`);
  const { rows } = await stack.admin.query<Record<string, never>>('select * from request where id = $1', [uuid]);
  const row = rows[0] as Record<string, unknown> | undefined;
  if (row === undefined) return null;
  const amount = (column: string): PicoUsd | null => (row[column] === null ? null : usd(row[column] as string));
  const count = (column: string): number | null => (row[column] === null ? null : Number(row[column]));
  return {
    state: row['state'] as RequestState,
    outcome: row['outcome'] as Outcome | null,
    hold: usd(row['hold'] as string),
    listCost: amount('list_cost'),
    cost: amount('cost'),
    free: row['free'] as boolean,
    stream: row['stream'] as boolean,
    estimated: row['estimated'] as boolean,
    inputTokens: count('input_tokens'),
    outputTokens: count('output_tokens'),
    cachedInputTokens: count('cached_input_tokens'),
    reasoningTokens: count('reasoning_tokens'),
    priceVersion: row['price_version'] as number | null,
    modelId: row['model_id'] as string,
    refusalCode: row['refusal_code'] as string | null,
    rawUsage: row['raw_usage'],
    usageDetail: row['usage_detail'],
    clientLeftAt: row['client_left_at'] as Date | null,
    firstTokenMs: row['first_token_ms'] as number | null,
    workflowId: row['workflow_id'] as string | null,
  };
}

/** The row of a request that must be there now. */
export async function rowOf(stack: TestStack, requestId: string): Promise<RequestRow> {
  const row = await findRow(stack, requestId);
  assert.ok(row, `${requestId} has a row`);
  return row;
}

/**
 * Settlements take tenths of a second; on a machine busy with other tests the worker, which is niced, may need longer.
 */
const SETTLED_TIMEOUT_MS = 18_000;

/** Waits until a request's row is as wanted. */
export function rowWhen(
  stack: TestStack,
  requestId: string,
  what: string,
  wanted: (row: RequestRow) => boolean,
): Promise<RequestRow> {
  return until(
    `${requestId} to be ${what}`,
    async () => {
      const row = await findRow(stack, requestId);
      return row !== null && wanted(row) ? row : null;
    },
    SETTLED_TIMEOUT_MS,
  );
}

/** The row once it has ended, settled or not. */
export function endedRow(stack: TestStack, requestId: string): Promise<RequestRow> {
  return rowWhen(stack, requestId, 'ended', ({ state }) => state !== 'held');
}

/** The row once it is charged or released (needs a worker, except for `:free`). */
export function settledRow(stack: TestStack, requestId: string): Promise<RequestRow> {
  return rowWhen(stack, requestId, 'settled', ({ state }) => state === 'charged' || state === 'released');
}

/** An account's newest request; for calls whose answer carried no id because their client left. */
export async function newestRequest(stack: TestStack, account: TestAccount): Promise<string | null> {
  const { rows } = await stack.admin.query<{ id: string }>(
    `select 'req_' || replace(id::text, '-', '') as id from request where account_id = $1 order by id desc limit 1`,
    [account.uuid],
  );
  return rows[0]?.id ?? null;
}

/** The customer's balance, settled or not. */
export async function balanceOf(stack: TestStack, account: TestAccount): Promise<Balance> {
  const balance = await findBalance(stack.admin, account.uuid);
  assert.ok(balance, `${account.id} has a balance`);
  return balance;
}

/** Usage of a request that nobody pays, by reason. */
export async function platformCosts(stack: TestStack, requestId: string): Promise<Readonly<Record<string, PicoUsd>>> {
  const { rows } = await stack.admin.query<{ reason: string; list_cost: string }>(
    'select reason, list_cost from platform_cost where request_id = $1',
    [parseId('request', requestId)],
  );
  return Object.fromEntries(rows.map(({ reason, list_cost }) => [reason, usd(list_cost)]));
}

/** Breaches of the ledger's invariants. */
export async function violations(stack: TestStack): Promise<readonly unknown[]> {
  return (await stack.admin.query<Record<string, unknown>>('select * from violations')).rows;
}

/** Waits until nothing of an account is open any more: every hold ended exactly once. */
export async function untilNothingHeld(
  stack: TestStack,
  account: TestAccount,
  timeoutMs = SETTLED_TIMEOUT_MS,
): Promise<void> {
  await until(
    `holds of ${account.id} to end`,
    async () => {
      const { rows } = await stack.admin.query<{ held: string }>('select held from account where id = $1', [
        account.uuid,
      ]);
      return usd(rows[0]!.held) === 0n;
    },
    timeoutMs,
  );
}

/** How many requests have reached the upstream twin, repeats included. */
export function upstreamCalls(stack: TestStack): number {
  return stack.twin.requests({ limit: 1 }).totals.attempts;
}

/** The amount of a decimal USD text, for writing expectations. */
export const dollars = usd;
