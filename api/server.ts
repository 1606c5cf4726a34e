/**
 * The HTTP server: one port for the gateway (node:http), operations, and everything else (Express). Owns connection limits
 * and the orderly end; no route of its own but /healthz, /readyz and /metrics.
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import type { Gateway } from './gateway/gateway.ts';
import { isGatewayPath, type GatewayRouter } from './gateway/router.ts';

export interface ServerParts {
  readonly gateway: Gateway;
  readonly router: GatewayRouter;
  readonly management: RequestListener;
  readonly registry: Registry;
}

/** Longer than the idle time-out of common load balancers, so that they close first and no request meets a closing socket. */
const KEEP_ALIVE_MS = 75_000;

/** The largest body over a slow line. */
const REQUEST_READ_MS = 120_000;

export function createHttpServer({ gateway, router, management, registry }: ServerParts): Server {
  const server = createServer((request, response) => {
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
        registry.metrics().then(
          (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
          () => response.writeHead(500).end(),
        );
        return;
      default:
        management(request, response);
    }
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.headersTimeout = KEEP_ALIVE_MS + 5000;
  // Counts until the request has been read, not until it is answered: an answer may take as long as a model does. A body that
  // never ends would hold its memory and, as prices are those of the arrival, the prices of a cheaper hour.
  server.requestTimeout = REQUEST_READ_MS;
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
