/**
 * The twin's own HTTP routes under `/_twin`, in JSON: what people and time do, and what goes wrong.
 *
 *   POST   /_twin/users                        {username, created_at? or account_age_days?, id?, email?, verified?, join?}
 *   POST   /_twin/users/{id}/authorize         {scopes?, redirect_uri?, state?}, as on the page; answers {location, code}
 *   POST   /_twin/users/{id}/deauthorize       sends APPLICATION_DEAUTHORIZED
 *   POST   /_twin/members/{id}/join, …/leave
 *   POST   /_twin/members/{id}/boost           {count?, message?, member_update?, split?}; with neither message nor
 *                                              member_update, only the REST listing shows it
 *   POST   /_twin/members/{id}/end-boosts      {count?, member_update?, split?}
 *   POST   /_twin/members/{id}/roles           {role, held, member_update?}; the role's id or name
 *   POST   /_twin/votes                        {site, discord_user_id, weight?, test?, project_id?, at?}
 *   POST   /_twin/dispatch                     {event, data}, any dispatch to all sessions
 *   POST   /_twin/gateway/reconnect            op 7 to all sessions
 *   POST   /_twin/gateway/invalidate           {resumable?}, op 9
 *   POST   /_twin/gateway/disconnect           {code?, forget?}; no code: without a word
 *   POST   /_twin/check                        PING to the endpoint for events, once signed well and once not
 *   GET    /_twin/state                        people, messages, votes, sessions, the clock
 *   POST   /_twin/clock                        {advance_seconds}
 *   GET    /_twin/deliveries                   every webhook with its attempts
 *   POST   /_twin/deliveries/{id}/redeliver    sends it now, answers when it was answered
 *   POST   /_twin/webhooks                     {url}, the product's webhooks; null sends none
 *   GET, POST, DELETE /_twin/faults            rules, see `faults.ts`
 */
import type { Control, ControlRoutes } from '../kit/control.ts';
import { type Directories, readTime, VOTE_FIELDS } from './directories/twin.ts';
import { rolesOf } from './application.ts';
import type { Deliveries } from './deliveries.ts';
import { checkEndpoint, deauthorize } from './events.ts';
import { type DiscordFaults, readDiscordFaultRule } from './faults.ts';
import type { DiscordGateway } from './gateway.ts';
import { isSnowflake } from './ids.ts';
import { allow, readAuthorizeRequest } from './oauth.ts';
import type { UserRow } from './store.ts';
import { type Announcements, type DiscordWorld, Impossible } from './world.ts';
import {
  BadInput,
  type JsonObject,
  optional,
  readBoolean,
  readCount,
  readObject,
  readString,
  readUrl,
} from '../kit/input.ts';

export interface ControlContext {
  readonly world: DiscordWorld;
  readonly gateway: DiscordGateway;
  readonly deliveries: Deliveries;
  readonly directories: Directories;
  readonly faults: DiscordFaults;
}

const DAY_MS = 86_400_000;
const AGE_DAYS_MAX = 3_650;
const ADVANCE_SECONDS_MAX = 315_360_000;
const BOOSTS_MAX = 100;
const CLOSE_CODE_MAX = 4_999;

const ROUTES: ControlRoutes<ControlContext> = {
  'POST users': {
    fields: ['username', 'created_at', 'account_age_days', 'id', 'email', 'verified', 'join'],
    run: ({ world }, body) => addUser(world, body),
  },
  'POST users/:id/authorize': { fields: ['scopes', 'redirect_uri', 'state'], run: authorize },
  'POST users/:id/deauthorize': {
    fields: [],
    run: ({ world, deliveries }, _, id) => deauthorize(world, deliveries, id),
  },
  'POST members/:id/join': { fields: [], run: ({ world }, _, id) => world.join(id) },
  'POST members/:id/leave': {
    fields: [],
    run: ({ world }, _, id) => {
      world.leave(id);
      return { ok: true };
    },
  },
  'POST members/:id/boost': {
    fields: ['count', 'message', 'member_update', 'split'],
    run: ({ world }, body, id) => world.boost(id, optional(body, 'count', readBoosts) ?? 1, readAnnouncements(body)),
  },
  'POST members/:id/end-boosts': {
    fields: ['count', 'member_update', 'split'],
    run: ({ world }, body, id) =>
      world.endBoosts(id, optional(body, 'count', readBoosts) ?? null, readAnnouncements(body)),
  },
  'POST members/:id/roles': {
    fields: ['role', 'held', 'member_update'],
    run: ({ world }, body, id) => {
      const wanted = readString(body['role'], 'role');
      const role = rolesOf(world.application.guildId).find((known) => known.id === wanted || known.name === wanted);
      if (role === undefined) throw new BadInput("'role' must be the id or name of a role.", 'role');
      return world.setRole(id, role.id, readBoolean(body['held'], 'held'), readAnnouncements(body));
    },
  },
  'POST votes': { fields: VOTE_FIELDS, run: ({ directories }, body) => directories.readVote(body) },
  'POST dispatch': {
    fields: ['event', 'data'],
    run: ({ gateway }, body) => {
      gateway.dispatch(readString(body['event'], 'event'), readObject(body['data'], 'data'));
      return { ok: true };
    },
  },
  'POST gateway/reconnect': {
    fields: [],
    run: ({ gateway }) => {
      gateway.askToReconnect();
      return { ok: true };
    },
  },
  'POST gateway/invalidate': {
    fields: ['resumable'],
    run: ({ gateway }, body) => {
      gateway.invalidate(optional(body, 'resumable', readBoolean) ?? false);
      return { ok: true };
    },
  },
  'POST gateway/disconnect': {
    fields: ['code', 'forget'],
    run: ({ gateway }, body) => {
      const code = optional(body, 'code', (value, field) => readCount(value, field, 4_000, CLOSE_CODE_MAX)) ?? null;
      gateway.disconnect({ code, forget: optional(body, 'forget', readBoolean) ?? false });
      return { ok: true };
    },
  },
  'POST check': { fields: [], run: ({ world, deliveries }) => checkEndpoint(world, deliveries) },
  'GET state': { fields: [], run: stateOf },
  'POST clock': {
    fields: ['advance_seconds'],
    run: ({ world }, body) => {
      advanceClock(world, readCount(body['advance_seconds'], 'advance_seconds', 0, ADVANCE_SECONDS_MAX));
      return { now: world.clock.now() };
    },
  },
  'GET deliveries': { fields: [], run: ({ world }) => ({ data: world.store.deliveries.oldestFirst() }) },
  'POST deliveries/:id/redeliver': {
    fields: [],
    run: async ({ deliveries }, _, id) => {
      const row = await deliveries.redeliver(id);
      if (row === undefined) throw new Impossible(404, `There is no delivery '${id}'.`);
      return row;
    },
  },
  'POST webhooks': {
    fields: ['url'],
    run: ({ world, deliveries }, body) => {
      const url = body['url'] === null ? null : readUrl(body['url'], 'url').replace(/\/$/, '');
      world.store.changeSettings({ webhookUrl: url });
      return { url: deliveries.webhookUrl };
    },
  },
  'GET faults': { fields: [], run: ({ faults }) => ({ data: faults.list() }) },
  'POST faults': {
    fields: ['on', 'match', 'count', 'fault'],
    run: ({ faults }, body) => faults.add(readDiscordFaultRule(body)),
  },
  'DELETE faults': {
    fields: [],
    run: ({ faults }) => {
      faults.clear();
      return { ok: true };
    },
  },
};

/** How the twin of this context is steered. */
export function controlOf(context: ControlContext): Control<ControlContext> {
  return {
    routes: ROUTES,
    context,
    flush: () => context.world.store.flush(),
    refusalOf: (error) => (error instanceof Impossible ? error : null),
  };
}

/** Due changes happen before this returns; deliveries are under way. */
export function advanceClock(world: DiscordWorld, seconds: number): void {
  world.store.changeSettings({ clockOffsetMs: world.clock.offsetMs + seconds * 1000 });
  world.clock.advance(seconds);
  world.store.flush();
}

function addUser(world: DiscordWorld, body: JsonObject): UserRow {
  const id = optional(body, 'id', readString);
  if (id !== undefined && !isSnowflake(id)) throw new BadInput("'id' must be a snowflake.", 'id');
  const days = optional(body, 'account_age_days', (value, field) => readCount(value, field, 0, AGE_DAYS_MAX));
  const createdAt = optional(body, 'created_at', readTime);
  const createdMs =
    createdAt !== undefined ? Date.parse(createdAt) : world.clock.nowMs() - (days === undefined ? 0 : days * DAY_MS);
  const email = optional(body, 'email', readString);
  const user = world.addUser(readString(body['username'], 'username'), {
    createdMs,
    ...(id !== undefined && { id }),
    ...(email !== undefined && { email }),
    verified: optional(body, 'verified', readBoolean) ?? true,
  });
  if (optional(body, 'join', readBoolean) === true) world.join(user.id);
  return user;
}

function authorize({ world }: ControlContext, body: JsonObject, id: string): { location: string; code: string | null } {
  const { clientId, redirectUris } = world.application;
  const state = optional(body, 'state', readString);
  const query = new URLSearchParams({
    client_id: clientId,
    response_type: 'code',
    scope: optional(body, 'scopes', readString) ?? 'identify',
    redirect_uri: optional(body, 'redirect_uri', readString) ?? redirectUris[0] ?? '',
    ...(state !== undefined && { state }),
  });
  const request = readAuthorizeRequest(world, query);
  if (typeof request === 'string') throw new BadInput(request);
  const location = allow(world, request, id);
  return { location, code: new URL(location).searchParams.get('code') };
}

function readBoosts(value: unknown, field: string): number {
  return readCount(value, field, 1, BOOSTS_MAX);
}

function readAnnouncements(body: JsonObject): Announcements {
  return {
    message: optional(body, 'message', readBoolean) ?? true,
    memberUpdate: optional(body, 'member_update', readBoolean) ?? true,
    split: optional(body, 'split', readBoolean) ?? false,
  };
}

function stateOf({ world, gateway, deliveries }: ControlContext): unknown {
  const { store, clock, application } = world;
  return {
    clock: { now: clock.now(), offset_seconds: clock.offsetMs / 1000 },
    webhooks: { url: deliveries.webhookUrl },
    guild: world.guild(),
    roles: rolesOf(application.guildId),
    users: store.users.oldestFirst(),
    members: store.members.oldestFirst(),
    messages: store.messages.oldestFirst(),
    votes: store.votes.oldestFirst(),
    sessions: gateway.states(),
    // Without the tokens themselves, which only the application has.
    tokens: store.tokens.oldestFirst().map(({ user_id, scopes }) => ({ user_id, scopes })),
  };
}
