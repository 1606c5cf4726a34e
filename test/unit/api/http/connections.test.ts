/**
 * Too many connections: idle ones make room, nobody who waits for an answer loses it, and one address cannot take all.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Registry } from 'prom-client';
import { Connections, networkOf, type ConnectionLimits } from '../../../../api/http/connections.ts';
import { RawConnection } from '../../../support/raw-request.ts';
import { until } from '../../../support/until.ts';

describe('connections', () => {
  let server: Server;
  let connections: Connections;
  let registry: Registry;
  let clients: RawConnection[];
  /** Answers that are held back. */
  let pending: ServerResponse[];

  async function start(limits: Partial<ConnectionLimits>): Promise<void> {
    registry = new Registry();
    connections = new Connections({ perAddress: 1000, total: 1000, isExempt: () => false, ...limits }, registry);
    server = createServer((request, response) => {
      const leave = connections.enter(request.socket);
      if (leave === null) return;
      response.once('close', leave);
      if (request.url === '/slow') pending.push(response);
      else response.writeHead(200, { 'content-length': '2' }).end('ok');
    });
    connections.watch(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }

  beforeEach(() => {
    clients = [];
    pending = [];
  });
  afterEach(async () => {
    for (const client of clients) client.close();
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
    await until('all of them to be counted out', () => connections.open === 0);
  });

  async function open(): Promise<RawConnection> {
    const client = await RawConnection.open(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    clients.push(client);
    return client;
  }

  const ask = (client: RawConnection, path = '/'): Promise<void> =>
    client.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);

  async function assertServed(client: RawConnection): Promise<void> {
    await ask(client);
    assert.equal((await client.answer()).status, 200);
  }

  it('at the bound the connection that has been idle longest makes room for the new one', async () => {
    await start({ perAddress: 3 });
    const [first, second, third] = [await open(), await open(), await open()];
    await until('three to be counted', () => connections.open === 3);
    await assertServed(first);
    const fourth = await open();
    await second.closed();
    await assertServed(fourth);
    for (const client of [first, third]) await assertServed(client);
    assert.match(await registry.metrics(), /^holdfast_api_connections_closed_total 1$/m);
  });

  it('a connection that was opened and never used, or sent half a head, is idle as well', async () => {
    await start({ perAddress: 2 });
    const half = await open();
    await half.write('GET / HTTP/1.1\r\nhost:');
    await open();
    await until('both to be counted', () => connections.open === 2);
    await assertServed(await open());
    await half.closed();
  });

  it('no connection that waits for an answer is closed: the new one is turned away instead', async () => {
    await start({ total: 2 });
    const waiting = [await open(), await open()];
    for (const client of waiting) await ask(client, '/slow');
    await until('both to wait', () => pending.length === 2);
    await (await open()).closed();
    for (const response of pending) response.writeHead(200, { 'content-length': '0' }).end();
    for (const client of waiting) assert.equal((await client.answer()).status, 200);
    await assertServed(await open());
  });

  it('addresses that speak for many clients are bounded by the total alone', async () => {
    await start({ perAddress: 1, total: 3, isExempt: (address) => address === '127.0.0.1' });
    const [first, second, third] = [await open(), await open(), await open()];
    await until('three to be counted', () => connections.open === 3);
    await assertServed(await open());
    await first.closed();
    for (const client of [second, third]) await assertServed(client);
  });

  it('sixty-four requests at once on one connection are answered, a flood of them ends it', async () => {
    await start({});
    const client = await open();
    const request = 'GET /slow HTTP/1.1\r\nhost: x\r\n\r\n';
    await client.write(request.repeat(64));
    await until('all of them to wait', () => pending.length === 64);
    for (const response of pending) response.writeHead(200, { 'content-length': '2' }).end('ok');
    for (let n = 0; n < 64; n += 1) assert.equal((await client.answer()).status, 200);

    pending = [];
    const flood = await open();
    await flood.write(request.repeat(500));
    await flood.closed();
    assert.ok(pending.length <= 64);
  });

  describe('of one subscriber', () => {
    for (const [what, one, other, same] of [
      ['an IPv4 address is its own', '203.0.113.1', '203.0.113.2', false],
      ['an IPv4 address written as IPv6 is the same one', '203.0.113.1', '::ffff:203.0.113.1', true],
      ['a network of 64 bits is one', '2001:db8:1:2::1', '2001:db8:1:2:ffff::9', true],
      ['two networks of 64 bits are two', '2001:db8:1:2::1', '2001:db8:1:3::1', false],
      ['what is no address is itself', '', 'x', false],
    ] as const) {
      it(what, () => assert.equal(networkOf(one) === networkOf(other), same));
    }
  });
});
