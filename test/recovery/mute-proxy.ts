/**
 * A TCP proxy that can fall silent in one direction: what the client sends always reaches the server, the server's
 * answers wait until the proxy speaks again. So a call is accepted and carried out while its caller sees a time-out.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface MuteProxy {
  /** `host:port` of the proxy: give it to the process under test. */
  readonly address: string;
  /** Holds the server's answers back, on open connections and new ones. */
  mute(): void;
  /** Delivers what was held back and goes on. */
  speak(): void;
  close(): Promise<void>;
}

/** Starts a proxy in front of `target` (`host:port`), on a free port. */
export async function startMuteProxy(target: string): Promise<MuteProxy> {
  const [host = '', port] = target.split(':');
  const links = new Set<{ client: Socket; server: Socket }>();
  let isMute = false;
  const proxy = createServer({ noDelay: true }, (client) => {
    const server = connect({ host, port: Number(port), noDelay: true });
    const link = { client, server };
    links.add(link);
    client.pipe(server);
    server.pipe(client);
    if (isMute) mute(link);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      // The other side learns of a failure by its own connection's end.
      socket.on('error', () => undefined);
      socket.on('close', () => {
        other.destroy();
        links.delete(link);
      });
    }
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    address: `127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    mute() {
      isMute = true;
      for (const link of links) mute(link);
    },
    speak() {
      // A second pipe beside the first would deliver everything twice.
      if (!isMute) return;
      isMute = false;
      for (const { client, server } of links) server.pipe(client);
    },
    async close() {
      const closed = once(proxy, 'close');
      proxy.close();
      for (const { client, server } of links) {
        client.destroy();
        server.destroy();
      }
      await closed;
    },
  };
}

function mute({ client, server }: { client: Socket; server: Socket }): void {
  server.unpipe(client);
  server.pause();
}
