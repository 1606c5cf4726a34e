/**
 * Every row of the error table as an unmodified `openai` client sees it, the order in which the checks come, and that no
 * refusal ever reaches the upstream. Refusals because the ledger cannot be reached are in availability.test.ts.
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
import type { KeySettings } from '../../../db/api-keys.ts';
import { ERRORS, type ErrorCode } from '../../../domain/errors.ts';
import type { Fault } from '../../../sandbox/twins/upstream.ts';
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
} from '../../support/gateway-client.ts';
import { addModels, modelOf } from '../../support/gateway-upstream.ts';
import { startTestStack, until, type TestStack } from '../../support/stack.ts';

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
      env: { KEY_CONCURRENCY: '2', BODY_LIMIT_BYTES: String(BODY_LIMIT_BYTES), DRAIN_SECONDS: '0.5' },
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

  async function revoke({ keyId }: Customer): Promise<void> {
    await stack.admin.query('update api_key set revoked_at = now() where id = $1', [keyId]);
  }

  async function freeze({ account }: Customer): Promise<void> {
    await stack.admin.query("update account set frozen_at = now(), frozen_reason = 'test' where id = $1", [
      account.uuid,
    ]);
  }

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
        const customer = await addKey(stack, rich.account);
        await revoke(customer);
        return customer.openai;
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
        const customer = await createCustomer(stack, '1');
        await freeze(customer);
        return customer.openai;
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
      ['OPTIONS', '/v1/chat/completions', 'POST'],
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

  describe('the order of checks', () => {
    /** What a caller breaks, in the order in which it must be found. `body` rules replace fields of the body. */
    const RULES: readonly {
      readonly code: ErrorCode;
      readonly key?: Partial<KeySettings>;
      readonly balance?: string;
      readonly state?: (customer: Customer) => Promise<void>;
      readonly body?: Readonly<Record<string, unknown>>;
    }[] = [
      { code: 'key_revoked', state: revoke },
      { code: 'key_expired', key: { expiresAt: PAST } },
      { code: 'ip_not_allowed', key: { ipAllowlist: ELSEWHERE } },
      { code: 'account_frozen', state: freeze },
      { code: 'invalid_body', body: { messages: [] } },
      { code: 'model_not_found', body: { model: 'test/none' } },
      { code: 'model_not_allowed', key: { models: ['test/large'] } },
      { code: 'model_not_priced', body: { model: 'test/unpriced' } },
      { code: 'rate_limit_exceeded', state: fillPlaces },
      { code: 'key_limit_exceeded', key: { limit: dollars('0') } },
      { code: 'insufficient_user_quota', balance: '0' },
    ];
    const hanging = new AbortController();

    /** Uses up the places of a key with requests that cost nothing and do not end. */
    async function fillPlaces({ openai, keyId }: Customer): Promise<void> {
      // What would refuse these as well is put in place around them; they must find a key that works.
      const { rows } = await stack.admin.query<{ models: string[] | null }>(
        'select models from api_key where id = $1',
        [keyId],
      );
      await stack.admin.query('update api_key set models = null where id = $1', [keyId]);
      stack.twin.faults.add({ match: { model: 'small:free' }, times: 2, fault: { type: 'hang', after_chunks: 1 } });
      for (let place = 0; place < 2; place += 1) {
        await openai.chat.completions.create(
          { model: 'test/small:free', messages: MESSAGES, stream: true },
          { signal: hanging.signal },
        );
      }
      if (rows[0]?.models === null) return;
      await stack.admin.query('update api_key set models = $2 where id = $1', [keyId, rows[0]?.models]);
      await until('the list of models to be known', async () => {
        const response = await fetch(`${stack.baseUrl}/v1/models`, {
          headers: { authorization: `Bearer ${openai.apiKey}` },
        });
        return ((await response.json()) as { data: unknown[] }).data.length === 1;
      });
    }

    after(() => hanging.abort());

    RULES.forEach((first, index) => {
      for (const second of RULES.slice(index + 1)) {
        const isSameField =
          first.body !== undefined && second.body !== undefined && 'model' in first.body && 'model' in second.body;
        // Places can only be filled by a key that works.
        const isImpossible = second.code === 'rate_limit_exceeded' && index < 4;
        if (isSameField || isImpossible) continue;
        it(`${first.code} is found before ${second.code}`, async () => {
          const customer = await createCustomer(stack, first.balance ?? second.balance ?? '1', {
            ...first.key,
            ...second.key,
          });
          await first.state?.(customer);
          await second.state?.(customer);
          const before = upstreamCalls(stack);
          const body = { model: 'test/small', messages: MESSAGES, ...first.body, ...second.body };
          const refusal = await refusalOf(await post(stack, customer.secret, body));
          assert.equal(refusal.code, first.code);
          assert.equal(upstreamCalls(stack), before);
        });
      }
    });

    it('an unknown key is found before anything else', async () => {
      const refusal = await refusalOf(await post(stack, 'sk-hf-unknown', 'no JSON'));
      assert.equal(refusal.code, 'invalid_api_key');
    });

    it('a body that is too large or has an unsupported field is found before the unknown model', async () => {
      for (const [body, code] of [
        [{ model: 'test/none', messages: [{ role: 'user', content: 'x'.repeat(BODY_LIMIT_BYTES) }] }, 'body_too_large'],
        [{ model: 'test/none', messages: MESSAGES, background: true }, 'unsupported_parameter'],
      ] as const) {
        assert.equal((await refusalOf(await post(stack, rich.secret, body))).code, code);
      }
    });
  });

  describe('the log of refusals', () => {
    async function refusedRows(customer: Customer): Promise<Record<string, unknown>[]> {
      const { rows } = await stack.admin.query<Record<string, unknown>>(
        `select model_id, state, refusal_code, hold, list_cost, cost, stream, workflow_id, input_tokens, settled_at is not null as settled
         from request where key_id = $1 and outcome = 'refused' order by id`,
        [customer.keyId],
      );
      return rows;
    }

    async function metric(name: string): Promise<number> {
      const text = await (await fetch(`${stack.baseUrl}/metrics`)).text();
      const line = text
        .split('\n')
        .find((candidate) => candidate.startsWith(`${name} `) || candidate.startsWith(`${name}{`));
      return Number(line?.split(' ').at(-1) ?? 0);
    }

    it('a refusal is a row at cost 0 with its code, model and no workflow', async () => {
      const customer = await createCustomer(stack, '0');
      await errorOf(chat(customer.openai, { stream: true }));
      const [row] = await until('the refusal to be logged', async () => {
        const rows = await refusedRows(customer);
        return rows.length > 0 && rows;
      });
      assert.deepEqual(row, {
        model_id: 'test/small',
        state: 'released',
        refusal_code: 'insufficient_user_quota',
        hold: '0',
        list_cost: '0',
        cost: '0',
        stream: true,
        workflow_id: null,
        input_tokens: null,
        settled: true,
      });
    });

    it('a key that is hammered is logged at most once a second; the rest is counted', async () => {
      const hammered = await createCustomer(stack, '0');
      const other = await createCustomer(stack, '0');
      const suppressed = await metric('holdfast_gateway_refusals_not_logged_total');
      const begin = performance.now();
      let sent = 0;
      while (performance.now() - begin < 1500) {
        await Promise.all(Array.from({ length: 5 }, () => errorOf(chat(hammered.openai))));
        sent += 5;
      }
      await errorOf(chat(other.openai));
      await until('the other key to be logged', async () => (await refusedRows(other)).length === 1);
      const logged = (await refusedRows(hammered)).length;
      const seconds = (performance.now() - begin) / 1000;
      assert.ok(logged >= 1 && logged <= Math.ceil(seconds), `${logged} rows in ${seconds.toFixed(1)} s`);
      assert.equal((await metric('holdfast_gateway_refusals_not_logged_total')) - suppressed, sent - logged);
    });

    it('unknown keys are only counted', async () => {
      const count = `select count(*)::int as n from request where outcome = 'refused'`;
      const name = 'holdfast_gateway_refusals_total{code="invalid_api_key"';
      const counted = async (): Promise<number> => {
        const text = await (await fetch(`${stack.baseUrl}/metrics`)).text();
        return Number(
          text
            .split('\n')
            .find((line) => line.startsWith(name))
            ?.split(' ')
            .at(-1) ?? 0,
        );
      };
      const before = await counted();
      const rows = (await stack.admin.query<{ n: number }>(count)).rows[0]!.n;
      await errorOf(chat(openAiClient(stack, 'sk-hf-unknown')));
      const marker = await createCustomer(stack, '0');
      await errorOf(chat(marker.openai));
      await until('a later refusal to be logged', async () => (await refusedRows(marker)).length === 1);
      assert.equal((await stack.admin.query<{ n: number }>(count)).rows[0]!.n, rows + 1);
      assert.equal(await counted(), before + 1);
    });

    it('a model name that a database cannot store costs nobody else their log line', async () => {
      const odd = await createCustomer(stack, '1');
      const other = await createCustomer(stack, '0');
      const refusal = await refusalOf(await post(stack, odd.secret, { model: 'a\u0000b', messages: MESSAGES }));
      assert.equal(refusal.code, 'model_not_found');
      await errorOf(chat(other.openai));
      await until('both refusals to be logged', async () => (await refusedRows(other)).length === 1, 3000);
      assert.equal((await refusedRows(odd)).length, 1);
    });
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
