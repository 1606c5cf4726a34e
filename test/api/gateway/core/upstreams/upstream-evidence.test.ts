/**
 * What operators can see of a provider that fails: on the request's row, in the log and in the metrics, each kind told
 * apart from the others; and what nobody may see there: a provider's key and what the customer wrote.
 */
import assert from 'node:assert/strict';
import { parseId } from '../../../../../domain/ids.ts';
import type { UpstreamKind } from '../../../../../domain/requests/upstream-evidence.ts';
import { metric } from '../../../../recovery/evidence.ts';
import {
  createCustomer,
  errorOf,
  post,
  refusalOf,
  requestIdOf,
  STACK_START_MS,
  type Customer,
} from '../../../../support/gateway-client.ts';
import {
  addModels,
  chunk,
  completion,
  modelOf,
  openStream,
  sendCompletion,
  startScriptedUpstream,
  type ScriptedUpstream,
  type UpstreamScript,
} from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

const PRICES = { input: '1', output: '2' };
const PROVIDER_KEY = 'provider-key-4711-secret';
const PROMPT = 'My patient Zebrafina has case number 4711-xyz';
/** Nothing listens there. */
const NOWHERE = 'http://127.0.0.1:1/v1';

interface Evidence {
  readonly name: string | null;
  readonly kind: UpstreamKind | null;
  readonly status: number | null;
  readonly code: string | null;
  readonly message: string | null;
}

describe('gateway: evidence of upstreams', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;
  let customer: Customer;
  let host: string;

  before(async function () {
    this.timeout(STACK_START_MS);
    upstream = await startScriptedUpstream();
    host = new URL(upstream.baseUrl).host;
    stack = await startTestStack({
      name: 'gateway-upstream-evidence',
      worker: false,
      env: { UPSTREAM_TEST_KEY: PROVIDER_KEY, UPSTREAM_BROKEN_KEY: 'two words' },
    });
    const upstreamAt = (base_url: string, api_key_env: string | null) => ({
      base_url,
      api_key_env,
      model: 'upstream-model',
      lookup: null,
    });
    const { baseUrl } = upstream;
    const model = (id: string, ...upstreams: ReturnType<typeof upstreamAt>[]) => ({
      ...modelOf({ id, prices: PRICES, baseUrl, request_timeout_seconds: 2 }),
      ...(upstreams.length === 0 ? {} : { upstreams }),
    });
    await addModels(stack, [
      model('evidence/plain'),
      model('evidence/flood'),
      model('evidence/keyless', upstreamAt(baseUrl, 'UPSTREAM_UNSET_KEY')),
      model('evidence/bad-key', upstreamAt(baseUrl, 'UPSTREAM_BROKEN_KEY')),
      model('evidence/away', upstreamAt(NOWHERE, 'UPSTREAM_TEST_KEY')),
      model('evidence/second', upstreamAt(NOWHERE, 'UPSTREAM_TEST_KEY'), upstreamAt(baseUrl, 'UPSTREAM_TEST_KEY')),
      model('evidence/half', upstreamAt(baseUrl, 'UPSTREAM_UNSET_KEY'), upstreamAt(baseUrl, null)),
    ]);
    customer = await createCustomer(stack, '5');
  });
  after(() => stack.stop());
  after(() => upstream.close());

  const call = async (model = 'evidence/plain', more: object = {}): Promise<Response> =>
    post(stack, customer.secret, { model, messages: [{ role: 'user', content: PROMPT }], ...more });

  const evidenceOf = async (response: Response): Promise<Evidence> => {
    const { rows } = await stack.admin.query<Evidence>(
      `select upstream_name as name, upstream_kind as kind, upstream_status as status, upstream_code as code,
        upstream_message as message from request where id = $1`,
      [parseId('request', requestIdOf(response))],
    );
    return rows[0]!;
  };

  /** The log line of a request. */
  const lineOf = (response: Response): Promise<Record<string, unknown>> =>
    until('the line of the request', () =>
      stack.api.log.find(
        (line) => line['msg'] === 'an upstream call failed' && line['request_id'] === requestIdOf(response),
      ),
    );

  const counted = (model: string, name: string, result: string): Promise<number> =>
    metric(stack, 'holdfast_gateway_upstream_calls_total', { model, upstream: name, result });

  const answer =
    (status: number, body: object | string): UpstreamScript =>
    (response) =>
      sendCompletion(response, body, status);

  const KINDS: readonly {
    readonly name: string;
    readonly script: UpstreamScript;
    readonly evidence: Omit<Evidence, 'name'>;
    readonly client: number;
    readonly level: 'info' | 'warn' | 'error';
  }[] = [
    {
      name: 'a refused key',
      script: answer(401, {
        error: { message: `Incorrect API key provided: ${PROVIDER_KEY}`, code: 'invalid_api_key' },
      }),
      evidence: { kind: 'credentials', status: 401, code: 'invalid_api_key', message: 'Incorrect API key provided: …' },
      client: 502,
      level: 'error',
    },
    {
      name: 'an account without money',
      script: answer(402, { error: { message: 'Insufficient Balance', code: 'invalid_request_error' } }),
      evidence: { kind: 'billing', status: 402, code: 'invalid_request_error', message: 'Insufficient Balance' },
      client: 502,
      level: 'error',
    },
    {
      name: 'refused content',
      script: answer(403, {
        error: {
          code: 403,
          message: 'Your input was flagged.',
          metadata: { reasons: ['violence'], flagged_input: PROMPT },
        },
      }),
      evidence: { kind: 'moderation', status: 403, code: '403', message: 'Your input was flagged.' },
      client: 400,
      level: 'info',
    },
    {
      name: 'a wrong path',
      script: answer(404, '<html><head><title>404 Not Found</title></head></html>'),
      evidence: { kind: 'wrong_path', status: 404, code: null, message: '404 Not Found' },
      client: 404,
      level: 'error',
    },
    {
      name: 'an unknown model',
      script: answer(404, { error: { message: 'The model `upstream-model` does not exist', code: 'model_not_found' } }),
      evidence: {
        kind: 'unknown_model',
        status: 404,
        code: 'model_not_found',
        message: 'The model `upstream-model` does not exist',
      },
      client: 404,
      level: 'error',
    },
    {
      name: 'a bad request',
      script: answer(400, {
        error: {
          message: `Invalid value: '${PROMPT}'. Supported values are: 'low', 'high'.`,
          code: 'invalid_value',
          param: 'x',
        },
      }),
      evidence: {
        kind: 'rejected',
        status: 400,
        code: 'invalid_value',
        message: "Invalid value: …. Supported values are: 'low', 'high'.",
      },
      client: 400,
      level: 'info',
    },
    {
      name: 'too many requests',
      script: answer(429, { error: { message: 'Slow down', code: 'rate_limit_exceeded' } }),
      evidence: { kind: 'rate_limited', status: 429, code: 'rate_limit_exceeded', message: 'Slow down' },
      client: 429,
      level: 'warn',
    },
    {
      name: 'a failure of the provider',
      script: answer(503, { error: { message: 'The engine is overloaded', type: 'engine_overloaded_error' } }),
      evidence: { kind: 'failed', status: 503, code: 'engine_overloaded_error', message: 'The engine is overloaded' },
      client: 502,
      level: 'warn',
    },
    {
      name: 'a broken connection',
      script: (response) => void response.socket?.destroy(),
      evidence: { kind: 'broken', status: null, code: 'UND_ERR_SOCKET', message: 'other side closed' },
      client: 502,
      level: 'warn',
    },
    {
      name: 'silence',
      script: () => undefined,
      evidence: { kind: 'timeout', status: null, code: null, message: null },
      client: 504,
      level: 'warn',
    },
  ];

  for (const { name, script, evidence, client, level } of KINDS) {
    it(`${name} is told as ${evidence.kind}, on the row, in the log and in the metrics`, async () => {
      upstream.script(script);
      const before = await counted('evidence/plain', `1:${host}`, evidence.kind!);
      const response = await call();
      assert.equal(response.status, client);
      assert.deepEqual(await evidenceOf(response), { name: `1:${host}`, ...evidence });
      const line = await lineOf(response);
      assert.deepEqual(
        [line['level'], line['model'], line['upstream'], line['kind'], line['status'], line['code'], line['words']],
        [level, 'evidence/plain', `1:${host}`, evidence.kind, evidence.status, evidence.code, evidence.message],
      );
      assert.doesNotMatch(JSON.stringify(line), /Zebrafina|\b4711\b/);
      assert.equal(await counted('evidence/plain', `1:${host}`, evidence.kind!), before + 1);
    });
  }

  const stream =
    (...parts: (string | null)[]): UpstreamScript =>
    (response) => {
      openStream(response);
      for (const part of parts) if (part !== null) response.write(part);
      if (parts.includes(null)) setImmediate(() => response.destroy());
      else response.end();
    };
  const SAID = chunk({ role: 'assistant', content: 'Hello' });

  const IN_ANSWERS: readonly {
    readonly name: string;
    readonly streamed: boolean;
    readonly script: UpstreamScript;
    readonly evidence: Omit<Evidence, 'name'>;
    /** Status, or what the error inside a stream says. */
    readonly client: number | RegExp;
  }[] = [
    {
      name: 'an error in place of an answer',
      streamed: false,
      script: answer(200, { error: { code: 503, message: `No provider for "${PROMPT}"`, metadata: {} } }),
      evidence: { kind: 'failed', status: 200, code: '503', message: 'No provider for …' },
      client: 502,
    },
    {
      name: 'an error about the request in place of an answer',
      streamed: false,
      script: answer(200, { base_resp: { status_code: 2013, status_msg: 'invalid params: n' } }),
      evidence: { kind: 'rejected', status: 200, code: '2013', message: 'invalid params: n' },
      client: 400,
    },
    {
      name: 'a web page in place of an answer',
      streamed: false,
      script: answer(200, '<html><title>Sign in</title></html>'),
      evidence: { kind: 'unreadable', status: 200, code: null, message: null },
      client: 502,
    },
    {
      name: 'JSON that is no answer',
      streamed: false,
      script: answer(200, { hello: 'world' }),
      evidence: { kind: 'unreadable', status: 200, code: null, message: null },
      client: 502,
    },
    {
      name: 'an answer without content',
      streamed: false,
      script: answer(200, completion('', { usage: { prompt_tokens: 1, completion_tokens: 0, total_tokens: 1 } })),
      evidence: { kind: 'empty', status: 200, code: null, message: null },
      client: 200,
    },
    {
      name: 'an error at the beginning of a stream',
      streamed: true,
      script: stream('data: {"error": {"message": "Overloaded", "type": "overloaded_error"}}\n\n'),
      evidence: { kind: 'failed', status: 200, code: 'overloaded_error', message: 'Overloaded' },
      client: 502,
    },
    {
      name: 'an error about the request at the beginning of a stream',
      streamed: true,
      script: stream('data: {"error": {"message": "n must be 1", "code": "bad_n", "status": 400}}\n\n'),
      evidence: { kind: 'rejected', status: 200, code: 'bad_n', message: 'n must be 1' },
      client: 400,
    },
    {
      name: 'an error in the middle of a stream',
      streamed: true,
      script: stream(SAID, 'event: error\ndata: {"message": "Gone away"}\n\n'),
      evidence: { kind: 'failed', status: 200, code: null, message: 'Gone away' },
      client: /upstream_failed/,
    },
    {
      name: 'refused content in the middle of a stream',
      streamed: true,
      script: stream(SAID, 'data: {"error": {"code": "content_filter", "message": "Filtered."}}\n\n'),
      evidence: { kind: 'moderation', status: 200, code: 'content_filter', message: 'Filtered.' },
      client: /"Filtered\."[^}]*"content_filter"/,
    },
    {
      name: 'nonsense in the middle of a stream',
      streamed: true,
      script: stream(SAID, 'data: {"choices": [\n\n'),
      evidence: { kind: 'unreadable', status: 200, code: null, message: null },
      client: /unreadable answer/,
    },
    {
      name: 'a stream that ends before it is over',
      streamed: true,
      script: stream(SAID),
      evidence: { kind: 'broken', status: 200, code: null, message: null },
      client: /upstream_failed/,
    },
    {
      name: 'a stream that breaks',
      streamed: true,
      script: stream(SAID, null),
      evidence: { kind: 'broken', status: 200, code: 'UND_ERR_SOCKET', message: 'other side closed' },
      client: /upstream_failed/,
    },
  ];

  for (const { name, streamed, script, evidence, client } of IN_ANSWERS) {
    it(`${name} is told as ${evidence.kind}`, async () => {
      upstream.script(script);
      const response = await call('evidence/plain', { stream: streamed });
      const text = await response.text();
      if (typeof client === 'number') assert.equal(response.status, client);
      else assert.match(text, client);
      const row = await until('the end of the request', async () => {
        const found = await evidenceOf(response);
        return found.kind === null ? null : found;
      });
      assert.deepEqual(row, { name: `1:${host}`, ...evidence });
      assert.doesNotMatch(JSON.stringify(row), /Zebrafina|\b4711\b/);
    });
  }

  it('a plain answer of the first upstream leaves the row as it was, and is counted', async () => {
    upstream.script(answer(200, completion('Hello')));
    const before = await counted('evidence/plain', `1:${host}`, 'ok');
    const response = await call();
    assert.equal(response.status, 200);
    assert.deepEqual(await evidenceOf(response), { name: null, kind: null, status: null, code: null, message: null });
    assert.equal(await counted('evidence/plain', `1:${host}`, 'ok'), before + 1);
  });

  it('an upstream that is away: the row says so, and where the next one serves it names that one', async () => {
    upstream.script(answer(200, completion('Hello')));
    const away = await call('evidence/away');
    assert.equal(away.status, 502);
    const { name, kind, code } = await evidenceOf(away);
    assert.deepEqual([name, kind, code], ['1:127.0.0.1:1', 'unreachable', 'ECONNREFUSED']);

    const second = await call('evidence/second');
    assert.equal(second.status, 200);
    assert.deepEqual(await evidenceOf(second), {
      name: `2:${host}`,
      kind: 'fallback',
      status: 200,
      code: null,
      message: null,
    });
    assert.equal(await counted('evidence/second', '1:127.0.0.1:1', 'unreachable'), 1);
    assert.equal(await counted('evidence/second', `2:${host}`, 'ok'), 1);
  });

  it('a model whose key is unset is warned of before anybody asks for it, and its upstream is never called', async () => {
    upstream.script(answer(200, completion('Hello')));
    const noKeyIn = (variable: string): string =>
      `api_key_env names the variable ${variable}, which holds no usable key`;
    const warnings = stack.api.log.filter(({ msg }) => String(msg).includes('configured'));
    const byModel = new Map(warnings.map((line) => [line['model'], line]));
    assert.deepEqual(
      ['evidence/keyless', 'evidence/bad-key', 'evidence/half'].map((model) => [
        byModel.get(model)?.['level'],
        byModel.get(model)?.['faults'],
      ]),
      [
        ['error', [noKeyIn('UPSTREAM_UNSET_KEY')]],
        ['error', [noKeyIn('UPSTREAM_BROKEN_KEY')]],
        ['warn', [noKeyIn('UPSTREAM_UNSET_KEY')]],
      ],
    );
    assert.equal(byModel.has('evidence/plain'), false);
    assert.equal(await metric(stack, 'holdfast_gateway_models_without_key'), 2);

    const before = upstream.calls.length;
    for (const [model, variable] of [
      ['evidence/keyless', 'UPSTREAM_UNSET_KEY'],
      ['evidence/bad-key', 'UPSTREAM_BROKEN_KEY'],
    ] as const) {
      const response = await call(model);
      const evidence = await evidenceOf(response);
      assert.deepEqual(await refusalOf(response), {
        status: 502,
        code: 'upstream_failed',
        type: 'upstream_error',
        param: null,
        message: 'The model provider failed. You were not charged.',
      });
      assert.deepEqual(evidence, {
        name: `1:${host}`,
        kind: 'not_configured',
        status: null,
        code: null,
        message: noKeyIn(variable),
      });
    }
    assert.equal(upstream.calls.length, before);
    // Its second upstream wants no key.
    const half = await call('evidence/half');
    assert.equal(half.status, 200);
    assert.equal((await evidenceOf(half)).kind, 'fallback');
    assert.equal(upstream.calls.at(-1)?.headers.authorization, undefined);
  });

  it('a flood of failures is one line a second, and the next line says how many were left out', async () => {
    upstream.script(answer(500, { error: { message: 'no' } }));
    const began = performance.now();
    for (let n = 0; n < 30; n++) await (await call('evidence/flood')).text();
    const seconds = (performance.now() - began) / 1000;
    const linesOf = () =>
      stack.api.log.filter((line) => line['msg'] === 'an upstream call failed' && line['model'] === 'evidence/flood');
    assert.ok(linesOf().length <= Math.floor(seconds) + 1, `${linesOf().length} lines in ${seconds} s`);
    const told = await until('a line that says how many were left out', async () => {
      await (await call('evidence/flood')).text();
      return linesOf().find((line) => Number(line['suppressed']) > 0);
    });
    assert.ok(Number(told['suppressed']) >= 1);
    assert.equal((await counted('evidence/flood', `1:${host}`, 'failed')) >= 31, true);
  });

  it('the provider answers at its own pace, but an error body that never ends does not hold the client up', async () => {
    upstream.script((response) => {
      response.writeHead(400, { 'content-type': 'application/json' });
      response.write('{"error": {"message": "this never en');
    });
    const error = await errorOf(
      customer.openai.chat.completions.create({ model: 'evidence/flood', messages: [{ role: 'user', content: 'Hi' }] }),
    );
    assert.equal(error.status, 400);
  });
});
