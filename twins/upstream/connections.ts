/**
 * How the twin treats connections between requests: how long it keeps them, what it says about that, and what becomes
 * of a request that comes on a connection it has given up meanwhile.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import { readBoolean, readChoice, readCount } from '../kit/input.ts';
import { nullable, readFields } from './fields.ts';

/** Longer than any client keeps an idle connection, so that the twin never closes one under a request. */
export const KEEP_ALIVE_MS = 120_000;

export interface ConnectionRules {
  /** How long an idle connection is kept. */
  readonly keep_alive_ms: number;
  /** The `keep-alive: timeout=N` of the answers; null: none. It need not be true. */
  readonly hint_seconds: number | null;
  /** Requests on one connection, after which it is closed; null: any number. */
  readonly requests_max: number | null;
  /** Whether the last answer of a connection says `connection: close`. */
  readonly says_close: boolean;
  /** How an idle connection ends; `half`: the twin says its last word and goes on listening, to nobody's use. */
  readonly ends: ConnectionEnd;
  /** The fate of a further request on a connection; a first one is always served. */
  readonly reused: 'serve' | ConnectionEnd;
  /** A larger body is refused before it has come, and the connection ends; null: any size. */
  readonly body_bytes_max: number | null;
}

const CONNECTION_ENDS = ['fin', 'half', 'reset'] as const;
type ConnectionEnd = (typeof CONNECTION_ENDS)[number];

export const DEFAULT_CONNECTIONS: ConnectionRules = {
  keep_alive_ms: KEEP_ALIVE_MS,
  hint_seconds: KEEP_ALIVE_MS / 1000,
  requests_max: null,
  says_close: true,
  ends: 'fin',
  reused: 'serve',
  body_bytes_max: null,
};

export function readConnectionRules(value: unknown, field: string): ConnectionRules {
  return {
    ...DEFAULT_CONNECTIONS,
    ...readFields<ConnectionRules>(value, field, {
      keep_alive_ms: (ms, name) => readCount(ms, name, 0, KEEP_ALIVE_MS),
      hint_seconds: nullable(readCount),
      requests_max: nullable((count, name) => readCount(count, name, 1)),
      says_close: readBoolean,
      ends: (end, name) => readChoice(end, name, CONNECTION_ENDS),
      body_bytes_max: nullable(readCount),
      reused: (fate, name) => readChoice(fate, name, ['serve', ...CONNECTION_ENDS] as const),
    }),
  };
}

/** Follows the connections of one server. */
export class Connections {
  readonly #rules: () => ConnectionRules;
  readonly #requests = new WeakMap<Socket, number>();
  readonly #idle = new WeakMap<Socket, NodeJS.Timeout>();

  constructor(rules: () => ConnectionRules) {
    this.#rules = rules;
  }

  /** Notes a request; false when its connection was ended instead and nothing may be read or recorded of it. */
  admit(request: IncomingMessage, response: ServerResponse): boolean {
    const { socket } = request;
    const rules = this.#rules();
    const ordinal = (this.#requests.get(socket) ?? 0) + 1;
    this.#requests.set(socket, ordinal);
    clearTimeout(this.#idle.get(socket));
    // Node itself keeps connections in just this way.
    if (rules === DEFAULT_CONNECTIONS) return true;
    if (!socket.writable) return false;
    if (ordinal > 1 && rules.reused !== 'serve') {
      end(socket, rules.reused);
      return false;
    }
    const isLast = rules.requests_max !== null && ordinal >= rules.requests_max;
    if (isLast && rules.says_close) response.setHeader('connection', 'close');
    else response.setHeader('connection', 'keep-alive');
    if (rules.hint_seconds !== null) response.setHeader('keep-alive', `timeout=${rules.hint_seconds}`);
    response.once('finish', () => this.#rest(socket, isLast ? 0 : rules.keep_alive_ms, rules.ends));
    return true;
  }

  #rest(socket: Socket, ms: number, how: ConnectionEnd): void {
    if (socket.destroyed) return;
    const timer = setTimeout(() => end(socket, how), ms);
    timer.unref();
    this.#idle.set(socket, timer);
  }
}

function end(socket: Socket, how: ConnectionEnd): void {
  switch (how) {
    case 'reset':
      socket.resetAndDestroy();
      return;
    case 'half':
      socket.end();
      return;
    case 'fin':
      socket.destroySoon();
  }
}
