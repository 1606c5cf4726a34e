/**
 * Every form in which the upstream twin carries output: what it shows, and that it counts what it produced, shown or
 * not. A form that was counted as less than it is would let a gateway pass that gives that form away.
 */
import assert from 'node:assert/strict';

import type OpenAI from 'openai';

import {
  OUTPUT_FORM_NAMES,
  OUTPUT_FORMS,
  startUpstreamTwin,
  type OutputFormName,
  type UpstreamTwin,
} from '../../../twins/upstream/twin.ts';
import { ask, clientOf, completion, jsonEvents, newId, QUESTION, record, steered, textsIn } from './fixture.ts';

const TOKENS = 6;
const BYTES_PER_TOKEN = 90;

describe('upstream twin shows output in every form', () => {
  let twin: UpstreamTwin;
  let client: OpenAI;
  /** The words of the first choice. */
  let words: string[];

  before(async () => {
    twin = await startUpstreamTwin();
    client = clientOf(twin);
    const answer = await completion(twin, { max_tokens: TOKENS });
    words = (answer.choices[0]?.message.content ?? '').trim().split(' ');
    assert.equal(words.length, TOKENS);
  });
  after(() => twin.close());

  /** What is seen of the words and of the data, in an answer's JSON. */
  function seenIn(form: OutputFormName, values: unknown): { words: number; bytes: number } {
    const texts = textsIn(values);
    const decoded =
      form === 'reasoning_encrypted' ? texts.map((text) => Buffer.from(text, 'base64').toString()) : texts;
    const all = decoded.join(' ');
    const base64 = texts.flatMap((text) => /(?:^|,)([A-Za-z0-9+/]{80,}={0,2})/.exec(text)?.[1] ?? []);
    return {
      words: words.filter((word) => all.includes(word)).length,
      bytes: base64.reduce((sum, text) => sum + Buffer.from(text, 'base64').length, 0),
    };
  }

  for (const form of OUTPUT_FORM_NAMES) {
    const { countedAs, isShown = true, isData = false } = OUTPUT_FORMS[form];
    for (const stream of [true, false]) {
      it(`${form}, ${stream ? 'streamed' : 'whole'}: counts ${countedAs} tokens${isShown ? '' : ' that nobody sees'}`, async () => {
        const id = newId();
        const segments = [{ form, tokens: TOKENS, chunk_tokens: 3, bytes_per_token: BYTES_PER_TOKEN }];
        const body = steered({ segments }, { stream, n: 2 });
        const values: unknown = stream
          ? await jsonEvents(twin, body, id)
          : JSON.parse((await ask(twin, body, id)).text);
        const seen = seenIn(form, values);
        const kept = record(twin, id);
        const counts = {
          completion: kept.completion_tokens,
          reasoning: kept.reasoning_tokens,
          audio: kept.audio_tokens,
          image: kept.image_tokens,
          hidden: kept.hidden_tokens,
        };
        const produced = 2 * TOKENS;
        assert.deepEqual(counts, {
          completion: produced,
          reasoning: countedAs === 'reasoning' ? produced : 0,
          audio: countedAs === 'audio' ? produced : 0,
          image: countedAs === 'image' ? produced : 0,
          hidden: isShown ? 0 : produced,
        });
        if (isData) assert.equal(seen.bytes, produced * BYTES_PER_TOKEN);
        else assert.equal(seen.words, isShown ? TOKENS : 0);
        assert.equal(kept.usage?.completion_tokens, produced);
      });
    }
  }

  it('one after the other, each with its own count, and cut by the maximum wherever it falls', async () => {
    const segments = [
      { form: 'hidden', tokens: 5, chunk_tokens: 5 },
      { form: 'reasoning_content', tokens: 4 },
      { form: 'text', tokens: 3 },
      { form: 'images', tokens: 2, chunk_tokens: 2, bytes_per_token: 10 },
    ] as const;
    for (const [max_tokens, expected] of [
      [100, { completion: 14, reasoning: 9, image: 2, hidden: 5, finish: 'stop' }],
      [11, { completion: 11, reasoning: 9, image: 0, hidden: 5, finish: 'length' }],
      [7, { completion: 7, reasoning: 7, image: 0, hidden: 5, finish: 'length' }],
      [3, { completion: 3, reasoning: 3, image: 0, hidden: 3, finish: 'length' }],
    ] as const) {
      const id = newId();
      const values = await jsonEvents(twin, steered({ segments }, { stream: true, max_tokens }), id);
      const kept = record(twin, id);
      const finish = values
        .flatMap((value) => value['choices'] as { finish_reason: string | null }[])
        .find((choice) => choice.finish_reason !== null)?.finish_reason;
      assert.deepEqual(
        {
          completion: kept.completion_tokens,
          reasoning: kept.reasoning_tokens,
          image: kept.image_tokens,
          hidden: kept.hidden_tokens,
          finish,
        },
        expected,
      );
    }
  });

  it('counted as a segment says, not as its form usually is', async () => {
    const id = newId();
    const segments = [{ form: 'text', tokens: 4, counted_as: 'reasoning' }] as const;
    await ask(twin, steered({ segments }), id);
    assert.equal(record(twin, id).reasoning_tokens, 4);
  });

  for (const form of ['tool_calls', 'tool_calls_headless', 'custom_tool'] as const) {
    it(`several calls of the form ${form}, which the openai client puts together`, async () => {
      const segments = [
        { form, tokens: 3 },
        { form, tokens: 2, chunk_tokens: 2 },
      ];
      const tools = [{ type: 'function' as const, function: { name: 'look_up', parameters: {} } }];
      const body = {
        ...QUESTION,
        tools,
        tool_choice: 'required' as const,
        metadata: { twin: JSON.stringify({ segments }) },
      };
      const whole = await client.chat.completions.create(body);
      const streamed = await client.chat.completions.stream(body).finalChatCompletion();
      assert.equal(whole.choices[0]?.finish_reason, 'tool_calls');
      const calls = whole.choices[0].message.tool_calls ?? [];
      assert.equal(calls.length, 2);
      assert.notEqual(calls[0]?.id, calls[1]?.id);
      if (form === 'custom_tool') return;
      assert.deepEqual(
        (streamed.choices[0]?.message.tool_calls ?? []).map(
          (call) => call.type === 'function' && call.function.arguments,
        ),
        calls.map((call) => call.type === 'function' && call.function.arguments),
      );
    });
  }

  it('with hidden output in time: it takes its pace before anything is shown', async () => {
    const id = newId();
    const startedAt = performance.now();
    await ask(
      twin,
      steered({
        chunk_interval_ms: 15,
        segments: [
          { form: 'hidden', tokens: 4 },
          { form: 'text', tokens: 1 },
        ],
      }),
      id,
    );
    assert.ok(performance.now() - startedAt >= 59);
    assert.equal(record(twin, id).hidden_tokens, 4);
  });

  it('and the words of an answer once more where probabilities are asked for, counted once', async () => {
    const id = newId();
    const answer = await client.chat.completions.create(
      { ...QUESTION, logprobs: true, max_tokens: 4 },
      { headers: { 'x-request-id': id } },
    );
    const tokens = answer.choices[0]?.logprobs?.content?.map(({ token }) => token).join('');
    assert.equal(tokens, answer.choices[0]?.message.content);
    assert.equal(record(twin, id).completion_tokens, 4);
  });

  it('in an envelope with or without index, opening and shared chunks, and with fields that are no output', async () => {
    const envelope = {
      together: true,
      index: false,
      opening: false,
      extra_top: { obfuscation: 'x7' },
      extra_choice: { stop_reason: null },
      extra_delta: { role: '' },
    };
    const values = await jsonEvents(twin, steered({ envelope, output_tokens: 2 }, { n: 2 }));
    assert.equal(values.length, 2 + 1 + 1);
    const [first] = values;
    assert.equal(first?.['obfuscation'], 'x7');
    const choices = first?.['choices'] as Record<string, unknown>[];
    assert.equal(choices.length, 2);
    assert.ok(choices.every((choice) => !('index' in choice) && 'stop_reason' in choice));
    assert.equal((choices[0]?.['delta'] as { role: string }).role, '');
  });
});
