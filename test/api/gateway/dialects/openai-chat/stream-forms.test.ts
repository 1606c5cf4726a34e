/**
 * Streams in the forms that real servers send and no specification has: what was delivered is billed, what was produced
 * and lost is booked, and a client gets an answer that its SDK can read. Each form is written byte by byte by the test.
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerResponse } from 'node:http';
import {
  createCustomer,
  dollars,
  MESSAGES,
  platformCosts,
  post,
  readStream,
  settledRow,
  violations,
  type Customer,
  type RequestRow,
  type WireStream,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import {
  addModels,
  chunk,
  DONE,
  event,
  modelOf,
  openStream,
  startScriptedUpstream,
  usage,
  type ScriptedUpstream,
} from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';

/** Eight words that are one token each in the gateway's tokenizer. */
const WORDS = ' river stone light window silver paper market simple'.match(/ \w+/g)!;
const TEXT = WORDS.join('');
/** One prompt token and the eight words, at 1 and 2 USD a million. */
const COST = dollars('0.000017');

const words = WORDS.map((word) => chunk({ content: word })).join('');
const END = chunk({}, 'stop');
const USAGE = event({ choices: [], usage: usage(WORDS.length) });

describe('gateway: forms of streams', () => {
  let stack: TestStack;
  let upstream: ScriptedUpstream;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({
      name: 'gateway-stream-forms',
      env: { SETTLE_FLOOR_SECONDS: '0.02', END_GRACE_SECONDS: '0.5', STREAM_HEARTBEAT_SECONDS: '0.2' },
    });
    upstream = await startScriptedUpstream();
    const model = { prices: { input: '1', output: '2' }, baseUrl: upstream.baseUrl };
    await addModels(stack, [
      modelOf({ id: 'test/scripted', ...model }),
      modelOf({ id: 'test/brief-scripted', ...model, request_timeout_seconds: 1 }),
    ]);
  });
  afterEach(async () => {
    assert.deepEqual(await violations(stack), []);
  });
  after(async () => {
    await stack.stop();
    await upstream.close();
  });

  interface Seen extends WireStream {
    readonly row: RequestRow;
    readonly customer: Customer;
  }

  /** Asks for a stream that the upstream answers with `bytes`, in one write, or as the function writes them. */
  async function ask(
    bytes: string | ((response: ServerResponse) => void | Promise<void>),
    more: object = {},
  ): Promise<Seen> {
    upstream.script(async (response) => {
      openStream(response);
      if (typeof bytes === 'string') response.end(bytes);
      else await bytes(response);
    });
    const customer = await createCustomer(stack, '1');
    const body = { model: 'test/scripted', messages: MESSAGES, stream: true, ...more };
    const stream = await readStream(await post(stack, customer.secret, body));
    return { ...stream, row: await settledRow(stack, stream.requestId), customer };
  }

  function errorOf(stream: WireStream): string | null {
    return stream.chunks.at(-1)?.error?.code ?? null;
  }

  for (const [form, bytes] of [
    ['`data:` without text', `data:\n\n${words}data:\n\n${END}${USAGE}data:\n\n${DONE}`],
    ['`data: null`', `${words}data: null\n\n${END}${USAGE}data: null\n\n${DONE}`],
    ['[DONE] with a blank behind it', `${words}${END}${USAGE}data: [DONE] \n\n`],
    ['[DONE] without a blank before it', `${words}${END}${USAGE}data:[DONE]\n\n`],
    ['a byte-order mark', `\ufeff${words}${END}${USAGE}${DONE}`],
    ['CR as line end', `${words}${END}${USAGE}${DONE}`.replaceAll('\n', '\r')],
    ['CRLF as line end', `${words}${END}${USAGE}${DONE}`.replaceAll('\n', '\r\n')],
    ['no blank line at the end', `${words}${END}${USAGE}data: [DONE]`],
    ['events with names and ids', `${words}${END}${USAGE}${DONE}`.replaceAll('data:', 'event: message\nid: 7\ndata:')],
    ['something unreadable after the whole answer', `${words}${END}${USAGE}data: {"cut\n\n`],
    ['an error after the whole answer', `${words}${END}${USAGE}${event({ error: { message: 'x' } })}`],
    ['more after [DONE]', `${words}${END}${USAGE}${DONE}${chunk({ content: ' more' })}data: garbage\n\n`],
  ] as const) {
    it(`${form}: the whole answer is delivered and billed by its usage`, async () => {
      const { text, done, row } = await ask(bytes);
      assert.deepEqual([text, done], [TEXT, true]);
      assert.deepEqual([row.outcome, row.estimated, row.cost], ['completed', false, COST]);
    });
  }

  for (const word of ['""', '"null"', '"None"', '"running"']) {
    const odd = (content: object): string =>
      `data: {"id":"x","choices":[{"index":0,"delta":${JSON.stringify(content)},"finish_reason":${word}}]}\n\n`;
    const oddWords = WORDS.map((piece) => odd({ content: piece })).join('');

    it(`finish_reason ${word} in every chunk is no end: a connection that breaks then is an error, booked and not billed`, async () => {
      const { row, done, requestId, ...stream } = await ask((response) => {
        response.write(oddWords + odd({ content: ' and' }) + ': \n\n');
        setTimeout(() => response.destroy(), 50);
      });
      assert.deepEqual(
        [row.outcome, row.cost, done, errorOf({ requestId, done, ...stream })],
        ['upstream_error', 0n, false, 'upstream_failed'],
      );
      assert.deepEqual(await platformCosts(stack, requestId), { upstream_error: dollars('0.000019') });
    });

    it(`finish_reason ${word} in every chunk reaches the client as null until the answer ends`, async () => {
      const { chunks, text, done, row } = await ask(oddWords + END + USAGE + DONE);
      assert.deepEqual([text, done, row.outcome, row.cost], [TEXT, true, 'completed', COST]);
      const reasons = chunks.map(({ choices }) => choices[0]?.finish_reason);
      assert.deepEqual(reasons.slice(1), [...Array<null>(WORDS.length - 1).fill(null), 'stop']);
    });
  }

  it('a word that nobody documents, at the end, passes through and ends the answer', async () => {
    const { chunks, done, row } = await ask(words + chunk({}, 'vendor_done') + USAGE + DONE);
    assert.equal(chunks.at(-1)?.choices[0]?.finish_reason, 'vendor_done');
    assert.deepEqual([done, row.outcome, row.cost], [true, 'completed', COST]);
  });

  const FAILURES = {
    'a detail': { detail: 'Internal Server Error' },
    'object: error': { object: 'error', message: 'CUDA out of memory', code: 500 },
    'an error that is a text': { error: 'overloaded' },
    'type: error': { type: 'error', error: { type: 'overloaded_error', message: 'x' } },
    'a code and a message': { code: 500, message: 'x' },
    base_resp: { base_resp: { status_code: 1000, status_msg: 'failed' }, choices: null },
    'an error in a choice': { choices: [{ index: 0, delta: { content: '' }, error: { code: 502 } }] },
  };
  for (const [form, body] of Object.entries(FAILURES)) {
    it(`${form} in the middle: an error to the client, nothing billed, and what was produced booked`, async () => {
      const stream = await ask(`${words}data: ${JSON.stringify(body)}\n\n${DONE}`);
      assert.equal(errorOf(stream), 'upstream_failed');
      assert.deepEqual([stream.row.outcome, stream.row.cost], ['upstream_error', 0n]);
      assert.deepEqual(await platformCosts(stack, stream.requestId), { upstream_error: COST });
    });
  }

  it('event: error in the middle is an error, whatever its data', async () => {
    const stream = await ask(`${words}event: error\ndata: something broke\n\n`);
    assert.deepEqual([errorOf(stream), stream.row.outcome, stream.row.cost], ['upstream_failed', 'upstream_error', 0n]);
  });

  for (const [form, deltas] of [
    ['content as parts', WORDS.map((word) => ({ content: [{ type: 'text', text: word }] }))],
    ['reasoning', WORDS.map((word) => ({ reasoning: word, reasoning_content: word }))],
    ['a field nobody knows', WORDS.map((word) => ({ vendor_thoughts: [{ text: word }] }))],
    [
      'whole arguments of a tool',
      [{ tool_calls: [{ function: { name: WORDS[0], arguments: WORDS.slice(1).join('') } }] }],
    ],
  ] as const) {
    it(`${form}, without usage, is billed like any text: $0.000017, not $0.000001`, async () => {
      const { row } = await ask(deltas.map((delta) => chunk(delta)).join('') + END + DONE);
      assert.deepEqual([row.outcome, row.estimated, row.cost], ['completed', true, COST]);
    });
  }

  it('an upstream that stays open after its last answer holds nobody up: its usage is awaited for a moment', async () => {
    for (const [bytes, estimated] of [
      [words + END, true],
      [words + END + USAGE, false],
    ] as const) {
      const { done, row } = await ask((response) => void response.write(bytes));
      assert.deepEqual([done, row.outcome, row.estimated, row.cost], [true, 'completed', estimated, COST]);
    }
  });

  it('a client that hears nothing for a while is sent comments, before the first token as well', async () => {
    upstream.script(async (response) => {
      await delay(700);
      openStream(response);
      response.write(words);
      await delay(500);
      response.end(END + USAGE + DONE);
    });
    const { secret } = await createCustomer(stack, '1');
    const response = await post(stack, secret, { model: 'test/scripted', messages: MESSAGES, stream: true });
    const text = await response.text();
    const [before, after] = [text.slice(0, text.indexOf('data:')), text.slice(text.indexOf('data:'))];
    assert.match(before, /^: keep-alive\n\n/);
    assert.match(after, /simple"[^\n]*\n\n: keep-alive\n\n/);
    assert.match(text, /data: \[DONE\]\n\n$/);
  });

  it('an upstream that refuses after comments were sent: the error comes inside the stream', async () => {
    upstream.script(async (response) => {
      await delay(500);
      response.writeHead(500).end('{}');
    });
    const { secret } = await createCustomer(stack, '1');
    const response = await post(stack, secret, { model: 'test/scripted', messages: MESSAGES, stream: true });
    const stream = await readStream(response);
    assert.deepEqual([stream.done, errorOf(stream)], [false, 'upstream_failed']);
    assert.deepEqual((await settledRow(stack, stream.requestId)).outcome, 'upstream_error');
  });

  it('an answer that still flows when its time ends is cut with finish_reason length and billed for what was delivered', async () => {
    let sent = 0;
    const stream = await ask(
      async (response) => {
        while (!response.destroyed) {
          response.write(chunk({ content: WORDS[sent++ % WORDS.length] }));
          await delay(20);
        }
      },
      { model: 'test/brief-scripted', stream_options: { include_usage: true } },
    );
    const { row, chunks, done, text } = stream;
    const delivered = text.match(/ /g)!.length;
    assert.ok(delivered > 10 && done);
    assert.deepEqual(chunks.at(-2)?.holdfast, { ended_by: 'request_timeout' });
    assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'length');
    assert.equal(chunks.at(-1)?.usage?.['completion_tokens'], delivered);
    assert.deepEqual([row.state, row.outcome, row.estimated], ['charged', 'cut_by_time', true]);
    assert.equal(row.cost, dollars('0.000001') + BigInt(delivered) * dollars('0.000002'));
  });

  it('an answer that has stalled when its time ends is not billed, and what was delivered is booked', async () => {
    const stream = await ask((response) => void response.write(words), { model: 'test/brief-scripted' });
    assert.equal(errorOf(stream), 'upstream_timeout');
    assert.deepEqual([stream.row.state, stream.row.outcome, stream.row.cost], ['released', 'upstream_timeout', 0n]);
    assert.deepEqual(await platformCosts(stack, stream.requestId), { upstream_timeout: COST });
  });

  it('an upstream that ignores its limit of 100 tokens is cut: 20,000 tokens are not given for a hold of 100', async () => {
    const stream = await ask(
      async (response) => {
        for (let n = 0; n < 20_000 && !response.destroyed; n += 1) {
          const isFull = !response.write(chunk({ content: WORDS[n % WORDS.length] }));
          if (isFull || n % 500 === 0) await delay(1);
        }
        response.end(END + event({ choices: [], usage: usage(20_000) }) + DONE);
      },
      { max_tokens: 100 },
    );
    const { row, text, chunks } = stream;
    const delivered = text.match(/ /g)!.length;
    assert.ok(delivered < 2000, `${delivered} tokens were delivered`);
    assert.deepEqual([row.outcome, chunks.at(-1)?.holdfast?.ended_by], ['cut_by_limit', 'max_tokens']);
    assert.ok(row.cost! <= row.hold && row.listCost! >= BigInt(delivered) * dollars('0.000002'));
  });
});
