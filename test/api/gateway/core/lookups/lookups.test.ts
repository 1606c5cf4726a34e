/**
 * What a caller reads with its key: the aliases under /api/v1, key, credits and generation in OpenRouter's shapes, and
 * costs in bodies and headers, which are exact decimals down to the pico-USD and never pass through a float.
 */
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { formatUsd } from '../../../../../domain/money.ts';
import {
  addKey,
  balanceOf,
  createCustomer,
  dollars,
  endedRow,
  get,
  MESSAGES,
  payloadsOf,
  post,
  readStream,
  refusalOf,
  requestIdOf,
  rowOf,
  type Customer,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import { addModels, modelOf } from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';

/** Costs as decimal text, which a JavaScript number could not carry. */
const EXACT: readonly { readonly id: string; readonly prices: object; readonly cost: string }[] = [
  // One prompt token and 16 output tokens.
  { id: 'exact/pico', prices: { input: '0.000001', output: '0' }, cost: '0.000000000001' },
  { id: 'exact/exponent', prices: { input: '0.1', output: '0' }, cost: '0.0000001' },
  { id: 'exact/binary', prices: { input: '0.3', output: '0.1' }, cost: '0.0000019' },
  { id: 'exact/twelve', prices: { input: '0.123457', output: '1.654321' }, cost: '0.000026592593' },
  { id: 'exact/large', prices: { request: '123456789.123456789012' }, cost: '123456789.123456789012' },
  { id: 'exact/whole', prices: { request: '3' }, cost: '3' },
  { id: 'exact/nothing', prices: { input: '0', output: '0' }, cost: '0' },
];

describe('gateway: look-ups with a key', () => {
  let stack: TestStack;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-lookups', worker: false });
    await addModels(
      stack,
      EXACT.map(({ id, prices }) => modelOf({ id, prices, baseUrl: `${stack.twin.url}/v1` })),
    );
    customer = await createCustomer(stack, '1000000000');
  });
  afterEach(() => stack.twin.faults.clear());
  after(() => stack.stop());

  /** The raw text of a JSON number behind a name, as it came over the wire. */
  function rawNumber(text: string, name: string): string | undefined {
    return new RegExp(`"${name}":(-?[0-9.eE+-]+)`).exec(text)?.[1];
  }

  async function read(path: string, who = customer): Promise<{ text: string; data: Record<string, unknown> }> {
    const response = await get(stack, who.secret, path);
    const text = await response.text();
    assert.equal(response.status, 200, text);
    requestIdOf(response);
    return { text, data: (JSON.parse(text) as { data: Record<string, unknown> }).data };
  }

  for (const { id, cost } of EXACT) {
    it(`a cost of ${cost} is written as exactly that in body, header, stream and look-up`, async () => {
      const response = await post(stack, customer.secret, { model: id, messages: MESSAGES });
      const text = await response.text();
      assert.equal(rawNumber(text, 'cost'), cost);
      assert.equal(response.headers.get('x-holdfast-cost-usd'), formatUsd(dollars(cost)));
      const row = await rowOf(stack, requestIdOf(response));
      assert.equal(row.cost, dollars(cost));
      const { text: found, data } = await read(`/api/v1/generation?id=${requestIdOf(response)}`);
      assert.equal(rawNumber(found, 'total_cost'), cost);
      assert.equal(rawNumber(found, 'usage'), cost);
      assert.equal(data['total_cost_usd'], formatUsd(dollars(cost)));

      const stream = await post(stack, customer.secret, {
        model: id,
        messages: MESSAGES,
        stream: true,
        stream_options: { include_usage: true },
      });
      assert.equal(stream.headers.get('x-holdfast-cost-usd'), null, 'unknown when the headers leave');
      const payloads: string[] = [];
      for await (const payload of payloadsOf(stream)) payloads.push(payload);
      assert.equal(rawNumber(payloads.at(-2)!, 'cost'), cost);
    });
  }

  it('a :free answer costs 0 in body, header and look-up', async () => {
    const response = await post(stack, customer.secret, { model: 'test/small:free', messages: MESSAGES });
    assert.equal(rawNumber(await response.text(), 'cost'), '0');
    assert.equal(response.headers.get('x-holdfast-cost-usd'), '0.000000000000');
    const { text } = await read(`/api/v1/generation?id=${requestIdOf(response)}`);
    assert.equal(rawNumber(text, 'total_cost'), '0');
  });

  it('an error answer has no cost', async () => {
    stack.twin.faults.add({ fault: { type: 'status', status: 500 } });
    const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES });
    assert.equal(response.headers.get('x-holdfast-cost-usd'), null);
    await refusalOf(response);
  });

  it('an unmodified client works with /api/v1 as its base, as OpenRouter users set it', async () => {
    const openai = new OpenAI({ apiKey: customer.secret, baseURL: `${stack.baseUrl}/api/v1`, maxRetries: 0 });
    const whole = await openai.chat.completions.create({ model: 'test/small', messages: MESSAGES });
    assert.equal((await rowOf(stack, whole._request_id!)).outcome, 'completed');
    const stream = await openai.chat.completions.create({ model: 'test/small', messages: MESSAGES, stream: true });
    let text = '';
    for await (const { choices } of stream) text += choices[0]?.delta.content ?? '';
    assert.equal(text, whole.choices[0]?.message.content);
    assert.equal((await openai.models.retrieve('test/small')).id, 'test/small');
  });

  it('every look-up answers under both prefixes', async () => {
    for (const path of ['/v1/models', '/v1/models/test/small', '/v1/key', '/v1/credits']) {
      const [plain, prefixed] = await Promise.all(
        ['', '/api'].map(async (prefix) => (await get(stack, customer.secret, prefix + path)).json()),
      );
      assert.deepEqual(plain, prefixed, path);
    }
  });

  describe('/api/v1/generation', () => {
    it('answers from the moment an answer ends, streamed or not, with what the upstream counted', async () => {
      for (const stream of [false, true]) {
        for (let i = 0; i < 5; i += 1) {
          const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES, stream });
          if (stream) assert.ok((await readStream(response)).done);
          else await response.text();
          const id = requestIdOf(response);
          const { data } = await read(`/api/v1/generation?id=${id}`);
          const served = stack.twin.request(id)!;
          assert.deepEqual(
            [data['id'], data['request_id'], data['model'], data['streamed'], data['cancelled'], data['is_byok']],
            [id, id, 'test/small', stream, false, false],
          );
          assert.deepEqual(
            [data['tokens_prompt'], data['tokens_completion'], data['total_cost']],
            [served.prompt_tokens, served.completion_tokens, 0.000033],
          );
        }
      }
    });

    it('answers provisionally while the request runs, never 404', async () => {
      stack.twin.faults.add({ fault: { type: 'slow', chunk_ms: 25 } });
      const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES, stream: true });
      const id = requestIdOf(response);
      const running = (await read(`/api/v1/generation?id=${id}`)).data;
      assert.deepEqual([running['provisional'], running['outcome'], running['total_cost']], [true, null, 0]);
      await readStream(response);
      const ended = (await read(`/api/v1/generation?id=${id}`)).data;
      assert.deepEqual([ended['outcome'], ended['total_cost']], ['completed', 0.000033]);
    });

    it('says nothing of requests of another account, and says what is wrong with an id', async () => {
      const other = await createCustomer(stack, '1');
      const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES });
      await response.text();
      for (const [query, status, code] of [
        [`?id=${requestIdOf(response)}`, 404, 'not_found'],
        [`?id=req_${'0'.repeat(32)}`, 404, 'not_found'],
        ['?id=chatcmpl-1', 422, 'invalid_field'],
        ["?id=req_'%3B drop table request", 422, 'invalid_field'],
        ['?id=', 422, 'invalid_field'],
        ['', 422, 'invalid_field'],
      ] as const) {
        const refusal = await refusalOf(await get(stack, other.secret, `/api/v1/generation${query}`));
        assert.deepEqual([refusal.status, refusal.code, refusal.param], [status, code, 'id'], query);
      }
      const second = await addKey(stack, customer.account);
      await read(`/api/v1/generation?id=${requestIdOf(response)}`, second);
    });
  });

  it('/api/v1/key shows limit, what is left and what was spent, unsettled charges included', async () => {
    const expiresAt = new Date('2099-12-31T23:59:59.000Z');
    const limited = await createCustomer(stack, '5', {
      limit: dollars('0.5'),
      limitReset: 'daily',
      expiresAt,
      name: 'Ours',
    });
    const fresh = await read('/api/v1/key', limited);
    assert.deepEqual(fresh.data, {
      label: 'Ours',
      limit: 0.5,
      limit_reset: 'daily',
      limit_remaining: 0.5,
      usage: 0,
      usage_daily: 0,
      usage_weekly: 0,
      usage_monthly: 0,
      expires_at: '2099-12-31T23:59:59.000Z',
      is_free_tier: false,
    });
    for (let i = 0; i < 3; i += 1)
      await (await post(stack, limited.secret, { model: 'test/small', messages: MESSAGES })).text();
    const { text } = await read('/api/v1/key', limited);
    assert.equal(rawNumber(text, 'limit_remaining'), '0.499901');
    for (const field of ['usage', 'usage_daily', 'usage_weekly', 'usage_monthly']) {
      assert.equal(rawNumber(text, field), '0.000099', field);
    }

    const second = await addKey(stack, limited.account);
    assert.deepEqual(
      Object.entries((await read('/api/v1/key', second)).data).filter(([, value]) => value === null),
      [
        ['limit', null],
        ['limit_reset', null],
        ['limit_remaining', null],
        ['expires_at', null],
      ],
    );
  });

  it('/api/v1/credits: what was ever credited minus what was used is the balance that is shown everywhere', async () => {
    const spender = await createCustomer(stack, '5');
    const second = await addKey(stack, spender.account);
    for (const who of [spender, second]) {
      await (await post(stack, who.secret, { model: 'test/large', messages: MESSAGES })).text();
      const { text } = await read('/api/v1/credits', who);
      assert.equal(rawNumber(text, 'total_credits'), '5');
      const used = dollars(rawNumber(text, 'total_usage')!);
      assert.equal(dollars('5') - used, (await balanceOf(stack, spender.account)).balance);
    }
  });

  it('look-ups work without money, and are refused as requests are', async () => {
    const poor = await createCustomer(stack, '0', { limit: dollars('0') });
    for (const path of ['/v1/models', '/api/v1/key', '/api/v1/credits']) {
      assert.equal((await get(stack, poor.secret, path)).status, 200, path);
      assert.equal((await refusalOf(await get(stack, 'sk-hf-unknown', path))).code, 'invalid_api_key');
    }
    assert.equal(
      (
        await endedRow(
          stack,
          requestIdOf(await post(stack, poor.secret, { model: 'test/small:free', messages: MESSAGES })),
        )
      ).free,
      true,
    );
  });
});
