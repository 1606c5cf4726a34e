/**
 * Providers that refuse or ignore what others want: which field limits the output, and how a stream is asked for its
 * usage, is in the catalogue, per upstream. What a client sends in another field arrives in the one that counts.
 */
import assert from 'node:assert/strict';
import type { Upstream } from '../../../../../db/requests/catalogue.ts';
import {
  createCustomer,
  dollars,
  MESSAGES,
  post,
  readStream,
  refusalOf,
  requestIdOf,
  rowOf,
  settledRow,
  STACK_START_MS,
  violations,
  type Customer,
} from '../../../../support/gateway-client.ts';
import {
  addModels,
  chunk,
  completion,
  DONE,
  modelOf,
  openStream,
  sendCompletion,
  startScriptedUpstream,
  usage,
  type ScriptedUpstream,
} from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';

/** As Mistral and others answer a field that they do not know. */
function extraForbidden(field: string): object {
  return { detail: [{ type: 'extra_forbidden', loc: ['body', field], msg: 'Extra inputs are not permitted' }] };
}

describe('gateway: strict providers', () => {
  let stack: TestStack;
  let provider: ScriptedUpstream;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-strict' });
    provider = await startScriptedUpstream();
    const upstream = { base_url: provider.baseUrl, api_key_env: null, model: 'strict', lookup: null };
    const model = (id: string, more: Partial<Upstream>): ReturnType<typeof modelOf> =>
      modelOf({ id, prices: { input: '1', output: '100' }, baseUrl: '', upstreams: [{ ...upstream, ...more }] });
    await addModels(stack, [
      model('strict/plain', {}),
      model('strict/told', { limit_field: 'max_tokens', usage_request: 'none' }),
      model('strict/unlimited', { limit_field: 'none' }),
    ]);
    customer = await createCustomer(stack, '100');
  });
  beforeEach(() => {
    // Knows `max_tokens` and nothing newer; writes 20,000 tokens unless that says less.
    provider.script((response, { body }) => {
      for (const field of ['max_completion_tokens', 'stream_options']) {
        if (field in body) return sendCompletion(response, extraForbidden(field), 422);
      }
      const tokens = Math.min(20_000, Number(body['max_tokens'] ?? Infinity));
      if (body['stream'] !== true) {
        return sendCompletion(response, completion('word '.repeat(tokens), { usage: usage(tokens) }));
      }
      openStream(response);
      response.end(chunk({ content: 'Hello' }) + chunk({}, 'stop', { usage: usage(5) }) + DONE);
    });
  });
  after(async () => {
    assert.deepEqual(await violations(stack), []);
    await stack.stop();
    await provider.close();
  });

  it('that know only max_tokens refuse what is added, until the catalogue says so', async () => {
    const body = { model: 'strict/plain', messages: MESSAGES };
    assert.equal((await refusalOf(await post(stack, customer.secret, body))).status, 422);
    for (const [more, limit] of [
      [{}, 1000],
      [{ max_tokens: 7 }, 7],
      [{ max_completion_tokens: 8 }, 8],
      [{ max_tokens: 7, max_completion_tokens: 9 }, 7],
    ] as const) {
      const response = await post(stack, customer.secret, { ...body, model: 'strict/told', ...more });
      assert.equal(response.status, 200, await response.text());
      const { body: sent } = provider.calls.at(-1)!;
      assert.deepEqual([sent['max_tokens'], sent['max_completion_tokens']], [limit, undefined]);
    }
  });

  it('that refuse stream_options stream without it, also when the client sent it', async () => {
    for (const more of [{}, { stream_options: { include_usage: true } }]) {
      const response = await post(stack, customer.secret, {
        model: 'strict/told',
        messages: MESSAGES,
        stream: true,
        ...more,
      });
      const { done, text } = await readStream(response);
      assert.deepEqual([done, text, 'stream_options' in provider.calls.at(-1)!.body], [true, 'Hello', false]);
    }
  });

  it('cannot make $2 of a hold for $0.10: a limit reaches them in the field that they follow', async () => {
    const poor = await createCustomer(stack, '0.2');
    const response = await post(stack, poor.secret, {
      model: 'strict/told',
      messages: MESSAGES,
      max_completion_tokens: 1000,
    });
    assert.equal(response.status, 200, await response.text());
    const row = await settledRow(stack, requestIdOf(response));
    assert.deepEqual([row.outputTokens, row.cost], [1000, dollars('0.100001')]);
  });

  it('that follow no limit are held for the whole context, and a balance of $1 does not buy $2', async () => {
    const body = { model: 'strict/unlimited', messages: MESSAGES, max_tokens: 1000 };
    const poor = await createCustomer(stack, '1');
    assert.equal((await refusalOf(await post(stack, poor.secret, body))).code, 'insufficient_user_quota');
    const response = await post(stack, customer.secret, body);
    await response.text();
    const { hold } = await rowOf(stack, requestIdOf(response));
    assert.ok(hold >= dollars('10'), `${hold} for 100,000 tokens`);
    assert.ok(!('max_tokens' in provider.calls.at(-1)!.body));
  });
});
