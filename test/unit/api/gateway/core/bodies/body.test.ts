/**
 * Reading a body: nothing is kept of one that is refused, slow ones come to an end, and odd framing costs what it
 * carries.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Arrivals, type ArrivalLimits } from '../../../../../../api/gateway/core/bodies/arrivals.ts';
import { ClientGone, Discards, readBody } from '../../../../../../api/gateway/core/bodies/body.ts';
import { Refusal } from '../../../../../../domain/errors.ts';
import type { AccountUuid } from '../../../../../../domain/ids.ts';
import { chatHead, chunkOf, LAST_CHUNK, RawConnection } from '../../../../../support/raw-request.ts';
import { until } from '../../../../../support/until.ts';

const MEBIBYTE = 1024 * 1024;
const LIMIT = 10 * MEBIBYTE;
const QUICK: ArrivalLimits = { seconds: 3, graceSeconds: 1, bytesPerSecondMin: 1000, slowPerAccount: 3 };

/** What became of one body. */
type Ending = Buffer | Refusal | ClientGone;

describe('reading a body', () => {
  let server: Server;
  let baseUrl: string;
  let arrivals: Arrivals;
  let onBytes: (bytes: number, total: number) => number;
  const endings: Ending[] = [];
  const connections: RawConnection[] = [];

  before(async () => {
    server = createServer((request, response) => void handle(request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  beforeEach(() => {
    arrivals = new Arrivals(QUICK);
    onBytes = () => 0;
  });
  afterEach(() => {
    arrivals.stop();
    endings.length = 0;
    for (const connection of connections.splice(0)) connection.close();
  });
  after(async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  });

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    response.prependOnceListener('finish', () => new Discards().discard(incoming));
    const accountId = String(incoming.headers.authorization) as AccountUuid;
    const ending = await readBody(incoming, {
      accountId,
      limitBytes: LIMIT,
      arrivals,
      onReading: () => undefined,
      onBytes: (bytes, total) => onBytes(bytes, total),
    }).catch((error: unknown) => error as Ending);
    endings.push(ending);
    const text = ending instanceof Error ? ending.message : String(ending.length);
    response.writeHead(ending instanceof Refusal ? ending.status : 200, { 'content-length': Buffer.byteLength(text) });
    response.end(text);
  }

  async function open(account: string, ...framing: string[]): Promise<RawConnection> {
    const connection = await RawConnection.open(baseUrl);
    connections.push(connection);
    await connection.write(chatHead(account, ...framing));
    return connection;
  }

  const CHUNKED = 'transfer-encoding: chunked';

  it('puts a body together from pieces of any length, in order', async () => {
    const lengths = [1, 5000, 3, 1, 1, 4096, 4095, 16_384, 20_000, 2, 70_000, 1];
    const content = Buffer.from(Array.from({ length: 120_000 }, (_, index) => index % 251));
    const client = await open('a', CHUNKED);
    let at = 0;
    for (const length of lengths) {
      await client.write(chunkOf(content.subarray(at, at + length)));
      at += length;
    }
    await client.write(LAST_CHUNK);
    assert.equal((await client.answer()).status, 200);
    assert.deepEqual(endings[0], content.subarray(0, at));
  });

  it('a body in chunks of one byte is kept in no more memory than it has bytes, nearly', async () => {
    const bytes = 300_000;
    const client = await open('a', CHUNKED);
    const one = chunkOf('x');
    await client.write(Buffer.concat(Array.from({ length: bytes }, () => one)));
    await client.write(LAST_CHUNK);
    assert.deepEqual((await client.answer()).body, String(bytes));
    const [body] = endings;
    assert.ok(body instanceof Buffer && body.buffer.byteLength <= bytes + 16 * 1024);
  });

  it('an empty body, and one without a length, are empty bodies', async () => {
    for (const framing of [['content-length: 0'], [], [CHUNKED]]) {
      const client = await open('a', ...framing);
      if (framing[0] === CHUNKED) await client.write(LAST_CHUNK);
      assert.deepEqual(await client.answer().then(({ status, body }) => [status, body]), [200, '0']);
    }
  });

  it('the connection is good for the next request after a refusal, and closed once too much more comes', async () => {
    const client = await open('a', CHUNKED);
    const piece = chunkOf(Buffer.alloc(MEBIBYTE, 'x'));
    for (let n = 0; n < 20; n += 1) await client.write(piece);
    await client.write(LAST_CHUNK);
    assert.equal((await client.answer()).status, 413);
    await client.write(`${chatHead('a', 'content-length: 2')}ok`);
    assert.equal((await client.answer()).body, '2');

    await client.write(chatHead('a', CHUNKED));
    let sent = 0;
    while (!client.isClosed && sent < 200) {
      await client.write(piece);
      sent += 1;
    }
    assert.equal((await client.answer()).status, 413);
    await client.closed();
    assert.ok(sent < 100, `${sent} MiB were sent before the connection was closed`);
  });

  it('a body that was announced too large is refused before it comes', async () => {
    const client = await open('a', `content-length: ${LIMIT + 1}`);
    assert.equal((await client.answer()).status, 413);
  });

  it('a client that leaves is gone, whenever it leaves', async () => {
    const [early, late] = [await open('a', 'content-length: 10'), await open('a', 'content-length: 10')];
    await late.write('abc');
    early.close();
    late.close();
    await until('both to be noticed', () => endings.length === 2);
    assert.ok(endings.every((ending) => ending instanceof ClientGone));
  });

  it('a refusal of the intake ends the reading where it is', async () => {
    onBytes = (_, total) => {
      if (total > 100_000) throw new Refusal('body_budget_exceeded');
      return 0;
    };
    const client = await open('a', CHUNKED);
    for (let n = 0; n < 4; n += 1) await client.write(chunkOf(Buffer.alloc(50_000)));
    assert.equal((await client.answer()).status, 429);
  });

  it('a body that must wait is not read meanwhile, is not slow for that, and then comes whole', async () => {
    let waits = 0;
    onBytes = () => (waits++ < 8 ? 200 : 0);
    const client = await open('a', 'content-length: 1000000');
    await client.write(Buffer.alloc(1_000_000));
    assert.deepEqual(await client.answer().then(({ status, body }) => [status, body]), [200, '1000000']);
    assert.ok(waits >= 8);
  });

  describe('slow bodies', () => {
    it('one that sends nothing is refused after the grace, whatever it announced', async () => {
      const client = await open('a', `content-length: ${LIMIT}`);
      const { status, body } = await client.answer();
      assert.equal(status, 408, body);
      assert.match(body, /more slowly than 1000 bytes per second/);
    });

    it('one that drips is refused as well', async () => {
      const client = await open('a', CHUNKED);
      const answer = client.answer();
      let isAnswered = false;
      void answer.finally(() => (isAnswered = true));
      await until('an answer', async () => {
        await client.write(chunkOf('x'));
        return isAnswered;
      });
      assert.equal((await answer).status, 408);
    });

    it('one that is quick enough but never ends is refused when its time is over', async () => {
      const client = await open('a', CHUNKED);
      const answer = client.answer();
      let isAnswered = false;
      void answer.finally(() => (isAnswered = true));
      await until('an answer', async () => {
        await client.write(chunkOf(Buffer.alloc(1000)));
        return isAnswered;
      });
      const { status, body } = await answer;
      assert.deepEqual([status, body], [408, 'The request body did not arrive within 3 s.']);
    });

    it('are bounded for each account: the youngest of too many goes, other accounts are left alone', async () => {
      arrivals = new Arrivals({ ...QUICK, graceSeconds: 60, seconds: 60 });
      const greedy = await Promise.all(Array.from({ length: 5 }, () => open('greedy', 'content-length: 5')));
      const other = await open('other', 'content-length: 5');
      await until('two to be refused', () => endings.length === 2);
      assert.equal(arrivals.slow, 4);
      assert.ok(endings.every((ending) => ending instanceof Refusal && ending.code === 'body_timeout'));
      await other.write('hello');
      assert.equal((await other.answer()).status, 200);
      for (const client of greedy.slice(0, 3)) {
        await client.write('hello');
        assert.equal((await client.answer()).status, 200);
      }
    });

    it('are not slow for an event loop that did not turn', async () => {
      const client = await open('a', 'content-length: 5');
      await until('it to be read', () => arrivals.arriving === 1);
      const end = performance.now() + 2500;
      while (performance.now() < end);
      await client.write('hello');
      assert.equal((await client.answer()).status, 200);
    });

    it('one whose time went by while it had to wait for the rate of its account is told so', async () => {
      arrivals = new Arrivals({ ...QUICK, seconds: 1 });
      onBytes = () => 10_000;
      const client = await open('a', 'content-length: 5');
      await client.write('hel');
      const { status, body } = await client.answer();
      assert.equal(status, 429, body);
    });
  });
});
