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
import { Connections } from './connections.ts';
import { answerControl, CONTROL_PREFIX, type TwinControls } from './control.ts';
import type { Dialect } from './dialect.ts';
import { FaultRules } from './faults.ts';
import { BadInput } from '../input.ts';
import { idsOf } from './ids.ts';
import { Lookup, LOOKUP_ROUTE } from './lookup.ts';
import { openAiDialect } from './openai.ts';
import { type Ask, planAnswer, promptCounts, steer } from './plan.ts';
import { type Head, play } from './player.ts';
import { planRefusal, type RefusalPlan } from './refusal.ts';
import { type Attempt, RequestBook } from './requests.ts';
import { refusalScript, scriptOf } from './script.ts';
import type { Steering } from './steering.ts';
import { NO_TOKENS } from './token-counts.ts';

export type { UpstreamTwinConfig } from './config.ts';
export { ERROR_SHAPES, ERROR_SHAPE_NAMES, type ErrorShapeName } from './error-shapes.ts';
export type { Fault, FaultMatch, FaultRule } from './faults.ts';
export { OUTPUT_FORM_NAMES, OUTPUT_FORMS, type OutputFormName } from './output-forms.ts';
export type { RequestPage, RequestRecord, RequestTotals } from './requests.ts';
export type { Steering } from './steering.ts';
export type { TokenCounts, UsageReport } from './token-counts.ts';
export { USAGE_SHAPE_NAMES, USAGE_SHAPES, type UsageShapeName } from './usage-shapes.ts';

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
  const lookup = new Lookup();
  const connections = new Connections(() => config.connections);
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
      lookup.clear();
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
    if (method === 'GET' && LOOKUP_ROUTE.test(path)) {
      const id = new URL(target, 'http://twin').searchParams.get('id') ?? '';
      const rules = config.lookup;
      setTimeout(() => {
        const { status, text } = lookup.answer(rules, id, book.find(id));
        sendJson(response, status, text);
      }, rules.latency_ms);
      return;
    }
    const models = method === 'GET' ? MODEL_LIST_ROUTE.exec(path) : null;
    if (models !== null) {
      answerModels(config, Math.floor(startedAt / 1000), request, response, models[1]);
      return;
    }
    sendError(response, 404, `Invalid URL (${method} ${path})`);
  };

  // Connections are ended by `connections` alone.
  const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0 }, (request, response) => {
    if (connections.admit(request, response)) readBody(request, response, (body) => handle(request, response, body));
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
  const reject = (status: number, message: string, param: string | null = null): void => {
    attempt.end('failed');
    const { headers } = idsOf(config.ids, attempt.ordinal, 0);
    sendJson(response, status, dialect.errorBody({ status, message, param, code: null }), headers);
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
  const steering = steer(config, ask, faults);
  // A provider names the request in its own way, whatever id it was sent.
  const ids = idsOf(steering.ids, attempt.ordinal, ask.seed);
  const headers = { ...ids.headers, ...steering.headers };
  const refusal = planRefusal(steering, ask, faults, dialect);
  if (refusal !== null) {
    const counts = refusal.produced === null ? NO_TOKENS : promptCounts(ask, steering);
    attempt.accept({ model, stream, counts });
    playRefusal(refusal, response, attempt, { ask, steering, headers });
    return;
  }
  const plan = planAnswer(steering, ask, faults, dialect);
  attempt.accept(plan.work);
  attempt.name(ids.answer);
  const { encoding, content_type: contentType } = plan.framing;
  const head: Head = {
    status: 200,
    headers: {
      ...(plan.stream ? STREAM_HEADERS : WHOLE_HEADERS),
      ...(contentType !== null && { 'content-type': contentType }),
      ...(encoding !== 'identity' && { 'content-encoding': encoding }),
      ...headers,
    },
    isStream: plan.stream,
    encoding,
    informational: steering.informational,
    noticesLeavingMs: steering.notices_leaving_ms,
  };
  play(response, head, scriptOf(plan, dialect.write(plan, ids.answer, attempt.ordinal)), attempt);
}

const STREAM_HEADERS = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' };
const WHOLE_HEADERS = { 'content-type': 'application/json' };

function playRefusal(
  refusal: RefusalPlan,
  response: ServerResponse,
  attempt: Attempt,
  { ask, steering, headers }: { ask: Ask; steering: Steering; headers: Readonly<Record<string, string>> },
): void {
  const isAnswer = refusal.how === 'respond';
  const head: Head = {
    status: isAnswer ? refusal.status : 200,
    headers: { ...headers, ...(isAnswer && refusal.headers) },
    isStream: false,
    encoding: 'identity',
    informational: steering.informational,
    noticesLeavingMs: steering.notices_leaving_ms,
  };
  play(response, head, refusalScript(refusal, ask.choices), attempt);
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
    return sendError(response, 401, 'Incorrect API key provided.');
  }
  const modelOf = (id: string): object => ({ id, object: 'model', created, owned_by: 'twin' });
  if (encodedId === undefined) {
    const data = Object.keys(config.models).map(modelOf);
    return sendJson(response, 200, JSON.stringify({ object: 'list', data }));
  }
  const id = Object.keys(config.models).find((known) => encodeURIComponent(known) === encodedId || known === encodedId);
  if (id === undefined) {
    return sendError(response, 404, 'The model does not exist', 'model');
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
      sendError(response, 413, 'The request body is too large.');
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

/** An error in OpenAI's shape. */
function sendError(response: ServerResponse, status: number, message: string, param: string | null = null): void {
  sendJson(response, status, openAiDialect.errorBody({ status, message, param, code: null }));
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
