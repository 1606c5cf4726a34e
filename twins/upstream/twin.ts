/**
 * The upstream twin: a model provider on this machine, for tests, bench and chaos. It speaks the provider's wire
 * format, needs no network and no GPU, breaks in every way a provider has been seen to break, and keeps count
 * of what it really produced for each `x-request-id`, so that a bill can be compared with the truth.
 *
 * This file owns the HTTP server and its routes; what a request for an answer goes through is in `answers.ts`. It holds
 * no product logic, and product code cannot tell it from a provider except by asking `/_twin`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { sendJson, sendJsonText } from '../kit/http.ts';
import { answerRequest } from './answers.ts';
import { type ConfigInput, DEFAULT_CONFIG, readConfig, type UpstreamTwinConfig } from './config.ts';
import { Connections, KEEP_ALIVE_MS } from './connections.ts';
import { answerControl, CONTROL_PREFIX, type TwinControls } from './control.ts';
import type { Dialect } from './dialect.ts';
import { errorText } from './error-shapes.ts';
import { FaultRules } from './fault-rules.ts';
import { NOT_JSON, parseJson } from './json.ts';
import { Lookup, LOOKUP_ROUTE } from './lookup.ts';
import { answerModels, MODEL_LIST_ROUTE } from './model-list.ts';
import { openAiDialect } from './openai.ts';
import { RequestBook } from './requests.ts';

export type { ConfigInput, UpstreamTwinConfig } from './config.ts';
export { ERROR_SHAPE_NAMES } from './error-shapes.ts';
export type { Fault, FaultRule } from './faults.ts';
export { OUTPUT_FORM_NAMES, OUTPUT_FORMS, type OutputFormName } from './output/forms.ts';
export type { RequestRecord } from './records.ts';
export type { RequestPage } from './requests.ts';
export type { Steering, SteeringInput } from './steering.ts';
export type { TokenCounts } from './token-counts.ts';
export { USAGE_SHAPE_NAMES, USAGE_SHAPES } from './usage/shapes.ts';

export interface UpstreamTwinOptions {
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port?: number;
  readonly config?: ConfigInput;
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

/** Above every body a gateway lets through, so that the twin never refuses it. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

const DIALECT_BY_ROUTE: Readonly<Record<string, Dialect>> = {
  'POST /v1/chat/completions': openAiDialect,
  'POST /chat/completions': openAiDialect,
};

/** Starts a twin and resolves when it listens. Rejects when the port is taken or the data file unreadable. */
export async function startUpstreamTwin(options: UpstreamTwinOptions = {}): Promise<UpstreamTwin> {
  const { host = '127.0.0.1', port = 0, dataFile = null, maxRecords = DEFAULT_MAX_RECORDS } = options;
  const initial: UpstreamTwinConfig = { ...DEFAULT_CONFIG, ...readConfig(options.config ?? {}) };
  const startedAt = Date.now();
  const book = new RequestBook({ maxRecords, dataFile });
  const faults = new FaultRules();
  const lookup = new Lookup();
  const connections = new Connections(() => config.connections);
  let config = initial;

  const controls: TwinControls = {
    faults,
    config: () => config,
    configure: (change) => (config = { ...config, ...readConfig(change) }),
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
      sendJson(response, answer.status, answer.body);
      return;
    }
    if (method === 'GET' && LOOKUP_ROUTE.test(path)) {
      const id = new URL(target, 'http://twin').searchParams.get('id') ?? '';
      const rules = config.lookup;
      setTimeout(() => {
        const { status, text } = lookup.answer(rules, id, book.find(id));
        sendJsonText(response, status, text);
      }, rules.latency_ms);
      return;
    }
    const models = method === 'GET' ? MODEL_LIST_ROUTE.exec(path) : null;
    if (models !== null) {
      answerModels(config, Math.floor(startedAt / 1000), request, response, models[1]);
      return;
    }
    const facts = { status: 404, message: `Invalid URL (${method} ${path})`, code: null, param: null };
    sendJsonText(response, 404, errorText(config.error_shape, facts));
  };

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0 }, (request, response) => {
    // Control calls are served on any connection.
    const isServed = request.url?.startsWith(CONTROL_PREFIX) === true || connections.admit(request, response);
    if (!isServed) return;
    const { body_bytes_max: bytesMax } = config.connections;
    readBody(request, response, bytesMax, (body) => handle(request, response, body));
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

/**
 * Calls `then` with the whole body; a client that leaves before that never arrived. Above `bytesMax` the rest is not
 * waited for: the answer comes at once, and the connection ends behind it.
 */
function readBody(
  request: IncomingMessage,
  response: ServerResponse,
  bytesMax: number | null,
  then: (body: Buffer) => void,
): void {
  const most = Math.min(bytesMax ?? MAX_BODY_BYTES, MAX_BODY_BYTES);
  const parts: Buffer[] = [];
  let bytes = 0;
  request.on('data', (part: Buffer) => {
    bytes += part.length;
    if (bytes <= most) parts.push(part);
    else if (!response.headersSent) {
      const facts = { status: 413, message: 'The request body is too large.', code: null, param: null };
      response.once('finish', () => request.socket.destroySoon());
      sendJsonText(response, 413, errorText('openai', facts), { connection: 'close' });
    }
  });
  request.once('end', () => {
    if (bytes <= most) then(parts.length === 1 ? parts[0]! : Buffer.concat(parts));
  });
}
