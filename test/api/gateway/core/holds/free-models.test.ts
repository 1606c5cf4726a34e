/**
 * `:free` models before the gateway: bounded per request and per account, with refusals that say which bound it was,
 * and booked at their list price although no customer pays. The balance has no part in any of it.
 */
import assert from 'node:assert/strict';
import { metric } from '../../../../recovery/evidence.ts';
import {
  addKey,
  balanceOf,
  createCustomer,
  dollars,
  endedRow,
  MESSAGES,
  platformCosts,
  post,
  readStream,
  refusalOf,
  requestIdOf,
  settledRow,
  STACK_START_MS,
  upstreamCalls,
  violations,
  type Customer,
} from '../../../../support/gateway-client.ts';
import {
  addModels,
  chunk,
  completion,
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
import { until } from '../../../../support/until.ts';

const FREE = 'test/small:free';
const BOUNDS = { FREE_CHOICES: '2', FREE_OUTPUT_TOKENS: '4000' };

describe('gateway: :free models', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;

  before(async function () {
    this.timeout(STACK_START_MS);
    upstream = await startScriptedUpstream();
    stack = await startTestStack({
      name: 'gateway-free',
      env: { ...BOUNDS, FREE_REQUESTS_PER_MINUTE: '30', FREE_OPEN_REQUESTS: '2', FREE_TOKENS_PER_DAY: '2000' },
    });
    const { baseUrl } = upstream;
    await addModels(stack, [
      modelOf({ id: 'test/wide:free', prices: {}, default_output_tokens: 50_000, baseUrl }),
      modelOf({ id: 'test/own:free', prices: { input: '3', output: '5' }, baseUrl }),
      modelOf({ id: 'test/unnamed:free', prices: {}, baseUrl }),
    ]);
  });
  beforeEach(() => upstream.script((response) => sendCompletion(response, completion('Hello'))));
  afterEach(async () => {
    stack.twin.faults.clear();
    assert.deepEqual(await violations(stack), []);
  });
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  const ask = ({ secret }: Customer, body: object = {}): Promise<Response> =>
    post(stack, secret, { model: FREE, messages: MESSAGES, ...body });

  async function assertAnswered(response: Response): Promise<string> {
    assert.equal(response.status, 200, await response.clone().text());
    await response.text();
    return requestIdOf(response);
  }

  describe('one request', () => {
    for (const stream of [false, true]) {
      for (const [param, body] of [
        ['n', { n: 128 }],
        ['n', { n: 3 }],
        ['max_tokens', { max_tokens: 384_000 }],
        ['max_tokens', { max_tokens: 4001 }],
        ['max_completion_tokens', { max_completion_tokens: 4001 }],
      ] as const) {
        it(`${JSON.stringify(body)} is refused before the provider is called, ${stream ? 'streamed' : 'whole'}`, async () => {
          const customer = await createCustomer(stack, '1');
          const before = upstreamCalls(stack);
          const refused = await refusalOf(await ask(customer, { ...body, stream }));
          assert.deepEqual([refused.status, refused.code, refused.param], [400, 'invalid_body', param]);
          assert.match(refused.message, /at most (2|4000) with a :free model/);
          assert.equal(upstreamCalls(stack), before);
        });
      }
    }

    it('up to the bounds is answered', async () => {
      const response = await ask(await createCustomer(stack, '0'), { n: 2, max_tokens: 4000 });
      assert.equal(((await response.json()) as { choices: unknown[] }).choices.length, 2);
    });

    it('without a limit the provider is told one: the default of the model, within the bounds, for streams as well', async () => {
      const customer = await createCustomer(stack, '0');
      upstream.script((response, { body }) => {
        if (body['stream'] !== true) return sendCompletion(response, completion('Hello'));
        openStream(response);
        response.end(chunk({ content: 'Hello' }) + chunk({}, 'stop') + event({ choices: [], usage: usage(1) }) + DONE);
      });
      for (const [model, limit] of [
        ['test/own:free', 1000],
        ['test/wide:free', 4000],
      ] as const) {
        await assertAnswered(await ask(customer, { model }));
        assert.equal(upstream.calls.at(-1)!.body['max_completion_tokens'], limit);
        await readStream(await ask(customer, { model, stream: true }));
        assert.equal(upstream.calls.at(-1)!.body['max_completion_tokens'], limit);
      }
    });

    it('cannot ask for what the provider charges beside tokens', async () => {
      const refused = await refusalOf(await ask(await createCustomer(stack, '0'), { web_search_options: {} }));
      assert.deepEqual([refused.code, refused.param], ['unsupported_parameter', 'web_search_options']);
    });
  });

  describe('one account', () => {
    it('has so many requests a minute over all its keys; paid models go on', async () => {
      const first = await createCustomer(stack, '1');
      const keys = [first, await addKey(stack, first.account), await addKey(stack, first.account)];
      let refused: Response | null = null;
      let answered = 0;
      // The minute may end meanwhile and begin again: 61 in a row cannot all be let in.
      for (let n = 0; n < 61 && refused === null; n++) {
        const response = await ask(keys[n % keys.length]!, { max_tokens: 1 });
        if (response.status === 200) answered++;
        else refused = response;
      }
      assert.ok(refused !== null && answered >= 30, `${answered} were answered`);
      const seconds = Number(refused.headers.get('retry-after'));
      assert.ok(seconds >= 1 && seconds <= 60, `again in ${seconds} s`);
      const { status, code, type, message } = await refusalOf(refused);
      assert.deepEqual([status, code, type], [429, 'free_quota_exceeded', 'rate_limit_error']);
      assert.match(message, /30 requests a minute of :free models.*back in \d+ s.*paid for/);
      await assertAnswered(await ask(first, { model: 'test/small' }));
    });

    it('has so many requests open over all its keys, and gets a place back when one ends', async () => {
      const first = await createCustomer(stack, '1');
      const second = await addKey(stack, first.account);
      stack.twin.faults.add({ match: { model: 'small:free' }, times: 2, fault: { type: 'hang', after_chunks: 1 } });
      const leaving = new AbortController();
      const open = [first, second].map(({ secret }) =>
        post(stack, secret, { model: FREE, messages: MESSAGES, stream: true }, { signal: leaving.signal }),
      );
      await Promise.all(open);
      const refused = await ask(second);
      assert.equal(refused.headers.get('retry-after'), '1');
      const { code, message } = await refusalOf(refused);
      assert.equal(code, 'free_quota_exceeded');
      assert.match(message, /2 requests to :free models open/);
      await assertAnswered(await ask(first, { model: 'test/small' }));
      leaving.abort();
      await until('a place to be free', async () => (await ask(second)).status === 200, 15_000);
    });

    it('has so many tokens a day', async () => {
      const customer = await createCustomer(stack, '1');
      const max_tokens = 1000;
      const twin = { metadata: { twin: JSON.stringify({ output_tokens: 1000 }) } };
      for (let n = 0; n < 2; n++) await assertAnswered(await ask(customer, { max_tokens, ...twin }));
      const refused = await ask(customer);
      const seconds = Number(refused.headers.get('retry-after'));
      assert.ok(seconds >= 1 && seconds <= 86_400, `again in ${seconds} s`);
      const { status, code, message } = await refusalOf(refused);
      assert.deepEqual([status, code], [429, 'free_quota_exceeded']);
      assert.match(message, /2000 tokens a day of :free models.*back at 00:00 UTC.*paid for/);
      await assertAnswered(await ask(customer, { model: 'test/small' }));
    });
  });

  describe('what it costs the platform', () => {
    for (const { model, what, body, cost } of [
      // One prompt token at $1 per million, 1000 output tokens at $2.
      { model: FREE, what: "at its namesake's price", body: { output_tokens: 1000 }, cost: '0.002001' },
      { model: 'test/own:free', what: 'at a price of its own', body: null, cost: '0.000008' },
    ]) {
      it(`${cost} USD of ${model} are booked ${what}; the customer pays nothing`, async () => {
        const customer = await createCustomer(stack, '0');
        const twin = body === null ? {} : { max_tokens: 1000, metadata: { twin: JSON.stringify(body) } };
        const response = await ask(customer, { model, ...twin });
        assert.equal(response.headers.get('x-holdfast-cost-usd'), '0.000000000000');
        const requestId = requestIdOf(response);
        const { usage: told } = (await response.json()) as { usage: { cost: number } };
        assert.equal(told.cost, 0);
        assert.deepEqual(await platformCosts(stack, requestId), { free: dollars(cost) });
        const row = await settledRow(stack, requestId);
        assert.deepEqual([row.state, row.free, row.cost, row.listCost, row.hold], ['released', true, 0n, 0n, 0n]);
        assert.equal((await balanceOf(stack, customer.account)).balance, 0n);
      });
    }

    it('what nothing prices is counted', async () => {
      const name = 'holdfast_gateway_free_not_priced_total';
      const before = await metric(stack, name, { model: 'test/unnamed:free' });
      const requestId = await assertAnswered(
        await ask(await createCustomer(stack, '0'), { model: 'test/unnamed:free' }),
      );
      await endedRow(stack, requestId);
      assert.deepEqual(await platformCosts(stack, requestId), {});
      assert.equal(await metric(stack, name, { model: 'test/unnamed:free' }), before + 1);
    });
  });
});
