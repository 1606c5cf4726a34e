/**
 * The gateway's paths, straight on node:http: no framework stands between a client and its model. Gives every request
 * its id, finds out who calls, and turns every refusal and fault into one error answer.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { uuidv7 } from 'uuidv7';
import { openAiErrorBody, Refusal } from '../../../../domain/errors.ts';
import { formatId, uuidOf, type RequestUuid } from '../../../../domain/ids.ts';
import { isFault } from '../../../../db/shared/client.ts';
import { BatchQueueFull } from '../../../../db/shared/batch-queue.ts';
import { isReporterFault } from '../../../../db/shared/reporter.ts';
import { ClientGone } from '../bodies/body.ts';
import type { Dialect } from '../dialect.ts';
import type { Gateway } from '../gateway.ts';
import { serveInference } from '../inference.ts';
import { secretsOf } from '../keys/credentials.ts';
import { checkCaller, type Caller } from '../keys/keys.ts';
import { listModels, showCredits, showGeneration, showKey, showModel, type Lookups } from '../lookups/lookups.ts';
import { sendJson, sendRefusal } from './answers.ts';
import { allowPages, answerPreflight } from './cors.ts';
import { findDestination, isInference, methodOf, nothingAt, splitTarget, type Destination } from './paths.ts';

export { isGatewayPath } from './paths.ts';

export type GatewayRouter = (incoming: IncomingMessage, response: ServerResponse) => void;

export function createGatewayRouter(gateway: Gateway, lookups: Lookups): GatewayRouter {
  return (incoming, response) => {
    const uuid = uuidOf('request', uuidv7());
    response.setHeader('x-request-id', formatId('request', uuid));
    // A client that goes away breaks its own socket, nothing else.
    response.on('error', () => undefined);
    allowPages(response);
    if (incoming.method === 'OPTIONS') {
      answerPreflight(incoming, response);
      return;
    }
    const arrival = arrivalOf(gateway, incoming, response, uuid);
    if (gateway.isStopping) {
      // Not counted in, so that the end is not put off by those who come too late; nor is their connection kept.
      response.setHeader('connection', 'close');
      answerError(gateway, arrival, new Refusal('ledger_unavailable'));
      return;
    }
    const leave = gateway.enter();
    route(gateway, lookups, arrival)
      .catch((error: unknown) => {
        if (!isOfLeavingClient(incoming, error)) answerError(gateway, arrival, error);
      })
      .finally(leave);
  };
}

interface Arrival {
  readonly incoming: IncomingMessage;
  readonly response: ServerResponse;
  readonly uuid: RequestUuid;
  /** `performance.now()`. */
  readonly arrivedAt: number;
  readonly path: string;
  readonly query: URLSearchParams;
  /** Null where the path leads nowhere. */
  readonly destination: Destination | null;
  /** The API whose path it is; null for look-ups and paths that lead nowhere. */
  readonly dialect: Dialect | null;
}

function arrivalOf(gateway: Gateway, incoming: IncomingMessage, response: ServerResponse, uuid: RequestUuid): Arrival {
  const arrivedAt = performance.now();
  const { path, query } = splitTarget(incoming.url ?? '/');
  const destination = findDestination(path);
  const dialect = destination !== null && isInference(destination) ? gateway.dialectAt(destination.endpoint) : null;
  return { incoming, response, uuid, arrivedAt, path, query, destination, dialect };
}

async function route(gateway: Gateway, lookups: Lookups, arrival: Arrival): Promise<void> {
  const { incoming, response, path, query, destination, dialect } = arrival;
  if (destination === null) throw nothingAt(incoming.method ?? '', path);
  const method = methodOf(destination);
  if (incoming.method !== method && !(incoming.method === 'HEAD' && method === 'GET')) {
    response.setHeader('allow', method);
    throw new Refusal('method_not_allowed', { message: `${destination.endpoint} wants ${method}.` });
  }
  const caller = await fromDatabase(authenticate(gateway, incoming));
  if (dialect !== null) {
    const { uuid, arrivedAt } = arrival;
    await serveInference(gateway, incoming, response, { uuid, caller, arrivedAt, dialect });
    return;
  }
  checkCaller(caller, gateway.clientAddress(incoming), new Date());
  sendJson(response, 200, await fromDatabase(lookUp(lookups, caller, destination, query)));
}

async function lookUp(
  lookups: Lookups,
  caller: Caller,
  destination: Destination,
  query: URLSearchParams,
): Promise<unknown> {
  switch (destination.endpoint) {
    case '/v1/models/{id}':
      return showModel(lookups, caller, destination.modelId);
    case '/v1/models':
      return listModels(lookups, caller);
    case '/v1/key':
      return showKey(lookups, caller);
    case '/v1/credits':
      return showCredits(lookups, caller);
    case '/v1/generation':
      return showGeneration(lookups, caller, query.get('id'));
    case '/v1/chat/completions':
      throw new Error('invariant broken: a model is asked in a dialect');
  }
}

/** The caller of a request, by the keys that it carries. Throws `invalid_api_key`. */
async function authenticate(gateway: Gateway, incoming: IncomingMessage): Promise<Caller> {
  const secrets = secretsOf(incoming.headers);
  if (secrets.length === 0)
    throw new Refusal('invalid_api_key', {
      message: 'No API key was sent. Use the header "Authorization: Bearer sk-hf-…".',
    });
  const caller = await gateway.keys.find(secrets, () => gateway.clientAddress(incoming));
  if (caller === null) throw new Refusal('invalid_api_key', { message: 'This API key is unknown.' });
  return caller;
}

/** The database did not answer. Only what was asked of it may be taken for this: other connections break as well. */
class DatabaseUnavailable extends Error {}

/** Waits for an answer of the database. Throws DatabaseUnavailable in place of its faults. */
async function fromDatabase<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (!isFault(error) && !isReporterFault(error)) throw error;
    throw new DatabaseUnavailable('the database did not answer', { cause: error });
  }
}

/** How Node and its parser name a connection that the other side broke. */
const BROKEN_CONNECTION = /^(?:ECONN|EPIPE|ERR_STREAM|HPE_)/;

/**
 * True for what breaks when a client goes away before it has sent its request: nobody's fault, and nobody to be told.
 */
function isOfLeavingClient(incoming: IncomingMessage, error: unknown): boolean {
  if (error instanceof ClientGone) return true;
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return incoming.destroyed && !incoming.complete && BROKEN_CONNECTION.test(code ?? '');
}

function answerError(gateway: Gateway, { response, uuid, dialect }: Arrival, error: unknown): void {
  const refusal = asRefusal(gateway, uuid, error);
  gateway.metrics.refusals.inc({ code: refusal.code });
  if (response.headersSent) response.destroy();
  // Look-ups are in the shapes of OpenAI, their errors as well.
  else if (!response.destroyed) sendRefusal(response, refusal, dialect?.error(refusal) ?? openAiErrorBody(refusal));
}

function asRefusal(gateway: Gateway, uuid: RequestUuid, error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  const details = {
    request_id: formatId('request', uuid),
    error: error instanceof Error ? (error.cause instanceof Error ? error.cause : error).stack : String(error),
  };
  if (error instanceof DatabaseUnavailable || error instanceof BatchQueueFull) {
    gateway.logger.warn(details, 'the database did not answer');
    return new Refusal('ledger_unavailable');
  }
  gateway.logger.error(details, 'request failed by a bug');
  return new Refusal('internal_error');
}
