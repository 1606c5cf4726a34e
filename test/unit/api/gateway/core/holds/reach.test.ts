/** What a chat request can reach at a model: bounds that hold for every body. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import {
  askedOutputTokens,
  checkBodySize,
  nonTextInputTokens,
  outputLimit,
  reachOf,
  textBytesMax,
} from '../../../../../../api/gateway/core/holds/reach.ts';
import { parseChatRequest, type ChatRequest } from '../../../../../../api/gateway/dialects/openai-chat/request.ts';
import { gatewayModel, UPSTREAM } from '../../../../../support/chat-model.ts';

const MODEL = gatewayModel();
const CONTEXT = MODEL.contextLength;
const MESSAGES = [{ role: 'user', content: 'Hi' }];
const parse = (body: object): ChatRequest =>
  parseChatRequest(Buffer.from(JSON.stringify({ model: 'test/model', messages: MESSAGES, ...body })));

/** What a model reads of messages and tools. */
const textOf = (
  messages: readonly { content: string | { text: string }[] }[],
  tools: readonly object[] | null,
): string =>
  [
    ...messages.flatMap(({ content }) => (typeof content === 'string' ? [content] : content.map(({ text }) => text))),
    ...(tools === null ? [] : [JSON.stringify(tools)]),
  ].join('\n');

const say = (...content: readonly object[]): object => ({ messages: [{ role: 'user', content }] });
const image = (url: string, detail?: string): object => ({ type: 'image_url', image_url: { url, detail } });
/** A PNG of 1024 × 1024 px with a megabyte behind its size. */
const PICTURE = `data:image/png;base64,${'iVBORw0KGgoAAAANSUhEUgAABAAAAAQA'.padEnd(1_000_000, 'A')}`;

describe('gateway: what a chat request can reach', () => {
  it('the input that is held is never less than what a tokenizer counts in it, whatever the text', () => {
    const text = fc.oneof(
      fc.string({ maxLength: 200 }),
      fc.string({ unit: 'grapheme', maxLength: 100 }),
      fc.string({ unit: 'binary', maxLength: 100 }),
      fc.constantFrom('<|endoftext|>', '\ud800', '\u0000', '👩‍🚀'.repeat(30), ' '.repeat(500)),
    );
    const message = fc.record({
      role: fc.constantFrom('system', 'user', 'assistant'),
      content: fc.oneof(
        text,
        fc.array(
          text.map((part) => ({ type: 'text', text: part })),
          { maxLength: 3 },
        ),
      ),
    });
    const tools = fc.array(
      text.map((description) => ({ type: 'function', function: { name: 'f', description } })),
      { maxLength: 2 },
    );
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 4 }), fc.option(tools), (messages, someTools) => {
        const request = parse({ messages, tools: someTools });
        const real = countTokens(textOf(messages, someTools), { disallowedSpecial: new Set() });
        const held = reachOf(request, MODEL, 0).inputTokens;
        assert.ok(held >= real, `${held} held for ${real} tokens`);
      }),
      { numRuns: 300 },
    );
  });

  describe('output', () => {
    it('is limited by the larger limit given, else by the default of a whole answer and the context of a stream', () => {
      for (const [body, limit] of [
        [{}, 1000],
        [{ stream: true }, CONTEXT],
        [{ max_tokens: 5 }, 5],
        [{ max_completion_tokens: 6 }, 6],
        [{ max_tokens: 5, max_completion_tokens: 6 }, 6],
        [{ max_tokens: 7, max_completion_tokens: 6, stream: true }, 7],
        [{ max_tokens: 100_001 }, CONTEXT],
      ] as const) {
        assert.equal(outputLimit(parse(body), MODEL), limit, JSON.stringify(body));
      }
      assert.equal(outputLimit(parse({}), gatewayModel({ contextLength: 500 })), 500, 'a default beyond the context');
    });

    it('of a stream that may be unseen is limited by the default of a whole answer', () => {
      const unseen = gatewayModel({ hiddenOutput: true });
      assert.equal(outputLimit(parse({ stream: true }), unseen), 1000);
      assert.equal(outputLimit(parse({ stream: true, max_tokens: 5000 }), unseen), 5000);
    });

    it('may exceed the limit by the reasoning that the client grants, never the context', () => {
      const request = parse({ max_tokens: 100, reasoning: { max_tokens: 20_000 } });
      assert.deepEqual([askedOutputTokens(request, MODEL), outputLimit(request, MODEL)], [100, 20_100]);
      assert.equal(outputLimit(parse({ max_tokens: 90_000, thinking_budget: 90_000 }), MODEL), CONTEXT);
    });

    it('is the whole context where any upstream takes no limit: 20,000 tokens must not run on a hold for 1,000', () => {
      const unlimited = gatewayModel({ upstreams: [UPSTREAM, { ...UPSTREAM, limit_field: 'none' }] });
      for (const body of [{}, { max_tokens: 1000 }, { stream: true, max_tokens: 1000 }]) {
        assert.equal(outputLimit(parse(body), unlimited), CONTEXT);
      }
    });

    it('is that of every answer, and the prediction', () => {
      assert.equal(reachOf(parse({ n: 3 }), MODEL, 100).outputTokens, 300);
      assert.equal(reachOf(parse({ n: 3 }), MODEL, 100).furtherAnswers, 2);
      const prediction = { type: 'content', content: 'für' };
      const bytes = Buffer.byteLength(JSON.stringify(prediction));
      assert.equal(reachOf(parse({ n: 3, prediction }), MODEL, 100).outputTokens, 300 + bytes);
    });
  });

  describe('input', () => {
    const gpt4o = gatewayModel({ imageTokens: { formula: 'gpt-4o' } });

    it('of text is its bytes, up to the context', () => {
      const request = parse({});
      assert.equal(reachOf(request, MODEL, 0).inputTokens, request.bodyBytes);
      const long = parse({ messages: [{ role: 'user', content: 'x'.repeat(200_000) }] });
      assert.equal(reachOf(long, MODEL, 0).inputTokens, CONTEXT);
    });

    it('of images is that of their formula beside the text, without their base64', () => {
      const request = parse(say({ type: 'text', text: 'Look' }, image(PICTURE), image(PICTURE, 'low')));
      const imageTokens = 85 + 4 * 170 + 85;
      assert.equal(nonTextInputTokens(request, gpt4o), imageTokens);
      const { inputTokens, imageInput, audioInput } = reachOf(request, gpt4o, 0);
      const textBytes = request.bodyBytes - 2 * (PICTURE.length - 'data:image/png;base64,'.length);
      assert.deepEqual([inputTokens, imageInput, audioInput], [textBytes + imageTokens, true, false]);
    });

    it('of an image that nobody has described is that of the dearest formula, and not the context', () => {
      const request = parse(say(image(PICTURE)));
      const million = gatewayModel({ contextLength: 1_000_000 });
      assert.equal(nonTextInputTokens(request, million), 2833 + 4 * 5667);
      assert.equal(nonTextInputTokens(parse(say(image('https://x.test/1.png'))), million), 2833 + 8 * 5667);
    });

    it('of many images ends at the context', () => {
      const request = parse(say(...Array.from({ length: 500 }, () => image('https://x.test/1.png'))));
      assert.equal(reachOf(request, gpt4o, 0).inputTokens, CONTEXT);
    });

    it('of sound, files, references and unknown parts is the whole context, at every class it may have', () => {
      for (const [part, audioInput, imageInput] of [
        [{ type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } }, true, false],
        [{ type: 'file', file: { file_data: 'AAAA' } }, true, true],
        [{ type: 'video_url', video_url: { url: 'https://x.test/1.mp4' } }, true, true],
        [{ type: 'hologram' }, true, true],
      ] as const) {
        const request = parse(say(part));
        const reach = reachOf(request, gpt4o, 0);
        assert.deepEqual([reach.inputTokens, reach.audioInput, reach.imageInput], [CONTEXT, audioInput, imageInput]);
        assert.equal(nonTextInputTokens(request, gpt4o), CONTEXT);
      }
    });

    it('of sound is what its seconds cost, where the catalogue says how much that is', () => {
      const wav = Buffer.concat([
        Buffer.from('524946460000000057415645666d74201000000001000100401f0000401f00000100080064617461401f0000', 'hex'),
        Buffer.alloc(8000 * 60),
      ]);
      const data = wav.toString('base64');
      const request = parse(say({ type: 'input_audio', input_audio: { data, format: 'wav' } }));
      const listener = gatewayModel({ audioTokensPerSecond: 10 });
      const { inputTokens, audioInput } = reachOf(request, listener, 0);
      // A minute, and the second that may have begun.
      assert.deepEqual([inputTokens, audioInput], [request.bodyBytes - data.length + 610, true]);
      assert.equal(nonTextInputTokens(request, MODEL), CONTEXT);
      const address = parse(say({ type: 'input_audio', input_audio: { data: 'https://x.test/1.wav', format: 'wav' } }));
      assert.equal(nonTextInputTokens(address, listener), CONTEXT);
    });

    it('of a web search is what it adds for each answer, or the context where nobody knows', () => {
      const request = parse({ web_search_options: {}, n: 3 });
      assert.equal(nonTextInputTokens(request, MODEL), CONTEXT);
      const searcher = gatewayModel({ webSearchInputTokens: 8000 });
      assert.equal(nonTextInputTokens(request, searcher), 24_000);
      assert.equal(reachOf(request, searcher, 0).inputTokens, request.bodyBytes + 24_000);
      assert.equal(reachOf(request, searcher, 0).webSearches, 3);
    });
  });

  describe('size of a body', () => {
    const small = gatewayModel({ contextLength: 1000 });
    const textOfBytes = (bytes: number): ChatRequest => {
      const empty = parse({ messages: [{ role: 'user', content: '' }] }).bodyBytes;
      return parse({ messages: [{ role: 'user', content: 'x'.repeat(bytes - empty) }] });
    };

    it('is limited by the context of the model, and the refusal says how', () => {
      const most = textBytesMax(small);
      assert.equal(most, 1000 * 12 + 65_536);
      checkBodySize(textOfBytes(most), small);
      assert.throws(() => checkBodySize(textOfBytes(most + 1), small), {
        code: 'body_too_large',
        status: 413,
        message: new RegExp(`${most} bytes.*test/model`),
      });
      checkBodySize(textOfBytes(most + 1), MODEL);
    });

    it('is not limited for images and files, which have limits of their own', () => {
      checkBodySize(parse(say(image(PICTURE))), small);
      checkBodySize(parse(say({ type: 'file', file: { file_data: 'A'.repeat(1_000_000) } })), small);
    });
  });
});
