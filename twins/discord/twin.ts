/**
 * The Discord twin: Discord and the vote directories on this machine, for tests, demonstrations and chaos. It speaks
 * REST, gateway and OAuth to the unmodified `@discordjs` packages, sends signed webhooks, and breaks in the ways in
 * which Discord, the directories and the network to them have been seen to break. It holds no product logic.
 *
 * This file owns the HTTP server and puts the parts together; `/api/v10` is `rest.ts`, `/gateway` is
 * `gateway.ts`, `/oauth2/authorize`, `/_twin` and `/directories` are pages, `/_twin/…` is `control.ts`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { DIRECTORIES_PATH, showDirectories, submitVote } from './directories/page.ts';
import { DEFAULT_TOPGG_PROJECT, DEFAULT_VOTE_SECRETS, voteSites } from './directories/sites.ts';
import type { SiteName } from './directories/vote.ts';
import { Directories } from './directories/twin.ts';
import { DEFAULT_APPLICATION, type DiscordApplication } from './application.ts';
import { answerControl, CONTROL_PREFIX, type ControlAnswer } from '../kit/control.ts';
import { advanceClock, controlOf, type ControlContext } from './control.ts';
import { Deliveries } from './deliveries.ts';
import { eventsChannel } from './events.ts';
import { DiscordFaults } from './faults.ts';
import { DiscordGateway, GATEWAY_PATH } from './gateway.ts';
import type { PageAnswer } from '../kit/http.ts';
import { AUTHORIZE_PATH, showAuthorizePage, submitAuthorizePage } from './oauth-page.ts';
import { GUILD_PATH, showGuild, submitGuild } from './page.ts';
import { answerRest, API_PREFIX, LOST, type RestContext } from './rest.ts';
import { DiscordStore, type ChannelDelivery } from './store.ts';
import { DiscordWorld } from './world.ts';
import { TwinClock } from '../kit/clock.ts';
import { readBody, sendJson, sendPage } from '../kit/http.ts';

export type { DiscordApplication } from './application.ts';
export type { ChannelDelivery } from './store.ts';
export type { SiteName } from './directories/vote.ts';

export interface DiscordTwinOptions {
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port?: number;
  /** Differences from the twin's default application. */
  readonly application?: Partial<DiscordApplication>;
  readonly voteSecrets?: Partial<Record<SiteName, string>>;
  readonly topggProjectId?: string;
  /** The product's webhooks: `…/discord` and `…/votes/<site>` below it. */
  readonly webhookUrl?: string | null;
  /** How long a second of a sender's retry waits is. */
  readonly retrySecondMs?: number;
  readonly heartbeatMs?: number;
  /** Some people to start with. */
  readonly demoUsers?: boolean;
  /** All state but the gateway's sessions, kept through restarts; null keeps it in memory. */
  readonly dataFile?: string | null;
}

export interface DiscordTwin {
  /** Without a trailing slash. */
  readonly url: string;
  readonly port: number;
  /** The base address for `new REST({ api })`. */
  readonly apiUrl: string;
  /** Where browsers are sent to. */
  readonly oauthUrl: string;
  readonly application: DiscordApplication;
  readonly voteSecrets: Readonly<Record<SiteName, string>>;
  readonly topggProjectId: string;
  readonly faults: DiscordFaults;
  /** A call of the control API without the network; `path` begins after `/_twin/`. */
  control(method: string, path: string, body?: unknown): Promise<ControlAnswer>;
  advanceClock(seconds: number): void;
  /** In the order in which they were first sent. */
  deliveries(): ChannelDelivery[];
  /** Cuts open calls and gateway connections, and frees the port. */
  close(): Promise<void>;
}

const RETRY_SECOND_MS = 250;
/** As long as Discord's own. */
const HEARTBEAT_MS = 41_250;
const BODY_BYTES_MAX = 1024 * 1024;
const DAY_MS = 86_400_000;
/** One account old enough for any reward, one outside the server, one too new. */
const DEMO_USERS = [
  { username: 'amara', days: 2_000, isMember: true },
  { username: 'bruno', days: 400, isMember: false },
  { username: 'newcomer', days: 2, isMember: true },
] as const;

/** Starts a twin and resolves when it listens. Rejects when the port is taken or the data file unreadable. */
export async function startDiscordTwin(options: DiscordTwinOptions = {}): Promise<DiscordTwin> {
  const { host = '127.0.0.1', port = 0, dataFile = null, topggProjectId = DEFAULT_TOPGG_PROJECT } = options;
  const application = { ...DEFAULT_APPLICATION, ...options.application };
  const voteSecrets = { ...DEFAULT_VOTE_SECRETS, ...options.voteSecrets };
  const sites = voteSites({ secrets: voteSecrets, topggProjectId, guildId: application.guildId });

  const store = new DiscordStore(dataFile);
  const clock = new TwinClock(store.settings.clockOffsetMs);
  const faults = new DiscordFaults();
  let ownUrl = '';
  const gatewayUrl = (): string => `${ownUrl.replace(/^http/, 'ws')}${GATEWAY_PATH}`;
  const gateway: DiscordGateway = new DiscordGateway(() => world, faults, {
    heartbeatMs: options.heartbeatMs ?? HEARTBEAT_MS,
    url: gatewayUrl,
  });
  const world: DiscordWorld = new DiscordWorld(store, clock, application, (event, data) => {
    store.flush();
    gateway.dispatch(event, data);
  });
  if (options.demoUsers === true) addDemoUsers(world);
  const channels = [eventsChannel(application), ...sites.map(({ channel }) => channel)];
  const deliveries = new Deliveries(store, clock, faults, channels, {
    webhookUrl: options.webhookUrl ?? null,
    retrySecondMs: options.retrySecondMs ?? RETRY_SECOND_MS,
  });
  const directories = new Directories(world, deliveries, sites);
  const context = { world, gateway, deliveries, directories, faults, gatewayUrl };

  const server = createServer((request, response) => {
    answer(context, request, response).catch((error: unknown) => {
      process.stderr.write(
        `discord twin: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
      );
      response.destroy();
    });
  });
  server.on('upgrade', (request, socket, head) => {
    if (request.url?.split('?')[0]?.replace(/\/$/, '') === GATEWAY_PATH) gateway.upgrade(request, socket, head);
    else socket.destroy();
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
  store.flush();
  deliveries.resume();

  return {
    url: ownUrl,
    port: address.port,
    apiUrl: `${ownUrl}/api`,
    oauthUrl: `${ownUrl}${AUTHORIZE_PATH}`,
    application,
    voteSecrets,
    topggProjectId,
    faults,
    control: (method, path, body) =>
      answerControl(controlOf(context), { method, path: `${CONTROL_PREFIX}${path}`, body }),
    advanceClock: (seconds) => advanceClock(world, seconds),
    deliveries: () => store.deliveries.oldestFirst(),
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      gateway.close();
      server.closeAllConnections();
      deliveries.close();
      clock.stop();
      await closed;
      store.close();
    },
  };
}

function addDemoUsers(world: DiscordWorld): void {
  for (const { username, days, isMember } of DEMO_USERS) {
    if (world.store.users.find((user) => user.username === username) !== undefined) continue;
    const user = world.addUser(username, { createdMs: world.clock.nowMs() - days * DAY_MS });
    if (isMember) world.join(user.id);
  }
}

async function answer(
  context: ControlContext & RestContext,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method = 'GET', url: target = '/', headers } = request;
  const { pathname: path, searchParams: query } = new URL(target, 'http://twin');
  const body = await readBody(request, BODY_BYTES_MAX);
  if (body === null) return sendJson(response, 413, { message: 'Request entity too large', code: 40_005 });

  if (path.startsWith(`${API_PREFIX}/`)) {
    const call = { method, path: decoded(path.slice(API_PREFIX.length)), query, body };
    const contentType = headers['content-type'] ?? '';
    const outcome = await answerRest(context, { ...call, contentType, authorization: headers.authorization });
    if (outcome === LOST) request.socket.destroy();
    else sendJson(response, outcome.status, outcome.body, outcome.headers);
  } else if (path.startsWith(CONTROL_PREFIX)) {
    const outcome = await control(context, method, path, body);
    sendJson(response, outcome.status, outcome.body);
  } else {
    const isPost = method === 'POST';
    const shown =
      isPost || method === 'GET' ? pageOf(context, path, query, isPost ? new URLSearchParams(body) : null) : null;
    context.world.store.flush();
    if (shown === null) sendJson(response, 404, { message: '404: Not Found', code: 0 });
    else sendPage(response, shown);
  }
}

/** Clients send `@me` as `%40me`. A path that cannot be decoded is no path of the API. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** The pages for people; null form: shown, not submitted. */
function pageOf(
  context: ControlContext,
  path: string,
  query: URLSearchParams,
  form: URLSearchParams | null,
): PageAnswer | null {
  const { world, directories } = context;
  switch (path) {
    case '/':
      return { status: 303, location: GUILD_PATH };
    case AUTHORIZE_PATH:
      return form === null ? showAuthorizePage(world, query) : submitAuthorizePage(world, query, form);
    case GUILD_PATH:
      return form === null ? { status: 200, html: showGuild(world) } : submitGuild(context, form);
    case DIRECTORIES_PATH:
      return form === null
        ? { status: 200, html: showDirectories(world, directories) }
        : submitVote(world, directories, form);
    default:
      return null;
  }
}

function control(context: ControlContext, method: string, path: string, body: string): Promise<ControlAnswer> {
  let parsed: unknown;
  try {
    parsed = body === '' ? undefined : JSON.parse(body);
  } catch {
    const error = { message: 'The body is not valid JSON.', field: 'body' };
    return Promise.resolve({ status: 400, body: { error } });
  }
  return answerControl(controlOf(context), { method, path, body: parsed });
}
