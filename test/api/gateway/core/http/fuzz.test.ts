/**
 * Bodies, bytes and paths that nobody would write: always an answer or a clear error, never a 500, never a hold that
 * stays. What a body must say and what is passed on is in bad-input.test.ts.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  balanceOf,
  createCustomer,
  MESSAGES,
  post,
  refusalOf,
  STACK_START_MS,
  untilNothingHeld,
  violations,
  type Customer,
} from '../../../../support/gateway-client.ts';
import {
  addModels,
  completion,
  modelOf,
  sendCompletion,
  startScriptedUpstream,
  type ScriptedUpstream,
} from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';

describe('gateway: any input at all', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;
  let customer: Customer;
  const valid = { model: 'test/small', messages: MESSAGES };

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-fuzz', env: { FREE_REQUESTS_PER_MINUTE: '10000' } });
    upstream = await startScriptedUpstream();
    await addModels(stack, [
      modelOf({ id: 'test/scripted', prices: { input: '1', output: '2' }, baseUrl: upstream.baseUrl }),
    ]);
    customer = await createCustomer(stack, '5');
  });
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  const someValue = fc.oneof(
    fc.jsonValue({ maxDepth: 3 }),
    fc.constantFrom(-1, 0, 1, 2 ** 31, 2 ** 53, 1e308, '', '\u0000', '__proto__', [], {}, null, true),
  );
  const someField = fc.constantFrom(
    'model',
    'messages',
    'stream',
    'stream_options',
    'n',
    'max_tokens',
    'max_completion_tokens',
    'tools',
    'modalities',
    'prediction',
    'web_search_options',
    'service_tier',
    'metadata',
    'audio',
    'functions',
    '__proto__',
    'vendor',
  );
  const somePart = fc.oneof(
    someValue,
    fc.record(
      {
        type: fc.constantFrom('text', 'image_url', 'input_audio', 'file', 'x'),
        text: someValue,
        image_url: someValue,
      },
      { requiredKeys: [] },
    ),
  );
  const someMessage = fc.oneof(
    { weight: 1, arbitrary: someValue },
    {
      weight: 5,
      arbitrary: fc.record(
        {
          role: fc.oneof(fc.constantFrom('user', 'assistant', 'tool'), someValue),
          content: fc.oneof(fc.string(), fc.array(somePart), someValue),
          audio: someValue,
          tool_calls: someValue,
        },
        { requiredKeys: [] },
      ),
    },
  );
  const someBody = fc
    .tuple(
      fc.oneof(
        { weight: 3, arbitrary: fc.constant(MESSAGES as unknown) },
        { weight: 2, arbitrary: fc.array(someMessage) },
      ),
      fc.boolean(),
      fc.constantFrom('test/small', 'test/small:free', 'test/scripted', 'test/per-call'),
      fc.array(fc.tuple(someField, someValue), { maxLength: 3 }),
    )
    .map(([messages, stream, model, fields]) => ({ model, messages, stream, ...Object.fromEntries(fields) }));

  async function assertHandled(body: string | Uint8Array<ArrayBuffer> | object, more = {}): Promise<void> {
    upstream.script((response) => sendCompletion(response, completion('Hello')));
    const response = await post(stack, customer.secret, body, more);
    if (response.status === 200) await response.text();
    else {
      const { status, code } = await refusalOf(response);
      // 502 is the scripted upstream's whole answer to a stream; the twin is as strict as the provider and refuses.
      assert.ok([400, 401, 402, 403, 404, 405, 502].includes(status), `${status} ${code}`);
    }
  }

  it('whatever a body says: an answer or a clear error, and no hold stays', async function () {
    this.timeout(60_000);
    await fc.assert(
      fc.asyncProperty(someBody, (body) => assertHandled(body)),
      { numRuns: 300 },
    );
    await untilNothingHeld(stack, customer.account);
    const { balance, held } = await balanceOf(stack, customer.account);
    assert.ok(balance > 0n && held === 0n);
    assert.deepEqual(await violations(stack), []);
  });

  it('whatever bytes a body is: never a 500', async () => {
    const bytes = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.tuple(fc.nat(60), fc.string({ maxLength: 3 })).map(([at, piece]) => {
        const text = JSON.stringify(valid);
        return text.slice(0, at) + piece + text.slice(at + 1);
      }),
    );
    await fc.assert(
      fc.asyncProperty(bytes, (body) => assertHandled(body)),
      { numRuns: 100 },
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), (body) => assertHandled(new Uint8Array(body))),
      { numRuns: 50 },
    );
  });

  it('whatever path is asked for: never a 500', async () => {
    const path = fc
      .array(
        fc.oneof(
          fc.constantFrom(
            'v1',
            'api',
            'models',
            'chat',
            'completions',
            'generation?id=',
            '..',
            '%2F',
            '%',
            '%00',
            '\\',
          ),
          fc.webSegment(),
        ),
      )
      .map((segments) => `/v1/${segments.join('/')}`);
    await fc.assert(
      fc.asyncProperty(path, fc.constantFrom('GET', 'POST', 'DELETE', 'PATCH'), async (target, method) => {
        const response = await post(stack, customer.secret, method === 'POST' ? valid : null, {
          path: target,
          method,
        });
        await response.text();
        assert.ok(response.status < 500, `${method} ${target}: ${response.status}`);
      }),
      { numRuns: 150 },
    );
  });
});
