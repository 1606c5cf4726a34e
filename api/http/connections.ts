/**
 * How many connections one client address, and all together, may have open. At a bound the connection that has been
 * idle longest makes room; the new one is turned away only when every other one has a request under way. So sockets
 * that somebody opens and leaves alone keep nobody out, not even others behind the same address.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import ipaddr from 'ipaddr.js';
import { Counter, Gauge, type Registry } from 'prom-client';

export interface ConnectionLimits {
  readonly perAddress: number;
  readonly total: number;
  /** Addresses that speak for many clients: only the total counts for them. */
  readonly isExempt: (address: string) => boolean;
}

/**
 * Requests that may be under way on one connection at once. Their answers wait in memory for the first to end, which a
 * client that never reads, or whose first request never ends, could put off for as long as it likes.
 */
const PIPELINED_MAX = 64;

interface Group {
  readonly name: string;
  size: number;
  /** In the order in which they became idle. */
  readonly idle: Set<Connection>;
}

interface Connection {
  readonly socket: Socket;
  /** Null where the address is exempt. */
  readonly group: Group | null;
  requests: number;
}

export class Connections {
  readonly #limits: ConnectionLimits;
  readonly #groups = new Map<string, Group>();
  readonly #bySocket = new Map<Socket, Connection>();
  readonly #idle = new Set<Connection>();
  readonly #closed: Counter;

  constructor(limits: ConnectionLimits, registry: Registry) {
    this.#limits = limits;
    const open = (): number => this.open;
    new Gauge({
      name: 'holdfast_api_connections',
      help: 'Open connections of clients',
      registers: [registry],
      collect() {
        this.set(open());
      },
    });
    this.#closed = new Counter({
      name: 'holdfast_api_connections_closed_total',
      help: 'Connections closed or turned away because there were too many',
      registers: [registry],
    });
  }

  get open(): number {
    return this.#bySocket.size;
  }

  /** Counts the connections of a server from now on. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => this.#opened(socket));
  }

  /** Counts a request in; returns how to count it out. Null, and an end of the connection, when it has too many. */
  enter(socket: Socket): (() => void) | null {
    const connection = this.#bySocket.get(socket);
    // Closed by an earlier request of the same flood, of which the rest has been read already.
    if (connection === undefined) return null;
    if (connection.requests >= PIPELINED_MAX) {
      this.#close(connection);
      return null;
    }
    connection.requests += 1;
    this.#setIdle(connection, false);
    return () => {
      connection.requests -= 1;
      if (connection.requests === 0 && this.#bySocket.has(socket)) this.#setIdle(connection, true);
    };
  }

  #opened(socket: Socket): void {
    const group = this.#groupOf(socket.remoteAddress ?? '');
    const isFull =
      (group !== null && group.size >= this.#limits.perAddress && !this.#makeRoom(group.idle)) ||
      (this.#bySocket.size >= this.#limits.total && !this.#makeRoom(this.#idle));
    if (isFull) {
      this.#closed.inc();
      socket.destroy();
      return;
    }
    const connection: Connection = { socket, group, requests: 0 };
    if (group !== null) {
      group.size += 1;
      this.#groups.set(group.name, group);
    }
    this.#bySocket.set(socket, connection);
    this.#setIdle(connection, true);
    socket.once('close', () => this.#forget(connection));
  }

  #groupOf(address: string): Group | null {
    if (this.#limits.isExempt(address)) return null;
    const name = networkOf(address);
    return this.#groups.get(name) ?? { name, size: 0, idle: new Set() };
  }

  #makeRoom(idle: Set<Connection>): boolean {
    for (const longest of idle) {
      this.#close(longest);
      return true;
    }
    return false;
  }

  #close(connection: Connection): void {
    this.#closed.inc();
    this.#forget(connection);
    connection.socket.destroy();
  }

  #setIdle(connection: Connection, isIdle: boolean): void {
    for (const idle of [this.#idle, connection.group?.idle]) {
      if (isIdle) idle?.add(connection);
      else idle?.delete(connection);
    }
  }

  #forget(connection: Connection): void {
    if (!this.#bySocket.delete(connection.socket)) return;
    this.#setIdle(connection, false);
    if (connection.group === null) return;
    connection.group.size -= 1;
    if (connection.group.size === 0) this.#groups.delete(connection.group.name);
  }
}

/** The addresses of one subscriber: an IPv4 address, or an IPv6 network of 64 bits, whose addresses cost nothing. */
export function networkOf(address: string): string {
  if (!ipaddr.isValid(address)) return address;
  const parsed = ipaddr.process(address);
  if (parsed.kind() === 'ipv4') return parsed.toString();
  return (parsed as ipaddr.IPv6).parts.slice(0, 4).join(':');
}
