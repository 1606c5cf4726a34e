/**
 * What a stream looks like on its way through: passed on event by event as it comes, without additions that the client
 * did not ask for, with everything after the last content held back until the end is recorded.
 */
import assert from 'node:assert/strict';
import { parseId } from '../../../../../domain/ids.ts';
import {
  createCustomer,
  dollars,
  endedRow,
  findRow,
  get,
  MESSAGES,
  payloadsOf,
  post,
  readStream,
  requestIdOf,
  textOf,
  type Customer,
  type WireChunk,
  STACK_START_MS,
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

describe('gateway: streams', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({
      name: 'gateway-streams',
      worker: false,
      // A test holds the recording back for longer than the patience of the other tests' durations.
      env: { FINISH_PATIENCE_SECONDS: '15' },
    });
    upstream = await startScriptedUpstream();
    const prices = { input: '1', output: '2' };
    await addModels(stack, [
      modelOf({ id: 'test/scripted', prices, baseUrl: upstream.baseUrl }),
      modelOf({ id: 'test/scripted:free', prices: {}, baseUrl: upstream.baseUrl }),
    ]);
    customer = await createCustomer(stack, '1');
  });
  afterEach(() => stack.twin.faults.clear());
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  const ask = (more: object = {}): Promise<Response> =>
    post(stack, customer.secret, { model: 'test/scripted', messages: MESSAGES, stream: true, ...more });

  /** Lets the upstream send `pieces` one by one, each only when the one before has reached the client. */
  function sendInStep(pieces: readonly string[]): { readonly arrived: () => void } {
    const steps = pieces.map(() => Promise.withResolvers<void>());
    let seen = 0;
    upstream.script(async (response) => {
      openStream(response);
      for (const [index, piece] of pieces.entries()) {
        response.write(piece);
        if (index < pieces.length - 1) await steps[index]!.promise;
      }
      response.end();
    });
    return { arrived: () => steps[seen++]?.resolve() };
  }

  it('passes each event on before the upstream sends the next: nothing is ever collected', async () => {
    const words = ['One', ' two', ' three', ' four'];
    const step = sendInStep([...words.map((content) => chunk({ content })), chunk({}, 'stop') + DONE]);
    const chunks: WireChunk[] = [];
    for await (const payload of payloadsOf(await ask())) {
      if (payload === '[DONE]') break;
      chunks.push(JSON.parse(payload) as WireChunk);
      step.arrived();
    }
    assert.equal(textOf(chunks), words.join(''));
    assert.equal(chunks.length, words.length + 1);
  });

  it('answers with headers that keep proxies from collecting, as soon as the upstream has begun', async () => {
    const begun = Promise.withResolvers<void>();
    upstream.script(async (response) => {
      openStream(response);
      response.write(chunk({ role: 'assistant', content: '' }));
      await begun.promise;
      response.end(chunk({ content: 'Hello' }) + chunk({}, 'stop') + DONE);
    });
    const response = await ask();
    begun.resolve();
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
    assert.match(response.headers.get('cache-control') ?? '', /no-cache/);
    assert.equal(response.headers.get('x-accel-buffering'), 'no');
    assert.equal(response.headers.get('content-length'), null);
    assert.equal((await readStream(response)).text, 'Hello');
  });

  it("keeps the upstream's fields, known or not, and shows the model under the name that was asked for", async () => {
    const fields = {
      id: 'chatcmpl-9',
      created: 1_700_000_123,
      service_tier: 'default',
      system_fingerprint: 'fp_1',
      obfuscation: 'x7',
      choices: [
        {
          index: 0,
          delta: { content: 'Hi', reasoning_content: 'thinking', vendor: { a: [1, null] } },
          logprobs: { content: [{ token: 'Hi', logprob: -0.5 }] },
          finish_reason: null,
        },
      ],
    };
    upstream.script((response) => {
      openStream(response);
      response.end(event({ ...fields, model: 'vendor-0613' }) + chunk({}, 'stop') + DONE);
    });
    const { chunks } = await readStream(await ask());
    assert.deepEqual(chunks[0], { object: 'chat.completion.chunk', ...fields, model: 'test/scripted' });
    assert.ok(chunks.every(({ model }) => model === 'test/scripted'));
  });

  it('adds nothing that was not asked for: no usage, no chunk without choices, none of our fields', async () => {
    upstream.script((response) => {
      openStream(response);
      response.write(event({ choices: [], prompt_filter_results: [{ prompt_index: 0 }] }));
      response.write(chunk({ content: 'Hello' }, null, { usage: null }));
      response.end(chunk({}, 'stop', { usage: usage(1) }) + event({ choices: [], usage: usage(1) }) + DONE);
    });
    for (const stream_options of [undefined, null, {}, { include_usage: false }, { include_usage: null }]) {
      const { chunks, done } = await readStream(await ask({ stream_options }));
      assert.ok(done);
      assert.deepEqual(
        chunks.map((one) => Object.keys(one).sort()),
        [0, 1].map(() => ['choices', 'created', 'id', 'model', 'object']),
      );
      assert.ok(chunks.every(({ choices }) => choices.length === 1));
    }
  });

  it('sends usage with our cost and not with the provider’s in one last chunk when it was asked for, and null before', async () => {
    upstream.script((response) => {
      openStream(response);
      response.write(chunk({ content: 'Hello' }));
      response.end(
        chunk({}, 'stop') + event({ choices: [], usage: usage(7, { cost: 99, cost_details: { x: 1 } }) }) + DONE,
      );
    });
    const { chunks, done, requestId } = await readStream(await ask({ stream_options: { include_usage: true } }));
    assert.ok(done);
    assert.deepEqual(
      chunks.map((one) => one.usage),
      [null, null, { ...usage(7), cost: 0.000015 }],
    );
    const last = chunks.at(-1)!;
    assert.deepEqual(
      [last.choices, last.id, last.object, last.model],
      [[], 'chatcmpl-scripted', 'chat.completion.chunk', 'test/scripted'],
    );
    assert.equal((await endedRow(stack, requestId)).cost, dollars('0.000015'));
  });

  it("always asks the upstream for usage, keeps the client's other options, and sends our key, id and model name", async () => {
    upstream.script((response) => {
      openStream(response);
      response.end(chunk({ content: 'Hello' }) + chunk({}, 'stop') + DONE);
    });
    for (const [options, expected] of [
      [undefined, { include_usage: true }],
      [{ include_usage: false }, { include_usage: true }],
      [{ include_obfuscation: false }, { include_obfuscation: false, include_usage: true }],
    ] as const) {
      const response = await post(
        stack,
        customer.secret,
        { model: 'test/scripted', messages: MESSAGES, stream: true, stream_options: options },
        { headers: { cookie: 'session=secret', 'x-request-id': 'req_of_the_client', 'openai-organization': 'org' } },
      );
      const { requestId } = await readStream(response);
      const call = upstream.calls.at(-1)!;
      assert.deepEqual(call.body['stream_options'], expected);
      assert.equal(call.body['model'], 'upstream-model');
      assert.equal(call.headers.authorization, 'Bearer twin');
      assert.equal(call.headers['x-request-id'], requestId, 'our id, whatever the client sent as one');
      for (const header of ['cookie', 'openai-organization', 'x-api-key'])
        assert.equal(call.headers[header], undefined);
      assert.ok(!JSON.stringify(call.headers).includes(customer.secret));
    }
    upstream.script((response) => sendCompletion(response, completion('Hello')));
    await (await ask({ stream: false })).text();
    assert.equal(upstream.calls.at(-1)!.body['stream_options'], undefined, 'a whole answer always has usage');
  });

  describe('the end of an answer', () => {
    /** Keeps the end of a request from being recorded until it is released. */
    async function lockRow(requestId: string): Promise<{ release(): Promise<void> }> {
      const client = await stack.admin.connect();
      await client.query('begin');
      await client.query('select 1 from request where id = $1 for update', [parseId('request', requestId)]);
      return {
        async release() {
          await client.query('rollback');
          client.release();
        },
      };
    }

    async function untilFinishWaits(): Promise<void> {
      await until('the recording of the end to wait', async () => {
        const { rowCount } = await stack.admin.query(
          `select from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock' and query like '%finish_request%'`,
        );
        return (rowCount ?? 0) > 0;
      });
    }

    for (const model of ['test/scripted', 'test/scripted:free']) {
      it(`of ${model} stays here until it is recorded: finish reason, usage and [DONE]`, async () => {
        const ready = Promise.withResolvers<void>();
        upstream.script(async (response) => {
          openStream(response);
          response.write(chunk({ content: 'Hello' }));
          await ready.promise;
          response.end(
            chunk({ content: ' world' }) +
              chunk({}, 'stop') +
              ': a comment behind the end\n\n' +
              event({ choices: [], usage: usage(2) }) +
              DONE,
          );
        });
        const response = await ask({ model, stream_options: { include_usage: true } });
        const requestId = requestIdOf(response);
        const payloads: string[] = [];
        const reading = (async () => {
          for await (const payload of payloadsOf(response)) payloads.push(payload);
        })();
        const lock = await lockRow(requestId);
        ready.resolve();
        await until('the last content to arrive', () => payloads.length === 2);
        await untilFinishWaits();
        // A whole round trip later, anything that had left the gateway before would be here.
        await get(stack, customer.secret, '/v1/models');
        assert.equal(payloads.length, 2, `already here: ${payloads.slice(2).join(' ')}`);
        assert.equal((await findRow(stack, requestId))?.state, 'held');

        await lock.release();
        await reading;
        assert.equal(payloads.length, 5);
        assert.equal(payloads.at(-1), '[DONE]');
      });
    }

    it('of a whole answer stays here until it is recorded', async () => {
      const ready = Promise.withResolvers<void>();
      upstream.script(async (response) => {
        await ready.promise;
        sendCompletion(response, completion('Hello'));
      });
      const before = upstream.calls.length;
      let answer: Response | null = null;
      const asking = ask({ stream: false }).then((response) => (answer = response));
      await until('the upstream to be called', () => upstream.calls.length > before);
      const lock = await lockRow(upstream.calls.at(-1)!.requestId);
      ready.resolve();
      await untilFinishWaits();
      await get(stack, customer.secret, '/v1/models');
      assert.equal(answer, null);
      await lock.release();
      assert.equal((await asking).status, 200);
    });

    it('is recorded at the moment the client sees it, for every stream', async () => {
      for (let i = 0; i < 10; i += 1) {
        const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES, stream: true });
        const requestId = requestIdOf(response);
        for await (const payload of payloadsOf(response)) {
          const isEnd = payload === '[DONE]' || (JSON.parse(payload) as WireChunk).choices[0]?.finish_reason !== null;
          if (isEnd) assert.equal((await findRow(stack, requestId))?.state, 'finished');
        }
      }
    });

    it('goes on when content follows a finish reason, as it does with several answers, in the same order', async () => {
      upstream.script((response) => {
        openStream(response);
        const of = (index: number, delta: object, finish_reason: string | null = null): string =>
          event({ choices: [{ index, delta, finish_reason }] });
        response.end(
          of(0, { content: 'a' }) +
            of(1, { content: 'b' }) +
            of(0, {}, 'stop') +
            of(1, { content: 'c' }) +
            of(1, {}, 'length') +
            event({ choices: [], usage: usage(3) }) +
            DONE,
        );
      });
      const { chunks, done } = await readStream(await ask({ n: 2 }));
      assert.ok(done);
      assert.deepEqual(
        chunks.map(({ choices: [choice] }) => [choice!.index, choice!.delta.content ?? choice!.finish_reason]),
        [
          [0, 'a'],
          [1, 'b'],
          [0, 'stop'],
          [1, 'c'],
          [1, 'length'],
        ],
      );
    });

    it('may be in one event with the last content', async () => {
      upstream.script((response) => {
        openStream(response);
        response.end(chunk({ content: 'Hello' }, 'stop') + event({ choices: [], usage: usage(1) }) + DONE);
      });
      const { chunks, done, text, requestId } = await readStream(await ask());
      assert.deepEqual([done, text, chunks.length, chunks[0]?.choices[0]?.finish_reason], [true, 'Hello', 1, 'stop']);
      assert.equal((await endedRow(stack, requestId)).cost, dollars('0.000003'));
    });
  });

  describe('framing', () => {
    const TEXT = 'für 東京 👩‍🚀 \u0000 "quoted" \\n data: [DONE] \r\n end';
    const EVENTS = [
      chunk({ role: 'assistant', content: '' }),
      ...Array.from(TEXT, (content) => chunk({ content })),
      chunk({}, 'stop'),
      event({ choices: [], usage: usage(TEXT.length) }),
      DONE,
    ].join('');

    for (const [name, bytes] of [
      ['LF', Buffer.from(EVENTS)],
      ['CRLF', Buffer.from(EVENTS.replaceAll('\n', '\r\n'))],
      ['comments and blank lines', Buffer.from(`: hello\n\n\n\n${EVENTS.replaceAll('\n\n', '\n\n: keep-alive\n\n')}`)],
      ['no blank after the colon', Buffer.from(EVENTS.replaceAll('data: ', 'data:'))],
      ['event names and ids', Buffer.from(EVENTS.replaceAll('data: ', 'event: message\nid: 7\nretry: 10\ndata: '))],
      ['JSON over several data lines', Buffer.from(EVENTS.replaceAll(',"object"', '\ndata: ,"object"'))],
      ['no blank line at the end', Buffer.from(EVENTS.slice(0, -1))],
    ] as const) {
      it(`${name}: the text arrives as it was, wherever it is cut`, async () => {
        for (const size of [1, 7, bytes.length]) {
          upstream.script(async (response) => {
            openStream(response);
            response.socket?.setNoDelay(true);
            for (let at = 0; at < bytes.length; at += size) {
              response.write(bytes.subarray(at, at + size));
              await new Promise((resolve) => setImmediate(resolve));
            }
            response.end();
          });
          const { text, done, requestId } = await readStream(await ask());
          assert.equal(text, TEXT);
          assert.ok(done);
          const row = await endedRow(stack, requestId);
          assert.deepEqual([row.outcome, row.outputTokens, row.estimated], ['completed', TEXT.length, false]);
        }
      });
    }

    it('an event larger than any answer ends the request instead of filling the memory', async () => {
      upstream.script((response) => {
        openStream(response);
        response.write(`data: {"choices":[{"index":0,"delta":{"content":"`);
        response.write('x'.repeat(17 * 1024 * 1024));
      });
      const response = await ask();
      assert.equal(response.status, 502);
      await response.text();
      assert.equal((await endedRow(stack, requestIdOf(response))).outcome, 'upstream_error');
    });
  });

  it('notes when the first content came, not the first event', async () => {
    const ready = Promise.withResolvers<void>();
    upstream.script(async (response) => {
      openStream(response);
      response.write(chunk({ role: 'assistant', content: '' }));
      await ready.promise;
      response.end(chunk({ content: 'Hello' }) + chunk({}, 'stop') + DONE);
    });
    const response = await ask();
    const begun = performance.now();
    await until('some time to pass', () => performance.now() - begun >= 60);
    ready.resolve();
    const { requestId } = await readStream(response);
    const row = await endedRow(stack, requestId);
    assert.ok(row.firstTokenMs! >= 60, `${row.firstTokenMs} ms`);
  });

  it('a slow upstream is seen token by token: the first one arrives long before the answer ends', async () => {
    stack.twin.faults.add({ fault: { type: 'slow', chunk_ms: 30 } });
    const response = await post(stack, customer.secret, { model: 'test/small', messages: MESSAGES, stream: true });
    const at: number[] = [];
    for await (const payload of payloadsOf(response)) {
      const isToken = payload !== '[DONE]' && Boolean((JSON.parse(payload) as WireChunk).choices[0]?.delta.content);
      if (isToken) at.push(performance.now());
    }
    assert.equal(at.length, 16);
    assert.ok(at.at(-1)! - at[0]! > 200, `all within ${(at.at(-1)! - at[0]!).toFixed(0)} ms`);
  });
});
