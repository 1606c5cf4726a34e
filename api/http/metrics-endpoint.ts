/**
 * Where the metrics are read: on a port of their own, which no customer reaches, or on the customers' port with the
 * token. The metrics (load, models, money lost) are confidential, and rendering them is work.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { Registry } from 'prom-client';

const PATH = '/metrics';

function sendMetrics(registry: Registry, response: Parameters<RequestListener>[1]): void {
  registry.metrics().then(
    (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
    () => response.writeHead(500).end(),
  );
}

/** The server of the port of their own. */
export function createMetricsServer(registry: Registry): Server {
  return createServer((request, response) => {
    if (request.url === PATH) sendMetrics(registry, response);
    else response.writeHead(404).end();
  });
}

/** Answers `/metrics` on the customers' port: with the token as Bearer the metrics, else 401. */
export function protectedMetrics(registry: Registry, token: string): RequestListener {
  const expected = hash('sha256', token, 'buffer');
  const isAllowed = ({ headers }: IncomingMessage): boolean => {
    const presented = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
    return presented !== undefined && timingSafeEqual(hash('sha256', presented, 'buffer'), expected);
  };
  return (request, response) => {
    if (isAllowed(request)) sendMetrics(registry, response);
    else response.writeHead(401, { 'www-authenticate': 'Bearer' }).end();
  };
}
