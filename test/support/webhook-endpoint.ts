/** A webhook endpoint that keeps what it gets and answers what it is told to. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Delivery {
  /** Below the endpoint's own path: `/discord`, or nothing. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export class WebhookEndpoint {
  readonly url: string;
  readonly received: Delivery[] = [];
  /** The status a delivery is answered with; null closes its connection without a word. */
  answer: (delivery: Delivery) => number | null = () => 200;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`;
  }

  static async start(): Promise<WebhookEndpoint> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const endpoint = new WebhookEndpoint(server);
    server.on('request', (request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const { headers, url = '' } = request;
        if (!url.startsWith('/hooks')) {
          response.writeHead(404).end();
          return;
        }
        const delivery = { path: url.slice('/hooks'.length), headers, body: Buffer.concat(parts).toString('utf8') };
        endpoint.received.push(delivery);
        const status = endpoint.answer(delivery);
        if (status === null) response.destroy();
        else response.writeHead(status).end();
      });
    });
    return endpoint;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}
