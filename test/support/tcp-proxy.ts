/**
 * A TCP proxy between a client and its server that can misbehave as a network does: hold traffic back, lose the answer
 * to one chosen statement after the server has carried it out, cut connections, refuse new ones. It never changes a
 * byte. Meant for one database (or one Temporal server) and the process under test.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

export interface TcpProxy {
  /** Where the proxy listens, on 127.0.0.1. */
  readonly port: number;
  /** `host:port` of the proxy. */
  readonly address: string;
  /** Connections that clients have open. */
  readonly connections: number;
  /** `url` with host and port of the proxy: give it to the process under test. */
  through(url: string): string;
  /**
   * Holds all bytes back in both directions. Connections stay open and new ones are accepted, as by a server that
   * hangs.
   */
  pause(): void;
  /** Lets what was held back go on, in order. */
  resume(): void;
  /**
   * Loses one answer: when a client next sends bytes that contain `text`, they reach the server, and the server's next
   * bytes on that connection are swallowed and the connection is cut. Resolves when that has happened.
   * PostgreSQL answers an autocommit statement in one piece after the commit, so the statement has then taken effect.
   */
  loseAnswerTo(text: string): Promise<void>;
  /** Ends all connections at once, in both directions; new ones are served. */
  cut(): void;
  /** Like {@link cut}, and refuses new connections until {@link accept}, as while a server is down. */
  refuse(): void;
  accept(): void;
  /** Cuts everything and stops listening. */
  close(): Promise<void>;
}

interface Target {
  readonly host: string;
  readonly port: number;
}

/** Starts a proxy in front of `target`, on a free port. */
export async function startTcpProxy(target: Target): Promise<TcpProxy> {
  const proxy = new Proxy(target);
  await proxy.listen();
  return proxy;
}

/** Starts a proxy in front of the server that a URL names. */
export function startTcpProxyFor(url: string): Promise<TcpProxy> {
  const { hostname, port } = new URL(url);
  return startTcpProxy({ host: hostname, port: Number(port) });
}

interface AwaitedAnswer {
  readonly text: string;
  readonly lost: () => void;
}

class Proxy implements TcpProxy {
  readonly #target: Target;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  #paused = false;
  #refusing = false;
  #awaited: AwaitedAnswer[] = [];

  constructor(target: Target) {
    this.#target = target;
    this.#server = createServer({ noDelay: true, pauseOnConnect: true }, (client) => this.#accepted(client));
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get connections(): number {
    return this.#links.size;
  }

  through(url: string): string {
    const changed = new URL(url);
    changed.host = this.address;
    return changed.href;
  }

  pause(): void {
    this.#paused = true;
    for (const link of this.#links) link.pause();
  }

  resume(): void {
    this.#paused = false;
    for (const link of this.#links) link.resume();
  }

  loseAnswerTo(text: string): Promise<void> {
    return new Promise((lost) => this.#awaited.push({ text, lost }));
  }

  cut(): void {
    for (const link of this.#links) link.cut();
  }

  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  accept(): void {
    this.#refusing = false;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }

  #accepted(client: Socket): void {
    if (this.#refusing) {
      client.destroy();
      return;
    }
    const link = new Link(client, connect({ ...this.#target, noDelay: true }), {
      onSent: (bytes) => this.#takeAwaited(bytes),
      onClose: () => this.#links.delete(link),
    });
    this.#links.add(link);
    if (!this.#paused) link.resume();
  }

  /** The answer to lose, if these bytes are the ones that were waited for. */
  #takeAwaited(bytes: Buffer): AwaitedAnswer | null {
    const found = this.#awaited.find(({ text }) => bytes.includes(text));
    if (found === undefined) return null;
    this.#awaited = this.#awaited.filter((awaited) => awaited !== found);
    return found;
  }
}

interface LinkEvents {
  readonly onSent: (bytes: Buffer) => AwaitedAnswer | null;
  readonly onClose: () => void;
}

/** One client's connection and its counterpart to the server. */
class Link {
  readonly #client: Socket;
  readonly #server: Socket;
  #paused = true;
  #losing: AwaitedAnswer | null = null;

  constructor(client: Socket, server: Socket, { onSent, onClose }: LinkEvents) {
    this.#client = client;
    this.#server = server;
    server.pause();
    client.on('data', (bytes) => {
      this.#losing ??= onSent(bytes);
      this.#forward(bytes, client, server);
    });
    server.on('data', (bytes) => {
      if (this.#losing === null) {
        this.#forward(bytes, server, client);
        return;
      }
      this.cut();
      this.#losing.lost();
    });
    client.on('end', () => server.end());
    server.on('end', () => client.end());
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      // The other side learns of a failure by its own connection's end; there is nobody to tell here.
      socket.on('error', () => undefined);
      socket.on('close', () => {
        other.destroySoon();
        onClose();
      });
    }
  }

  pause(): void {
    this.#paused = true;
    this.#client.pause();
    this.#server.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#client.resume();
    this.#server.resume();
  }

  /** Not by a reset: Node 24 never ends when a socket is reset while its shutdown is pending. */
  cut(): void {
    this.#client.destroy();
    this.#server.destroy();
  }

  #forward(bytes: Buffer, from: Socket, to: Socket): void {
    if (to.write(bytes)) return;
    from.pause();
    to.once('drain', () => {
      if (!this.#paused) from.resume();
    });
  }
}
