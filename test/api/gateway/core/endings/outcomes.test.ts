/**
 * The outcome table: for each way a request can end, streamed and not, what the client sees, what the row says, what is
 * charged, what is given back and what becomes platform cost. Clients that leave are in client-abort.test.ts, streams
 * that the money ends in limits.test.ts.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { ErrorCode } from '../../../../../domain/errors.ts';
import type { Outcome } from '../../../../../domain/requests/request.ts';
import type { Fault } from '../../../../../twins/upstream/twin.ts';
import {
  balanceOf,
  createCustomer,
  dollars,
  findRow,
  MESSAGES,
  platformCosts,
  post,
  readStream,
  refusalOf,
  requestIdOf,
  settledRow,
  untilNothingHeld,
  violations,
  type Customer,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import {
  addModels,
  chunk,
  DONE,
  event,
  modelOf,
  openStream,
  sendCompletion,
  startScriptedUpstream,
  usage,
  type ScriptedUpstream,
} from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';

const BALANCE = dollars('1');
/** What a client got, in a form that streams and whole answers share. */
interface Seen {
  readonly requestId: string;
  /** 200 when the answer began well. */
  readonly status: number;
  /** The error's code, also when it came inside a stream. */
  readonly code: ErrorCode | null;
  readonly text: string;
  readonly done: boolean;
}

interface Case {
  readonly name: string;
  readonly fault?: Fault | readonly Fault[];
  readonly model?: string;
  readonly outcome: Outcome;
  /** What the client sees of it, by kind of answer; absent kinds are not tested. */
  readonly streamed?: { readonly status: number; readonly code: ErrorCode | null; readonly tokens: number };
  readonly whole?: { readonly status: number; readonly code: ErrorCode | null };
  /** Nobody told what was produced: what is booked is an estimate, and no less than the truth. */
  readonly isEstimated?: boolean;
}

const FAILED = { status: 502, code: 'upstream_failed' } as const;
const FAILED_AT_ONCE = { ...FAILED, tokens: 0 };
const FAILED_AFTER_3 = { status: 200, code: 'upstream_failed', tokens: 3 } as const;
const WELL = { status: 200, code: null } as const;

const CASES: readonly Case[] = [
  { name: 'answers', outcome: 'completed', streamed: { ...WELL, tokens: 16 }, whole: WELL },
  {
    name: 'answers in odd but legal framing',
    fault: { type: 'comments' },
    outcome: 'completed',
    streamed: { ...WELL, tokens: 16 },
    whole: WELL,
  },
  {
    name: 'answers in the name of another model',
    fault: { type: 'model_name', model: 'vendor-internal-0613' },
    outcome: 'completed',
    streamed: { ...WELL, tokens: 16 },
    whole: WELL,
  },
  {
    name: 'sends its usage late',
    fault: { type: 'late_usage', ms: 150 },
    outcome: 'completed',
    streamed: { ...WELL, tokens: 16 },
    whole: WELL,
  },
  {
    name: 'answers 500',
    fault: { type: 'status', status: 500 },
    outcome: 'upstream_error',
    streamed: FAILED_AT_ONCE,
    whole: FAILED,
  },
  {
    name: 'breaks the connection at once',
    fault: { type: 'refuse' },
    outcome: 'upstream_error',
    streamed: FAILED_AT_ONCE,
    whole: FAILED,
  },
  {
    name: 'breaks the connection after 3 tokens',
    fault: { type: 'reset', after_chunks: 3 },
    outcome: 'upstream_error',
    streamed: FAILED_AFTER_3,
    whole: FAILED,
  },
  {
    name: 'answers with an error under 200',
    fault: { type: 'error_chunk' },
    outcome: 'upstream_error',
    streamed: FAILED_AT_ONCE,
    whole: FAILED,
  },
  {
    name: 'fails after 3 tokens',
    fault: { type: 'error_chunk', after_chunks: 3 },
    outcome: 'upstream_error',
    streamed: FAILED_AFTER_3,
  },
  {
    name: 'ends after 3 tokens without saying so',
    fault: { type: 'eof', after_chunks: 3 },
    outcome: 'upstream_error',
    streamed: FAILED_AFTER_3,
    whole: FAILED,
  },
  {
    name: 'answers 200 and ends at once',
    isEstimated: true,
    fault: { type: 'eof', after_chunks: 0 },
    outcome: 'empty_completion',
    streamed: FAILED_AT_ONCE,
  },
  {
    name: 'answers 200 with an empty body',
    fault: { type: 'eof', after_chunks: 0 },
    outcome: 'upstream_error',
    whole: FAILED,
  },
  {
    name: 'sends garbage at once',
    fault: { type: 'garbage_sse', after_chunks: 0 },
    outcome: 'upstream_error',
    whole: FAILED,
  },
  {
    name: 'sends garbage after 3 tokens',
    fault: { type: 'garbage_sse', after_chunks: 3 },
    outcome: 'upstream_error',
    streamed: FAILED_AFTER_3,
  },
  {
    name: 'answers 200 with a web page',
    fault: { type: 'html' },
    outcome: 'upstream_error',
    streamed: FAILED_AT_ONCE,
    whole: FAILED,
  },
  {
    name: 'says nothing in time',
    isEstimated: true,
    fault: { type: 'hang' },
    model: 'test/impatient',
    outcome: 'upstream_timeout',
    streamed: { status: 504, code: 'upstream_timeout', tokens: 0 },
    whole: { status: 504, code: 'upstream_timeout' },
  },
  {
    name: 'falls silent after 3 tokens',
    isEstimated: true,
    fault: { type: 'hang', after_chunks: 3 },
    model: 'test/impatient',
    outcome: 'upstream_timeout',
    streamed: { status: 200, code: 'upstream_timeout', tokens: 3 },
    whole: { status: 504, code: 'upstream_timeout' },
  },
  {
    name: 'is too slow',
    isEstimated: true,
    fault: { type: 'slow', chunk_ms: 100 },
    model: 'test/impatient',
    outcome: 'upstream_timeout',
    whole: { status: 504, code: 'upstream_timeout' },
  },
  {
    name: 'answers without any content',
    fault: { type: 'empty' },
    outcome: 'empty_completion',
    streamed: { ...WELL, tokens: 0 },
    whole: WELL,
  },
];

/** What the twin really produced for a request, at the prices of `test/small`. */
function producedAt(stack: TestStack, requestId: string): bigint {
  const { prompt_tokens = 0, completion_tokens = 0 } = stack.twin.request(requestId) ?? {};
  return BigInt(prompt_tokens) * dollars('0.000001') + BigInt(completion_tokens) * dollars('0.000002');
}

describe('gateway: the outcome table', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-outcomes', env: { SETTLE_FLOOR_SECONDS: '0.02' } });
    upstream = await startScriptedUpstream();
    await addModels(stack, [
      modelOf({
        id: 'test/impatient',
        prices: { input: '1', output: '2' },
        request_timeout_seconds: 0.4,
        baseUrl: `${stack.twin.url}/v1`,
      }),
      modelOf({ id: 'test/scripted', prices: { input: '1', output: '2' }, baseUrl: upstream.baseUrl }),
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

  async function ask(customer: Customer, body: { model: string; stream: boolean }): Promise<Seen> {
    const response = await post(stack, customer.secret, { messages: MESSAGES, ...body });
    const requestId = requestIdOf(response);
    if (response.status !== 200) {
      const { status, code } = await refusalOf(response);
      return { requestId, status, code, text: '', done: false };
    }
    if (!body.stream) {
      const { choices, model } = (await response.json()) as {
        choices: { message: { content: string } }[];
        model: string;
      };
      assert.equal(model, body.model);
      return { requestId, ...WELL, text: choices[0]!.message.content, done: true };
    }
    const { chunks, done, text } = await readStream(response);
    const error = chunks.at(-1)?.error;
    assert.ok(chunks.every((chunk) => chunk.error !== undefined || chunk.model === body.model));
    return { requestId, status: 200, code: (error?.code ?? null) as ErrorCode | null, text, done };
  }

  for (const { name, fault, model = 'test/small', outcome, streamed, whole, isEstimated = false } of CASES) {
    for (const [kind, expected] of [
      ['a stream', streamed],
      ['a whole answer', whole],
    ] as const) {
      if (expected === undefined) continue;
      const isBilled = outcome === 'completed';
      it(`the upstream ${name}, ${kind}: ${outcome}, ${isBilled ? 'charged' : 'given back'}`, async () => {
        const customer = await createCustomer(stack, '1');
        if (fault !== undefined) stack.twin.faults.add({ fault });
        const seen = await ask(customer, { model, stream: expected === streamed });

        assert.deepEqual({ status: seen.status, code: seen.code }, { status: expected.status, code: expected.code });
        if ('tokens' in expected) assert.equal(seen.text.split(' ').length - 1, expected.tokens);
        assert.equal(seen.done, expected.code === null);

        const row = await settledRow(stack, seen.requestId);
        const cost = isBilled ? dollars('0.000033') : 0n;
        assert.deepEqual(
          { state: row.state, outcome: row.outcome, cost: row.cost, estimated: row.estimated, stream: row.stream },
          {
            state: isBilled ? 'charged' : 'released',
            outcome,
            cost,
            estimated: isEstimated,
            stream: expected === streamed,
          },
        );
        const booked = await platformCosts(stack, seen.requestId);
        const produced = producedAt(stack, seen.requestId);
        if (isEstimated) assert.ok(booked[outcome]! >= produced, `${booked[outcome]} booked for ${produced}`);
        else assert.deepEqual(booked, isBilled || produced === 0n ? {} : { [outcome]: produced });
        assert.match(row.workflowId ?? '', /^meter\/req_[0-9a-f]{32}$/);
        await untilNothingHeld(stack, customer.account);
        assert.deepEqual(await balanceOf(stack, customer.account), {
          balance: BALANCE - cost,
          held: 0n,
          available: BALANCE - cost,
        });
      });
    }
  }

  it('a flat price per call is charged whole for an answer and not at all for a failure', async () => {
    for (const stream of [false, true]) {
      const customer = await createCustomer(stack, '1');
      const well = await ask(customer, { model: 'test/per-call', stream });
      stack.twin.faults.add({ fault: { type: 'error_chunk', after_chunks: 2 } });
      const badly = await ask(customer, { model: 'test/per-call', stream });
      assert.deepEqual([well.code, badly.code], [null, 'upstream_failed']);
      assert.equal((await settledRow(stack, well.requestId)).cost, dollars('0.01'));
      assert.equal((await settledRow(stack, badly.requestId)).cost, 0n);
      await untilNothingHeld(stack, customer.account);
      assert.equal((await balanceOf(stack, customer.account)).balance, dollars('0.99'));
    }
  });

  it('usage that a failed stream had reported is platform cost, and the customer pays nothing', async () => {
    const customer = await createCustomer(stack, '1');
    upstream.script((response) => {
      openStream(response);
      response.write(chunk({ content: 'Hello' }, null, { usage: usage(100) }));
      setImmediate(() => response.destroy());
    });
    const { requestId, code } = await ask(customer, { model: 'test/scripted', stream: true });
    assert.equal(code, 'upstream_failed');
    const row = await settledRow(stack, requestId);
    assert.deepEqual([row.outcome, row.listCost, row.cost], ['upstream_error', dollars('0.000201'), 0n]);
    assert.deepEqual(await platformCosts(stack, requestId), { upstream_error: dollars('0.000201') });
    assert.equal((await balanceOf(stack, customer.account)).balance, BALANCE);
  });

  it('a stream that says [DONE] without a finish reason is a complete answer', async () => {
    const customer = await createCustomer(stack, '1');
    upstream.script((response) => {
      openStream(response);
      response.end(chunk({ content: 'Hello' }) + event({ choices: [], usage: usage(5) }) + DONE);
    });
    const { requestId, code, done } = await ask(customer, { model: 'test/scripted', stream: true });
    assert.deepEqual([code, done], [null, true]);
    assert.equal((await settledRow(stack, requestId)).cost, dollars('0.000011'));
  });

  it('a stream that ends after its finish reason without [DONE] is a complete answer', async () => {
    const customer = await createCustomer(stack, '1');
    upstream.script((response) => {
      openStream(response);
      response.end(chunk({ content: 'Hello' }) + chunk({}, 'stop', { usage: usage(5) }));
    });
    const { requestId, code, done } = await ask(customer, { model: 'test/scripted', stream: true });
    assert.deepEqual([code, done], [null, true]);
    const row = await settledRow(stack, requestId);
    assert.deepEqual([row.outcome, row.cost, row.estimated], ['completed', dollars('0.000011'), false]);
  });

  it('with n answers, one finish reason is not the end of all', async () => {
    const customer = await createCustomer(stack, '1');
    upstream.script((response) => {
      openStream(response);
      response.end(chunk({ content: 'Hello' }) + chunk({}, 'stop'));
    });
    const response = await post(stack, customer.secret, {
      model: 'test/scripted',
      messages: MESSAGES,
      stream: true,
      n: 2,
    });
    const { requestId, chunks } = await readStream(response);
    assert.equal(chunks.at(-1)?.error?.code, 'upstream_failed');
    assert.equal((await settledRow(stack, requestId)).outcome, 'upstream_error');
  });

  it('a web page or an error under 200 never reaches the client of a stream', async () => {
    const customer = await createCustomer(stack, '1');
    for (const [type, body] of [
      ['text/html', '<html>\n\n<h1>It works!</h1>\n\n</html>'],
      ['application/json', '{"error":{"message":"internal detail of the provider"}}'],
      ['text/plain', 'upstream connect error'],
    ] as const) {
      upstream.script((response) => {
        response.writeHead(200, { 'content-type': type });
        response.end(body);
      });
      const response = await post(stack, customer.secret, { model: 'test/scripted', messages: MESSAGES, stream: true });
      const requestId = requestIdOf(response);
      const text = await response.text();
      for (const secret of ['It works', 'internal detail', 'connect error']) assert.ok(!text.includes(secret), text);
      assert.equal(response.status, 502, type);
      assert.equal((await settledRow(stack, requestId)).cost, 0n);
    }
  });

  it('a status that is no success is a failure, whatever its body says', async () => {
    const customer = await createCustomer(stack, '1');
    for (const status of [201, 204, 302, 304]) {
      upstream.script((response) =>
        sendCompletion(response, status === 204 || status === 304 ? '' : '{"choices":[]}', status),
      );
      const response = await post(stack, customer.secret, { model: 'test/scripted', messages: MESSAGES });
      const { code } = await refusalOf(response);
      assert.equal(code, 'upstream_failed', String(status));
      assert.equal((await settledRow(stack, requestIdOf(response))).outcome, 'upstream_error');
    }
  });

  for (const [name, body] of [
    ['a number', '7'],
    ['a list', '[]'],
    ['null', 'null'],
    ['no choices', '{"id":"x","usage":{"prompt_tokens":1,"completion_tokens":1}}'],
    ['choices that are no list', '{"choices":{"0":{}}}'],
    ['choices that are no objects', '{"choices":[null,1]}'],
    ['half a body', '{"choices":[{"message":{"content":"Hel'],
  ] as const) {
    it(`a whole answer that is ${name} is unreadable: 502, nothing charged`, async () => {
      const customer = await createCustomer(stack, '1');
      upstream.script((response) => sendCompletion(response, body));
      const response = await post(stack, customer.secret, { model: 'test/scripted', messages: MESSAGES });
      assert.equal((await refusalOf(response)).code, 'upstream_failed');
      const row = await settledRow(stack, requestIdOf(response));
      assert.deepEqual([row.outcome, row.cost], ['upstream_error', 0n]);
    });
  }

  it('whatever JSON an upstream answers: the request ends at once, as an answer or as a clear error', async function () {
    this.timeout(60_000);
    const customer = await createCustomer(stack, '1');
    const field = fc.jsonValue({ maxDepth: 2 });
    const text = fc.oneof({ weight: 3, arbitrary: fc.string() }, { weight: 1, arbitrary: field });
    const call = fc.oneof(
      field,
      fc.record({ index: field, function: fc.oneof(field, fc.record({ name: text, arguments: text })) }),
    );
    const message = fc.oneof(
      { weight: 1, arbitrary: field },
      {
        weight: 4,
        arbitrary: fc.record(
          {
            role: field,
            content: text,
            refusal: text,
            reasoning: text,
            audio: field,
            function_call: call,
            tool_calls: fc.oneof(field, fc.array(call)),
          },
          { requiredKeys: [] },
        ),
      },
    );
    const choice = fc.oneof(
      { weight: 1, arbitrary: field },
      {
        weight: 6,
        arbitrary: fc.record({ index: field, message, delta: message, finish_reason: text }, { requiredKeys: [] }),
      },
    );
    const answer = fc.oneof(
      { weight: 1, arbitrary: field },
      {
        weight: 8,
        arbitrary: fc.record(
          { id: field, created: field, choices: fc.array(choice), error: fc.option(field) },
          { requiredKeys: ['choices'] },
        ),
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(answer, { minLength: 1, maxLength: 3 }), fc.boolean(), async (answers, stream) => {
        upstream.script((response) => {
          if (!stream) return sendCompletion(response, JSON.stringify(answers[0]));
          openStream(response);
          response.end(answers.map((body) => `data: ${JSON.stringify(body)}\n\n`).join('') + DONE);
        });
        const response = await post(stack, customer.secret, { model: 'test/scripted', messages: MESSAGES, stream });
        const body = await response.text();
        assert.ok(response.status === 200 || response.status === 502, `${response.status} ${body}`);
        const row = await findRow(stack, requestIdOf(response));
        assert.ok(row !== null && row.state !== 'held', 'the end is recorded before the answer ends');
      }),
      { numRuns: 150 },
    );
    await untilNothingHeld(stack, customer.account);
  });

  it('a :free request is logged at 0 when it works and when it fails, without a workflow and without a hold; what it gave away is booked', async () => {
    const customer = await createCustomer(stack, '0');
    for (const [fault, stream, outcome] of [
      [undefined, false, 'completed'],
      [undefined, true, 'completed'],
      [{ type: 'status', status: 500 }, false, 'upstream_error'],
      [{ type: 'error_chunk', after_chunks: 3 }, true, 'upstream_error'],
    ] as const) {
      if (fault !== undefined) stack.twin.faults.add({ fault });
      const { requestId } = await ask(customer, { model: 'test/small:free', stream });
      const row = await settledRow(stack, requestId);
      assert.deepEqual(
        [row.state, row.outcome, row.hold, row.cost, row.listCost, row.free, row.workflowId],
        ['released', outcome, 0n, 0n, 0n, true, null],
      );
      assert.equal(row.outputTokens, outcome === 'completed' ? 16 : stream ? 3 : 0);
      // Its namesake's prices: one token in at $1 per million, each out at $2.
      const given = { free: dollars(outcome === 'completed' ? '0.000033' : '0.000007') };
      assert.deepEqual(await platformCosts(stack, requestId), outcome === 'completed' || stream ? given : {});
    }
  });
});
