/**
 * The gateway: sessions over WebSocket, each with its own numbering and the dispatches it has not been seen to get. A
 * dropped connection can be resumed and gets what it missed; a forgotten session cannot, and what happened meanwhile is
 * lost for it, as at Discord.
 */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { GatewayCloseCodes, GatewayDispatchEvents, GatewayIntentBits, GatewayOpcodes } from 'discord-api-types/v10';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';

import type { DiscordFaults } from './faults.ts';
import { userObject } from './objects.ts';
import type { DiscordWorld } from './world.ts';
import { isObject, type JsonObject } from '../kit/input.ts';

export const GATEWAY_PATH = '/gateway';

interface Sent {
  readonly sequence: number;
  readonly text: string;
}

interface Session {
  readonly id: string;
  readonly intents: number;
  sequence: number;
  /** Events that a resume may ask for again. */
  sent: Sent[];
  /** Null between two connections. */
  socket: WebSocket | null;
  /** When the last connection ended, by the twin's clock. */
  leftMs: number;
}

/** The state for `GET /_twin/state`. */
export interface SessionState {
  readonly session_id: string;
  readonly connected: boolean;
  readonly intents: number;
  readonly sequence: number;
}

export interface GatewayOptions {
  readonly heartbeatMs: number;
  /** Where clients connect. */
  readonly url: () => string;
}

/** More than any test lets a session miss. */
const REPLAY_MAX = 10_000;
const CHUNK_MEMBERS = 1_000;
/** A client that leaves with one of these does not mean to come back. */
const FINAL_CLOSES: readonly number[] = [1000, 1001];
/** Discord does not say how long it waits for a resume; a few minutes have been seen. */
const RESUME_WINDOW_MS = 5 * 60_000;
const IDENTIFIES_PER_DAY = 1_000;

const MESSAGE_CREATE: string = GatewayDispatchEvents.MessageCreate;

/** Dispatches that a session gets only if it has asked for them. */
const INTENT_OF: Readonly<Record<string, GatewayIntentBits>> = {
  [GatewayDispatchEvents.GuildCreate]: GatewayIntentBits.Guilds,
  [GatewayDispatchEvents.GuildUpdate]: GatewayIntentBits.Guilds,
  [GatewayDispatchEvents.GuildMemberAdd]: GatewayIntentBits.GuildMembers,
  [GatewayDispatchEvents.GuildMemberUpdate]: GatewayIntentBits.GuildMembers,
  [GatewayDispatchEvents.GuildMemberRemove]: GatewayIntentBits.GuildMembers,
  [GatewayDispatchEvents.MessageCreate]: GatewayIntentBits.GuildMessages,
};

export class DiscordGateway {
  readonly #world: () => DiscordWorld;
  readonly #faults: DiscordFaults;
  readonly #heartbeatMs: number;
  readonly #url: () => string;
  readonly #server = new WebSocketServer({ noServer: true });
  readonly #sessions = new Map<string, Session>();
  #identifies = 0;

  constructor(world: () => DiscordWorld, faults: DiscordFaults, options: GatewayOptions) {
    this.#world = world;
    this.#faults = faults;
    this.#heartbeatMs = options.heartbeatMs;
    this.#url = options.url;
  }

  /** The session limits of `GET /gateway/bot`. */
  startLimit(): { total: number; remaining: number; reset_after: number; max_concurrency: number } {
    return {
      total: IDENTIFIES_PER_DAY,
      remaining: Math.max(0, IDENTIFIES_PER_DAY - this.#identifies),
      reset_after: 86_400_000,
      max_concurrency: 1,
    };
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { searchParams } = new URL(request.url ?? '/', 'http://twin');
    this.#server.handleUpgrade(request, socket, head, (connection) => {
      if (searchParams.get('v') !== '10' || (searchParams.get('encoding') ?? 'json') !== 'json') {
        connection.close(GatewayCloseCodes.InvalidAPIVersion, 'Invalid API version');
        return;
      }
      this.#serve(connection);
    });
  }

  dispatch(event: string, data: unknown): void {
    const { drop, duplicate = 1 } = this.#faults.takeForDispatch(event);
    if (drop === true) return;
    const nowMs = this.#world().clock.nowMs();
    for (const session of [...this.#sessions.values()]) {
      if (session.socket === null && nowMs - session.leftMs > RESUME_WINDOW_MS) {
        this.#forget(session);
        continue;
      }
      for (let copy = 0; copy < duplicate; copy += 1) this.#dispatchTo(session, event, data);
    }
  }

  states(): SessionState[] {
    return [...this.#sessions.values()].map(({ id, socket, intents, sequence }) => ({
      session_id: id,
      connected: socket !== null,
      intents,
      sequence,
    }));
  }

  /** Asks all clients to connect again, as Discord does when it restarts a server. */
  askToReconnect(): void {
    for (const { socket } of this.#sessions.values()) send(socket, { op: GatewayOpcodes.Reconnect, d: null });
  }

  /** Tells all clients that their session is not valid here; a session that is not resumable is forgotten. */
  invalidate(isResumable: boolean): void {
    for (const session of [...this.#sessions.values()]) {
      const { socket } = session;
      this.#leave(session);
      if (!isResumable) this.#forget(session);
      send(socket, { op: GatewayOpcodes.InvalidSession, d: isResumable });
    }
  }

  /** Ends the connections: with a close code, or (null) without a word. Forgotten sessions cannot be resumed. */
  disconnect({ code, forget }: { readonly code: number | null; readonly forget: boolean }): void {
    for (const session of [...this.#sessions.values()]) {
      const { socket } = session;
      this.#leave(session);
      if (forget) this.#forget(session);
      if (code === null) socket?.terminate();
      else socket?.close(code);
    }
  }

  close(): void {
    for (const client of this.#server.clients) client.terminate();
    this.#server.close();
  }

  #serve(connection: WebSocket): void {
    let session: Session | null = null;
    // A frame that is not even WebSocket ends the connection; there is nobody to tell.
    connection.on('error', () => connection.terminate());
    connection.on('close', (code) => {
      if (session?.socket !== connection) return;
      this.#leave(session);
      if (FINAL_CLOSES.includes(code)) this.#forget(session);
    });
    connection.on('message', (raw) => {
      const payload = parse(raw);
      if (payload === null) return connection.close(GatewayCloseCodes.DecodeError, 'Error while decoding payload');
      const { op, d } = payload;
      if (op === GatewayOpcodes.Heartbeat) {
        send(connection, { op: GatewayOpcodes.HeartbeatAck });
      } else if (op === GatewayOpcodes.Identify || op === GatewayOpcodes.Resume) {
        if (session?.socket === connection) {
          return connection.close(GatewayCloseCodes.AlreadyAuthenticated, 'Already authenticated');
        }
        const data = isObject(d) ? d : {};
        if (data['token'] !== this.#world().application.botToken) {
          return connection.close(GatewayCloseCodes.AuthenticationFailed, 'Authentication failed');
        }
        session = op === GatewayOpcodes.Identify ? this.#identify(connection, data) : this.#resume(connection, data);
      } else if (session?.socket !== connection) {
        connection.close(GatewayCloseCodes.NotAuthenticated, 'Not authenticated');
      } else if (op === GatewayOpcodes.RequestGuildMembers) {
        this.#sendMembers(session, isObject(d) ? d : {});
      } else if (op !== GatewayOpcodes.PresenceUpdate && op !== GatewayOpcodes.VoiceStateUpdate) {
        connection.close(GatewayCloseCodes.UnknownOpcode, 'Unknown opcode');
      }
    });
    send(connection, { op: GatewayOpcodes.Hello, d: { heartbeat_interval: this.#heartbeatMs } });
  }

  #identify(connection: WebSocket, data: JsonObject): Session | null {
    const intents = data['intents'];
    if (typeof intents !== 'number' || !Number.isSafeInteger(intents) || intents < 0) {
      connection.close(GatewayCloseCodes.InvalidIntents, 'Invalid intent(s)');
      return null;
    }
    this.#identifies += 1;
    const id = randomBytes(16).toString('hex');
    const session: Session = { id, intents, sequence: 0, sent: [], socket: connection, leftMs: 0 };
    this.#sessions.set(id, session);
    const world = this.#world();
    this.#dispatchTo(session, GatewayDispatchEvents.Ready, {
      v: 10,
      user: userObject(world.bot),
      guilds: [{ id: world.application.guildId, unavailable: true }],
      session_id: id,
      resume_gateway_url: this.#url(),
      ...(Array.isArray(data['shard']) && { shard: data['shard'] as unknown }),
      application: { id: world.application.clientId, flags: 0, flags_new: '0' },
    });
    this.#dispatchTo(session, GatewayDispatchEvents.GuildCreate, world.guildCreate());
    return session;
  }

  #resume(connection: WebSocket, data: JsonObject): Session | null {
    const session = this.#sessions.get(String(data['session_id']));
    const seen = data['seq'];
    if (session === undefined || typeof seen !== 'number') {
      send(connection, { op: GatewayOpcodes.InvalidSession, d: false });
      return null;
    }
    if (seen > session.sequence) {
      connection.close(GatewayCloseCodes.InvalidSeq, 'Invalid seq');
      return null;
    }
    session.socket = connection;
    for (const { sequence, text } of session.sent) if (sequence > seen) connection.send(text);
    this.#dispatchTo(session, GatewayDispatchEvents.Resumed, {});
    return session;
  }

  /** The members that a client asks for by name, by id, or (empty query, limit 0) all of them. */
  #sendMembers(session: Session, data: JsonObject): void {
    const world = this.#world();
    const { query, user_ids: ids, limit, nonce } = data;
    const wanted = ids === undefined ? null : new Set([ids].flat());
    const named = typeof query === 'string' ? query : '';
    const members = world.store.members
      .oldestFirst()
      .filter(({ id }) => (wanted === null ? world.user(id).username.startsWith(named) : wanted.has(id)))
      .slice(0, typeof limit === 'number' && limit > 0 ? limit : undefined)
      .map(({ id }) => world.memberObject(id));
    const count = Math.max(1, Math.ceil(members.length / CHUNK_MEMBERS));
    for (let index = 0; index < count; index += 1) {
      this.#dispatchTo(session, GatewayDispatchEvents.GuildMembersChunk, {
        guild_id: world.application.guildId,
        members: members.slice(index * CHUNK_MEMBERS, (index + 1) * CHUNK_MEMBERS),
        chunk_index: index,
        chunk_count: count,
        ...(nonce !== undefined && { nonce }),
      });
    }
  }

  #dispatchTo(session: Session, event: string, data: unknown): void {
    const intent = INTENT_OF[event];
    if (intent !== undefined && (session.intents & intent) === 0) return;
    session.sequence += 1;
    const seen = this.#seenBy(session, event, data);
    const text = JSON.stringify({ op: GatewayOpcodes.Dispatch, t: event, s: session.sequence, d: seen });
    session.sent.push({ sequence: session.sequence, text });
    if (session.sent.length > REPLAY_MAX) session.sent.shift();
    session.socket?.send(text);
  }

  /** Without the intent for it, what others write is empty, even the number of boosts in a system message. */
  #seenBy({ intents }: Session, event: string, data: unknown): unknown {
    if (event !== MESSAGE_CREATE || (intents & GatewayIntentBits.MessageContent) !== 0) return data;
    if (!isObject(data) || !isObject(data['author'])) return data;
    return data['author']['id'] === this.#world().bot.id ? data : { ...data, content: '' };
  }

  #leave(session: Session): void {
    session.socket = null;
    session.leftMs = this.#world().clock.nowMs();
  }

  #forget(session: Session): void {
    this.#sessions.delete(session.id);
  }
}

function parse(raw: RawData): JsonObject | null {
  try {
    const payload: unknown = JSON.parse((raw as Buffer).toString('utf8'));
    return isObject(payload) ? payload : null;
  } catch {
    return null;
  }
}

function send(socket: WebSocket | null, payload: unknown): void {
  socket?.send(JSON.stringify(payload));
}
