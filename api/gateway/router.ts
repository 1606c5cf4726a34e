/**
 * The gateway's paths, straight on node:http: no framework stands between a client and its model. Gives every request its
 * id, finds out who calls, and turns every refusal and fault into one error answer.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { uuidv7 } from 'uuidv7';
import { Refusal } from '../../domain/errors.ts';
import { formatId, uuidOf, type RequestUuid } from '../../domain/ids.ts';
import { isFault } from '../../db/client.ts';
import { LaneFull } from '../../db/lane.ts';
import { isReporterFault } from '../../db/reporter.ts';
import { sendJson, sendRefusal } from './answers.ts';
import { ClientGone } from './body.ts';
import { handleChatCompletion } from './chat-completions.ts';
import type { Gateway } from './gateway.ts';
import { checkCaller, type Caller } from './keys.ts';
import { listModels, showCredits, showGeneration, showKey, showModel, type Lookups } from './lookups.ts';

export type GatewayRouter = (incoming: IncomingMessage, response: ServerResponse) => void;

const MODELS_PREFIX = '/v1/models/';
const METHODS: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'POST',
  '/v1/models': 'GET',
  '/v1/key': 'GET',
  '/v1/credits': 'GET',
  '/v1/generation': 'GET',
};

/** True for the paths that belong to the gateway: `/v1/…` and the same under `/api`. */
export function isGatewayPath(url: string): boolean {
  return url.startsWith('/v1/') || url.startsWith('/api/v1/');
}

export function createGatewayRouter(gateway: Gateway, lookups: Lookups): GatewayRouter {
  return (incoming, response) => {
    const arrivedAt = performance.now();
    const uuid = uuidOf('request', uuidv7());
    response.setHeader('x-request-id', formatId('request', uuid));
    // A client that goes away breaks its own socket, nothing else.
    response.on('error', () => undefined);
    if (gateway.isStopping) {
      // Not counted in, so that the end is not put off by those who come too late; nor is their connection kept.
      response.setHeader('connection', 'close');
      answerError(gateway, response, new Refusal('ledger_unavailable'));
      return;
    }
    const leave = gateway.enter();
    route(gateway, lookups, { incoming, response, uuid, arrivedAt })
      .catch((error: unknown) => answerError(gateway, response, error))
      .finally(leave);
  };
}

interface Arrival {
  readonly incoming: IncomingMessage;
  readonly response: ServerResponse;
  readonly uuid: RequestUuid;
  readonly arrivedAt: number;
}

async function route(
  gateway: Gateway,
  lookups: Lookups,
  { incoming, response, uuid, arrivedAt }: Arrival,
): Promise<void> {
  const url = new URL(incoming.url ?? '/', 'http://gateway');
  const path = url.pathname.startsWith('/api/') ? url.pathname.slice('/api'.length) : url.pathname;
  const method = path.startsWith(MODELS_PREFIX) ? 'GET' : METHODS[path];
  if (method === undefined)
    throw new Refusal('not_found', { message: `There is nothing at ${incoming.method ?? ''} ${url.pathname}.` });
  if (incoming.method !== method) {
    response.setHeader('allow', method);
    throw new Refusal('method_not_allowed', { message: `${url.pathname} wants ${method}.` });
  }
  const caller = await authenticate(gateway, incoming);
  if (path === '/v1/chat/completions') {
    await handleChatCompletion(gateway, incoming, response, { uuid, caller, arrivedAt });
    return;
  }
  checkCaller(caller, gateway.clientAddress(incoming), new Date());
  sendJson(response, 200, await lookUp(lookups, caller, path, url.searchParams));
}

async function lookUp(lookups: Lookups, caller: Caller, path: string, query: URLSearchParams): Promise<unknown> {
  if (path.startsWith(MODELS_PREFIX)) return showModel(lookups, caller, decodePath(path.slice(MODELS_PREFIX.length)));
  switch (path) {
    case '/v1/models':
      return listModels(lookups, caller);
    case '/v1/key':
      return showKey(lookups, caller);
    case '/v1/credits':
      return showCredits(lookups, caller);
    case '/v1/generation':
      return showGeneration(lookups, caller, query.get('id'));
    default:
      throw new Error(`invariant broken: no look-up for ${path}`);
  }
}

function decodePath(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The caller of a request, by `Authorization: Bearer` or `x-api-key`. Throws `invalid_api_key`. */
async function authenticate(gateway: Gateway, incoming: IncomingMessage): Promise<Caller> {
  const secret = secretOf(incoming);
  if (secret === null)
    throw new Refusal('invalid_api_key', {
      message: 'No API key was sent. Use the header "Authorization: Bearer sk-hf-…".',
    });
  const caller = await gateway.keys.find(secret);
  if (caller === null) throw new Refusal('invalid_api_key', { message: 'This API key is unknown.' });
  return caller;
}

function secretOf(incoming: IncomingMessage): string | null {
  const { authorization } = incoming.headers;
  const bearer = authorization === undefined ? null : /^Bearer +(\S+) *$/i.exec(authorization);
  if (bearer !== null) return bearer[1]!;
  const header = incoming.headers['x-api-key'];
  return typeof header === 'string' && header !== '' ? header : null;
}

function answerError(gateway: Gateway, response: ServerResponse, error: unknown): void {
  if (error instanceof ClientGone) return;
  const refusal = asRefusal(gateway, response, error);
  gateway.metrics.refusals.inc({ code: refusal.code });
  if (response.headersSent) response.destroy();
  else if (!response.destroyed) sendRefusal(response, refusal);
}

function asRefusal(gateway: Gateway, response: ServerResponse, error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  const details = {
    request_id: response.getHeader('x-request-id'),
    error: error instanceof Error ? error.stack : String(error),
  };
  if (isFault(error) || isReporterFault(error) || error instanceof LaneFull) {
    gateway.logger.warn(details, 'the database did not answer');
    return new Refusal('ledger_unavailable');
  }
  gateway.logger.error(details, 'request failed by a bug');
  return new Refusal('internal_error');
}
