/**
 * Bodies that are wrong, hostile or merely unusual: a clear error that names the field before the upstream is called,
 * or an answer; harmless fields reach the upstream as they were sent. Never a 500, never a hold that stays.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { ErrorCode } from '../../../../../domain/errors.ts';
import {
  createCustomer,
  dollars,
  MESSAGES,
  post,
  refusalOf,
  requestIdOf,
  settledRow,
  untilNothingHeld,
  upstreamCalls,
  violations,
  type Customer,
  STACK_START_MS,
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

const MEGABYTE = 1024 * 1024;

/** Deeper than JSON can be written, though not deeper than it can be read. */
function nested(levels: number): string {
  return '['.repeat(levels) + ']'.repeat(levels);
}

const NO_JSON = [
  '',
  ' ',
  '{',
  '{"model":}',
  '{"model":"test/small"} {}',
  'model=test/small',
  '\u{feff}{}',
  "{'a':1}",
  '{"a":NaN}',
];
const NO_OBJECT = ['null', 'true', '7', '"text"', '[]', '[{"model":"test/small"}]'];

const user = (content: unknown): object => ({ messages: [{ role: 'user', content }] });

/** Fields of a wrong type or beyond their bounds: the field that the error must name, and bodies. */
const WRONG: readonly { readonly param: string; readonly bodies: readonly object[] }[] = [
  { param: 'model', bodies: [{ model: null }, { model: '' }, { model: 5 }, { model: {} }, { model: ['test/small'] }] },
  { param: 'messages', bodies: [{ messages: null }, { messages: 'Hi' }, { messages: {} }, { messages: [] }] },
  { param: 'messages[0]', bodies: [{ messages: [null] }, { messages: ['Hi'] }, { messages: [[]] }, { messages: [7] }] },
  { param: 'messages[1]', bodies: [{ messages: [...MESSAGES, false] }] },
  { param: 'messages[0].role', bodies: [{ messages: [{}] }, { messages: [{ role: 7, content: 'Hi' }] }] },
  { param: 'messages[0].content', bodies: [user(7), user({}), user(true)] },
  { param: 'messages[0].content[1]', bodies: [user([{ type: 'text', text: 'Hi' }, null]), user([{}, 'Hi'])] },
  { param: 'stream', bodies: [{ stream: 'true' }, { stream: 1 }, { stream: {} }, { stream: [] }] },
  {
    param: 'stream_options',
    bodies: [
      { stream: true, stream_options: 'usage' },
      { stream: true, stream_options: [] },
      { stream: false, stream_options: { include_usage: true } },
      { stream_options: {} },
    ],
  },
  {
    param: 'stream_options.include_usage',
    bodies: [
      { stream: true, stream_options: { include_usage: 1 } },
      { stream: true, stream_options: { include_usage: 'yes' } },
    ],
  },
  { param: 'n', bodies: [0, -1, 1.5, 129, 1e9, '2', {}, [1], true].map((n) => ({ n })) },
  ...['max_tokens', 'max_completion_tokens'].map((param) => ({
    param,
    bodies: [0, -1, -(2 ** 31), 1.5, 2 ** 31 + 1, 2 ** 53, 1e308, '10', {}, [10], true].map((value) => ({
      [param]: value,
    })),
  })),
  { param: 'modalities', bodies: [{ modalities: 'text' }, { modalities: {} }] },
  { param: 'tools', bodies: [{ tools: {} }, { tools: 'weather' }] },
  { param: 'tools[0]', bodies: [{ tools: [null] }, { tools: ['weather'] }] },
];

/** Fields that change what is charged and that we do not account for. */
const PRICED: readonly { readonly param: string; readonly values: readonly unknown[] }[] = [
  { param: 'background', values: [true, 'yes'] },
  { param: 'service_tier', values: ['flex', 'priority', 'scale', 5, {}] },
  { param: 'web_search_options', values: [{}, { search_context_size: 'high' }] },
  { param: 'modalities', values: [['text', 'audio'], ['image'], ['video'], [7]] },
  { param: 'best_of', values: [2] },
  { param: 'use_beam_search', values: [true] },
  ...['plugins', 'models', 'fallbacks', 'transforms', 'mcp_servers'].map((param) => ({
    param,
    values: [[{ id: 'web' }], ['a']],
  })),
  ...[
    'provider',
    'route',
    'container',
    'speed',
    'inference_geo',
    'context_management',
    'search_parameters',
    'enable_search',
  ].map((param) => ({ param, values: ['x', { order: ['y'] }] })),
  ...['fast_mode', 'web_search', 'deferred'].map((param) => ({ param, values: [true, {}] })),
  ...['custom_logit_processor', 'chat_template', 'lora_path'].map((param) => ({ param, values: ['x'] })),
  ...['documents', 'extra_body', 'vllm_xargs', 'mm_processor_kwargs'].map((param) => ({ param, values: [{ a: 1 }] })),
  ...['max_tool_calls', 'n_predict', 'max_new_tokens', 'stream_interval'].map((param) => ({ param, values: [3] })),
  // Some servers ignore case: to them these are limits, answers and models.
  ...['N', 'Max_Tokens', 'MAX_COMPLETION_TOKENS', 'Model'].map((param) => ({ param, values: [100, null] })),
  { param: 'a_field_of_tomorrow', values: [0, '', 'x', {}, []] },
];

const HOSTED_TOOLS = [
  'web_search',
  'web_search_preview',
  'code_interpreter',
  'file_search',
  'image_generation',
  'mcp',
  undefined,
];

/** What must reach the upstream as it was sent: known and unknown fields that change no price. */
const HARMLESS: Readonly<Record<string, unknown>> = {
  temperature: 0.30000000000000004,
  top_p: 1,
  presence_penalty: -2,
  stop: ['\n', '👩‍🚀', ''],
  seed: -7,
  logit_bias: { 50256: -100, 7: 1.5 },
  logprobs: true,
  top_logprobs: 5,
  user: 'für "über" \\ \u0000 \u2028',
  metadata: { a: 'b', '': '' },
  store: false,
  parallel_tool_calls: false,
  reasoning_effort: 'low',
  verbosity: 'low',
  response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'object', properties: {} } } },
  prompt_cache_key: 'k',
  safety_identifier: 's',
  service_tier: 'auto',
  modalities: ['text'],
  functions: [{ name: 'f', parameters: {} }],
  function_call: 'auto',
  tools: [{ type: 'function', function: { name: 'f', strict: true } }],
  tool_choice: { type: 'function', function: { name: 'f' } },
  background: false,
  plugins: null,
  top_k: 40,
  min_p: 0.05,
  chat_template_kwargs: { enable_thinking: false },
  vendor_extension: { list: [1, 'a', null, true, { deep: [[[]]] }], number: 1e-7 },
};

describe('gateway: bad input', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-bad-input' });
    upstream = await startScriptedUpstream();
    await addModels(stack, [
      modelOf({
        id: 'test/scripted',
        prices: { input: '1', output: '2' },
        passthrough_fields: ['vendor_extension', '__proto__', 'constructor', 'toString', 'hasOwnProperty'],
        baseUrl: upstream.baseUrl,
      }),
      // Room for the largest body that the process takes.
      modelOf({
        id: 'test/long',
        prices: { input: '0.1', output: '2' },
        context_length: 1_000_000,
        upstreamModel: 'small',
        baseUrl: `${stack.twin.url}/v1`,
      }),
    ]);
    customer = await createCustomer(stack, '5');
  });
  afterEach(async () => {
    stack.twin.faults.clear();
    await untilNothingHeld(stack, customer.account);
    assert.deepEqual(await violations(stack), []);
  });
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  /** Posts a body that must be refused before the upstream is called. */
  async function assertRefused(
    body: string | Uint8Array<ArrayBuffer> | object,
    expected: { status?: number; code: ErrorCode; param: string | null },
  ): Promise<void> {
    const before = upstreamCalls(stack) + upstream.calls.length;
    const { status, code, param, message } = await refusalOf(await post(stack, customer.secret, body));
    const shown = typeof body === 'string' ? body.slice(0, 100) : JSON.stringify(body).slice(0, 200);
    assert.deepEqual({ status, code, param }, { status: 400, ...expected }, shown);
    assert.notEqual(message, '');
    assert.equal(upstreamCalls(stack) + upstream.calls.length, before);
  }

  const valid = { model: 'test/small', messages: MESSAGES };

  it('a body that is no JSON, or no object, is invalid_body', async () => {
    for (const body of [...NO_JSON, ...NO_OBJECT]) await assertRefused(body, { code: 'invalid_body', param: null });
    await assertRefused(Buffer.from([0xff, 0xfe, 0x00, 0x7b]), { code: 'invalid_body', param: null });
    await assertRefused(Buffer.from('1f8b0800000000000003ab5600000000ffff', 'hex'), {
      code: 'invalid_body',
      param: null,
    });
  });

  for (const { param, bodies } of WRONG) {
    it(`a wrong ${param} is invalid_body and is named`, async () => {
      for (const body of bodies) await assertRefused({ ...valid, ...body }, { code: 'invalid_body', param });
    });
  }

  it('a number beyond 2^53, or a list nested too deeply, in a field that we read is a clear error that names it', async () => {
    const fields = '"model":"test/small","messages":[{"role":"user","content":"Hi"}]';
    for (const value of ['123456789012345678901', nested(20_000)]) {
      for (const field of [
        'model',
        'messages',
        'stream',
        'n',
        'max_tokens',
        'service_tier',
        'background',
        'modalities',
        'tools',
      ]) {
        for (const text of [value, `[${value}]`]) {
          const { status, code, param } = await refusalOf(
            await post(stack, customer.secret, `{${fields},"${field}":${text}}`),
          );
          assert.ok(
            status === 400 && param?.startsWith(field),
            `${field} ${text.slice(0, 30)}: ${status} ${code} ${param}`,
          );
        }
      }
    }
  });

  it('a missing model or missing messages are named', async () => {
    await assertRefused({ messages: MESSAGES }, { code: 'invalid_body', param: 'model' });
    await assertRefused({ model: 'test/small' }, { code: 'invalid_body', param: 'messages' });
  });

  for (const { param, values } of PRICED) {
    it(`${param} changes the price: unsupported_parameter, named`, async () => {
      for (const value of values) {
        for (const stream of [false, true]) {
          await assertRefused({ ...valid, stream, [param]: value }, { code: 'unsupported_parameter', param });
        }
      }
    });
  }

  it('a tool that runs at the provider is unsupported_parameter, named by its place', async () => {
    for (const type of HOSTED_TOOLS) {
      const tools = [{ type: 'function', function: { name: 'f' } }, { type }];
      await assertRefused({ ...valid, tools }, { code: 'unsupported_parameter', param: 'tools[1].type' });
    }
  });

  it('an unknown model is model_not_found, whatever its name', async () => {
    for (const model of [
      'gpt-none',
      '__proto__',
      'constructor',
      'toString',
      'test/small ',
      'TEST/SMALL',
      '../test/small',
      'x'.repeat(5000),
      "'; drop table request",
      '👩‍🚀',
      'a\u0000b',
    ]) {
      await assertRefused({ ...valid, model }, { status: 404, code: 'model_not_found', param: 'model' });
    }
  });

  describe('what is passed on', () => {
    /** What the upstream was sent for a body. */
    async function sent(body: string): Promise<{ text: string; body: Readonly<Record<string, unknown>> }> {
      upstream.script((response) => sendCompletion(response, completion('Hello')));
      const response = await post(stack, customer.secret, body);
      assert.equal(response.status, 200, await response.text());
      return upstream.calls.at(-1)!;
    }

    it('every harmless field, known or not, as it was sent', async () => {
      const body = { model: 'test/scripted', messages: MESSAGES, max_tokens: 5, ...HARMLESS };
      const { text } = await sent(JSON.stringify(body));
      assert.equal(text, JSON.stringify({ ...body, model: 'upstream-model' }), 'also the order of fields');
    });

    it('messages of every kind: text, parts, names, tool calls and results, unicode and odd fields', async () => {
      const messages = [
        { role: 'developer', content: 'für 東京 👩‍🚀 \u0000 \ud800', name: 'x' },
        { role: 'user', content: [{ type: 'text', text: 'Hi', cache_control: { type: 'ephemeral' } }] },
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{' } }],
        },
        { role: 'tool', tool_call_id: 'c', content: '' },
        { role: 'assistant', refusal: 'no', content: '' },
        { role: 'function', name: 'f', content: '{}' },
        { role: 'user', content: 'Hi', vendor: { x: 1 } },
      ];
      const { body } = await sent(JSON.stringify({ model: 'test/scripted', messages }));
      assert.deepEqual(body['messages'], messages);
    });

    it('numbers that JavaScript cannot hold, digit for digit', async () => {
      for (const seed of ['9223372036854775807', '-9223372036854775808', '123456789012345678901234567890']) {
        const { text } = await sent(
          `{"model":"test/scripted","messages":[{"role":"user","content":"Hi"}],"seed":${seed}}`,
        );
        assert.ok(text.includes(`"seed":${seed}`), text);
      }
    });

    it('names that mean something to JavaScript, as plain fields without effect', async () => {
      const odd =
        '"__proto__":{"polluted":true,"max_tokens":5},"constructor":{"prototype":{"polluted":true}},"toString":"x","hasOwnProperty":1';
      const { text } = await sent(
        `{"model":"test/scripted","messages":[{"role":"user","content":"Hi","__proto__":{"role":"x"}}],${odd}}`,
      );
      assert.ok(text.includes(odd), text);
      const row = await post(stack, customer.secret, valid);
      assert.ok(!(await row.text()).includes('polluted'));
    });

    it('of fields that come twice, the one that counts here is the only one that goes on', async () => {
      const text =
        '{"model":"test/none","model":"test/scripted","n":100,"messages":"x","messages":[{"role":"user","content":"Hi"}],"n":1,"background":true,"background":false}';
      const { body, text: upstreamText } = await sent(text);
      assert.equal(body['n'], 1);
      assert.equal(upstreamText.match(/"n":/g)?.length, 1);
      assert.equal(upstreamText.match(/"background":/g)?.length, 1);
    });
  });

  it('n: 100 is answered with 100 choices and paid for', async () => {
    const response = await post(stack, customer.secret, { ...valid, n: 100, max_tokens: 2 });
    const { choices } = (await response.json()) as { choices: unknown[] };
    assert.equal(choices.length, 100);
    const row = await settledRow(stack, requestIdOf(response));
    assert.deepEqual([row.outputTokens, row.cost], [200, dollars('0.000401')]);
  });

  it('a huge max_tokens is held as far as the model can go, and refused where the money does not reach', async () => {
    const poor = await createCustomer(stack, '0.1');
    const response = await post(stack, poor.secret, { ...valid, max_tokens: 2 ** 31 });
    assert.equal((await refusalOf(response)).code, 'insufficient_user_quota');
    const rich = await post(stack, customer.secret, { ...valid, max_tokens: 2 ** 31 });
    assert.equal(rich.status, 200, await rich.text());
  });

  it('text beyond the context of its model by far is 413, and the refusal says how much the model takes', async () => {
    for (const model of ['test/small', 'test/small:free']) {
      const messages = [{ role: 'user', content: 'x'.repeat(1_300_000) }];
      const refusal = await refusalOf(await post(stack, customer.secret, { model, messages }));
      assert.deepEqual([refusal.status, refusal.code], [413, 'body_too_large']);
      assert.match(refusal.message, /1265536 bytes/);
    }
  });

  it('another content type, or none, changes nothing: the body is read as JSON', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data',
      'application/json; charset=utf-16',
      '',
    ]) {
      const response = await post(stack, customer.secret, valid, { headers: { 'content-type': type } });
      assert.equal(response.status, 200, `${type}: ${await response.text()}`);
    }
  });

  describe('nested too deeply', () => {
    it('is a clear error about the body, and nothing is charged', async () => {
      const deep = nested(200_000);
      for (const [field, param] of [
        ['prediction', 'prediction'],
        ['vendor', 'vendor'],
        ['tools', 'tools'],
        ['metadata', 'metadata'],
        ['messages', 'messages'],
      ] as const) {
        const value = field === 'tools' ? `[{"type":"function","function":${deep}}]` : deep;
        const before = upstreamCalls(stack);
        const response = await post(
          stack,
          customer.secret,
          `{"model":"test/small","messages":[{"role":"user","content":"Hi"}],"${field}":${value}}`,
        );
        const refusal = await refusalOf(response);
        assert.deepEqual([refusal.status, refusal.code, refusal.param], [400, 'invalid_body', param], field);
        assert.match(refusal.message, /nested too deeply/);
        assert.equal(upstreamCalls(stack), before);
      }
    });

    it('or made of millions of values, by a key without money: the same, before its balance is looked at', async () => {
      const poor = await createCustomer(stack, '0');
      const rest = '"model":"test/long","messages":[{"role":"user","content":"Hi"}]';
      for (const [param, text] of [
        ['metadata', `{"seed":1234567890123456789,${rest},"metadata":[${'1,'.repeat(5_000_000 - 100)}1]}`],
        ['messages', `{"model":"test/long","messages":[${'{"role":"user","content":""},'.repeat(150_000)}0]}`],
        ['x', `{${rest},"x":{${'"":1,'.repeat(300_000)}"":1}}`],
      ] as const) {
        const refusal = await refusalOf(await post(stack, poor.secret, text));
        assert.deepEqual([refusal.status, refusal.code, refusal.param], [400, 'invalid_body', param]);
      }
      const members = Array.from({ length: 2000 }, (_, index) => `"x${index}":null`).join(',');
      const refusal = await refusalOf(await post(stack, poor.secret, `{${rest},${members}}`));
      assert.deepEqual([refusal.status, refusal.code, refusal.param], [400, 'invalid_body', null]);
    });

    it('a thousand levels are passed on', async () => {
      const response = await post(
        stack,
        customer.secret,
        `{"model":"test/small","messages":[{"role":"user","content":"Hi"}],"metadata":${nested(1000)}}`,
      );
      assert.equal(response.status, 200, await response.text());
    });
  });

  describe('bodies of 20 MB', () => {
    /** Somebody who was never refused for lack of money, and so has the ordinary rate for bodies. */
    let sender: Customer;
    beforeEach(async () => (sender = await createCustomer(stack, '5')));
    afterEach(() => untilNothingHeld(stack, sender.account));

    const BODY = Buffer.from(
      JSON.stringify({ ...valid, messages: [{ role: 'user', content: 'x'.repeat(20 * MEGABYTE) }] }),
    );
    const SMALL = Buffer.from(JSON.stringify(valid));

    function head(secret: string, framing: string): string {
      return `POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer ${secret}\r\n${framing}\r\n\r\n`;
    }

    async function open(): Promise<Socket> {
      const { hostname, port } = new URL(stack.baseUrl);
      const socket = connect({ host: hostname, port: Number(port) });
      await once(socket, 'connect');
      return socket;
    }

    /** The status of the next answer on a connection, whose body is read as well. */
    async function answer(socket: Socket): Promise<number> {
      let text = '';
      for (;;) {
        const end = text.indexOf('\r\n\r\n');
        const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? Number.NaN);
        if (end !== -1 && Buffer.byteLength(text.slice(end + 4)) >= length) return Number(text.slice(9, 12));
        const [bytes] = (await once(socket, 'data')) as [Buffer];
        text += bytes.toString('utf8');
      }
    }

    for (const [name, framing, body] of [
      ['with its length', `content-length: ${BODY.length}`, BODY],
      [
        'in chunks',
        'transfer-encoding: chunked',
        Buffer.concat([Buffer.from(`${BODY.length.toString(16)}\r\n`), BODY, Buffer.from('\r\n0\r\n\r\n')]),
      ],
    ] as const) {
      it(`sent ${name}: 413, and the connection is still good for the next request`, async () => {
        for (const [secret, status] of [
          [sender.secret, 413],
          ['sk-hf-unknown', 401],
        ] as const) {
          const before = upstreamCalls(stack);
          const socket = await open();
          socket.write(head(secret, framing));
          const first = answer(socket);
          await new Promise((resolve) => socket.write(body, resolve));
          assert.equal(await first, status);
          assert.equal(upstreamCalls(stack), before);
          socket.write(head(sender.secret, `content-length: ${SMALL.length}`));
          socket.write(SMALL);
          assert.equal(await answer(socket), 200);
          socket.destroy();
        }
      });
    }

    it('a body just below the limit is served', async () => {
      const response = await post(stack, sender.secret, {
        model: 'test/long',
        max_tokens: 1,
        messages: [{ role: 'user', content: 'x'.repeat(10 * MEGABYTE - 200) }],
      });
      // The twin counts two and a half million tokens, which no context of a million holds: counted here instead.
      assert.equal(response.status, 200);
      await response.text();
      const row = await settledRow(stack, requestIdOf(response));
      assert.deepEqual([row.estimated, row.inputTokens], [true, 1_000_000]);
    });
  });
});
