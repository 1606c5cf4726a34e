/**
 * Every row of the error table as an unmodified `openai` client sees it, and that no refusal ever reaches the upstream.
 * The order of the checks is in check-order.test.ts, refusals because the ledger cannot be reached in
 * availability.test.ts.
 */
import assert from 'node:assert/strict';
import type OpenAI from 'openai';
import {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
  UnprocessableEntityError,
} from 'openai';
import { freezeAccount } from '../../../../../db/accounts/accounts.ts';
import { revokeApiKey } from '../../../../../db/accounts/api-keys.ts';
import { ERRORS, type ErrorCode } from '../../../../../domain/errors.ts';
import type { Fault } from '../../../../../twins/upstream/twin.ts';
import {
  addKey,
  balanceOf,
  createCustomer,
  dollars,
  errorOf,
  MESSAGES,
  openAiClient,
  post,
  readStream,
  refusalOf,
  rowOf,
  upstreamCalls,
  type Customer,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import { addModels, modelOf } from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

const BODY_LIMIT_BYTES = 100_000;
const HOUR_MS = 3_600_000;
const PAST = new Date(Date.now() - HOUR_MS);
/** The address of no test client. */
const ELSEWHERE = ['203.0.113.0/24'];

type ErrorClass = abstract new (...args: never[]) => APIError;

/** What an error looks like from the SDK. */
interface Expected {
  readonly Class: ErrorClass;
  readonly status: number;
  readonly code: ErrorCode;
  readonly param?: string;
  readonly message?: RegExp;
  /** Seconds of `retry-after`; absent where asking again cannot help. */
  readonly retryAfter?: string;
}

function assertError(error: APIError, expected: Expected): void {
  const { Class, status, code, param = null, message = /./, retryAfter = null } = expected;
  assert.ok(error instanceof Class, `${error.constructor.name} for ${code}`);
  if (Class === APIError) assert.equal(Object.getPrototypeOf(error), APIError.prototype, `${code} is a plain APIError`);
  assert.deepEqual(
    { status: error.status, code: error.code, type: error.type, param: error.param },
    { status, code, type: ERRORS[code].type, param },
  );
  assert.match(error.message, message);
  assert.match(error.requestID ?? '', /^req_[0-9a-f]{32}$/);
  assert.equal(error.headers?.get('retry-after') ?? null, retryAfter);
}

describe('gateway: errors', () => {
  let stack: TestStack;
  let rich: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({
      name: 'gateway-errors',
      worker: false,
      env: {
        KEY_CONCURRENCY: '2',
        ACCOUNT_CONCURRENCY: '3',
        BODY_LIMIT_BYTES: String(BODY_LIMIT_BYTES),
        DRAIN_SECONDS: '0.5',
      },
    });
    await addModels(stack, [
      modelOf({
        id: 'test/impatient',
        prices: { input: '1', output: '2' },
        request_timeout_seconds: 0.3,
        baseUrl: `${stack.twin.url}/v1`,
      }),
    ]);
    rich = await createCustomer(stack, '5');
  });
  afterEach(() => stack.twin.faults.clear());
  after(() => stack.stop());

  const chat = (openai: OpenAI, more: object = {}): PromiseLike<unknown> =>
    openai.chat.completions.create({ model: 'test/small', messages: MESSAGES, ...more });

  /** Each row that is refused before the upstream, with the caller it is refused to. */
  const REFUSALS: readonly {
    readonly name: string;
    readonly caller: () => Promise<OpenAI>;
    readonly body?: object;
    readonly expected: Expected;
  }[] = [
    {
      name: 'an unknown key',
      caller: async () => openAiClient(stack, 'sk-hf-unknown'),
      expected: { Class: AuthenticationError, status: 401, code: 'invalid_api_key' },
    },
    {
      name: 'a revoked key',
      caller: async () => {
        const { keyId, openai } = await addKey(stack, rich.account);
        await revokeApiKey(stack.admin, { id: keyId, accountId: rich.account.uuid });
        return openai;
      },
      expected: { Class: AuthenticationError, status: 401, code: 'key_revoked' },
    },
    {
      name: 'an expired key',
      caller: async () => (await addKey(stack, rich.account, { expiresAt: PAST })).openai,
      expected: { Class: AuthenticationError, status: 401, code: 'key_expired' },
    },
    {
      name: 'an address that the key does not allow',
      caller: async () => (await addKey(stack, rich.account, { ipAllowlist: ELSEWHERE })).openai,
      expected: { Class: PermissionDeniedError, status: 403, code: 'ip_not_allowed' },
    },
    {
      name: 'a frozen account',
      caller: async () => {
        const { account, openai } = await createCustomer(stack, '1');
        await freezeAccount(stack.admin, account.uuid, { kind: 'operator', reason: 'test' });
        return openai;
      },
      expected: { Class: PermissionDeniedError, status: 403, code: 'account_frozen' },
    },
    {
      name: 'a malformed body',
      caller: async () => rich.openai,
      body: { messages: 'Hi' },
      expected: { Class: BadRequestError, status: 400, code: 'invalid_body', param: 'messages' },
    },
    {
      name: 'a body that is too large',
      caller: async () => rich.openai,
      body: { messages: [{ role: 'user', content: 'x'.repeat(BODY_LIMIT_BYTES) }] },
      expected: { Class: APIError, status: 413, code: 'body_too_large', message: /100000 bytes/ },
    },
    {
      name: 'a field that changes the price and is not supported',
      caller: async () => rich.openai,
      body: { service_tier: 'priority' },
      expected: { Class: BadRequestError, status: 400, code: 'unsupported_parameter', param: 'service_tier' },
    },
    {
      name: 'an unknown model',
      caller: async () => rich.openai,
      body: { model: 'test/none' },
      expected: { Class: NotFoundError, status: 404, code: 'model_not_found', param: 'model', message: /test\/none/ },
    },
    {
      name: 'a model that the key does not allow',
      caller: async () => (await addKey(stack, rich.account, { models: ['test/large'] })).openai,
      expected: { Class: PermissionDeniedError, status: 403, code: 'model_not_allowed', param: 'model' },
    },
    {
      name: 'a model without a price',
      caller: async () => rich.openai,
      body: { model: 'test/unpriced' },
      expected: { Class: BadRequestError, status: 400, code: 'model_not_priced', param: 'model' },
    },
    {
      name: 'a key whose limit is used up',
      caller: async () => (await addKey(stack, rich.account, { limit: dollars('0') })).openai,
      expected: { Class: APIError, status: 402, code: 'key_limit_exceeded' },
    },
    {
      name: 'a key whose limit is too small for the request',
      caller: async () => (await addKey(stack, rich.account, { limit: dollars('0.0001') })).openai,
      expected: {
        Class: APIError,
        status: 402,
        code: 'key_limit_exceeded',
        message: /remaining \$0\.000100000000, required \$0\.00\d{10}\./,
      },
    },
    {
      name: 'an empty account',
      caller: async () => (await createCustomer(stack, '0')).openai,
      expected: {
        Class: PermissionDeniedError,
        status: 403,
        code: 'insufficient_user_quota',
        message: /insufficient quota: remaining \$0\.000000000000, required \$0\.00\d{10}\./,
      },
    },
    {
      name: 'an account with too little for the request',
      caller: async () => (await createCustomer(stack, '0.000001')).openai,
      expected: {
        Class: PermissionDeniedError,
        status: 403,
        code: 'insufficient_user_quota',
        message: /insufficient quota: remaining \$0\.000001000000, required \$0\.00\d{10}\./,
      },
    },
  ];

  for (const { name, caller, body = {}, expected } of REFUSALS) {
    it(`${name}: ${expected.status} ${expected.code}, streamed or not, and the upstream is not called`, async () => {
      const openai = await caller();
      const before = upstreamCalls(stack);
      for (const stream of [false, true]) {
        assertError(await errorOf(chat(openai, { ...body, stream })), expected);
      }
      assert.equal(upstreamCalls(stack), before);
    });
  }

  it('no key at all: 401 invalid_api_key that says how to send one', async () => {
    for (const authorization of [undefined, '', 'Bearer ', 'Basic abc', 'sk-hf-naked']) {
      const response = await post(
        stack,
        null,
        { model: 'test/small', messages: MESSAGES },
        { headers: authorization === undefined ? {} : { authorization } },
      );
      const refusal = await refusalOf(response);
      assert.deepEqual([refusal.status, refusal.code], [401, 'invalid_api_key'], String(authorization));
      assert.match(refusal.message, /Authorization: Bearer/);
    }
  });

  it('a key at its limit gets 402 while a second key of the account works, and the balance is untouched', async () => {
    const customer = await createCustomer(stack, '1', { limit: dollars('0.003') });
    const second = await addKey(stack, customer.account);
    await chat(customer.openai, { max_tokens: 900 });
    assertError(await errorOf(chat(customer.openai, { max_tokens: 1500 })), {
      Class: APIError,
      status: 402,
      code: 'key_limit_exceeded',
    });
    await chat(second.openai, { max_tokens: 1500 });
    assert.deepEqual(await balanceOf(stack, customer.account), {
      balance: dollars('0.999934'),
      held: 0n,
      available: dollars('0.999934'),
    });
  });

  it('a key with too many requests open: 429 with retry-after, and free again when one ends', async () => {
    const customer = await addKey(stack, rich.account);
    stack.twin.faults.add({ match: { stream: true }, times: 2, fault: { type: 'hang', after_chunks: 1 } });
    const before = upstreamCalls(stack);
    const leave = new AbortController();
    const open = [0, 1].map(() =>
      customer.openai.chat.completions.create(
        { model: 'test/small', messages: MESSAGES, stream: true },
        { signal: leave.signal },
      ),
    );
    await Promise.all(open);
    for (const model of ['test/small', 'test/small:free']) {
      assertError(await errorOf(chat(customer.openai, { model })), {
        Class: RateLimitError,
        status: 429,
        code: 'rate_limit_exceeded',
        retryAfter: '1',
      });
    }
    assert.equal(upstreamCalls(stack), before + 2);
    await chat(rich.openai);

    leave.abort();
    // The upstream that hangs is drained until the drain time-out; then its place is free.
    await until('a place to be free', async () => {
      const response = await post(stack, customer.secret, { model: 'test/small:free', messages: MESSAGES });
      await response.text();
      return response.status === 200;
    });
  });

  it('an account with too many requests open over its keys: 429 with retry-after', async () => {
    const first = await createCustomer(stack, '1');
    const second = await addKey(stack, first.account);
    stack.twin.faults.add({ match: { stream: true }, times: 3, fault: { type: 'hang', after_chunks: 1 } });
    const before = upstreamCalls(stack);
    const leave = new AbortController();
    const open = [first, first, second].map(({ openai }) =>
      openai.chat.completions.create(
        { model: 'test/small', messages: MESSAGES, stream: true },
        { signal: leave.signal },
      ),
    );
    await Promise.all(open);
    assertError(await errorOf(chat(second.openai)), {
      Class: RateLimitError,
      status: 429,
      code: 'rate_limit_exceeded',
      retryAfter: '1',
      message: /This account has 3 requests open/,
    });
    assert.equal(upstreamCalls(stack), before + 3);
    await chat((await createCustomer(stack, '1')).openai);
    leave.abort();
    await until('a place to be free', async () => {
      const response = await post(stack, second.secret, { model: 'test/small', messages: MESSAGES });
      await response.text();
      return response.status === 200;
    });
  });

  for (const [status, Class] of [
    [400, BadRequestError],
    [404, NotFoundError],
    [413, APIError],
    [415, APIError],
    [422, UnprocessableEntityError],
  ] as const) {
    it(`the upstream answers ${status}: passed on with the upstream's words, not billed`, async () => {
      for (const stream of [false, true]) {
        stack.twin.faults.add({ fault: { type: 'status', status, body: { error: { message: 'no such tool' } } } });
        const error = await errorOf(chat(rich.openai, { stream }));
        assertError(error, { Class, status, code: 'upstream_rejected', message: /no such tool/ });
        const row = await rowOf(stack, error.requestID!);
        assert.deepEqual([row.outcome, row.cost], ['upstream_error', 0n]);
      }
    });
  }

  for (const { name, body } of [
    { name: 'HTML', body: '<html>Bad Request</html>' },
    { name: 'another shape', body: { error: 'no such tool' } },
    { name: 'a message that is no text', body: { error: { message: { nested: true } } } },
    { name: 'nothing', body: '' },
  ]) {
    it(`the upstream answers 400 with ${name}: still a clear error in OpenAI's shape`, async () => {
      stack.twin.faults.add({ fault: { type: 'status', status: 400, body } });
      assertError(await errorOf(chat(rich.openai)), {
        Class: BadRequestError,
        status: 400,
        code: 'upstream_rejected',
        message: /no such tool|answered 400/,
      });
    });
  }

  it("the upstream answers 429: 429 with the upstream's retry-after, or one second", async () => {
    for (const stream of [false, true]) {
      for (const retry_after of [undefined, 7]) {
        const fault: Fault = { type: 'status', status: 429, ...(retry_after === undefined ? {} : { retry_after }) };
        stack.twin.faults.add({ fault });
        assertError(await errorOf(chat(rich.openai, { stream })), {
          Class: RateLimitError,
          status: 429,
          code: 'upstream_rate_limited',
          retryAfter: String(retry_after ?? 1),
        });
      }
    }
  });

  const FAILURES: readonly { readonly name: string; readonly fault: Fault }[] = [
    ...[401, 402, 403, 408, 500, 502, 503, 529].map((status) => ({
      name: `answers ${status}`,
      fault: { type: 'status', status, body: { error: { message: 'sk-secret-account-trouble' } } } as const,
    })),
    { name: 'refuses the connection', fault: { type: 'refuse' } },
    { name: 'breaks before the first byte', fault: { type: 'reset', after_chunks: 0 } },
  ];
  for (const { name, fault } of FAILURES) {
    it(`the upstream ${name}: 502 upstream_failed that says nothing of our own account there`, async () => {
      for (const stream of [false, true]) {
        stack.twin.faults.add({ fault });
        const error = await errorOf(chat(rich.openai, { stream }));
        assertError(error, { Class: InternalServerError, status: 502, code: 'upstream_failed' });
        assert.doesNotMatch(error.message, /secret/);
      }
    });
  }

  it('the upstream does not answer in time: 504 upstream_timeout', async () => {
    for (const stream of [false, true]) {
      stack.twin.faults.add({ fault: { type: 'hang' } });
      assertError(await errorOf(chat(rich.openai, { model: 'test/impatient', stream })), {
        Class: InternalServerError,
        status: 504,
        code: 'upstream_timeout',
      });
    }
  });

  it('a path or method that does not exist: 404 and 405 with Allow, in the same shape', async () => {
    const nothing = await refusalOf(await post(stack, rich.secret, {}, { path: '/v1/nothing' }));
    assert.deepEqual([nothing.status, nothing.code], [404, 'not_found']);
    for (const [method, path, allow] of [
      ['GET', '/v1/chat/completions', 'POST'],
      ['PUT', '/v1/chat/completions', 'POST'],
      ['POST', '/v1/models', 'GET'],
      ['DELETE', '/v1/models/test/small', 'GET'],
    ] as const) {
      const response = await post(stack, rich.secret, null, { method, path });
      assert.equal(response.headers.get('allow'), allow);
      const { status, code } = await refusalOf(response);
      assert.deepEqual([status, code], [405, 'method_not_allowed'], `${method} ${path}`);
    }
    const head = await post(stack, rich.secret, null, { method: 'HEAD' });
    assert.deepEqual([head.status, await head.text()], [405, '']);
  });

  it('an error inside a stream that has begun is raised by the client with type and code', async () => {
    stack.twin.faults.add({ fault: { type: 'error_chunk', after_chunks: 3 } });
    const stream = await rich.openai.chat.completions.create({ model: 'test/small', messages: MESSAGES, stream: true });
    const pieces: string[] = [];
    const error = await errorOf(
      (async () => {
        for await (const chunk of stream) pieces.push(chunk.choices[0]?.delta.content ?? '');
      })(),
    );
    assert.equal(pieces.filter((piece) => piece !== '').length, 3);
    assert.deepEqual([error.status, error.code, error.type], [undefined, 'upstream_failed', 'upstream_error']);

    stack.twin.faults.add({ fault: { type: 'error_chunk', after_chunks: 3 } });
    const wire = await readStream(
      await post(stack, rich.secret, { model: 'test/small', messages: MESSAGES, stream: true }),
    );
    assert.equal(wire.done, false);
    assert.equal(wire.chunks.at(-1)?.error?.code, 'upstream_failed');
  });
});
