/**
 * The upstream twin: a model provider on this machine, for tests, bench and chaos. It speaks the provider's wire
 * format, needs no network and no GPU, breaks in every way a provider has been seen to break, and keeps count
 * of what it really produced for each `x-request-id`, so that a bill can be compared with the truth.
 *
 * This file owns the HTTP server and the order of things: read, authenticate, record, plan, play. It holds no
 * product logic, and product code cannot tell it from a provider except by asking `/_twin`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { DEFAULT_CONFIG, type UpstreamTwinConfig } from './config.ts';
import { answerControl, CONTROL_PREFIX, type TwinControls } from './control.ts';
import type { Dialect } from './dialect.ts';
import { FaultRules } from './faults.ts';
import { BadInput } from '../input.ts';
import { openAiDialect } from './openai.ts';
import { planAnswer, planRefusal, type RefusalPlan } from './plan.ts';
import { play } from './player.ts';
import { type Attempt, RequestBook } from './requests.ts';
import { refusalScript, scriptOf } from './script.ts';

export type { Steering, UpstreamTwinConfig } from './config.ts';
export type { Fault, FaultMatch, FaultRule } from './faults.ts';
export type { RequestPage, RequestRecord, RequestTotals, UsageReport } from './requests.ts';

export interface UpstreamTwinOptions {
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port?: number;
  readonly config?: Partial<UpstreamTwinConfig>;
  /** Append-only JSONL of all records, read back at the start. */
  readonly dataFile?: string | null;
  /** Bound on the records kept; null keeps all. Totals cover the dropped ones too. */
  readonly maxRecords?: number | null;
}

export interface UpstreamTwin extends TwinControls {
  /** Without a trailing slash and without `/v1`. */
  readonly url: string;
  readonly port: number;
  /** Cuts open answers (their records end `aborted`) and frees the port. */
  close(): Promise<void>;
}

/** About 60 MB of records, three minutes at 1,000 requests/s; far above what one chaos run compares. */
const DEFAULT_MAX_RECORDS = 200_000;

/** Above every body a gateway lets through, so that the twin is never the one that refuses it. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

/** Longer than any client keeps an idle connection, so that the twin never closes one under a request. */
const KEEP_ALIVE_MS = 120_000;

const DIALECT_BY_ROUTE: Readonly<Record<string, Dialect>> = {
  'POST /v1/chat/completions': openAiDialect,
  'POST /chat/completions': openAiDialect,
};

const MODEL_LIST_ROUTE = /^\/(?:v1\/)?models(?:\/(.+))?$/;

/** Starts a twin and resolves when it listens. Rejects when the port is taken or the data file unreadable. */
export async function startUpstreamTwin(options: UpstreamTwinOptions = {}): Promise<UpstreamTwin> {
  const { host = '127.0.0.1', port = 0, dataFile = null, maxRecords = DEFAULT_MAX_RECORDS } = options;
  const initial: UpstreamTwinConfig = { ...DEFAULT_CONFIG, ...options.config };
  const startedAt = Date.now();
  const book = new RequestBook({ maxRecords, dataFile });
  const faults = new FaultRules();
  let config = initial;

  const controls: TwinControls = {
    faults,
    config: () => config,
    configure: (change) => (config = { ...config, ...change }),
    request: (requestId) => book.get(requestId),
    requests: (page) => book.list(page),
    clearRequests: () => book.clear(),
    reset: () => {
      book.clear();
      faults.clear();
      config = initial;
    },
  };

  const handle = (request: IncomingMessage, response: ServerResponse, body: Buffer): void => {
    const { method = 'GET', url: target = '/' } = request;
    const queryAt = target.indexOf('?');
    const path = queryAt === -1 ? target : target.slice(0, queryAt);
    const dialect = DIALECT_BY_ROUTE[`${method} ${path}`];
    if (dialect !== undefined) {
      answerRequest({ config, faults, book, dialect }, request, response, body);
      return;
    }
    if (path.startsWith(CONTROL_PREFIX)) {
      const parsed = parseJson(body);
      const answer =
        parsed === NOT_JSON
          ? { status: 400, body: { error: { message: 'The body is not valid JSON.' } } }
          : answerControl(controls, method, new URL(target, 'http://twin'), parsed);
      sendJson(response, answer.status, JSON.stringify(answer.body));
      return;
    }
    const models = method === 'GET' ? MODEL_LIST_ROUTE.exec(path) : null;
    if (models !== null) {
      answerModels(config, Math.floor(startedAt / 1000), request, response, models[1]);
      return;
    }
    sendJson(response, 404, openAiDialect.errorBody(404, `Invalid URL (${method} ${path})`));
  };

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0 }, (request, response) => {
    readBody(request, response, (body) => handle(request, response, body));
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    book.close();
    throw error;
  }
  const address = server.address() as AddressInfo;

  return {
    ...controls,
    url: `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`,
    port: address.port,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      // Answers that were cut book their end when their response closes, which is after the socket.
      await new Promise((resolve) => setImmediate(resolve));
      book.close();
    },
  };
}

interface Desk {
  readonly config: UpstreamTwinConfig;
  readonly faults: FaultRules;
  readonly book: RequestBook;
  readonly dialect: Dialect;
}

/** One request for an answer. Every arrival is recorded, also one that is refused. */
function answerRequest(desk: Desk, request: IncomingMessage, response: ServerResponse, body: Buffer): void {
  const { config, dialect } = desk;
  const attempt = desk.book.begin(headerOf(request, 'x-request-id'));
  // A provider names the request in its own way, whatever id it was sent.
  const ownId = { [dialect.requestIdHeader]: `req-twin-${attempt.ordinal}` };
  const reject = (status: number, message: string, param: string | null = null): void => {
    attempt.end('failed');
    sendJson(response, status, dialect.errorBody(status, message, param), ownId);
  };

  const key = dialect.presentedKey(request.headers);
  if (key === undefined) return reject(401, "You didn't provide an API key.");
  if (config.api_key !== null && key !== config.api_key) return reject(401, 'Incorrect API key provided.');
  const parsed = parseJson(body);
  if (parsed === NOT_JSON) return reject(400, 'We could not parse the JSON body of your request.');
  let ask;
  try {
    ask = dialect.read(parsed);
  } catch (error) {
    if (error instanceof BadInput) return reject(400, error.message, error.field);
    throw error;
  }

  const { model, stream } = ask;
  const faults = desk.faults.take({ model, stream, requestId: attempt.requestId });
  const refusal = planRefusal(config, ask, faults, dialect);
  if (refusal !== null) {
    attempt.accept({ model, stream, promptTokens: 0, cachedTokens: 0 });
    playRefusal(refusal, response, attempt, ownId);
    return;
  }
  const plan = planAnswer(config, ask, faults, dialect);
  attempt.accept(plan.work);
  const writer = dialect.write(plan, ask, attempt.ordinal);
  const headers = stream ? { ...STREAM_HEADERS, ...ownId } : { 'content-type': 'application/json', ...ownId };
  play(response, { status: 200, headers, isStream: stream }, scriptOf(plan, writer, stream), attempt);
}

const STREAM_HEADERS = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' };

function playRefusal(
  refusal: RefusalPlan,
  response: ServerResponse,
  attempt: Attempt,
  ownId: Readonly<Record<string, string>>,
): void {
  const respond = refusal.how === 'respond' ? refusal : null;
  const headers: Record<string, string> = { ...ownId };
  if (respond !== null) headers['content-type'] = respond.contentType;
  if (respond !== null && respond.retryAfterSeconds !== null)
    headers['retry-after'] = String(respond.retryAfterSeconds);
  play(response, { status: respond?.status ?? 200, headers, isStream: false }, refusalScript(refusal), attempt);
}

/** The models of the configuration, as OpenAI lists them. */
function answerModels(
  config: UpstreamTwinConfig,
  created: number,
  request: IncomingMessage,
  response: ServerResponse,
  encodedId: string | undefined,
): void {
  const key = openAiDialect.presentedKey(request.headers);
  if (key === undefined || (config.api_key !== null && key !== config.api_key)) {
    return sendJson(response, 401, openAiDialect.errorBody(401, 'Incorrect API key provided.'));
  }
  const modelOf = (id: string): object => ({ id, object: 'model', created, owned_by: 'twin' });
  if (encodedId === undefined) {
    const data = Object.keys(config.models).map(modelOf);
    return sendJson(response, 200, JSON.stringify({ object: 'list', data }));
  }
  const id = Object.keys(config.models).find((known) => encodeURIComponent(known) === encodedId || known === encodedId);
  if (id === undefined) {
    return sendJson(response, 404, openAiDialect.errorBody(404, 'The model does not exist', 'model'));
  }
  sendJson(response, 200, JSON.stringify(modelOf(id)));
}

function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Calls `then` with the whole body; a client that leaves before that never arrived. */
function readBody(request: IncomingMessage, response: ServerResponse, then: (body: Buffer) => void): void {
  const parts: Buffer[] = [];
  let bytes = 0;
  request.on('data', (part: Buffer) => {
    bytes += part.length;
    if (bytes <= MAX_BODY_BYTES) parts.push(part);
  });
  request.once('end', () => {
    if (bytes > MAX_BODY_BYTES) {
      sendJson(response, 413, openAiDialect.errorBody(413, 'The request body is too large.'));
    } else {
      then(parts.length === 1 ? parts[0]! : Buffer.concat(parts));
    }
  });
}

const NOT_JSON = Symbol('not JSON');

/** The parsed body, undefined when it is empty. */
function parseJson(body: Buffer): unknown {
  if (body.length === 0) return undefined;
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return NOT_JSON;
  }
}

function sendJson(
  response: ServerResponse,
  status: number,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  const length = Buffer.byteLength(body);
  response.writeHead(status, { ...headers, 'content-type': 'application/json', 'content-length': length });
  response.end(body);
}
