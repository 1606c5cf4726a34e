/**
 * The HTTP server: one port for the gateway (node:http), operations, and everything else (Express). Owns connection
 * limits and the orderly end; no route of its own but /healthz, /readyz and, with its token, /metrics.
 */
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Connections } from './connections.ts';
import { Discards } from '../gateway/core/bodies/body.ts';
import type { Gateway } from '../gateway/core/gateway.ts';
import { isGatewayPath, type GatewayRouter } from '../gateway/core/http/router.ts';

export interface ServerParts {
  readonly gateway: Gateway;
  readonly router: GatewayRouter;
  readonly management: RequestListener;
  /** Answers `/metrics`; null where they are not to be had on this port. */
  readonly metrics: RequestListener | null;
  readonly connections: Connections;
  /** How long the body of a gateway request may take, in seconds. */
  readonly bodySeconds: number;
}

/**
 * Longer than the idle time-out of common load balancers, so that they close first and no request meets a closing
 * socket.
 */
const KEEP_ALIVE_MS = 75_000;

/**
 * The headers of a request, which fit a few packets. Also what a connection may be silent for before its first request.
 */
const HEADERS_MS = 20_000;

/** How often requests that come too slowly are looked for. */
const CHECK_MS = 5000;

export function createHttpServer(parts: ServerParts): Server {
  const { gateway, router, management, metrics, connections, bodySeconds } = parts;
  const discards = new Discards();
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const leave = connections.enter(request.socket);
    if (leave === null) return;
    response.once('close', leave);
    // Before Node's own listener, which would swallow what is left of the body without a bound.
    response.prependOnceListener('finish', () => discards.discard(request));
    const url = request.url ?? '/';
    if (isGatewayPath(url)) {
      router(request, response);
      return;
    }
    switch (url) {
      case '/healthz':
        response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n');
        return;
      case '/readyz': {
        const reason = gateway.notReady;
        response.writeHead(reason === null ? 200 : 503, { 'content-type': 'text/plain' }).end(`${reason ?? 'ready'}\n`);
        return;
      }
      case '/metrics':
        (metrics ?? management)(request, response);
        return;
      default:
        management(request, response);
    }
  };
  const server = createServer({ connectionsCheckingInterval: CHECK_MS }, handle);
  // `Expect: 100-continue` is answered by the reader of the body, so that a refusal comes first.
  server.on('checkContinue', (request, response) => {
    if (!isGatewayPath(request.url ?? '/')) response.writeContinue();
    handle(request, response);
  });
  connections.watch(server);
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.headersTimeout = HEADERS_MS;
  // Counts until the request has been read, not until it is answered: an answer may take as long as a model does. A
  // body that never ends would hold its memory and, as prices are those of the arrival, the prices of a cheaper hour.
  // The gateway watches its own bodies, and says more than a closed connection does.
  server.requestTimeout = bodySeconds * 1000 + HEADERS_MS + CHECK_MS;
  return server;
}

/** Listens and returns the port (useful when 0 was asked for). */
export function listen(server: Server, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}
