/**
 * The Creem twin: a merchant of record on this machine, for tests, demonstrations and chaos. It speaks Creem's HTTP API
 * to the unmodified `creem` package, shows a checkout page, sends signed events, and breaks in the ways in which Creem
 * and the network to it can break. It holds no product logic.
 *
 * This file owns the HTTP server and puts the parts together; `/v1` is `api.ts`, `/checkout` is `page.ts`,
 * `/_twin` is `control.ts`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { answerApi, LOST } from './api.ts';
import { answerControl, CONTROL_PREFIX } from '../kit/control.ts';
import { controlOf, type ControlContext } from './control.ts';
import { TwinClock } from '../kit/clock.ts';
import type { DeliveryRow } from '../kit/deliveries.ts';
import { Deliveries } from './deliveries.ts';
import { showPage, submitPage } from './page.ts';
import { type Checkout, Store, type Webhooks } from './store.ts';
import { makeProduct, type World } from './world.ts';
import { FaultRules } from '../kit/payment-faults.ts';
import { readBody, sendJson, sendPage } from '../kit/http.ts';

export interface CreemTwinOptions {
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port?: number;
  /** Where browsers reach the twin, when that is not where it listens. */
  readonly publicUrl?: string | null;
  readonly productId?: string;
  /** Tax on top of every price, in parts per million. */
  readonly taxPpm?: number;
  /** Where events go, the secrets that sign them and in which form. */
  readonly webhooks?: Partial<Webhooks>;
  /** Waits between attempts to deliver an event; after the last one it counts as failed. */
  readonly retryLadderMs?: readonly number[];
  readonly deliveryTimeoutMs?: number;
  /** All state, kept through restarts; null keeps it in memory. */
  readonly dataFile?: string | null;
}

export interface CreemTwin {
  /** Without a trailing slash and without `/v1`. */
  readonly url: string;
  readonly port: number;
  readonly faults: FaultRules;
  configureWebhooks(change: Partial<Webhooks>): void;
  /** In the order in which they were made. */
  checkouts(): Checkout[];
  /** In order of their events. */
  deliveries(): DeliveryRow[];
  /** Cuts open calls and frees the port. */
  close(): Promise<void>;
}

/** A hundredth of Creem's 30 s, 1 min, 5 min and 1 h: on one machine an endpoint is back soon. */
const RETRY_LADDER_MS = [300, 600, 3_000, 36_000];
const DELIVERY_TIMEOUT_MS = 20_000;
/** The Dutch rate, as in Creem's own samples. */
const TAX_PPM = 210_000;
const BODY_BYTES_MAX = 1024 * 1024;
/** Longer than a client keeps an idle connection, so that the twin never closes one under a call. */
const KEEP_ALIVE_MS = 120_000;

export const DEFAULT_PRODUCT_ID = 'prod_credit';
/** The key in it is base64. */
export const DEFAULT_SECRET = 'whsec_Y3JlZW0tdHdpbi1zZWNyZXQ=';

/** Starts a twin and resolves when it listens. Rejects when the port is taken or the data file unreadable. */
export async function startCreemTwin(options: CreemTwinOptions = {}): Promise<CreemTwin> {
  const { host = '127.0.0.1', port = 0, publicUrl = null, dataFile = null } = options;
  const store = new Store(makeProduct(options.productId ?? DEFAULT_PRODUCT_ID), dataFile);
  const faults = new FaultRules();
  const clock = new TwinClock(0);
  const deliveries = new Deliveries(store, clock, faults, {
    webhooks: { url: null, secrets: [DEFAULT_SECRET], form: 'both', ...options.webhooks },
    retryLadderMs: options.retryLadderMs ?? RETRY_LADDER_MS,
    timeoutMs: options.deliveryTimeoutMs ?? DELIVERY_TIMEOUT_MS,
  });
  let ownUrl = '';
  const world: World = {
    store,
    taxPpm: options.taxPpm ?? TAX_PPM,
    publicUrl: () => publicUrl ?? ownUrl,
    deliver: (event) => deliveries.accept(event),
    webhooks: () => deliveries.webhooks(),
  };
  const context = { world, faults, deliveries };
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    answer(context, request, response).catch((error: unknown) => {
      process.stderr.write(`creem twin: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
      response.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  ownUrl = `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;
  deliveries.resume();

  return {
    url: ownUrl,
    port: address.port,
    faults,
    configureWebhooks: (change) => void deliveries.configure(change),
    checkouts: () => [...store.checkouts.values()],
    deliveries: () => store.deliveries.oldestFirst(),
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      deliveries.close();
      clock.stop();
      await closed;
      store.flush();
    },
  };
}

async function answer(context: ControlContext, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { world, faults } = context;
  const { method = 'GET', url: target = '/', headers } = request;
  const { pathname: path, searchParams: query } = new URL(target, 'http://twin');
  const body = await readBody(request, BODY_BYTES_MAX);
  if (body === null) return sendJson(response, 413, { error: { message: 'The body is too large.' } });

  if (path.startsWith('/v1/')) {
    const apiKey = headers['x-api-key'];
    const call = { method, path, query, apiKey: typeof apiKey === 'string' ? apiKey : undefined, body };
    const outcome = await answerApi(world, faults, call);
    if (outcome === LOST) request.socket.destroy();
    else sendJson(response, outcome.status, outcome.body);
  } else if (path.startsWith(CONTROL_PREFIX)) {
    await control(context, method, path, body, response);
  } else if (path.startsWith('/checkout/') && (method === 'GET' || method === 'POST')) {
    const checkoutId = path.slice('/checkout/'.length);
    const page = method === 'GET' ? showPage(world, checkoutId) : submitPage(world, checkoutId);
    world.store.flush();
    sendPage(response, page);
  } else {
    sendJson(response, 404, { error: { message: 'There is no such page.' } });
  }
}

async function control(
  context: ControlContext,
  method: string,
  path: string,
  body: string,
  response: ServerResponse,
): Promise<void> {
  let parsed: unknown;
  try {
    parsed = body === '' ? undefined : JSON.parse(body);
  } catch {
    return sendJson(response, 400, { error: { message: 'The body is not valid JSON.', field: 'body' } });
  }
  const outcome = await answerControl(controlOf(context), { method, path, body: parsed });
  sendJson(response, outcome.status, outcome.body);
}
