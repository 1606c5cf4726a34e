/**
 * `/api/v10`: what the application calls, with the bot's token, a person's token, or its client secret. Owns the routes
 * and their answers; faults are taken here, before or after a call has had its effect.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { RESTJSONErrorCodes } from 'discord-api-types/v10';

import { rolesOf, systemChannelId } from './application.ts';
import { apiFailure, DiscordFailure, invalidField, MISSING_ACCESS, NOT_FOUND, UNAUTHORIZED } from './errors.ts';
import type { DiscordFaults } from './faults.ts';
import type { DiscordGateway } from './gateway.ts';
import { compareSnowflakes, isSnowflake } from './ids.ts';
import { exchangeToken, liveToken, revokeToken } from './oauth.ts';
import { channelObject, guildObject, roleObject, userObject } from './objects.ts';
import type { TokenRow, UserRow } from './store.ts';
import type { DiscordWorld } from './world.ts';
import { isObject } from '../kit/input.ts';

export const API_PREFIX = '/api/v10';

export interface RestCall {
  readonly method: string;
  /** Without `/api/v10`. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: string;
  readonly contentType: string;
  readonly authorization: string | undefined;
}

export interface RestAnswer {
  readonly status: number;
  /** Undefined has no body. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The effect is there, and the caller gets no answer. */
export const LOST = Symbol('lost');

export interface RestContext {
  readonly world: DiscordWorld;
  readonly gateway: DiscordGateway;
  readonly faults: DiscordFaults;
  /** `ws://…` */
  readonly gatewayUrl: () => string;
}

type Caller = { readonly kind: 'bot' | 'nobody' } | { readonly kind: 'person'; readonly token: TokenRow };
type Handler = (context: RestContext, call: RestCall, caller: Caller, ids: readonly string[]) => unknown;

const MEMBERS_MAX = 1_000;
const MESSAGES_MAX = 100;
const MESSAGES_DEFAULT = 50;

/** `*` stands for one segment of the path. */
const ROUTES: Readonly<Record<string, Handler>> = {
  'GET /gateway': ({ gatewayUrl }) => ({ url: gatewayUrl() }),
  'GET /gateway/bot': asBot(({ gateway, gatewayUrl }) => ({
    url: gatewayUrl(),
    shards: 1,
    session_start_limit: gateway.startLimit(),
  })),
  'POST /oauth2/token': ({ world }, call) => exchangeToken(world, formOf(call), call.authorization),
  'POST /oauth2/token/revoke': ({ world }, call) => {
    revokeToken(world, formOf(call), call.authorization);
    return {};
  },
  'GET /oauth2/@me': ({ world }, _, caller) => {
    const { scopes, user_id, expires_ms } = personOf(caller);
    return {
      application: { id: world.application.clientId, name: 'Holdfast' },
      scopes,
      expires: new Date(expires_ms).toISOString(),
      ...(scopes.includes('identify') && { user: userObject(world.user(user_id)) }),
    };
  },
  'GET /users/@me': ({ world }, _, caller) => {
    if (caller.kind === 'bot') return userObject(world.bot);
    const { scopes, user_id } = scoped(caller, 'identify');
    const user = world.user(user_id);
    const contact = scopes.includes('email') ? { email: user.email, verified: user.is_verified } : {};
    return { ...userObject(user), ...contact };
  },
  'GET /users/@me/guilds': ({ world }, _, caller) => {
    const { user_id } = scoped(caller, 'guilds');
    if (world.store.members.get(user_id) === undefined) return [];
    const { id, name, icon, features } = world.guild();
    return [{ id, name, icon, banner: null, owner: false, permissions: '0', features }];
  },
  'GET /users/@me/guilds/*/member': ({ world }, _, caller, [guildId = '']) => {
    const { user_id } = scoped(caller, 'guilds.members.read');
    requireGuild(world, guildId);
    return memberOf(world, user_id);
  },
  'GET /users/*': asBot(({ world }, _, __, [userId = '']) => userObject(userOf(world, userId))),
  'GET /guilds/*': asBot(({ world }, { query }, _, [guildId = '']) => {
    requireGuild(world, guildId);
    const count = world.store.members.oldestFirst().length;
    const counts = { approximate_member_count: count, approximate_presence_count: count };
    return { ...guildObject(world.application, world.boosts), ...(query.get('with_counts') === 'true' && counts) };
  }),
  'GET /guilds/*/roles': asBot(({ world }, _, __, [guildId = '']) => {
    requireGuild(world, guildId);
    return rolesOf(guildId).map(roleObject);
  }),
  'GET /guilds/*/channels': asBot(({ world }, _, __, [guildId = '']) => {
    requireGuild(world, guildId);
    return [channelObject(world.application)];
  }),
  'GET /guilds/*/members': asBot(({ world }, { query }, _, [guildId = '']) => {
    requireGuild(world, guildId);
    const limit = limitOf(query, { max: MEMBERS_MAX, otherwise: 1 });
    const after = snowflakeOf(query, 'after') ?? '0';
    return world.store.members
      .oldestFirst()
      .map(({ id }) => id)
      .filter((id) => compareSnowflakes(id, after) > 0)
      .sort(compareSnowflakes)
      .slice(0, limit)
      .map((id) => world.memberObject(id));
  }),
  'GET /guilds/*/members/*': asBot(({ world }, _, __, [guildId = '', userId = '']) => {
    requireGuild(world, guildId);
    return memberOf(world, userOf(world, userId).id);
  }),
  'GET /channels/*': asBot(({ world }, _, __, [channelId = '']) => {
    requireChannel(world, channelId);
    return channelObject(world.application);
  }),
  'GET /channels/*/messages': asBot(({ world }, { query }, _, [channelId = '']) => {
    requireChannel(world, channelId);
    const limit = limitOf(query, { max: MESSAGES_MAX, otherwise: MESSAGES_DEFAULT });
    const after = snowflakeOf(query, 'after');
    const before = snowflakeOf(query, 'before');
    const newestFirst = world.store.messages
      .oldestFirst()
      .filter(({ id }) => before === null || compareSnowflakes(id, before) < 0)
      .filter(({ id }) => after === null || compareSnowflakes(id, after) > 0)
      .sort((a, b) => compareSnowflakes(b.id, a.id));
    // After a message come the next ones; otherwise the latest: both newest first.
    return after === null ? newestFirst.slice(0, limit) : newestFirst.slice(-limit);
  }),
  'POST /channels/*/messages': asBot(({ world }, { body }, _, [channelId = '']) => {
    requireChannel(world, channelId);
    const message = parseJson(body);
    const content = isObject(message) ? message['content'] : undefined;
    if (typeof content !== 'string' || content === '') {
      throw apiFailure(400, 'Cannot send an empty message', RESTJSONErrorCodes.CannotSendAnEmptyMessage);
    }
    return world.post({ content });
  }),
};

export async function answerRest(context: RestContext, call: RestCall): Promise<RestAnswer | typeof LOST> {
  const fault = context.faults.takeForCall(call.method, call.path);
  if (fault.hang_ms !== undefined) await sleep(fault.hang_ms);
  if (fault.retry_after !== undefined) return rateLimited(fault.retry_after);
  const failed: RestAnswer = { status: fault.fail_status ?? 500, body: { message: 'Internal Server Error', code: 0 } };
  if (fault.fail_status !== undefined && fault.after_commit !== true) return failed;
  const answer = run(context, call);
  context.world.store.flush();
  if (fault.drop_response_after_commit === true) return LOST;
  return fault.fail_status === undefined ? answer : failed;
}

function run(context: RestContext, call: RestCall): RestAnswer {
  try {
    const found = routeOf(call);
    if (found === null) throw NOT_FOUND();
    return { status: 200, body: found.handler(context, call, callerOf(context.world, call), found.ids) };
  } catch (error) {
    if (error instanceof DiscordFailure) return { status: error.status, body: error.body };
    throw error;
  }
}

function routeOf({ method, path }: RestCall): { readonly handler: Handler; readonly ids: string[] } | null {
  const segments = path.split('/');
  for (const [route, handler] of Object.entries(ROUTES)) {
    const [routeMethod, pattern = ''] = route.split(' ');
    const parts = pattern.split('/');
    if (routeMethod !== method || parts.length !== segments.length) continue;
    const isMatch = parts.every((part, index) => part === '*' || part === segments[index]);
    if (isMatch) return { handler, ids: segments.filter((_, index) => parts[index] === '*') };
  }
  return null;
}

/** A token that is given but not known is refused before anything is looked at. */
function callerOf(world: DiscordWorld, { authorization }: RestCall): Caller {
  if (authorization === undefined || authorization.startsWith('Basic ')) return { kind: 'nobody' };
  if (authorization === `Bot ${world.application.botToken}`) return { kind: 'bot' };
  const token = authorization.startsWith('Bearer ')
    ? liveToken(world, authorization.slice('Bearer '.length))
    : undefined;
  if (token === undefined) throw UNAUTHORIZED();
  return { kind: 'person', token };
}

function asBot(handler: Handler): Handler {
  return (context, call, caller, ids) => {
    if (caller.kind !== 'bot') throw UNAUTHORIZED();
    return handler(context, call, caller, ids);
  };
}

function personOf(caller: Caller): TokenRow {
  if (caller.kind !== 'person') throw UNAUTHORIZED();
  return caller.token;
}

function scoped(caller: Caller, scope: string): TokenRow {
  const token = personOf(caller);
  if (!token.scopes.includes(scope)) throw MISSING_ACCESS();
  return token;
}

function requireGuild(world: DiscordWorld, guildId: string): void {
  if (guildId !== world.application.guildId) throw apiFailure(404, 'Unknown Guild', RESTJSONErrorCodes.UnknownGuild);
}

function requireChannel({ application }: DiscordWorld, channelId: string): void {
  if (channelId !== systemChannelId(application.guildId)) {
    throw apiFailure(404, 'Unknown Channel', RESTJSONErrorCodes.UnknownChannel);
  }
}

function userOf(world: DiscordWorld, userId: string): UserRow {
  const user = world.store.users.get(userId);
  if (user === undefined) throw apiFailure(404, 'Unknown User', RESTJSONErrorCodes.UnknownUser);
  return user;
}

function memberOf(world: DiscordWorld, userId: string): unknown {
  if (world.store.members.get(userId) === undefined) {
    throw apiFailure(404, 'Unknown Member', RESTJSONErrorCodes.UnknownMember);
  }
  return world.memberObject(userId);
}

function limitOf(
  query: URLSearchParams,
  { max, otherwise }: { readonly max: number; readonly otherwise: number },
): number {
  const text = query.get('limit');
  if (text === null) return otherwise;
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > max) {
    throw invalidField('limit', `int value should be between 1 and ${max}.`);
  }
  return limit;
}

function snowflakeOf(query: URLSearchParams, field: string): string | null {
  const text = query.get(field);
  if (text !== null && text !== '0' && !isSnowflake(text))
    throw invalidField(field, `Value "${text}" is not snowflake.`);
  return text;
}

/** Null when the body is anything but a form. */
function formOf({ body, contentType }: RestCall): URLSearchParams | null {
  return contentType.startsWith('application/x-www-form-urlencoded') ? new URLSearchParams(body) : null;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw apiFailure(400, 'The request body contains invalid JSON.', RESTJSONErrorCodes.RequestBodyContainsInvalidJSON);
  }
}

function rateLimited(retryAfter: number): RestAnswer {
  return {
    status: 429,
    headers: { 'retry-after': String(retryAfter), 'x-ratelimit-scope': 'user' },
    body: { message: 'You are being rate limited.', retry_after: retryAfter, global: false },
  };
}
