/**
 * Clients that leave: at each point of an answer, streamed and not. The upstream is drained for its usage, so that an
 * abort is neither free nor charged by guesswork; only what cannot be drained is estimated. And clients that stay but
 * do not read, who must not be able to keep a request open.
 */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import {
  balanceOf,
  createCustomer,
  dollars,
  errorOf,
  MESSAGES,
  newestRequest,
  platformCosts,
  rowWhen,
  settledRow,
  untilNothingHeld,
  upstreamCalls,
  violations,
  type Customer,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import {
  addModels,
  chunk,
  DONE,
  modelOf,
  openStream,
  startScriptedUpstream,
  usage,
  writePaced,
  type ScriptedUpstream,
} from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

/** What an answer of 16 tokens to one prompt token costs at `test/small`. */
const FULL_COST = dollars('0.000033');
const TOKENS = 16;

describe('gateway: a client that leaves', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({
      name: 'gateway-client-abort',
      env: { DRAIN_SECONDS: '2', SETTLE_FLOOR_SECONDS: '0.02' },
    });
    upstream = await startScriptedUpstream();
    await addModels(stack, [
      modelOf({
        id: 'test/endless',
        prices: { input: '1', output: '2' },
        context_length: 10_000_000,
        // Long enough to fill every buffer on the way to a client that does not read, on a busy machine too.
        request_timeout_seconds: 3,
        baseUrl: upstream.baseUrl,
      }),
      // As `test/small`, but nobody can be asked afterwards, and its time is short.
      modelOf({
        id: 'test/mute',
        prices: { input: '1', output: '2' },
        request_timeout_seconds: 8,
        baseUrl: `${stack.twin.url}/v1`,
      }),
    ]);
  });
  afterEach(async () => {
    stack.twin.faults.clear();
    assert.deepEqual(await violations(stack), []);
  });
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  /** Reads `pieces` pieces of text of a stream and leaves, as breaking out of the loop does. */
  async function leaveAfter(
    customer: Customer,
    pieces: number,
    model = 'test/small',
    maxTokens?: number,
  ): Promise<string> {
    const limit = maxTokens === undefined ? {} : { max_tokens: maxTokens };
    const stream = await customer.openai.chat.completions.create({
      model,
      messages: MESSAGES,
      stream: true,
      ...limit,
    });
    let read = 0;
    for await (const { choices } of stream) {
      if (choices[0]?.delta.content) read += 1;
      if (read >= pieces) break;
    }
    const requestId = await newestRequest(stack, customer.account);
    assert.ok(requestId);
    return requestId;
  }

  for (const [when, pieces] of [
    ['before the first token', 0],
    ['after the first token', 1],
    ['in the middle', 8],
    ['after the last token, before the usage', TOKENS],
  ] as const) {
    it(`${when} of a stream: pays what the upstream produced, no estimate`, async () => {
      const customer = await createCustomer(stack, '1');
      stack.twin.faults.add({
        fault: [
          { type: 'slow', chunk_ms: 15 },
          { type: 'late_usage', ms: 150 },
        ],
      });
      const requestId = await leaveAfter(customer, pieces);
      const row = await settledRow(stack, requestId);
      const produced = stack.twin.request(requestId);
      assert.equal(produced?.status, 'completed', 'the upstream was drained to its end');
      assert.deepEqual(
        {
          state: row.state,
          outcome: row.outcome,
          estimated: row.estimated,
          cost: row.cost,
          tokens: [row.inputTokens, row.outputTokens],
        },
        {
          state: 'charged',
          outcome: 'completed',
          estimated: false,
          cost: FULL_COST,
          tokens: [produced.prompt_tokens, produced.completion_tokens],
        },
      );
      assert.ok(row.clientLeftAt, 'the row says when the client left');
      await untilNothingHeld(stack, customer.account);
      assert.equal((await balanceOf(stack, customer.account)).balance, dollars('1') - FULL_COST);
    });
  }

  it('during a whole answer: pays what the upstream produced, no estimate', async () => {
    const customer = await createCustomer(stack, '1');
    stack.twin.faults.add({ fault: { type: 'slow', chunk_ms: 20 } });
    const leave = new AbortController();
    const call = errorOf(
      customer.openai.chat.completions.create({ model: 'test/small', messages: MESSAGES }, { signal: leave.signal }),
    );
    const requestId = await until('the request to be held', () => newestRequest(stack, customer.account));
    await until('the upstream to work on it', () => stack.twin.request(requestId)?.status === 'running');
    leave.abort();
    await call;
    const row = await settledRow(stack, requestId);
    assert.deepEqual([row.outcome, row.estimated, row.cost], ['completed', false, FULL_COST]);
    assert.ok(row.clientLeftAt);
  });

  it('before the upstream has answered at all: pays what the upstream then produces', async () => {
    const customer = await createCustomer(stack, '1');
    stack.twin.configure({ latency_ms: 200 });
    try {
      for (const stream of [true, false]) {
        const leave = new AbortController();
        const before = upstreamCalls(stack);
        const call = errorOf(
          customer.openai.chat.completions.create(
            { model: 'test/small', messages: MESSAGES, stream },
            { signal: leave.signal },
          ),
        );
        await until('the upstream to be called', () => upstreamCalls(stack) > before);
        leave.abort();
        await call;
        const requestId = await newestRequest(stack, customer.account);
        const row = await settledRow(stack, requestId!);
        assert.deepEqual([row.outcome, row.estimated, row.cost], ['completed', false, FULL_COST]);
        assert.ok(row.clientLeftAt);
      }
    } finally {
      stack.twin.configure({ latency_ms: 0 });
    }
  });

  for (const [model, isEstimated, how] of [
    ['test/small', false, "by the upstream's look-up"],
    ['test/mute', true, 'by what came, marked as an estimate'],
  ] as const) {
    it(`a stream whose upstream cannot be drained in time is paid ${how}`, async () => {
      const customer = await createCustomer(stack, '1');
      stack.twin.faults.add({ fault: { type: 'hang', after_chunks: 5 } });
      const requestId = await leaveAfter(customer, 5, model);
      const row = await settledRow(stack, requestId);
      assert.deepEqual(
        {
          state: row.state,
          outcome: row.outcome,
          estimated: row.estimated,
          tokens: [row.inputTokens, row.outputTokens],
          cost: row.cost,
        },
        // "Hi" is one token and so is each of the twin's words.
        {
          state: 'charged',
          outcome: 'client_disconnected',
          estimated: isEstimated,
          tokens: [1, 5],
          cost: dollars('0.000011'),
        },
      );
      assert.ok(row.clientLeftAt);
      assert.equal((await balanceOf(stack, customer.account)).balance, dollars('1') - dollars('0.000011'));
    });

    it(`what came while draining is paid as well, ${how}: the upstream produced it for this client`, async () => {
      const customer = await createCustomer(stack, '1');
      stack.twin.faults.add({
        fault: [
          { type: 'slow', chunk_ms: 30 },
          { type: 'hang', after_chunks: 10 },
        ],
      });
      const row = await settledRow(stack, await leaveAfter(customer, 2, model));
      assert.deepEqual([row.outcome, row.estimated, row.outputTokens], ['client_disconnected', isEstimated, 10]);
    });
  }

  /** Asks for a whole answer and leaves once the upstream has the request. */
  async function leaveWhole(customer: Customer, model: string, maxTokens?: number): Promise<string> {
    const leave = new AbortController();
    const limit = maxTokens === undefined ? {} : { max_tokens: maxTokens };
    const call = errorOf(
      customer.openai.chat.completions.create({ model, messages: MESSAGES, ...limit }, { signal: leave.signal }),
    );
    const requestId = await until('the request to be held', () => newestRequest(stack, customer.account));
    await until('the upstream to have it', () => stack.twin.request(requestId));
    leave.abort();
    await call;
    return requestId;
  }

  it('a whole answer, and a stream that is held in full, are drained beyond the drain time: 60 tokens are paid, not 2', async () => {
    for (const kind of ['whole', 'stream'] as const) {
      const customer = await createCustomer(stack, '1');
      // 3 s, which is more than the time for draining what is not held in full.
      stack.twin.faults.add({
        fault: [
          { type: 'slow', chunk_ms: 50 },
          { type: 'output', output_tokens: 60 },
        ],
      });
      const requestId =
        kind === 'whole'
          ? await leaveWhole(customer, 'test/mute', 1000)
          : await leaveAfter(customer, 2, 'test/mute', 1000);
      const row = await settledRow(stack, requestId);
      assert.deepEqual([row.outcome, row.estimated, row.outputTokens], ['completed', false, 60]);
    }
  });

  it('a whole answer whose upstream does not end in time: nobody pays, and the platform books no less than was produced', async () => {
    const customer = await createCustomer(stack, '1');
    stack.twin.faults.add({ fault: { type: 'hang', after_chunks: 5 } });
    const requestId = await leaveWhole(customer, 'test/mute');
    const row = await settledRow(stack, requestId);
    assert.deepEqual([row.state, row.outcome, row.cost], ['released', 'upstream_timeout', 0n]);
    const { upstream_timeout: booked } = await platformCosts(stack, requestId);
    assert.ok(booked! >= dollars('0.000011'), `${booked} booked`);
  });

  it('an upstream that fails after the client has left: nothing is charged, as for everybody else, and 8 tokens are booked', async () => {
    const customer = await createCustomer(stack, '1');
    stack.twin.faults.add({
      fault: [
        { type: 'slow', chunk_ms: 20 },
        { type: 'reset', after_chunks: 8 },
      ],
    });
    const requestId = await leaveAfter(customer, 3);
    const row = await settledRow(stack, requestId);
    assert.deepEqual([row.state, row.outcome, row.cost], ['released', 'upstream_error', 0n]);
    assert.ok(row.clientLeftAt);
    assert.deepEqual(await platformCosts(stack, requestId), { upstream_error: dollars('0.000017') });
  });

  it('a client that leaves a :free stream pays nothing, as ever', async () => {
    const customer = await createCustomer(stack, '0');
    stack.twin.faults.add({ fault: { type: 'hang', after_chunks: 3 } });
    const row = await settledRow(stack, await leaveAfter(customer, 3, 'test/small:free'));
    assert.deepEqual([row.state, row.outcome, row.cost, row.workflowId], ['released', 'client_disconnected', 0n, null]);
  });

  it('a client that leaves while it sends its body has no row, no hold and no upstream call', async () => {
    const customer = await createCustomer(stack, '1');
    const before = upstreamCalls(stack);
    const socket = await openSocket(stack);
    socket.write(head(customer, 1000) + '{"model":"test/small","messages":[');
    socket.destroy();
    const later = await createCustomer(stack, '1');
    await later.openai.chat.completions.create({ model: 'test/small', messages: MESSAGES });
    assert.equal(await newestRequest(stack, customer.account), null);
    assert.equal(upstreamCalls(stack), before + 1);
  });

  describe('a client that stays and does not read', () => {
    const PIECE = 'word '.repeat(8 * 1024);
    const PIECES = 600; // 24 MB, more than all buffers between the upstream and a client that does not read.

    function scriptEndlessAnswer(): void {
      upstream.script(async (response) => {
        openStream(response);
        let sent = 0;
        while (sent < PIECES && (await writePaced(response, chunk({ content: PIECE })))) sent += 1;
        response.end(chunk({}, 'stop') + chunk({}, null, { choices: [], usage: usage(1_000_000) }) + DONE);
      });
    }

    it('cannot keep its request open beyond the time-out, and pays for what it was sent', async () => {
      const customer = await createCustomer(stack, '5');
      scriptEndlessAnswer();
      const socket = await openSocket(stack);
      const body = JSON.stringify({ model: 'test/endless', messages: MESSAGES, stream: true });
      socket.write(head(customer, Buffer.byteLength(body)) + body);
      await once(socket, 'data');
      socket.pause();
      const requestId = await until('the request to be held', () => newestRequest(stack, customer.account));
      const row = await rowWhen(stack, requestId, 'ended', ({ state }) => state !== 'held');
      assert.equal(row.outcome, 'client_disconnected');
      assert.ok(row.cost! > 0n, 'what was delivered is paid');
      socket.destroy();
      await untilNothingHeld(stack, customer.account);
    });

    it('can read slowly without leaving anything behind in the process', async () => {
      const customer = await createCustomer(stack, '5');
      scriptEndlessAnswer();
      const socket = await openSocket(stack);
      const body = JSON.stringify({ model: 'test/endless', messages: MESSAGES, stream: true });
      socket.write(head(customer, Buffer.byteLength(body)) + body);
      socket.on('data', () => {
        socket.pause();
        setImmediate(() => socket.resume());
      });
      const requestId = await until('the request to be held', () => newestRequest(stack, customer.account));
      await rowWhen(stack, requestId, 'ended', ({ state }) => state !== 'held');
      socket.destroy();
      const warnings = stack.api.log.filter(({ msg }) => /MaxListeners|memory leak/.test(String(msg)));
      assert.deepEqual(warnings, []);
    });
  });
});

async function openSocket(stack: TestStack): Promise<Socket> {
  const { hostname, port } = new URL(stack.baseUrl);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

function head(customer: Customer, length: number): string {
  return (
    'POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n' +
    `authorization: Bearer ${customer.secret}\r\ncontent-length: ${length}\r\n\r\n`
  );
}
