/** What is read of a chat request: bounds that hold for every body, and refusals instead of exceptions. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { outputLimit, reachOf } from '../../../api/gateway/chat-reach.ts';
import { parseChatRequest } from '../../../api/gateway/chat-request.ts';
import { textOf } from '../../../api/gateway/chat-text.ts';
import { upstreamBody } from '../../../api/gateway/chat-upstream-body.ts';
import type { Model, Upstream } from '../../../db/catalogue.ts';
import { Refusal } from '../../../domain/errors.ts';

const MODEL: Model = {
  id: 'test/model',
  dialect: 'openai',
  contextLength: 100_000,
  defaultOutputTokens: 1000,
  requestTimeoutSeconds: 60,
  upstreams: [],
  hiddenOutput: false,
  imageTokens: null,
  webSearchInputTokens: null,
  passthroughFields: [],
  createdAt: new Date(0),
  versions: [],
};

const UPSTREAM: Upstream = {
  base_url: 'http://upstream.test/v1',
  api_key_env: null,
  model: 'upstream/name',
  lookup: null,
};

const MESSAGES = [{ role: 'user', content: 'Hi' }];
const parse = (body: object): ReturnType<typeof parseChatRequest> =>
  parseChatRequest(Buffer.from(JSON.stringify({ model: 'test/model', messages: MESSAGES, ...body })));

describe('gateway: reading a chat request', () => {
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
        const real = countTokens(textOf(request), { disallowedSpecial: new Set() });
        const held = reachOf(request, MODEL, 0).inputTokens;
        assert.ok(held >= real, `${held} held for ${real} tokens`);
      }),
      { numRuns: 300 },
    );
  });

  it('any bytes are either a request or a Refusal, never another exception', () => {
    const check = (raw: Buffer): void => {
      try {
        const request = parseChatRequest(raw);
        reachOf(request, MODEL, outputLimit(request, MODEL));
        textOf(request);
        JSON.parse(upstreamBody(request, MODEL, UPSTREAM).toString());
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
      }
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => check(Buffer.from(bytes))),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), fc.jsonValue(), (messages, tools, rest) =>
        check(
          Buffer.from(JSON.stringify({ model: 'm', messages: [{ role: 'user', content: messages }], tools, x: rest })),
        ),
      ),
      { numRuns: 300 },
    );
  });

  it('the limit on output is the larger one given, else the default of a whole answer and the context of a stream', () => {
    for (const [body, limit] of [
      [{}, 1000],
      [{ stream: true }, 100_000],
      [{ max_tokens: 5 }, 5],
      [{ max_completion_tokens: 6 }, 6],
      [{ max_tokens: 5, max_completion_tokens: 6 }, 6],
      [{ max_tokens: 7, max_completion_tokens: 6, stream: true }, 7],
      [{ max_tokens: 100_001 }, 100_000],
    ] as const) {
      assert.equal(outputLimit(parse(body), MODEL), limit, JSON.stringify(body));
    }
    const small = { ...MODEL, contextLength: 500 };
    assert.equal(outputLimit(parse({}), small), 500, 'a default beyond the context');
  });

  it('what the output can reach is every choice and the prediction', () => {
    assert.equal(reachOf(parse({ n: 3 }), MODEL, 100).outputTokens, 300);
    const prediction = { type: 'content', content: 'für' };
    const bytes = Buffer.byteLength(JSON.stringify(prediction));
    assert.equal(reachOf(parse({ n: 3, prediction }), MODEL, 100).outputTokens, 300 + bytes);
  });

  it('the body for the upstream differs in model, asked-for usage and a missing limit, and in nothing else', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string().map((name) => `x_${name}`),
          fc.jsonValue(),
        ),
        fc.boolean(),
        (fields, stream) => {
          const request = parse({ ...fields, stream });
          const { model, stream_options, max_completion_tokens, ...rest } = JSON.parse(
            upstreamBody(request, MODEL, UPSTREAM).toString(),
          ) as Record<string, unknown>;
          assert.deepEqual(
            [model, stream_options, max_completion_tokens],
            ['upstream/name', stream ? { include_usage: true } : undefined, stream ? undefined : 1000],
          );
          assert.deepEqual(rest, JSON.parse(JSON.stringify({ messages: MESSAGES, ...fields, stream })));
        },
      ),
      { numRuns: 100 },
    );
  });
});
