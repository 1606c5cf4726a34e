/**
 * Request bodies of callers who pay nothing: idle, slow, huge, refused or costly to parse, they take neither the memory
 * nor the event loop that everybody else needs.
 */
import assert from 'node:assert/strict';
import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import {
  addKey,
  createCustomer,
  MESSAGES,
  post,
  refusalOf,
  STACK_START_MS,
  type Customer,
} from '../../../../support/gateway-client.ts';
import { addModels, modelOf, startScriptedUpstream } from '../../../../support/gateway-upstream.ts';
import { metric } from '../../../../recovery/evidence.ts';
import { bufferBytes, INSPECTABLE } from '../../../../support/inspector.ts';
import { chatHead, chunkOf, LAST_CHUNK, RawConnection } from '../../../../support/raw-request.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

const MEGABYTE = 1024 * 1024;
const OPEN_REQUESTS = 'holdfast_gateway_open_requests';
const TEN_MEGABYTES = 10 * MEGABYTE;

/** The body of an ordinary call. */
const SMALL = '{"model":"test/small","stream":true,"messages":[{"role":"user","content":"Tell"}]}';
assert.equal(SMALL.length, 82);

describe('gateway: bodies', () => {
  let stack: TestStack;
  let payer: Customer;
  const open: RawConnection[] = [];

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-bodies', worker: false, env: INSPECTABLE });
    payer = await createCustomer(stack, '5');
  });
  afterEach(() => {
    for (const connection of open.splice(0)) connection.close();
    stack.twin.faults.clear();
  });
  after(() => stack.stop());

  async function connection(): Promise<RawConnection> {
    const opened = await RawConnection.open(stack.baseUrl);
    open.push(opened);
    return opened;
  }

  async function assertServed(customer: Customer): Promise<void> {
    const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES });
    assert.equal(response.status, 200, await response.text());
  }

  it('28 sockets that announce 256 MiB together and send nothing refuse nobody anything', async () => {
    const announced = Math.floor((256 * MEGABYTE) / 27);
    const poor = await createCustomer(stack, '0');
    const keys = [poor, ...(await Promise.all([1, 2, 3, 4].map(() => addKey(stack, poor.account))))];
    for (let n = 0; n < 28; n += 1) {
      const idle = await connection();
      await idle.write(chatHead(keys[n % keys.length]!.secret, `content-length: ${announced}`));
    }
    await until('all of them to have come in', async () => (await metric(stack, OPEN_REQUESTS)) >= 27);
    await assertServed(payer);
    const refused = await refusalOf(await post(stack, poor.secret, { model: 'test/small', messages: MESSAGES }));
    assert.equal(refused.code, 'insufficient_user_quota', 'not even their own account');
  });

  it('forty chunked bodies of 82 bytes cost 82 bytes each: all are served at once, and so is everybody else', async () => {
    const customer = await createCustomer(stack, '5');
    stack.twin.faults.add({ match: { model: 'small' }, times: 40, fault: { type: 'hang', after_chunks: 1 } });
    const calls = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const call = await connection();
        await call.write(chatHead(customer.secret, 'transfer-encoding: chunked'));
        await call.write(chunkOf(SMALL));
        await call.write(LAST_CHUNK);
        return call;
      }),
    );
    for (const call of calls) await until('an answer', () => call.received.includes('\r\n\r\n') || call.isClosed);
    assert.deepEqual(
      calls.map(({ received }) => received.slice(0, 15)),
      calls.map(() => 'HTTP/1.1 200 OK'),
    );
    await assertServed(payer);
  });

  it('a body that is refused for its size leaves memory at once, also when its sender stays', async () => {
    const before = await bufferBytes(stack.api);
    for (let n = 0; n < 12; n += 1) {
      const customer = await createCustomer(stack, '0');
      const call = await connection();
      await call.write(chatHead(customer.secret, 'transfer-encoding: chunked'));
      for (let piece = 0; piece < 11; piece += 1) await call.write(chunkOf(Buffer.alloc(MEGABYTE, 'x')));
      const { status, body } = await call.answer();
      assert.equal(status, 413, body);
    }
    const after = await bufferBytes(stack.api);
    assert.ok(after - before < 2 * TEN_MEGABYTES, `${Math.round((after - before) / MEGABYTE)} MiB are still held`);
  });

  it('ten megabytes of numbers from an account without money do not keep /healthz from being served', async () => {
    const poor = await createCustomer(stack, '0');
    const head = '{"model":"test/small","messages":[{"role":"user","content":"Hi"}],"seed":1234567890123456789,"x":[1';
    const body = Buffer.from(`${head}${',1'.repeat((TEN_MEGABYTES - head.length - 2) / 2)}]}`);
    let isAnswered = false;
    const hostile = post(stack, poor.secret, body).finally(() => (isAnswered = true));
    let served = 0;
    while (!isAnswered) {
      const response = await fetch(`${stack.baseUrl}/healthz`);
      if ((await response.text()) === 'ok\n') served += 1;
    }
    assert.ok((await hostile).status >= 400);
    assert.ok(served >= 10, `/healthz was served ${served} times meanwhile`);
  });

  describe('compressed', () => {
    const BODY = Buffer.from(
      JSON.stringify({ model: 'test/small', messages: MESSAGES, max_tokens: 5, user: 'größe '.repeat(50_000) }),
    );
    const compressed = (data: Buffer): Readonly<Record<string, Buffer>> => ({
      gzip: gzipSync(data),
      'x-gzip': gzipSync(data),
      deflate: deflateSync(data),
      Deflate: deflateRawSync(data),
      br: brotliCompressSync(data, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
      zstd: zstdCompressSync(data),
      'gzip, zstd': zstdCompressSync(gzipSync(data)),
      identity: data,
    });

    const send = (coding: string, body: Buffer, secret = payer.secret): Promise<Response> =>
      post(stack, secret, new Uint8Array(body), { headers: { 'content-encoding': coding } });

    it('in every coding, or several, is served, and reaches the upstream as it was before', async () => {
      const upstream = await startScriptedUpstream();
      try {
        await addModels(stack, [
          modelOf({ id: 'test/scripted', prices: { input: '1', output: '2' }, baseUrl: upstream.baseUrl }),
        ]);
        const body = BODY.toString('utf8').replace('test/small', 'test/scripted');
        for (const [coding, sent] of Object.entries(compressed(Buffer.from(body)))) {
          const response = await send(coding, sent);
          assert.equal(response.status, 200, `${coding}: ${await response.text()}`);
          const { text, headers } = upstream.calls.at(-1)!;
          assert.ok(text === body.replace('test/scripted', 'upstream-model'), `${coding}: ${text.slice(0, 200)}`);
          assert.equal(headers['content-encoding'], undefined);
        }
      } finally {
        await upstream.close();
      }
    });

    it('in a coding that is not known is refused with 415, which names it and tells the known ones', async () => {
      const response = await send('compress', BODY);
      assert.equal(response.headers.get('accept-encoding'), 'gzip, deflate, br, zstd');
      const { status, code, message } = await refusalOf(response);
      assert.deepEqual([status, code], [415, 'unsupported_content_encoding']);
      assert.match(message, /"compress"/);
    });

    it('and broken is invalid_body', async () => {
      for (const [coding, sent] of Object.entries(compressed(BODY)).filter(([name]) => name !== 'identity')) {
        const { status, code } = await refusalOf(await send(coding, sent.subarray(0, -3)));
        assert.deepEqual([status, code], [400, 'invalid_body'], coding);
      }
      assert.equal((await refusalOf(await send('gzip', BODY))).code, 'invalid_body');
    });

    it('is limited by what it becomes: 64 MB in a few kilobytes are refused without being held', async () => {
      const before = await bufferBytes(stack.api);
      for (const [coding, sent] of Object.entries(compressed(Buffer.alloc(64 * MEGABYTE))).slice(0, 6)) {
        const { status, code } = await refusalOf(await send(coding, sent));
        assert.deepEqual([status, code], [413, 'body_too_large'], coding);
      }
      assert.ok((await bufferBytes(stack.api)) - before < TEN_MEGABYTES);
    });
  });

  describe('asked for with "expect: 100-continue"', () => {
    it('are asked for where they are wanted', async () => {
      const call = await connection();
      await call.write(chatHead(payer.secret, `content-length: ${SMALL.length}`, 'expect: 100-continue'));
      await until('the go-ahead', () => call.received.startsWith('HTTP/1.1 100 Continue\r\n\r\n'));
      await call.write(SMALL);
      await until('an answer', () => call.received.includes('HTTP/1.1 200 OK'));
    });

    it('are not where the request is refused by its head, and the connection ends', async () => {
      for (const [secret, framing, status] of [
        ['sk-hf-unknown', 'content-length: 100', 401],
        [payer.secret, `content-length: ${2 * TEN_MEGABYTES}`, 413],
      ] as const) {
        const call = await connection();
        await call.write(chatHead(secret, framing, 'expect: 100-continue'));
        assert.ok(!call.received.includes('100 Continue'));
        const answer = await call.answer();
        assert.deepEqual([answer.status, answer.headers['connection']], [status, 'close']);
        await call.closed();
      }
    });
  });

  it('nobody waits for are read up to a bound and no further, from any sender and anywhere', async () => {
    for (const head of [
      chatHead('sk-hf-unknown', 'transfer-encoding: chunked'),
      chatHead(payer.secret, 'transfer-encoding: chunked').replace('POST', 'PUT'),
      chatHead(payer.secret, 'transfer-encoding: chunked').replace('POST /v1/chat/completions', 'GET /v1/models'),
      chatHead(payer.secret, 'transfer-encoding: chunked').replace('/v1/chat/completions', '/nothing'),
      chatHead(payer.secret, 'transfer-encoding: chunked').replace('POST /v1/chat/completions', 'GET /healthz'),
    ]) {
      const call = await connection();
      await call.write(head);
      const piece = chunkOf(Buffer.alloc(MEGABYTE));
      let sent = 0;
      for (; sent < 100 && !call.isClosed; sent += 1) await call.write(piece);
      assert.ok(sent < 100, `${head.split('\r\n')[0]}: ${sent} MiB`);
      await call.closed();
    }
  });

  it('of calls that follow each other without waiting are all read, and answered in their order', async () => {
    const call = await connection();
    const one = (content: string): string => {
      const body = JSON.stringify({ model: 'test/none', messages: [{ role: 'user', content }] });
      return chatHead(payer.secret, `content-length: ${body.length}`) + body;
    };
    await call.write(one('a') + one('b') + chatHead('sk-hf-unknown', 'content-length: 2') + '{}' + one('c'));
    const statuses = [];
    for (let n = 0; n < 4; n += 1) statuses.push((await call.answer()).status);
    assert.deepEqual(statuses, [404, 404, 401, 404]);
  });
});

describe('gateway: bodies within short limits', () => {
  let stack: TestStack;
  const open: RawConnection[] = [];

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({
      name: 'gateway-body-limits',
      worker: false,
      env: {
        BODY_LIMIT_BYTES: String(MEGABYTE),
        BODY_MEMORY_BYTES: String(4 * MEGABYTE),
        BODY_MEMORY_BYTES_PER_ACCOUNT: String(2 * MEGABYTE),
        BODY_SECONDS: '20',
        BODY_GRACE_SECONDS: '3',
        SLOW_BODIES_PER_ACCOUNT: '4',
        BODY_BURST_BYTES: String(4 * MEGABYTE),
        BODY_BYTES_PER_SECOND: String(MEGABYTE),
      },
    });
  });
  afterEach(() => {
    for (const connection of open.splice(0)) connection.close();
  });
  after(() => stack.stop());

  /** Begins a large body and leaves it unfinished. */
  async function begin(customer: Customer, bytes: number): Promise<RawConnection> {
    const call = await RawConnection.open(stack.baseUrl);
    open.push(call);
    await call.write(chatHead(customer.secret, `content-length: ${bytes + 1}`));
    await call.write(Buffer.alloc(bytes, 'x'));
    return call;
  }

  async function untilHeld(bytes: number): Promise<void> {
    await until(
      `${bytes} bytes to have come`,
      async () => (await metric(stack, 'holdfast_gateway_body_bytes', { pool: 'large' })) >= bytes,
    );
  }

  /** A whole body of a size, for a model that does not exist: money is never looked at. */
  const sized = (bytes: number): string =>
    JSON.stringify({ model: 'test/none', messages: [{ role: 'user', content: 'x'.repeat(bytes - 70) }] });

  async function assertServed(customer: Customer): Promise<void> {
    const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES });
    assert.equal(response.status, 200, await response.text());
  }

  it('one that stops coming is refused with 408 and its connection closed; another call of the key is served', async () => {
    const customer = await createCustomer(stack, '5');
    const call = await begin(customer, 1000);
    const { status, headers, body } = await call.answer();
    assert.deepEqual([status, headers['connection']], [408, 'close']);
    assert.equal((JSON.parse(body) as { error: { code: string } }).error.code, 'body_timeout');
    await call.closed();
    await assertServed(customer);
    assert.ok((await metric(stack, 'holdfast_gateway_bodies_refused_total', { code: 'body_timeout' })) >= 1);
  });

  it('of too many that come slowly the youngest is refused, and only of that account', async () => {
    const [greedy, other] = [await createCustomer(stack, '5'), await createCustomer(stack, '5')];
    const calls = [];
    for (let n = 0; n < 5; n += 1) calls.push(await begin(greedy, 10_000));
    const { status, body } = await calls[4]!.answer();
    assert.equal(status, 408, body);
    assert.match(body, /4 request bodies under way/);
    await assertServed(greedy);
    await assertServed(other);
  });

  it('an account that fills its share of the memory is refused for it: 429, not 503, and no word of a ledger', async () => {
    const greedy = await createCustomer(stack, '5');
    for (let n = 0; n < 2; n += 1) await begin(greedy, 700_000);
    await untilHeld(1_400_000);
    const { status, code, message } = await refusalOf(await post(stack, greedy.secret, sized(900_000)));
    assert.deepEqual([status, code], [429, 'body_budget_exceeded']);
    assert.doesNotMatch(message, /ledger|accounted/);
    await assertServed(greedy);
  });

  it('where all memory is taken the greediest account makes room for the next one', async () => {
    const greedy = await Promise.all([1, 2, 3].map(() => createCustomer(stack, '5')));
    const begun = [];
    for (const customer of greedy) {
      for (let n = 0; n < 2; n += 1) begun.push(await begin(customer, 690_000));
    }
    await untilHeld(6 * 690_000);
    const late = await createCustomer(stack, '5');
    assert.equal((await refusalOf(await post(stack, late.secret, sized(600_000)))).code, 'model_not_found');
    const evicted = await Promise.race(begun.map((call) => call.answer()));
    assert.equal(evicted.status, 429, evicted.body);
  });

  it('an account that sends more than its rate waits, and is refused with its waiting time where that is long', async () => {
    const customer = await createCustomer(stack, '5');
    const codes = [];
    const before = performance.now();
    for (let n = 0; n < 8; n += 1) {
      codes.push((await refusalOf(await post(stack, customer.secret, sized(1_000_000)))).code);
    }
    assert.deepEqual(new Set(codes), new Set(['model_not_found']));
    assert.ok(performance.now() - before > 2000, 'the last four took their second each');

    const answers = await Promise.all(Array.from({ length: 12 }, () => post(stack, customer.secret, sized(1_000_000))));
    const refused = answers.filter(({ status }) => status !== 404);
    assert.ok(refused.length > 0, 'twelve at once are more than anybody should wait for');
    for (const response of refused) {
      assert.ok(Number(response.headers.get('retry-after')) >= 1);
      const { status, code } = await refusalOf(response);
      assert.ok(status === 429 && ['rate_limit_exceeded', 'body_budget_exceeded'].includes(code), code);
    }
  });

  it('a compressed body counts as what it becomes', async () => {
    const customer = await createCustomer(stack, '5');
    const sent = new Uint8Array(gzipSync(sized(1_000_000)));
    assert.ok(sent.length < 2000);
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        const response = await post(stack, customer.secret, sent, { headers: { 'content-encoding': 'gzip' } });
        assert.equal((await refusalOf(response)).code, 'model_not_found');
      }),
    );
    const { code } = await refusalOf(await post(stack, customer.secret, sized(100)));
    assert.equal(code, 'rate_limit_exceeded', 'sixteen megabytes were asked for, not thirty kilobytes');
  });

  it('an account without money has a small rate for large bodies once it was told so; its small ones are answered as before', async () => {
    const poor = await createCustomer(stack, '0');
    const small = { model: 'test/small', messages: MESSAGES };
    assert.equal((await refusalOf(await post(stack, poor.secret, small))).code, 'insufficient_user_quota');
    const codeOf = async (customer: Customer, bytes: number): Promise<string> =>
      (await refusalOf(await post(stack, customer.secret, sized(bytes)))).code;
    const large = async (customer: Customer): Promise<string[]> => {
      const first = [await codeOf(customer, 1_000_000), await codeOf(customer, 1_000_000)];
      return [...first, ...(await Promise.all([1, 2, 3, 4, 5].map(() => codeOf(customer, 300_000))))];
    };
    const codes = await large(poor);
    assert.deepEqual(codes.slice(0, 2), ['model_not_found', 'model_not_found'], 'it may have been topped up');
    assert.ok(codes.includes('rate_limit_exceeded'), codes.join());
    assert.equal((await refusalOf(await post(stack, poor.secret, small))).code, 'insufficient_user_quota');
    const other = await createCustomer(stack, '5');
    assert.deepEqual(new Set(await large(other)), new Set(['model_not_found']));
  });
});
