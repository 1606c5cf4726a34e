/**
 * Counting tokens in the gateway's own thread: what it counts against the tokenizer itself, and what it answers when it
 * cannot count. The answers decide what is charged where the provider reports no usage.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { countTokens as tokenize } from 'gpt-tokenizer/encoding/o200k_base';
import { createTokenCounter, TokenCounter } from '../../../../../../api/gateway/core/tokens/token-count.ts';
import { endOfSlice, SLICE_CHARACTERS } from '../../../../../../api/gateway/core/tokens/token-slices.ts';
import { DIALECTS } from '../../../../../../api/gateway/dialects/dialects.ts';

const real = (text: string): number => tokenize(text, { disallowedSpecial: new Set() });

const ROOMY = { program: DIALECTS.tokenThread, waitingMax: 1e9, answerMs: 60_000, memoryMb: 512 };

/** The counter as the gateway has it. */
const counter = createTokenCounter(DIALECTS.tokenThread);
const countTokens = (text: string, most?: number): Promise<number> => counter.count(text, most);
const countBodyTokens = (body: Uint8Array, most: number): Promise<number> =>
  counter.countBody({ body, dialect: 'openai-chat' }, most);

/** Kinds of text that tokenizers find hard, as one endless sentence each. */
const HARD: readonly (readonly [what: string, unit: string])[] = [
  ['English', 'The quick brown fox jumps over the lazy dog. '],
  ['code', 'if (it\'s !== "done") { await run(items[12], { retry: true }); }\n'],
  ['JSON without blanks', '{"id":12345,"name":"item","tags":["a","b"],"price":0.99},'],
  ['Chinese without punctuation', '中文字符混合测试没有标点'],
  ['Chinese with punctuation', '你好，世界。今天天气很好！'],
  ['Thai without blanks', 'ภาษาไทยไม่มีช่องว่าง'],
  ['Arabic', 'مرحبا بالعالم '],
  ['base64', 'aGVsbG8gd29ybGQhISEgdGhpcyBpcyBiYXNlNjQ0Nzg5'],
  ['emojis of several people', '👩‍👩‍👧‍👦'],
  ['emojis with skin colours', '👍🏽👋🏿'],
  ['one character', 'a'],
  ['two characters that never merge', 'zq'],
  ['blanks', ' '],
  ['line ends', '\n'],
  ['tabs and line ends', '\t\r\n'],
  ['digits', '7'],
  ['punctuation', '!@#$%^&*()_+-='],
  ['combining marks', 'e\u0301\u0302'],
  ['halves of surrogate pairs', '\ud83d'],
  ['control tokens of tokenizers', '<|endoftext|><|im_start|>'],
  ['characters of no language', '\u{10ffff}\u{1fffe}'],
];

describe('token count: against the tokenizer', () => {
  for (const [what, unit] of HARD) {
    it(`${what}: what the tokenizer counts of the whole text, but for at most one token for each cut`, async () => {
      for (const characters of [1, 100, SLICE_CHARACTERS, 1000, 3000]) {
        const text = unit.repeat(Math.ceil(characters / unit.length));
        const [counted, whole] = [await countTokens(text), real(text)];
        const cuts = Math.floor(text.length / SLICE_CHARACTERS);
        assert.ok(Math.abs(counted - whole) <= cuts, `${counted} of ${whole} tokens in ${cuts} cuts`);
      }
    });
  }

  it('text with words, digits or punctuation every few hundred characters is counted exactly', async () => {
    const piece = fc.oneof(
      fc.constantFrom(
        ' the',
        '\n',
        '  ',
        "it's",
        '12345',
        '{"a":1}',
        '你好，',
        'é',
        '!',
        '👍',
        'x'.repeat(60),
        ' '.repeat(40),
      ),
      fc.string({ unit: 'grapheme', maxLength: 30 }),
    );
    const text = fc
      .array(fc.tuple(piece, fc.array(piece, { maxLength: 3 })), { minLength: 5, maxLength: 200 })
      // A letter before a comma is a sure boundary, at least every few hundred characters.
      .map((parts) => parts.map(([first, more]) => `${first}${more.join('')}end, `).join(''));
    await fc.assert(
      fc.asyncProperty(text, async (sample) => assert.equal(await countTokens(sample), real(sample))),
      { numRuns: 150 },
    );
  });

  it('any text: no more than one token away for each cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 2000 }), async (sample) => {
        const [counted, whole] = [await countTokens(sample), real(sample)];
        assert.ok(Math.abs(counted - whole) <= Math.floor(sample.length / SLICE_CHARACTERS));
      }),
      { numRuns: 150 },
    );
  });

  it('slices join to the text, none is empty or splits a character in two', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 3000 }), (text) => {
        let joined = '';
        for (let start = 0; start < text.length;) {
          const end = endOfSlice(text, start);
          assert.ok(end > start && end - start <= SLICE_CHARACTERS);
          const slice = text.slice(start, end);
          assert.ok(slice.isWellFormed());
          joined += slice;
          start = end;
        }
        assert.equal(joined, text);
      }),
      { numRuns: 300 },
    );
  });

  // A quarter of the bytes was taken for the count above 200,000 characters.
  for (const [what, unit, tokensEach] of [
    ['numbers, of which a quarter of the bytes is half', '1 2 3 4 5 ', 10],
    ['Chinese, of which a quarter of the bytes is more', '你好，世界。', 4],
    ['English', 'The quick brown fox jumps over the lazy dog. ', 10],
  ] as const) {
    it(`a text of 600,000 characters is still counted: ${what}`, async function () {
      this.timeout(60_000);
      const text = unit.repeat(Math.floor(600_000 / unit.length));
      const each = real(unit.repeat(100)) / 100;
      assert.ok(Math.abs(each - tokensEach) <= 1, `${each}`);
      const counted = await countTokens(text);
      assert.ok(Math.abs(counted - (each * text.length) / unit.length) <= counted / 500, `${counted}`);
    });
  }
});

describe('token count: the thread', () => {
  it('a small text does not wait for a large one that came before it', async function () {
    this.timeout(60_000);
    const own = new TokenCounter(ROOMY);
    const order: string[] = [];
    const large = own.count('中文字符混合测试'.repeat(20_000)).then(() => order.push('large'));
    const small = own.count('Hello').then(() => order.push('small'));
    await Promise.all([large, small]);
    assert.deepEqual(order, ['small', 'large']);
    await own.stop();
  });

  it('counting ends at the most that is of interest', async () => {
    assert.equal(await countTokens('hello '.repeat(1000), 10), 10);
    assert.equal(await countTokens('hello', 10), 1);
    assert.equal(await countTokens(''), 0);
  });

  it('what would make too much wait is not counted but bounded: a token is at least a byte', async () => {
    const own = new TokenCounter({ ...ROOMY, waitingMax: 100 });
    const text = 'é'.repeat(101);
    assert.equal(await own.count(text), 202);
    assert.equal(await own.count(text, 50), 50);
    const answers = await Promise.all([own.count('a'.repeat(60)), own.count('a'.repeat(60))]);
    assert.deepEqual(answers, [real('a'.repeat(60)), 60], 'the second one had no room');
    assert.equal(await own.count('a'.repeat(60)), real('a'.repeat(60)), 'and now there is room again');
    await own.stop();
  });

  it('a thread that dies, again and again, leaves nobody waiting: the bound is the answer', async function () {
    this.timeout(60_000);
    // Less memory than the tokenizer's tables take.
    const own = new TokenCounter({ ...ROOMY, memoryMb: 8 });
    const answers = await Promise.all([
      own.count('Hello there'),
      own.countBody({ body: Buffer.from('{"a":"b"}'), dialect: 'openai-chat' }, Infinity),
    ]);
    assert.deepEqual(answers, [11, 9]);
    assert.equal(await own.count('again'), 5);
    await own.stop();
  });

  it('a count that takes too long is bounded, and the thread goes on with the others', async function () {
    this.timeout(60_000);
    const own = new TokenCounter({ ...ROOMY, answerMs: 1 });
    const text = '中文字符混合测试'.repeat(20_000);
    assert.equal(await own.count(text), Buffer.byteLength(text));
    await own.stop();
  });

  it('the bound is never below the count, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
        assert.ok(Buffer.byteLength(text) >= real(text));
      }),
      { numRuns: 500 },
    );
    for (const [what, unit] of HARD) assert.ok(Buffer.byteLength(unit.repeat(50)) >= real(unit.repeat(50)), what);
  });

  it('after its stop the next count starts it again', async () => {
    await counter.stop();
    assert.equal(await countTokens('hello world'), 2);
    await counter.stop();
    await counter.stop();
  });

  it('a stop does not take away an answer that is owed', async () => {
    const own = new TokenCounter(ROOMY);
    const owed = own.count('hello world');
    await own.stop();
    assert.equal(await owed, 2);
  });
});

describe('token count: what a request’s body comes to', () => {
  const estimate = (body: unknown, most = 1e9): Promise<number> =>
    countBodyTokens(Buffer.from(JSON.stringify(body)), most);
  const hi = { role: 'user', content: 'Hi' };

  it('is its texts, and four tokens for the frame of each further message', async () => {
    assert.equal(await estimate({ model: 'm', messages: [hi] }), real('Hi'));
    const messages = [
      { role: 'system', content: 'You are a poet.' },
      hi,
      { role: 'user', name: 'ada', content: 'Hello' },
    ];
    const texts = ['You are a poet.', 'Hi', 'ada', 'Hello'];
    const sum = texts.reduce((tokens, text) => tokens + real(text), 0);
    assert.equal(await estimate({ model: 'm', messages }), sum + 8);
  });

  it('ten thousand empty messages are not free', async () => {
    const messages = Array.from({ length: 10_000 }, () => ({ role: 'user', content: '' }));
    assert.equal(await estimate({ model: 'm', messages }), 39_996);
  });

  const LONG = 'The quick brown fox jumps over the lazy dog. '.repeat(8_000);
  const LONG_TOKENS = real(LONG);
  const places: readonly (readonly [what: string, body: Record<string, unknown>])[] = [
    ['content', { messages: [{ role: 'user', content: LONG }] }],
    ['parts of content', { messages: [{ role: 'user', content: [{ type: 'text', text: LONG }] }] }],
    ['the name of a sender', { messages: [{ ...hi, name: LONG }] }],
    [
      'arguments of an earlier tool call',
      {
        messages: [
          { role: 'assistant', tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: LONG } }] },
        ],
      },
    ],
    [
      'input of a custom tool',
      { messages: [{ role: 'assistant', tool_calls: [{ type: 'custom', custom: { input: LONG } }] }] },
    ],
    ['the old function call', { messages: [{ role: 'assistant', function_call: { name: 'f', arguments: LONG } }] }],
    ['the result of a tool', { messages: [{ role: 'tool', tool_call_id: 'c', content: LONG }] }],
    ['reasoning of an earlier answer', { messages: [{ role: 'assistant', content: 'x', reasoning_content: LONG }] }],
    ['a role that is none', { messages: [{ role: LONG, content: 'Hi' }] }],
    ['a refusal', { messages: [{ role: 'assistant', refusal: LONG }] }],
    ['a field of a message that nobody knows', { messages: [{ ...hi, thoughts: [{ deep: { deeper: LONG } }] }] }],
    ['the description of a tool', { tools: [{ type: 'function', function: { name: 'f', description: LONG } }] }],
    [
      'a description in a schema',
      { tools: [{ type: 'function', function: { parameters: { properties: { a: { description: LONG } } } } }] },
    ],
    ['the values of an enum', { tools: [{ type: 'function', function: { parameters: { enum: [LONG] } } }] }],
    ['the old functions', { functions: [{ name: 'f', description: LONG }] }],
    [
      'the schema of the answer',
      { response_format: { type: 'json_schema', json_schema: { schema: { description: LONG } } } },
    ],
    ['a prediction', { prediction: { type: 'content', content: LONG } }],
    ['a field that nobody knows', { documents: [{ title: 'x', body: LONG }] }],
    ['the name of a field that nobody knows', { [LONG]: 1 }],
    ['a data URL that stands in a text', { messages: [{ role: 'user', content: `data:text/plain;base64,${LONG}` }] }],
  ];
  // 380 KB of arguments were seen as nothing: 12 requests paid $0.067 for $2.917.
  for (const [what, body] of places) {
    it(`counts ${what}: 360 KB are ${LONG_TOKENS} tokens more`, async function () {
      this.timeout(30_000);
      const counted = await estimate({ model: 'm', messages: [hi], ...body });
      assert.ok(counted >= LONG_TOKENS && counted <= LONG_TOKENS + 60, `${counted}`);
    });
  }

  it('counts the names in a schema and numbers as text', async () => {
    const properties = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`property_number_${i}`, {}]));
    const named = await estimate({ messages: [hi], tools: [{ function: { parameters: { properties } } }] });
    assert.ok(named >= 500 * real('property_number_7'), `${named}`);
    const numbers = await estimate({ messages: [hi], x: Array.from({ length: 1000 }, () => 123456) });
    assert.ok(numbers >= 2000, `${numbers}`);
  });

  const payload = 'iVBORw0KGgo'.repeat(1000);
  for (const [what, part] of [
    ['an image', { type: 'image_url', image_url: { url: `data:image/png;base64,${payload}`, detail: 'high' } }],
    ['audio', { type: 'input_audio', input_audio: { data: payload, format: 'wav' } }],
    ['a file', { type: 'file', file: { filename: 'a.pdf', file_data: `data:application/pdf;base64,${payload}` } }],
    ['a video', { type: 'video_url', video_url: { url: `data:video/mp4;base64,${payload}` } }],
  ] as const) {
    it(`does not take the bytes of ${what} for text: the caller adds what was held for it`, async () => {
      const counted = await estimate({
        model: 'm',
        messages: [{ role: 'user', content: [{ type: 'text', text: 'Hi' }, part] }],
      });
      assert.ok(counted < 40, `${counted}`);
    });
  }

  it('does not count what only steers the call', async () => {
    const steering = {
      stream: true,
      stream_options: { include_usage: true },
      temperature: 0.5,
      max_tokens: 100,
      seed: 123456789012345,
      logit_bias: Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`${50_000 + i}`, -100])),
      user: 'u'.repeat(500),
      metadata: { note: LONG },
    };
    assert.equal(await estimate({ model: 'm', messages: [hi], ...steering }), await estimate({ messages: [hi] }));
  });

  it('is never below the tokens of its texts, nor above the context or the bytes that were held, whatever the body', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), fc.jsonValue(), fc.nat(1000), async (content, more, most) => {
        const body = { model: 'm', messages: [{ role: 'user', content }], more };
        const bytes = Buffer.from(JSON.stringify(body));
        const counted = await countBodyTokens(bytes, 1e9);
        assert.ok(counted >= real(content));
        assert.ok(counted <= bytes.length);
        assert.equal(await countBodyTokens(bytes, most), Math.min(counted, most));
      }),
      { numRuns: 100 },
    );
  });

  it('never fails: bytes that are no JSON are counted as text, and depth is no matter', async function () {
    this.timeout(60_000);
    const deep = `{"messages":[],"x":${'['.repeat(200_000)}"Hello"${']'.repeat(200_000)}}`;
    for (const text of ['{"messages":', 'null', '[]', '"text"', '7', '\u0000', deep]) {
      const counted = await countBodyTokens(Buffer.from(text), 1000);
      assert.ok(counted >= 0 && counted <= Math.min(1000, Buffer.byteLength(text)), text.slice(0, 20));
    }
    assert.ok((await countBodyTokens(Buffer.from([0xff, 0xfe, 0x7b]), 1000)) <= 3);
  });
});
