/**
 * What is held for a request, and at which prices: always the worst case that its body can reach, at the price version
 * in force when it was held, however long it runs. Amounts are written out here by hand, not computed by the code under
 * test.
 */
import assert from 'node:assert/strict';
import { publishPrices } from '../../../../../db/requests/catalogue.ts';
import {
  createCustomer,
  dollars,
  endedRow,
  findRow,
  get,
  MESSAGES,
  post,
  refusalOf,
  requestIdOf,
  rowOf,
  upstreamCalls,
  type Customer,
  type RequestRow,
  STACK_START_MS,
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
import { until } from '../../../../support/until.ts';

const CONTEXT = 10_000;
const DEFAULT_OUTPUT = 500;

/** Every dimension has a price of its own, so that a forgotten one shows in the amount. */
const RICH_PRICES = {
  input: '1',
  cached_input: '0.5',
  cache_write_5m: '1.25',
  cache_write_1h: '2',
  output: '2',
  reasoning: '3',
  audio_in: '10',
  audio_out: '20',
  image_in: '5',
  image_out: '30',
  request: '0.001',
  web_search: '0.01',
} as const;

/** `count` tokens at that many USD per million. */
function tokens(count: number, usdPerMillion: number): bigint {
  return BigInt(count) * BigInt(usdPerMillion) * dollars('0.000001');
}

/** `HH:MM` UTC, that many minutes from now. */
function clock(minutes: number): string {
  return new Date(Date.now() + minutes * 60_000).toISOString().slice(11, 16);
}

/** A PNG of 1024 × 1024 px, as far as its size is written. */
const PICTURE = 'iVBORw0KGgoAAAANSUhEUgAABAAAAAQA';
const image = (url: string, detail?: string): object => ({ type: 'image_url', image_url: { url, detail } });
const SMALL_PICTURE = image(`data:image/png;base64,${PICTURE}`, 'low');
const LARGE_PICTURE = image(`data:image/png;base64,${PICTURE}`);
const SOUND = { type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } };
const PREDICTION = { type: 'content', content: 'für über' };

const CASES: readonly {
  readonly name: string;
  readonly body: object;
  /** The hold without the flat price of each answer, for a body of so many bytes. */
  readonly expected: (bytes: number) => bigint;
}[] = [
  {
    name: "text: its bytes at the dearest input class, the model's default output at the dearest output class",
    body: {},
    expected: (bytes) => tokens(bytes, 2) + tokens(DEFAULT_OUTPUT, 3),
  },
  {
    name: 'max_tokens',
    body: { max_tokens: 100 },
    expected: (bytes) => tokens(bytes, 2) + tokens(100, 3),
  },
  {
    name: 'max_completion_tokens',
    body: { max_completion_tokens: 50 },
    expected: (bytes) => tokens(bytes, 2) + tokens(50, 3),
  },
  {
    name: 'both limits: the larger, because an upstream may follow either',
    body: { max_tokens: 70, max_completion_tokens: 20 },
    expected: (bytes) => tokens(bytes, 2) + tokens(70, 3),
  },
  {
    name: 'limits that are null: as if they were not there',
    body: { max_tokens: null, max_completion_tokens: null, n: null },
    expected: (bytes) => tokens(bytes, 2) + tokens(DEFAULT_OUTPUT, 3),
  },
  {
    name: 'a limit beyond the context: the context',
    body: { max_tokens: 2_000_000_000 },
    expected: (bytes) => tokens(bytes, 2) + tokens(CONTEXT, 3),
  },
  {
    name: 'n answers: each with its own output, the input once',
    body: { n: 4, max_tokens: 100 },
    expected: (bytes) => tokens(bytes, 2) + tokens(400, 3),
  },
  {
    name: 'text beyond the context: the context, because an upstream cannot read more',
    body: { messages: [{ role: 'user', content: 'x'.repeat(20_000) }], max_tokens: 1 },
    expected: () => tokens(CONTEXT, 2) + tokens(1, 3),
  },
  {
    name: 'text of many bytes per character: all its bytes',
    body: { messages: [{ role: 'user', content: '👩‍🚀'.repeat(100) }], max_tokens: 1 },
    expected: (bytes) => tokens(bytes, 2) + tokens(1, 3),
  },
  {
    name: 'tools: they are text to a model',
    body: { tools: [{ type: 'function', function: { name: 'f', description: 'd'.repeat(1000) } }], max_tokens: 1 },
    expected: (bytes) => tokens(bytes, 2) + tokens(1, 3),
  },
  {
    name: 'an image: what its size costs by the formula of the model, at the dearest of text and image, not its base64',
    body: { messages: [{ role: 'user', content: [{ type: 'text', text: 'Look' }, LARGE_PICTURE] }], max_tokens: 1 },
    expected: (bytes) => tokens(bytes - PICTURE.length + 85 + 4 * 170, 5) + tokens(1, 3),
  },
  {
    name: 'several images: each, by its detail',
    body: { messages: [{ role: 'user', content: [SMALL_PICTURE, LARGE_PICTURE, SMALL_PICTURE] }], max_tokens: 1 },
    expected: (bytes) => tokens(bytes - 3 * PICTURE.length + 3 * 85 + 4 * 170, 5) + tokens(1, 3),
  },
  {
    name: 'an image that is elsewhere: the largest one',
    body: { messages: [{ role: 'user', content: [image('https://images.test/1.png')] }], max_tokens: 1 },
    expected: (bytes) => tokens(bytes + 85 + 8 * 170, 5) + tokens(1, 3),
  },
  {
    name: 'sound: the whole context, at the dearest of text and audio',
    body: { messages: [{ role: 'user', content: [SOUND] }], max_tokens: 1 },
    expected: () => tokens(CONTEXT, 10) + tokens(1, 3),
  },
  {
    name: 'a kind of input that we do not know: the whole context at the dearest of all',
    body: { messages: [{ role: 'user', content: [{ type: 'file', file: { file_data: 'AAAA' } }] }], max_tokens: 1 },
    expected: () => tokens(CONTEXT, 10) + tokens(1, 3),
  },
  {
    name: 'spoken output',
    body: { modalities: ['text', 'audio'], audio: { voice: 'alloy', format: 'wav' }, max_tokens: 100 },
    expected: (bytes) => tokens(bytes, 2) + tokens(100, 20),
  },
  {
    name: 'painted output',
    body: { modalities: ['text', 'image'], max_tokens: 100 },
    expected: (bytes) => tokens(bytes, 2) + tokens(100, 30),
  },
  {
    name: 'a prediction: its rejected tokens are billed as output',
    body: { prediction: PREDICTION, max_tokens: 100 },
    expected: (bytes) => tokens(bytes, 2) + tokens(100 + Buffer.byteLength(JSON.stringify(PREDICTION)), 3),
  },
  {
    name: 'a web search: the whole context, since nobody knows how much it finds',
    body: { web_search_options: {}, max_tokens: 100 },
    expected: () => tokens(CONTEXT, 2) + tokens(100, 3) + dollars('0.01'),
  },
  {
    name: 'a web search for each answer',
    body: { web_search_options: {}, n: 2, max_tokens: 100 },
    expected: () => tokens(CONTEXT, 2) + tokens(200, 3) + dollars('0.02'),
  },
  {
    name: 'a web search, where the catalogue knows how much it finds: that for each answer',
    body: { model: 'test/searcher', web_search_options: {}, n: 2, max_tokens: 100 },
    expected: (bytes) => tokens(bytes + 2 * 800, 2) + tokens(200, 3) + dollars('0.02'),
  },
  {
    name: 'reasoning that the client grants: beside the limit, as some providers count it',
    body: { reasoning: { max_tokens: 300 }, max_tokens: 100 },
    expected: (bytes) => tokens(bytes, 2) + tokens(400, 3),
  },
  {
    name: 'a stream: a first slice of 4,096 tokens, or less where the context is smaller',
    body: { stream: true },
    expected: (bytes) => tokens(bytes, 2) + tokens(4096, 3),
  },
  {
    name: 'a stream with a limit below the slice: the limit',
    body: { stream: true, max_tokens: 100 },
    expected: (bytes) => tokens(bytes, 2) + tokens(100, 3),
  },
  {
    name: 'a stream of n answers: a slice for each',
    body: { stream: true, n: 2 },
    expected: (bytes) => tokens(bytes, 2) + tokens(2 * 4096, 3),
  },
];

describe('gateway: holds', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-holds', worker: false });
    upstream = await startScriptedUpstream();
    const twin = `${stack.twin.url}/v1`;
    const prices = { input: '1', output: '2' };
    const tiers = [{ min_input_tokens: 1000, prices: { input: '3', output: '6' } }];
    const night = { prices: { input: '0.1', output: '0.2' } };
    await addModels(stack, [
      modelOf({
        id: 'test/rich',
        prices: RICH_PRICES,
        context_length: CONTEXT,
        default_output_tokens: DEFAULT_OUTPUT,
        image_tokens: { formula: 'gpt-4o' },
        baseUrl: twin,
      }),
      modelOf({
        id: 'test/searcher',
        prices: RICH_PRICES,
        context_length: CONTEXT,
        web_search_input_tokens: 800,
        baseUrl: twin,
      }),
      modelOf({
        id: 'test/million',
        prices: { input: '2.5', output: '10' },
        context_length: 1_000_000,
        baseUrl: upstream.baseUrl,
      }),
      modelOf({ id: 'test/unseen', prices, hidden_output: true, baseUrl: upstream.baseUrl }),
      modelOf({ id: 'test/tiered', prices, tiers, baseUrl: upstream.baseUrl }),
      modelOf({ id: 'test/night', prices, windows: [{ from: clock(-60), to: clock(60), ...night }], baseUrl: twin }),
      modelOf({ id: 'test/later', prices, windows: [{ from: clock(60), to: clock(120), ...night }], baseUrl: twin }),
      modelOf({ id: 'test/scripted', prices, baseUrl: upstream.baseUrl }),
      modelOf({ id: 'test/scripted:free', prices: {}, baseUrl: upstream.baseUrl }),
    ]);
    customer = await createCustomer(stack, '10');
  });
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  async function ask(body: object): Promise<{ readonly row: RequestRow; readonly bytes: number }> {
    const text = JSON.stringify({ messages: MESSAGES, ...body });
    const response = await post(stack, customer.secret, text);
    const answer = await response.text();
    assert.equal(response.status, 200, answer);
    return { row: await rowOf(stack, requestIdOf(response)), bytes: Buffer.byteLength(text) };
  }

  for (const { name, body, expected } of CASES) {
    it(`cover ${name}`, async () => {
      const { row, bytes } = await ask({ model: 'test/rich', ...body });
      const answers = BigInt((body as { n?: number }).n ?? 1);
      assert.equal(row.hold, expected(bytes) + answers * dollars(RICH_PRICES.request));
      assert.equal(row.outcome, 'completed');
      assert.ok(row.cost! <= row.hold);
    });
  }

  it('of a flat price per call are that price for each answer, whatever the tokens: 100 answers are $1, not $0.01', async () => {
    for (const [body, cost] of [
      [{}, '0.01'],
      [{ n: 5, max_tokens: 1000 }, '0.05'],
      [{ stream: true }, '0.01'],
      [{ stream: true, n: 2 }, '0.02'],
      [{ n: 100, max_tokens: 1 }, '1'],
    ] as const) {
      const { row } = await ask({ model: 'test/per-call', ...body });
      assert.deepEqual([row.hold, row.cost], [dollars(cost), dollars(cost)], JSON.stringify(body));
    }
  });

  it('keep what is charged by the piece, for the rating of a request that its gateway did not end', async () => {
    for (const [body, expected] of [
      [{ max_tokens: 1 }, null],
      [
        { n: 5, max_tokens: 1 },
        { furtherAnswers: 4, webSearches: 0 },
      ],
      [
        { n: 2, web_search_options: {}, max_tokens: 1 },
        { furtherAnswers: 1, webSearches: 2 },
      ],
    ] as const) {
      await ask({ model: 'test/rich', ...body });
      const { rows } = await stack.admin.query(
        'select asked_units from request where account_id = $1 order by id desc limit 1',
        [customer.account.uuid],
      );
      assert.deepEqual(rows, [{ asked_units: expected }]);
    }
  });

  it('the time that a hold takes is measured for each one, granted or refused', async () => {
    const measured = async (): Promise<number> => {
      const text = await (await fetch(stack.metricsUrl)).text();
      return Number(/^holdfast_gateway_hold_seconds_count(?:\{.*\})? (\d+)$/m.exec(text)?.[1]);
    };
    const before = await measured();
    await ask({ model: 'test/rich' });
    const poor = await createCustomer(stack, '0');
    await refusalOf(await post(stack, poor.secret, { model: 'test/rich', messages: MESSAGES }));
    assert.equal(await measured(), before + 2);
  });

  it('of a flat price for 100 answers are refused on money for 99', async () => {
    const poor = await createCustomer(stack, '0.99');
    const body = { model: 'test/per-call', messages: MESSAGES, n: 100, max_tokens: 1 };
    assert.equal((await refusalOf(await post(stack, poor.secret, body))).code, 'insufficient_user_quota');
  });

  it('of one picture on a model of a million tokens are cents, not $2.50: a balance of $1 can send it', async () => {
    const payload = PICTURE.padEnd(400_000, 'A');
    for (const picture of [`data:image/png;base64,${payload}`, 'https://images.test/1.png']) {
      const poor = await createCustomer(stack, '1');
      upstream.script((response) => sendCompletion(response, completion('A cat')));
      const messages = [{ role: 'user', content: [{ type: 'text', text: 'What is this?' }, image(picture, 'high')] }];
      const response = await post(stack, poor.secret, { model: 'test/million', messages, max_tokens: 500 });
      assert.equal(response.status, 200, await response.text());
      const { hold } = await rowOf(stack, requestIdOf(response));
      assert.ok(hold > dollars('0.005') && hold < dollars('0.2'), `${hold} for ${picture.slice(0, 30)}`);
    }
  });

  it('of a stream whose output may be unseen send the limit upstream', async () => {
    for (const [body, limit] of [
      [{}, 1000],
      [{ max_completion_tokens: 70 }, 70],
    ] as const) {
      upstream.script((response) => {
        openStream(response);
        response.end(chunk({ content: 'Hi' }) + chunk({}, 'stop') + DONE);
      });
      await ask({ model: 'test/unseen', stream: true, ...body });
      assert.equal(upstream.calls.at(-1)!.body['max_completion_tokens'], limit);
    }
  });

  it('of a :free model are nothing', async () => {
    const { row } = await ask({ model: 'test/small:free', max_tokens: 1000 });
    assert.deepEqual([row.hold, row.free, row.priceVersion], [0n, true, null]);
  });

  it('of a stream that the money does not cover are what is left, if that is worth beginning', async () => {
    const poor = await createCustomer(stack, '0.001');
    const response = await post(stack, poor.secret, { model: 'test/small', messages: MESSAGES, stream: true });
    await response.text();
    assert.equal((await rowOf(stack, requestIdOf(response))).hold, dollars('0.001'));

    const poorer = await createCustomer(stack, '0.0005');
    const before = upstreamCalls(stack);
    const refused = await post(stack, poorer.secret, { model: 'test/small', messages: MESSAGES, stream: true });
    assert.equal((await refusalOf(refused)).code, 'insufficient_user_quota');
    assert.equal(upstreamCalls(stack), before);
  });

  it('of a whole answer are never less than all of it: a balance of next to nothing buys no large request', async () => {
    const poor = await createCustomer(stack, '0.000001');
    const before = upstreamCalls(stack);
    for (const body of [
      { max_tokens: 8000, messages: [{ role: 'user', content: 'word '.repeat(15_000) }] },
      { max_tokens: 1, messages: MESSAGES },
    ]) {
      const response = await post(stack, poor.secret, { model: 'test/small', ...body });
      assert.equal((await refusalOf(response)).code, 'insufficient_user_quota');
    }
    assert.equal(upstreamCalls(stack), before);
  });

  it("send the limit they were taken for upstream: the model's default where the client set none", async () => {
    upstream.script((response) => sendCompletion(response, completion('Hello')));
    for (const [body, expected] of [
      [{}, { max_tokens: undefined, max_completion_tokens: 1000 }],
      [{ max_tokens: null }, { max_tokens: null, max_completion_tokens: 1000 }],
      [{ max_tokens: 7 }, { max_tokens: 7, max_completion_tokens: undefined }],
      [{ max_completion_tokens: 7 }, { max_tokens: undefined, max_completion_tokens: 7 }],
    ] as const) {
      for (const model of ['test/scripted', 'test/scripted:free']) {
        await ask({ model, ...body });
        const sent = upstream.calls.at(-1)!.body;
        assert.deepEqual(
          { max_tokens: sent['max_tokens'], max_completion_tokens: sent['max_completion_tokens'] },
          expected,
        );
      }
    }
  });

  it('by tier take the dearest that the bytes can reach; the charge takes the tier of the real input', async () => {
    const long = { messages: [{ role: 'user', content: 'x'.repeat(1000) }] };
    for (const { body, promptTokens, held, cost } of [
      { body: {}, promptTokens: 10, held: [1, 2], cost: '0.000012' },
      { body: long, promptTokens: 999, held: [3, 6], cost: '0.001001' },
      { body: long, promptTokens: 1000, held: [3, 6], cost: '0.003006' },
      { body: long, promptTokens: 1001, held: [3, 6], cost: '0.003009' },
    ] as const) {
      upstream.script((response) =>
        sendCompletion(response, completion('Hello', { usage: { ...usage(1), prompt_tokens: promptTokens } })),
      );
      const { row, bytes } = await ask({ model: 'test/tiered', max_tokens: 10, ...body });
      assert.equal(row.hold, tokens(bytes, held[0]) + tokens(10, held[1]));
      assert.equal(row.cost, dollars(cost));
    }
  });

  it('by time of day take the prices of the window in which they were taken', async () => {
    const now = await ask({ model: 'test/night', max_tokens: 10 });
    assert.equal(now.row.hold, (tokens(now.bytes, 1) + tokens(10, 2)) / 10n);
    assert.equal(now.row.cost, dollars('0.0000021'));
    const later = await ask({ model: 'test/later', max_tokens: 10 });
    assert.equal(later.row.hold, tokens(later.bytes, 1) + tokens(10, 2));
    assert.equal(later.row.cost, dollars('0.000021'));
  });

  it('pin their prices: a version published while a request runs is for the requests after it', async () => {
    const model = 'test/repriced';
    await addModels(stack, [modelOf({ id: model, prices: { input: '1', output: '2' }, baseUrl: upstream.baseUrl })]);
    const publish = (validFrom: Date | null, output: string): Promise<unknown> =>
      publishPrices(stack.admin, {
        modelId: model,
        validFrom,
        prices: { prices: { input: '1', output } },
        leadSeconds: 0,
        by: 'test',
      });
    const shown = async (): Promise<string> => {
      const response = await get(stack, customer.secret, `/v1/models/${model}`);
      return ((await response.json()) as { pricing: { completion: string } }).pricing.completion;
    };

    const ready = Promise.withResolvers<void>();
    const before = upstream.calls.length;
    upstream.script(async (response) => {
      await ready.promise;
      sendCompletion(response, completion('Hello', { usage: usage(10) }));
    });
    const running = ask({ model });
    await until('the upstream to be called', () => upstream.calls.length > before);
    await publish(null, '20');
    await until('the new price to be shown', async () => (await shown()) === '0.00002');
    ready.resolve();
    const first = await running;
    assert.deepEqual([first.row.priceVersion, first.row.cost], [1, dollars('0.000021')]);
    const second = await ask({ model });
    assert.deepEqual([second.row.priceVersion, second.row.cost], [2, dollars('0.000201')]);

    // A version with notice comes into force on its own at its moment, not when it is published.
    const from = new Date(Date.now() + 1500);
    await publish(from, '200');
    const third = await ask({ model });
    assert.equal(third.row.priceVersion, 2);
    const fourth = await until('the third version to be in force', async () => {
      const { row } = await ask({ model });
      return row.priceVersion === 3 && row;
    });
    assert.equal(fourth.cost, dollars('0.002001'));
    assert.ok(Date.now() >= from.getTime());
  });

  it('of two requests with the same client-chosen ids are two: ours are our own', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 2; i += 1) {
      const response = await post(
        stack,
        customer.secret,
        { model: 'test/small', messages: MESSAGES },
        { headers: { 'x-request-id': 'same', 'idempotency-key': 'same', 'x-client-request-id': 'same' } },
      );
      await response.text();
      ids.push(requestIdOf(response));
    }
    assert.notEqual(ids[0], ids[1]);
    for (const id of ids) assert.equal((await endedRow(stack, id)).outcome, 'completed');
    assert.equal(await findRow(stack, `req_${'0'.repeat(32)}`), null);
  });
});
