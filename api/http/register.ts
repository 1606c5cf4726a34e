/**
 * Puts the route table on an express app: authenticate → authorize → parse → handle → answer, the same for every route.
 * A path that exists answers other methods with 405 and what it allows.
 */
import { hash } from 'node:crypto';
import express, { type Express, type Request, type Response } from 'express';
import { Refusal } from '../../domain/errors.ts';
import { formatId, parseId, type RequestId } from '../../domain/ids.ts';
import { assert } from '../../domain/assert.ts';
import { actorOf, type AccessToken } from '../../db/accounts/access-tokens.ts';
import { clientAddressReader } from './client-address.ts';
import { FairGate } from './fair-gate.ts';
import { authenticate, authorize } from './authenticate.ts';
import type { ManagementDeps } from './deps.ts';
import { invalidField, ledgerUnavailable, parseWith } from './errors.ts';
import type { AccountCall, Idempotency, Route, StaffCall, StreamReply } from './route.ts';

/** Management bodies are small: the largest is a model with all its tiers and windows. */
const BODY_LIMIT_BYTES = 256 * 1024;

/**
 * Calls of one account, or of one member of staff, at once: fewer than there are connections; the rest waits for its
 * turn. Together they may have far more at once than there are connections: what is bounded is how long a queue one of
 * them can make for all.
 */
const CALLS = { atOnce: 256, atOncePerHolder: 3, waiting: 1024, waitingPerHolder: 128, retryAfterSeconds: 1 };
/** Reports of customers: fewer than their connections, so that staff find one whatever customers read. */
const REPORTS = { atOnce: 4, atOncePerHolder: 2, waiting: 256, waitingPerHolder: 32, retryAfterSeconds: 5 };

/** Above every time-out of a single step (statement, report, workflow call), so that those speak first. */
const CALL_TIMEOUT_SECONDS = 20;

const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/;

export function registerRoutes(app: Express, routes: readonly Route[], deps: ManagementDeps): void {
  const { trustedProxies, callTimeoutSeconds = CALL_TIMEOUT_SECONDS } = deps.settings;
  const addressOf = clientAddressReader(trustedProxies);
  // Any content type is read as JSON: a body that is none is refused as such instead of being ignored.
  const json = express.json({ limit: BODY_LIMIT_BYTES, type: () => true });
  const readBody = (request: Request, response: Response): Promise<void> =>
    new Promise((resolve, reject) => {
      json(request, response, (error?: unknown) => {
        if (error === undefined) resolve();
        else reject(error instanceof Error ? error : new Error('the body parser failed', { cause: error }));
      });
    });

  const calls = new FairGate({ what: 'calls', ...CALLS });
  const reports = new FairGate({ what: 'reports', ...REPORTS });

  for (const route of routes) {
    app[route.method](expressPath(route.path), async (request, response) => {
      const address = addressOf(request);
      const token = await authenticate(deps.tokens, request, address);
      authorize(token, route.access);
      const gate = route.isReport && token.accountId !== null ? reports : calls;
      const reply = await gate.run(token.accountId ?? token.person ?? token.id, async () => {
        // A caller that has gone while waiting needs no answer.
        if (response.destroyed) return null;
        await readBody(request, response);
        const call = callOf(route, request, response, token, { deps, address });
        return inTime(route.handle(call), callTimeoutSeconds);
      });
      if (reply === null) return;
      if ('write' in reply) return sendStream(response, reply);
      for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value);
      response.status(reply.status).json(reply.body);
    });
  }

  for (const [path, methods] of methodsByPath(routes)) {
    app.all(path, (request, response) => {
      response.setHeader('allow', methods.join(', '));
      if (request.method === 'OPTIONS') {
        response.status(204).end();
        return;
      }
      throw new Refusal('method_not_allowed');
    });
  }
}

/** Answers 503 when the database does not respond in time. */
async function inTime<T>(work: Promise<T>, timeoutSeconds: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(ledgerUnavailable()), timeoutSeconds * 1000);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** `{name}` → `:name`, `{+name}` → `*name`. */
function expressPath(path: string): string {
  return path.replaceAll(/\{\+(\w+)\}/g, '*$1').replaceAll(/\{(\w+)\}/g, ':$1');
}

function methodsByPath(routes: readonly Route[]): Map<string, string[]> {
  const methods = new Map<string, string[]>();
  for (const { path, method } of routes) {
    const known = methods.get(expressPath(path)) ?? [];
    methods.set(expressPath(path), [...known, method.toUpperCase(), ...(method === 'get' ? ['HEAD'] : [])]);
  }
  return methods;
}

function callOf(
  route: Route,
  request: Request,
  response: Response,
  token: AccessToken,
  { deps, address }: { deps: ManagementDeps; address: string },
): AccountCall<never, never, never> & StaffCall<never, never, never> {
  const body: unknown = request.body ?? {};
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new Refusal('invalid_body', { message: 'The request body must be a JSON object.' });
  }
  const params = parseWith(route.params, joinSegments(request.params));
  const query = parseWith(route.query, { ...request.query });
  const parsedBody = parseWith(route.body, body);
  const requestId = requestIdOf(response);
  const actor = actorOf(token);
  return {
    // The schemas have just made these what the handler's types say; the table has forgotten which schemas.
    params: params as never,
    query: query as never,
    body: parsedBody as never,
    requestId,
    actor,
    tokenId: token.id,
    log: deps.logger.child({ request_id: requestId, actor, address }),
    idempotency: route.movesMoney ? idempotencyOf(request, token, parsedBody) : null,
    ...identityOf(token),
  };
}

/**
 * The identity of a call. `authorize` has checked that a route for customers gets an account and one for staff a role.
 */
function identityOf(
  token: AccessToken,
): Pick<AccountCall<never, never, never> & StaffCall<never, never, never>, 'accountId' | 'role'> {
  return { accountId: token.accountId as never, role: token.role as never };
}

/** `{+name}` arrives as the list of its segments. */
function joinSegments(params: Readonly<Record<string, string | string[]>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(params).map(([name, value]) => [name, typeof value === 'string' ? value : value.join('/')]),
  );
}

function idempotencyOf(request: Request, token: AccessToken, body: unknown): Idempotency | null {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return null;
  if (typeof key !== 'string' || !IDEMPOTENCY_KEY.test(key)) {
    throw invalidField('Idempotency-Key', 'must be 1 to 255 printable ASCII characters');
  }
  // The parsed body, not its bytes: order of fields and blanks do not make another call.
  const asked = JSON.stringify([request.method, request.path, body], (_, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
  return { scope: formatId('token', token.id), key, bodyHash: hash('sha256', asked, 'buffer') };
}

function requestIdOf(response: Response): RequestId {
  const requestId = response.getHeader('x-request-id');
  assert(typeof requestId === 'string' && parseId('request', requestId) !== null, 'every response has its request id');
  return requestId as RequestId;
}

async function sendStream(response: Response, reply: StreamReply): Promise<void> {
  response.setHeader('content-type', reply.contentType);
  response.setHeader('content-disposition', `attachment; filename="${reply.fileName}"`);
  try {
    await reply.write(response);
  } catch (error) {
    // Its reader is gone: there is nobody to answer and nothing to alarm about.
    if (response.destroyed) return;
    if (!response.headersSent) {
      response.removeHeader('content-type');
      response.removeHeader('content-disposition');
    }
    throw error;
  }
  response.end();
}
