/**
 * One call to one vendor: what comes back is a result, or an error that says what was said and nothing that must not
 * be.
 */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createJsonRpc, VendorError, type JsonRpc } from '../../../../providers/chain/json-rpc.ts';

describe('JSON-RPC to a vendor', () => {
  let server: Server;
  let answer: RequestListener;
  let asked: IncomingMessage[];
  let rpc: JsonRpc;

  before(async () => {
    server = createServer((request, response) => {
      asked.push(request);
      answer(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = (path = '/v2/secret-key', login = ''): string =>
    `http://${login}127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  beforeEach(() => {
    asked = [];
    rpc = createJsonRpc({ url: url(), name: 'alpha', timeoutSeconds: 0.5 });
  });
  afterEach(() => rpc.close());

  const saying = (status: number, body: string): void => {
    answer = (_request, response) => void response.writeHead(status).end(body);
  };
  const failure = async (): Promise<VendorError> => {
    try {
      await rpc.send('eth_chainId', []);
    } catch (error) {
      assert.ok(error instanceof VendorError);
      return error;
    }
    throw new Error('it was answered');
  };

  it('a result is a result, null as well', async () => {
    for (const result of ['0x1', null, [], { a: 1 }]) {
      saying(200, JSON.stringify({ jsonrpc: '2.0', id: 1, result, error: null }));
      assert.deepEqual(await rpc.send('eth_chainId', []), result);
    }
  });

  it('a login in the address is sent as one, and is in no message', async () => {
    rpc.close();
    rpc = createJsonRpc({ url: url('/', 'me:p%40ss@'), name: 'alpha', timeoutSeconds: 0.5 });
    saying(500, 'oops');
    const { message } = await failure();
    assert.equal(asked[0]?.headers.authorization, `Basic ${Buffer.from('me:p@ss').toString('base64')}`);
    assert.equal(message, 'alpha: answers with HTTP 500: oops');
  });

  it('a message is stored with its data, without quoted parts of the address', async () => {
    saying(400, JSON.stringify({ error: { code: 1, message: `bad ${url()}`, data: { limit: 5 } } }));
    const { message, said } = await failure();
    assert.equal(said, 'bad (address) {"limit":5}');
    assert.equal(message, 'alpha: answers with HTTP 400: bad (address) {"limit":5}');
  });

  it('an error is one whatever the status and its own form, and long words are cut', async () => {
    for (const [body, words] of [
      ['{"error":"no"}', 'no'],
      ['{"error":{"message":"no"}}', 'no'],
      ['{"error":{"code":7}}', '{"code":7}'],
      ['{"message":"no"}', 'no'],
      ['[]', '[]'],
      ['"no"', 'no'],
      ['null', 'null'],
      ['{}', '{}'],
      ['<html><head><title>x</title><style>p{}</style></head><body><p>no</p>\n\n<b>way</b></body></html>', 'no way'],
    ] as const) {
      saying(200, body);
      assert.equal((await failure()).said, words, body);
    }
    saying(200, 'x'.repeat(10_000));
    const { message, said } = await failure();
    assert.ok(message.length < 400 && said!.length === 2000);
    saying(200, '');
    assert.equal((await failure()).message, 'alpha: answers with an error and no word');
  });

  it('“too often” is told from “too much”, in a status or in words', async () => {
    const throttled = async (status: number, body: string): Promise<boolean> => {
      saying(status, body);
      return (await failure()).isThrottled;
    };
    assert.equal(await throttled(429, ''), true);
    for (const words of [
      'Your app has exceeded its compute units per second capacity.',
      'Too Many Requests',
      'daily request count exceeded, request rate limited',
      'rate limit exceeded',
    ]) {
      assert.equal(await throttled(200, JSON.stringify({ error: { code: -32005, message: words } })), true, words);
    }
    for (const words of [
      'query returned more than 10000 results',
      'block range is too wide',
      'exceeds the range allowed for your plan (5000 > 2000)',
    ]) {
      assert.equal(await throttled(200, JSON.stringify({ error: { code: -32005, message: words } })), false, words);
    }
  });

  it('no answer, a late answer and an unfinished answer are silence; an answer that is too large is cut off', async () => {
    answer = () => undefined;
    const late = await failure();
    assert.deepEqual([late.message, late.isSilent], ['alpha: no answer within 0.5 s', true]);
    answer = (_request, response) => void response.writeHead(200, { 'content-length': '100' }).write('{"jsonrpc":');
    assert.equal((await failure()).isSilent, true);
    answer = (request) => void request.socket.destroy();
    const cut = await failure();
    assert.equal(cut.isSilent, true);
    assert.doesNotMatch(cut.message, /secret/);
    let sent = 0;
    answer = (_request, response) => {
      const more = (): void => {
        while (sent < 200 && response.write(' '.repeat(1024 * 1024))) sent++;
      };
      response.writeHead(200).on('drain', more);
      more();
    };
    rpc.close();
    rpc = createJsonRpc({ url: url(), name: 'alpha', timeoutSeconds: 5 });
    const large = await failure();
    assert.match(large.message, /more than 16 MiB/);
    assert.equal(large.isSilent, false);
    assert.ok(sent < 100, `${sent} MiB were taken in`);
  });
});
