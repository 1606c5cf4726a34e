/** What a part of an answer carries, in every form in which some provider sends output. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { outputOf, outputOfChoice } from '../../../../../../api/gateway/dialects/openai-chat/produced-output.ts';

const PICTURE = `data:image/png;base64,${'iVBORw0KGgo'.repeat(40)}`;

/** A delta or message, and the text that must be read of it. */
const TEXTS: readonly { readonly form: string; readonly part: unknown; readonly text: string }[] = [
  { form: 'plain content', part: { role: 'assistant', content: 'a' }, text: 'a' },
  { form: 'a refusal', part: { refusal: 'b' }, text: 'b' },
  { form: 'reasoning (DeepSeek)', part: { reasoning_content: 'c' }, text: 'c' },
  { form: 'reasoning (OpenRouter, Groq)', part: { reasoning: 'd' }, text: 'd' },
  {
    form: 'reasoning under two names and in details (OpenRouter), which is one text',
    part: { reasoning: 'e', reasoning_content: 'e', reasoning_details: [{ type: 'reasoning.text', text: 'e' }] },
    text: 'e',
  },
  { form: 'thinking blocks (LiteLLM)', part: { thinking_blocks: [{ type: 'thinking', thinking: 'f' }] }, text: 'f' },
  { form: 'content as parts (Mistral)', part: { content: [{ type: 'text', text: 'g' }] }, text: 'g' },
  {
    form: 'thinking nested in content parts (Mistral)',
    part: { content: [{ type: 'thinking', thinking: [{ type: 'text', text: 'h' }] }] },
    text: 'h',
  },
  { form: 'content as a list of texts', part: { content: ['i', 'j'] }, text: 'ij' },
  { form: 'content as an object', part: { content: { parts: [{ text: 'k' }] } }, text: 'k' },
  {
    form: 'tool calls',
    part: { tool_calls: [{ index: 0, id: 'x', type: 'function', function: { name: 'l', arguments: 'm' } }] },
    text: 'lm',
  },
  { form: 'custom tool calls', part: { tool_calls: [{ custom: { name: 'n', input: 'o' } }] }, text: 'no' },
  {
    form: 'tool calls whose arguments are parsed (Ollama)',
    part: { tool_calls: [{ function: { name: 'p', arguments: { q: 1 } } }] },
    text: 'p{"q":1}',
  },
  { form: 'the older function call', part: { function_call: { name: 'r', arguments: 's' } }, text: 'rs' },
  { form: 'the transcript of speech', part: { audio: { id: 'audio_1', transcript: 't' } }, text: 't' },
  { form: 'a field nobody knows', part: { vendor_thoughts: { deep: [{ text: 'u' }] } }, text: 'u' },
];

describe('gateway: produced output', () => {
  for (const { form, part, text } of TEXTS) {
    it(`${form} is output`, () => {
      const output = outputOf(part);
      assert.equal(output?.texts.join(''), text);
      assert.deepEqual([output.otherBytes, output.hasMedia], [0, false]);
    });
  }

  for (const part of [
    null,
    undefined,
    '',
    {},
    [],
    { role: 'assistant', content: '' },
    { content: null },
    { content: [] },
    { refusal: '', annotations: [], tool_calls: [], reasoning_details: [{ type: 'reasoning.text', text: '' }] },
    { audio: null, audio_id: null },
    { id: 'x', index: 3, type: 'text', object: 'chat.completion.chunk' },
  ]) {
    it(`${JSON.stringify(part)} is none`, () => assert.equal(outputOf(part), null));
  }

  it('audio and pictures are output by their bytes, not text', () => {
    for (const part of [
      { audio: { id: 'audio_1', data: 'A'.repeat(300) } },
      { images: [{ type: 'image_url', image_url: { url: PICTURE } }] },
      { content: [{ type: 'image_url', image_url: { url: PICTURE } }] },
      { images: [{ b64_json: 'QUJD'.repeat(100) }] },
    ]) {
      const output = outputOf(part);
      assert.deepEqual([output?.texts, output?.hasMedia], [[], true], JSON.stringify(part).slice(0, 60));
      assert.ok(output!.otherBytes >= 300);
    }
  });

  it('a call is output even before its name has come', () => {
    for (const call of [
      null,
      {},
      7,
      { function: null },
      { index: 0, id: 'x', function: { name: '', arguments: '' } },
    ]) {
      assert.notEqual(outputOf({ tool_calls: [call] }), null, JSON.stringify(call));
    }
  });

  it('a choice is read from its delta, a whole message or a text, and never twice', () => {
    const texts = (choice: Record<string, unknown>): string | undefined => outputOfChoice(choice)?.texts.join('');
    assert.equal(texts({ index: 0, delta: { content: 'a' } }), 'a');
    assert.equal(texts({ index: 0, message: { content: 'a' } }), 'a');
    assert.equal(texts({ index: 0, text: 'a' }), 'a');
    assert.equal(texts({ delta: { content: 'b' }, message: { content: 'ab' } }), 'b', 'Perplexity repeats all so far');
    assert.equal(texts({ delta: {}, message: { content: 'ab' } }), 'ab');
    assert.equal(texts({ delta: { role: 'assistant' }, finish_reason: null, logprobs: { content: [] } }), undefined);
  });

  it('no text of any JSON is lost, however deep it is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string({ minLength: 1, maxLength: 20 }), (value, text) => {
        const output = outputOf({ vendor: [value, { deeper: text }] });
        assert.ok(output !== null && (output.texts.includes(text) || output.otherBytes > 0));
      }),
    );
    let deep: unknown = 'at the bottom';
    for (let level = 0; level < 20_000; level += 1) deep = [deep];
    assert.ok(outputOf({ deep })!.otherBytes > 20_000);
  });
});
