/**
 * The Stripe twin: a payment provider on this machine, for tests, demonstrations and chaos. It speaks Stripe's HTTP API
 * to the unmodified `stripe` package, shows a checkout page, sends signed events, and breaks in the ways in which
 * Stripe and the network to it have been seen to break. It holds no product logic.
 *
 * This file owns the HTTP server and puts the parts together; `/v1` is `api.ts`, `/pay` is `page.ts`,
 * `/_twin` is `control.ts`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type Stripe from 'stripe';

import { StripeApi, LOST } from './calls.ts';
import { settleDelayed } from './checkout.ts';
import { TwinClock } from '../kit/clock.ts';
import { answerControl, CONTROL_PREFIX } from '../kit/control.ts';
import { advanceClock, controlOf, type ControlContext } from './control.ts';
import type { DeliveryRow } from '../kit/deliveries.ts';
import { Deliveries } from './deliveries.ts';
import { EventLog } from './events.ts';
import { FaultRules } from '../kit/payment-faults.ts';
import { showPage, submitPage } from './page.ts';
import { changeRefund, openDispute, warnOfFraud } from './reversals.ts';
import { expireSession } from './sessions.ts';
import { Store, type TaskKind, type Webhooks } from './store.ts';
import { Agenda, type World } from './world.ts';
import { readBody, sendJsonText, sendPage } from '../kit/http.ts';

export type { DeliveryRow } from '../kit/deliveries.ts';
export type { Webhooks } from './store.ts';

export interface StripeTwinOptions {
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port?: number;
  /** Where browsers reach the twin, when that is not where it listens. */
  readonly publicUrl?: string | null;
  /** Where events go, and the secrets that sign them: one signature each. */
  readonly webhookUrl?: string | null;
  readonly webhookSecrets?: readonly string[];
  /** Waits between attempts to deliver an event; the last one repeats until three days have passed. */
  readonly retryLadderMs?: readonly number[];
  readonly deliveryTimeoutMs?: number;
  /** From a delayed payment to its outcome; null leaves it to the control API. */
  readonly asyncDelayMs?: number | null;
  /** From a payment to its dispute or fraud warning, and from a refund to its outcome, where the card has one. */
  readonly laterDelayMs?: number;
  /** All state, kept through restarts; null keeps it in memory. */
  readonly dataFile?: string | null;
}

export interface StripeTwin {
  /** Without a trailing slash and without `/v1`. */
  readonly url: string;
  readonly port: number;
  readonly faults: FaultRules;
  /** Due changes have happened when this returns. */
  advanceClock(seconds: number): void;
  configureWebhooks(change: Partial<Webhooks>): void;
  /** In order of their events. */
  deliveries(): DeliveryRow[];
  events(): Stripe.Event[];
  /** Cuts open calls and frees the port. */
  close(): Promise<void>;
}

/** Seconds where Stripe has minutes and hours: on one machine an endpoint is back soon. */
const RETRY_LADDER_MS = [250, 1_000, 5_000, 15_000, 60_000];
const DELIVERY_TIMEOUT_MS = 20_000;
const ASYNC_DELAY_MS = 10_000;
const LATER_DELAY_MS = 5_000;
const BODY_BYTES_MAX = 1024 * 1024;
/** Longer than a client keeps an idle connection, so that the twin never closes one under a call. */
const KEEP_ALIVE_MS = 120_000;

export const DEFAULT_WEBHOOK_SECRET = 'whsec_twin';

/** Starts a twin and resolves when it listens. Rejects when the port is taken or the data file unreadable. */
export async function startStripeTwin(options: StripeTwinOptions = {}): Promise<StripeTwin> {
  const { host = '127.0.0.1', port = 0, publicUrl = null, dataFile = null } = options;
  const store = new Store(dataFile);
  const clock = new TwinClock(store.settings.clockOffsetMs);
  const faults = new FaultRules();
  const deliveries = new Deliveries(store, clock, faults, {
    webhooks: { url: options.webhookUrl ?? null, secrets: options.webhookSecrets ?? [DEFAULT_WEBHOOK_SECRET] },
    retryLadderMs: options.retryLadderMs ?? RETRY_LADDER_MS,
    timeoutMs: options.deliveryTimeoutMs ?? DELIVERY_TIMEOUT_MS,
  });
  let ownUrl = '';
  const world: World = {
    store,
    clock,
    events: new EventLog(store, clock, (event) => deliveries.accept(event)),
    webhooks: () => deliveries.webhooks(),
    agenda: new Agenda(store, clock, (kind, subject) => runTask(world, kind, subject)),
    options: {
      asyncDelayMs: options.asyncDelayMs === undefined ? ASYNC_DELAY_MS : options.asyncDelayMs,
      laterDelayMs: options.laterDelayMs ?? LATER_DELAY_MS,
    },
    publicUrl: () => publicUrl ?? ownUrl,
  };
  const context = { world, faults, deliveries };
  const api = new StripeApi(world, faults);
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    answer(context, api, request, response).catch((error: unknown) => {
      process.stderr.write(`stripe twin: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
      response.destroy();
    });
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    store.close();
    throw error;
  }
  const address = server.address() as AddressInfo;
  ownUrl = `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;
  world.agenda.resume();
  deliveries.resume();

  return {
    url: ownUrl,
    port: address.port,
    faults,
    advanceClock: (seconds) => advanceClock(world, seconds),
    configureWebhooks: (change) => void deliveries.configure(change),
    deliveries: () => store.deliveries.oldestFirst(),
    events: () => store.events.oldestFirst(),
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      deliveries.close();
      clock.stop();
      await closed;
      store.close();
    },
  };
}

/** Makes the timed changes; a subject that has moved on in the meantime is left alone. */
function runTask(world: World, kind: TaskKind, subject: string): void {
  const { sessions, intents, charges, refunds } = world.store;
  const session = sessions.get(subject);
  const intent = intents.get(subject);
  const charge = charges.get(subject);
  const refund = refunds.get(subject);
  switch (kind) {
    case 'expire_session':
      if (session?.session.status === 'open') expireSession(world, session);
      break;
    case 'async_succeeds':
    case 'async_fails':
      if (intent?.status === 'processing') settleDelayed(world, intent, kind === 'async_succeeds');
      break;
    case 'open_dispute':
    case 'open_inquiry':
      if (charge === undefined || charge.refunded) break;
      openDispute(world, charge, kind === 'open_inquiry' ? { status: 'warning_needs_response' } : {});
      break;
    case 'warn_of_fraud':
      if (charge !== undefined) warnOfFraud(world, charge);
      break;
    case 'refund_succeeds':
      if (refund?.status === 'pending') changeRefund(world, refund, 'succeeded');
      break;
    case 'refund_fails':
      if (refund !== undefined) changeRefund(world, refund, 'failed');
      break;
  }
}

async function answer(
  context: ControlContext,
  api: StripeApi,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method = 'GET', url: target = '/', headers } = request;
  const { pathname: path, search } = new URL(target, 'http://twin');
  const body = await readBody(request, BODY_BYTES_MAX);
  if (body === null) return sendJsonText(response, 413, '{"error":{"message":"The body is too large."}}');

  if (path.startsWith('/v1/')) {
    const form = method === 'GET' ? search.slice(1) : body;
    const outcome = await api.answer({ method, path, form, headers });
    if (outcome === LOST) request.socket.destroy();
    else {
      // The time of the twin's clock: this header shows a client how far its own clock is off.
      const date = new Date(context.world.clock.nowMs()).toUTCString();
      sendJsonText(response, outcome.status, outcome.text, { ...outcome.headers, date });
    }
  } else if (path.startsWith(CONTROL_PREFIX)) {
    await control(context, method, path, body, response);
  } else if (path.startsWith('/pay/') && (method === 'GET' || method === 'POST')) {
    const sessionId = path.slice('/pay/'.length);
    const { world } = context;
    const page =
      method === 'GET' ? showPage(world, sessionId) : submitPage(world, sessionId, new URLSearchParams(body));
    world.store.flush();
    sendPage(response, page);
  } else {
    sendJsonText(response, 404, '{"error":{"type":"invalid_request_error","message":"Unrecognized request URL."}}');
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
    return sendJsonText(response, 400, '{"error":{"message":"The body is not valid JSON.","field":"body"}}');
  }
  const outcome = await answerControl(controlOf(context), { method, path, body: parsed });
  sendJsonText(response, outcome.status, JSON.stringify(outcome.body, null, 2));
}
