/**
 * What is read of a chat request: which fields pass, what is refused by name, and what the body carries beside text.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { PASSED_FIELDS, READ_FIELDS } from '../../../../../../api/gateway/dialects/openai-chat/fields.ts';
import { refuseUnsupported } from '../../../../../../api/gateway/core/admit.ts';
import { parseChatRequest, type ChatRequest } from '../../../../../../api/gateway/dialects/openai-chat/request.ts';
import { Refusal } from '../../../../../../domain/errors.ts';

const MESSAGES = [{ role: 'user', content: 'Hi' }];
const parse = (body: object): ChatRequest =>
  parseChatRequest(Buffer.from(JSON.stringify({ model: 'test/model', messages: MESSAGES, ...body })));
/** A body as text, for what JSON.stringify would not write. */
const parseText = (members: string): ChatRequest =>
  parseChatRequest(Buffer.from(`{"model":"m","messages":[{"role":"user","content":"Hi"}]${members}}`));

/** The code and the param of the refusal that reading, or the model, answers a body with; null when there is none. */
function refusal(read: () => ChatRequest, passthroughFields: readonly string[] = []): [string, string | null] | null {
  try {
    refuseUnsupported(read(), passthroughFields);
    return null;
  } catch (error) {
    if (error instanceof Refusal) return [error.code, error.param];
    throw error;
  }
}

/** Fields that make a request dearer somewhere, or take it where nobody can say what it costs. */
const DEAR_FIELDS: Readonly<Record<string, unknown>> = {
  // OpenAI: other prices, charged apart, or of other endpoints
  background: true,
  moderation: { model: 'omni-moderation-latest' },
  previous_response_id: 'resp_1',
  conversation: 'conv_1',
  prompt: { id: 'pmpt_1' },
  max_output_tokens: 100_000,
  max_tool_calls: 5,
  include: ['web_search_call.results'],
  truncation: 'auto',
  input: 'text',
  instructions: 'text',
  // Providers: later, faster, elsewhere
  deferred: true,
  speed: 'fast',
  fast_mode: true,
  priority: -100,
  inference_geo: 'us',
  batch: true,
  // Other models or several at once
  models: ['a/b'],
  route: 'fallback',
  fallbacks: ['x'],
  provider: { order: ['x'] },
  preset: 'x',
  lora_path: 'x',
  adapter_id: 'x',
  speculation: 'text',
  // Several generations for one answer
  best_of: 20,
  use_beam_search: true,
  num_beams: 8,
  num_return_sequences: 8,
  candidate_count: 8,
  // Limits by other names
  max_new_tokens: 100_000,
  n_predict: -1,
  num_predict: -1,
  max_length: 100_000,
  max_completion_token: 100_000,
  tokens_to_generate: 100_000,
  generation_config: { max_output_tokens: 100_000 },
  options: { num_predict: -1 },
  // Tools and searches of the provider
  plugins: [{ id: 'web' }],
  mcp_servers: [{ url: 'https://tools.test' }],
  container: 'c',
  web_search: true,
  enable_search: true,
  enable_web_search: true,
  search_options: { forced_search: true },
  search_parameters: { mode: 'on' },
  search_settings: { country: 'de' },
  compound_custom: { tools: {} },
  enable_code_interpreter: true,
  enable_citations: true,
  return_images: true,
  // Input that is not in the body, or more of it than is
  chat_template: '{% for i in range(100000) %}a{% endfor %}',
  documents: [{ text: 'x' }],
  input_ids: [1, 2],
  prompt_token_ids: [1, 2],
  prompt_embeds: 'AAAA',
  safe_prompt: true,
  prompt_mode: 'reasoning',
  cached_content: 'cachedContents/1',
  session_params: { id: '1' },
  context_management: { edits: [] },
  transforms: ['middle-out'],
  echo: true,
  mm_processor_kwargs: { max_pixels: 1e8 },
  media_io_kwargs: { video: { num_frames: 10_000 } },
  vl_high_resolution_images: true,
  max_dynamic_patch: 100,
  images_config: { image_max_pixels: 1e8 },
  use_audio_in_video: true,
  // Code, and doors to all of these
  custom_logit_processor: 'gASV',
  logits_processors: ['x'],
  custom_params: { x: 1 },
  vllm_xargs: { x: 1 },
  kv_transfer_params: { do_remote_decode: true },
  extra_body: { n: 100 },
  extra_args: { n: 100 },
  extra_headers: { 'x-tier': 'priority' },
  extra_query: {},
  google: { thinking_config: {} },
  // What is charged apart or delivered in pieces too large to meter
  safety_model: 'x',
  guardrails: [{}],
  guardian_config: {},
  stream_interval: 4096,
  return_hidden_states: true,
  image_config: { image_size: '4K' },
  translation_options: { source_lang: 'auto' },
};

describe('gateway: reading a chat request', () => {
  it('any bytes are either a request or a Refusal, never another exception', () => {
    const check = (raw: Buffer): void => void refusal(() => parseChatRequest(raw));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => check(Buffer.from(bytes))),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.constantFrom(...READ_FIELDS), fc.jsonValue(), fc.jsonValue(), (field, content, value) => {
        const messages = [{ role: 'user', content }];
        check(Buffer.from(JSON.stringify({ model: 'm', messages, [field]: value })));
      }),
      { numRuns: 1000 },
    );
  });

  it('is plain data: what another thread has read is as good as what was read here', () => {
    const body = {
      stream: true,
      stream_options: { include_usage: true, include_obfuscation: false },
      messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://x.test/1.png' } }] }],
      vendor: 1,
      n: 2,
    };
    const request = parse(body);
    const cloned = structuredClone(request);
    assert.deepEqual({ ...cloned, raw: Buffer.from(cloned.raw) }, { ...request, raw: Buffer.from(request.raw) });
  });

  it('reads what it acts on', () => {
    const request = parse({
      stream: true,
      stream_options: { include_usage: true },
      n: 3,
      max_tokens: 70,
      max_completion_tokens: 20,
      modalities: ['text', 'audio'],
      web_search_options: {},
      prediction: { type: 'content', content: 'für' },
      reasoning: { max_tokens: 500 },
    });
    const { model, stream, wantsUsage, answers, limits, outputTokensMax, output, webSearch } = request;
    assert.deepEqual(
      { model, stream, wantsUsage, answers, limits, outputTokensMax, output, webSearch },
      {
        model: 'test/model',
        stream: true,
        wantsUsage: true,
        answers: 3,
        limits: { max_tokens: 70, max_completion_tokens: 20 },
        outputTokensMax: 70,
        output: { audio: true, image: false },
        webSearch: true,
      },
    );
    assert.equal(request.predictionTokens, Buffer.byteLength('{"type":"content","content":"für"}'));
    assert.equal(request.reasoningTokens, 500);
  });

  describe('fields', () => {
    it('that are known pass, with any value that they may have', () => {
      for (const field of PASSED_FIELDS) {
        for (const value of [1, 'x', true, { a: [1] }])
          assert.equal(
            refusal(() => parse({ [field]: value })),
            null,
            field,
          );
      }
    });

    for (const [field, value] of Object.entries(DEAR_FIELDS)) {
      it(`${field} is refused by name, unless the operator vouches for it or it is not set`, () => {
        assert.deepEqual(
          refusal(() => parse({ [field]: value })),
          ['unsupported_parameter', field],
        );
        assert.equal(
          refusal(() => parse({ [field]: value }), [field]),
          null,
        );
        for (const unset of [null, false])
          assert.equal(
            refusal(() => parse({ [field]: unset })),
            null,
          );
      });
    }

    it('that nobody knows are refused, whatever they are called', () => {
      const name = fc.oneof(
        fc.string(),
        fc.string({ unit: 'binary' }),
        fc.constantFrom('__proto__', 'constructor', ''),
      );
      const known = new Set<string>([...READ_FIELDS, ...PASSED_FIELDS]);
      fc.assert(
        fc.property(
          name.filter((text) => !known.has(text)),
          fc.jsonValue().filter((value) => value !== null && value !== false),
          (field, value) => {
            const found = refusal(() => parseText(`,${JSON.stringify(field)}:${JSON.stringify(value)}`));
            assert.deepEqual(found, ['unsupported_parameter', field.toWellFormed()]);
          },
        ),
        { numRuns: 300 },
      );
    });

    it('of a name that is too long are named by its beginning', () => {
      const [code, param] = refusal(() => parse({ ['x'.repeat(1_000_000)]: 1 }))!;
      assert.deepEqual([code, param?.length], ['unsupported_parameter', 100]);
    });

    it('in another case are other fields to us and the same to some servers: refused, also to unset a limit', () => {
      for (const field of ['N', 'Max_Tokens', 'MODEL', 'max_to\u212aens', 'me\u017fsages', 'Stream', 'Temperature']) {
        for (const value of [100, null, false]) {
          assert.deepEqual(
            refusal(() => parse({ [field]: value })),
            ['unsupported_parameter', field],
            `${field} ${value}`,
          );
        }
      }
    });

    it('more than a thousand of them are refused, read or not', () => {
      const members = (name: string, count: number): string => `,"${name}":0`.repeat(count);
      assert.equal(
        refusal(() => parseText(members('seed', 998))),
        null,
      );
      for (const name of ['seed', 'max_tokens', 'x']) {
        assert.deepEqual(
          refusal(() => parseText(members(name, 999))),
          ['invalid_body', null],
        );
      }
    });
  });

  describe('members of fields', () => {
    for (const [param, body] of [
      ['service_tier', { service_tier: 'priority' }],
      ['service_tier', { service_tier: 'fast' }],
      ['service_tier', { service_tier: 'Auto' }],
      ['service_tier', { service_tier: 5 }],
      ['modalities', { modalities: ['text', 'video'] }],
      ['modalities', { modalities: [null] }],
      ['stream_options.include_cost', { stream: true, stream_options: { include_cost: true } }],
      ['stream_options.Include_Usage', { stream: true, stream_options: { Include_Usage: false } }],
      ['audio.speed', { audio: { voice: 'a', speed: 2 } }],
      ['web_search_options.max_results', { web_search_options: { max_results: 500 } }],
      ['reasoning.budget', { reasoning: { effort: 'low', budget: 100_000 } }],
      ['reasoning.Max_Tokens', { reasoning: { Max_Tokens: null } }],
      ['thinking.tokens', { thinking: { type: 'enabled', tokens: 100_000 } }],
      ['chat_template_kwargs.chat_template', { chat_template_kwargs: { chat_template: '{{ "a" * 1000000 }}' } }],
      ['chat_template_kwargs.documents', { chat_template_kwargs: { documents: [{}] } }],
      ['chat_template_kwargs.builtin_tools', { chat_template_kwargs: { builtin_tools: ['browser'] } }],
      ['tools[0].type', { tools: [{ type: 'web_search' }] }],
      ['tools[0].type', { tools: [{ function: { name: 'f' } }] }],
      ['tools[0].google_search', { tools: [{ google_search: {} }] }],
      ['tools[0].type', { tools: [{ type: 'Function', function: { name: 'f' } }] }],
      ['tools[0].type', { tools: [{ type: 'builtin_function', function: { name: '$web_search' } }] }],
      ['tools[1].type', { tools: [{ type: 'function' }, { type: 'mcp', server_url: 'https://tools.test' }] }],
      ['tools[1].web_search', { tools: [{ type: 'function' }, { type: 'function', web_search: { enable: true } }] }],
      ['tools[0].Type', { tools: [{ type: 'function', Type: 'web_search' }] }],
    ] as const) {
      it(`${JSON.stringify(body)} is refused at ${param}, unless the operator vouches for the field`, () => {
        assert.deepEqual(
          refusal(() => parse(body)),
          ['unsupported_parameter', param],
        );
        const [field] = param.split(/[.[]/);
        assert.equal(
          refusal(() => parse(body), [field!]),
          null,
        );
      });
    }

    it('that are harmless pass', () => {
      for (const body of [
        { service_tier: 'auto' },
        { service_tier: 'default' },
        { stream: true, stream_options: { include_usage: false, include_obfuscation: false, x: null } },
        { web_search_options: { search_context_size: 'high', user_location: { type: 'approximate' } } },
        { reasoning: { effort: 'high', exclude: true, enabled: true, summary: 'auto' } },
        { thinking: { type: 'enabled', budget_tokens: 1024 } },
        { chat_template_kwargs: { enable_thinking: false, thinking: true, reasoning_effort: 'low' } },
        { tools: [{ type: 'function', function: { name: 'f' }, cache_control: { type: 'ephemeral' } }] },
        { tools: [{ type: 'custom', custom: { name: 'c' } }] },
        { reasoning: 'high', thinking: true, chat_template_kwargs: [], audio: 'x' },
      ]) {
        assert.equal(
          refusal(() => parse(body)),
          null,
          JSON.stringify(body),
        );
      }
    });

    it('that grant reasoning are read, wherever they stand', () => {
      for (const [body, tokens] of [
        [{ reasoning: { max_tokens: 2000 } }, 2000],
        [{ thinking: { type: 'enabled', budget_tokens: 3000 } }, 3000],
        [{ thinking_budget: 4000 }, 4000],
        [{ thinking_token_budget: 5000 }, 5000],
        [{ max_thinking_tokens: 6000 }, 6000],
        [{ chat_template_kwargs: { thinking_budget: 7000 } }, 7000],
        [{ reasoning: { max_tokens: 2000 }, thinking_budget: 100.5 }, 2000],
        [{ thinking_budget: -1 }, 0],
        [{ thinking_budget: 1e300 }, 2 ** 31],
        [{ thinking_budget: 'high', reasoning: { max_tokens: null } }, 0],
      ] as const) {
        assert.equal(parse(body).reasoningTokens, tokens, JSON.stringify(body));
      }
    });

    it('speech is held for where its settings are sent alone', () => {
      assert.equal(parse({ audio: { voice: 'alloy', format: 'wav' } }).output.audio, true);
      assert.equal(parse({ audio: null }).output.audio, false);
    });
  });

  describe('fields that come twice', () => {
    it('count by the last one, and what was wrong with the one before does not matter', () => {
      const request = parseText(
        ',"n":100,"n":2,"max_tokens":"x","max_tokens":7,"stream":1,"stream":true,"stream_options":5,"stream_options":{},' +
          '"background":true,"background":false,"tools":[{"type":"mcp"}],"tools":[{"type":"function"}],"model":"other"',
      );
      assert.deepEqual(
        [request.answers, request.outputTokensMax, request.stream, request.model],
        [2, 7, true, 'other'],
      );
      refuseUnsupported(request, []);
    });

    it('are refused for what is wrong with the last one', () => {
      for (const [members, expected] of [
        [',"n":2,"n":0', ['invalid_body', 'n']],
        [',"background":false,"background":true', ['unsupported_parameter', 'background']],
        [',"tools":[],"tools":[{"type":"mcp"}]', ['unsupported_parameter', 'tools[0].type']],
        [',"messages":[]', ['invalid_body', 'messages']],
        [',"model":""', ['invalid_body', 'model']],
      ] as const) {
        assert.deepEqual(
          refusal(() => parseText(members)),
          expected,
          members,
        );
      }
    });

    it('are the same field however their names are escaped', () => {
      const request = parseText(',"n":1,"\\u006e":3,"\\u006Daxtokens":null,"max_tok\\u0065ns":9');
      assert.deepEqual([request.answers, request.outputTokensMax], [3, 9]);
      assert.deepEqual(
        refusal(() => parseText(',"b\\u0065st_of":20')),
        ['unsupported_parameter', 'best_of'],
      );
    });

    it('inside others count all of them: no server takes one that was not looked at', () => {
      const tools = ',"tools":[{"type":"web_search","type":"function"}]';
      assert.deepEqual(
        refusal(() => parseText(tools)),
        ['unsupported_parameter', 'tools[0].type'],
      );
      const content =
        ',"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.test/1.png"}}],"content":"Hi"}]';
      assert.equal(parseText(content).input.images.length, 1);
      const usage = parseText(',"stream":true,"stream_options":{"include_usage":true,"include_usage":false}');
      assert.equal(usage.wantsUsage, false);
    });
  });

  describe('bounds', () => {
    it('a thousand levels pass in any field, and hundreds of thousands are refused by its name', () => {
      const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
      for (const field of ['metadata', 'response_format', 'tools', 'prediction', 'messages', 'vendor']) {
        const wrap = field === 'tools' ? `[{"type":"function","function":@}]` : '@';
        const value = (levels: number): string => wrap.replace('@', nested(levels));
        assert.deepEqual(
          refusal(() => parseText(`,"${field}":${value(200_000)}`)),
          ['invalid_body', field],
        );
        if (field === 'messages') continue;
        assert.equal(
          refusal(() => parseText(`,"${field}":${value(1000)}`), ['vendor']),
          null,
          field,
        );
      }
    });

    it('five million numbers are refused by the name of their field, and a large schema passes', () => {
      const numbers = `,"seed":1234567890123456789,"metadata":[${'1,'.repeat(5_000_000)}1]`;
      assert.deepEqual(
        refusal(() => parseText(numbers)),
        ['invalid_body', 'metadata'],
      );
      assert.equal(
        refusal(() => parseText(`,"tools":[{"type":"function","function":[${'{},'.repeat(100_000)}1]}]`)),
        null,
      );
    });
  });

  describe('what messages carry', () => {
    const text = { type: 'text', text: 'Hi' };
    const web = (detail?: string): object => ({
      type: 'image_url',
      image_url: { url: 'https://x.test/1.png', detail },
    });
    const sound = { type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } };
    const at = (content: unknown, more: object = {}): object => ({
      messages: [{ role: 'user', content, ...more }],
    });
    /** A second of silence: WAV, 8,000 samples of one byte. */
    const SECOND = Buffer.concat([
      Buffer.from('524946460000000057415645666d74201000000001000100401f0000401f00000100080064617461401f0000', 'hex'),
      Buffer.alloc(8000),
    ]).toString('base64');
    const NOTHING = { images: [], sounds: [], other: false };
    const image = (detail: string): object => ({ size: null, detail });

    for (const [name, body, expected] of [
      ['text', at('Hi'), {}],
      ['no content', at(null), {}],
      ['text in parts', at([text, { type: 'refusal', refusal: 'no' }]), {}],
      ['text with a mark for the cache', at([{ ...text, cache_control: { type: 'ephemeral' } }]), {}],
      [
        'an earlier answer with tool calls and reasoning',
        {
          messages: [
            {
              role: 'assistant',
              content: '',
              refusal: null,
              audio: null,
              annotations: [],
              function_call: null,
              tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
              reasoning_content: 'thinking',
              reasoning: 'thinking',
              reasoning_details: [{ type: 'reasoning.text', text: 'thinking' }],
            },
            { role: 'tool', tool_call_id: 'c', content: 'x', name: 'f' },
          ],
        },
        {},
      ],
      [
        'an earlier answer with the sources it named',
        at('Hi', { annotations: [{ type: 'url_citation', url_citation: { url: 'https://x.test' } }] }),
        {},
      ],
      [
        'an earlier answer with a file in its annotations',
        at('Hi', { annotations: [{ type: 'file' }] }),
        { other: true },
      ],
      [
        'images, by their detail',
        at([text, web('low'), web('high'), web('original'), web('auto'), web()]),
        {
          images: ['low', 'high', 'original', 'original', 'original'].map(image),
        },
      ],
      [
        'an image by its address alone',
        at([{ type: 'image_url', image_url: 'http://x.test/1.png' }]),
        {
          images: [image('original')],
        },
      ],
      [
        'an image in the result of a tool',
        { messages: [{ role: 'tool', tool_call_id: 'c', content: [web('low')] }] },
        {
          images: [image('low')],
        },
      ],
      [
        'an image at the provider',
        at([{ type: 'image_url', image_url: { url: 'gs://bucket/1.png' } }]),
        { other: true },
      ],
      ['an image by reference', at([{ type: 'image_url', image_url: null, uuid: 'x' }]), { other: true }],
      ['an image that asks for more pixels', at([{ ...web(), max_pixels: 1e9 }]), { other: true }],
      [
        'an image that asks for more patches',
        at([{ type: 'image_url', image_url: { url: 'https://x.test/1.png', max_dynamic_patch: 100 } }]),
        { other: true },
      ],
      [
        'a PDF in the place of an image',
        at([{ type: 'image_url', image_url: { url: 'data:application/pdf;base64,JVBERi0=' } }]),
        { other: true },
      ],
      ['sound of a kind that we cannot read', at([sound]), { sounds: [null] }],
      [
        'sound, by its length',
        at([{ type: 'input_audio', input_audio: { data: SECOND, format: 'wav' } }]),
        { sounds: [1] },
      ],
      [
        'sound at an address',
        at([{ type: 'input_audio', input_audio: { data: 'https://x.test/1.wav', format: 'wav' } }]),
        { sounds: [null] },
      ],
      [
        'sound with a wish that nobody knows',
        at([{ type: 'input_audio', input_audio: { data: SECOND, format: 'wav', speed: 0.1 } }]),
        { sounds: [null] },
      ],
      ['an earlier spoken answer', at('Hi', { audio: { id: 'audio_1' } }), { sounds: [null] }],
      ['a file', at([{ type: 'file', file: { file_data: 'AAAA' } }]), { other: true }],
      ['a video', at([{ type: 'video_url', video_url: { url: 'https://x.test/1.mp4' } }]), { other: true }],
      ['a kind that nobody knows', at([{ type: 'hologram' }]), { other: true }],
      ['a part without a kind', at([{ image_url: { url: 'https://x.test/1.png' } }]), { other: true }],
      ['text that is also an image', at([{ ...text, image_url: { url: 'https://x.test/1.png' } }]), { other: true }],
      ['an image that is also a sound', at([{ ...web(), input_audio: {} }]), { other: true }],
      ['a kind in another case', at([{ type: 'Text', text: 'Hi' }]), { other: true }],
      ['a field that refers to something', at('Hi', { images: ['https://x.test/1.png'] }), { other: true }],
      ['content in another case', at('Hi', { Content: [web()] }), { other: true }],
      ['a field that cannot refer to anything', at('Hi', { x: null, y: 5, z: true, files: [], meta: {}, id: '' }), {}],
    ] as const) {
      it(`${name}`, () => assert.deepEqual(parse(body).input, { ...NOTHING, ...expected }));
    }

    it('kinds and images that come twice in one part may be read as either: of unknown length', () => {
      for (const part of [
        '{"type":"image_url","type":"text","text":"Hi","image_url":{"url":"https://x.test"}}',
        '{"type":"text","type":"text","text":"Hi"}',
        '{"type":"image_url","image_url":{"url":"https://x.test"},"image_url":{"url":"https://y.test"}}',
        '{"type":"image_url","image_url":{"url":"https://x.test","url":"gs://bucket/1.mp4"}}',
        '{"type":"image_url","image_url":{"url":"https://x.test","detail":"low","detail":"high"}}',
        '{"ty\\u0070e":"image_url","type":"text","text":"Hi"}',
      ]) {
        const { input } = parseText(`,"messages":[{"role":"user","content":[${part}]}]`);
        assert.deepEqual(input, { ...NOTHING, other: true }, part);
      }
    });

    it('the size of an image is read also where its base64 is escaped, as PHP writes it', () => {
      // A JPEG of 1024 × 1024 px, with slashes before its size.
      const base64 = '/9j/4AAE////wAARCAQABAADASIAAhEBAw==';
      const url = `data:image/jpeg;base64,${base64}`.replaceAll('/', '\\/');
      const part = `{"type":"image_url","image_url":{"url":"${url}","detail":"high"}}`;
      const { input, payloadBytes } = parseText(`,"messages":[{"role":"user","content":[${part}]}]`);
      assert.deepEqual(input.images, [{ size: { width: 1024, height: 1024 }, detail: 'high' }]);
      assert.equal(payloadBytes, base64.length);
    });

    it('base64 of images, sounds and files is not counted as text, nothing else is left out', () => {
      const payload = 'A'.repeat(1000);
      for (const [part, bytes] of [
        [{ type: 'image_url', image_url: { url: `data:image/png;base64,${payload}` } }, 1000],
        [{ type: 'image_url', image_url: { url: `DATA:image/svg+xml;charset=utf-8;BASE64,${payload}` } }, 1000],
        [{ type: 'image_url', image_url: { url: `data:image/png,${payload}` } }, 0],
        [{ type: 'image_url', image_url: { url: `https://x.test/${payload}` } }, 0],
        [{ type: 'input_audio', input_audio: { data: payload, format: 'wav' } }, 1000],
        [{ type: 'file', file: { filename: 'a.pdf', file_data: payload } }, 1000],
        [{ type: 'text', text: payload }, 0],
      ] as const) {
        assert.equal(parse(at([part])).payloadBytes, bytes, JSON.stringify(part).slice(0, 60));
      }
    });
  });
});
