/**
 * What messages refer to at the provider, where every customer of ours has the same account: refused in all its forms.
 */
import assert from 'node:assert/strict';
import { refuseUnsupported } from '../../../../../api/gateway/core/admit.ts';
import { parseChatRequest } from '../../../../../api/gateway/dialects/openai-chat/request.ts';
import { Refusal } from '../../../../../domain/errors.ts';

/** The field that a request is refused for; null when it is let through. */
function refusedFor(body: Record<string, unknown>): string | null {
  const request = parseChatRequest(Buffer.from(JSON.stringify({ model: 'm', ...body })));
  try {
    refuseUnsupported(request, ['file_id', 'audio', 'file']);
    return null;
  } catch (error) {
    assert.ok(error instanceof Refusal);
    assert.equal(error.code, 'unsupported_parameter');
    return error.param;
  }
}

const part = (value: Record<string, unknown>): Record<string, unknown> => ({
  messages: [
    { role: 'system', content: 'Be short.' },
    { role: 'user', content: [{ type: 'text', text: 'Read' }, value] },
  ],
});
const message = (value: Record<string, unknown>): Record<string, unknown> => ({
  messages: [{ role: 'assistant', content: 'x', ...value }],
});

describe('references to what is kept at the provider', () => {
  for (const [name, body, param] of [
    ['a file, OpenAI', part({ type: 'file', file: { file_id: 'file-6F2ksmvXxt4VdoqmHRw6kL' } }), 'file.file_id'],
    ['a file under another name of it', part({ type: 'input_file', FileId: 'file_1' }), 'FileId'],
    [
      'an image of the Assistants API',
      part({ type: 'image_file', image_file: { file_id: 'file-1' } }),
      'image_file.file_id',
    ],
    [
      'a document, Anthropic',
      part({ type: 'document', source: { type: 'file', file_id: 'file_011CNha8iCJcU1wXNR6q4V8w' } }),
      'source.file_id',
    ],
    ['an upload into a container, Anthropic', part({ type: 'container_upload', file_id: 'file_1' }), 'file_id'],
    ['a file, Gemini', part({ type: 'media', fileData: { fileUri: 'https://x.test/a' } }), 'fileData.fileUri'],
    [
      "an image in Gemini's store",
      part({
        type: 'image_url',
        image_url: { url: 'https://generativelanguage.googleapis.com/v1beta/files/abc-123' },
      }),
      'image_url.url',
    ],
    ['an image in a bucket', part({ type: 'image_url', image_url: { url: 'gs://bucket/1.png' } }), 'image_url.url'],
    ['an image by the id of its file', part({ type: 'image_url', image_url: 'file-abc123' }), 'image_url'],
    ['an image, Moonshot', part({ type: 'image_url', image_url: { url: 'ms://d2kj3' } }), 'image_url.url'],
    ['a video, Moonshot', part({ type: 'video_url', video_url: { url: 'ms://d2kj3' } }), 'video_url.url'],
    [
      'a video on the disk of the server',
      part({ type: 'video_url', video_url: { url: 'file:///etc/passwd' } }),
      'video_url.url',
    ],
    ['a long address', part({ type: 'video_url', video_url: { url: `gs://b/${'a'.repeat(300)}` } }), 'video_url.url'],
  ] as const) {
    it(`${name}: refused, by its path`, () => assert.equal(refusedFor(body), `messages[1].content[1].${param}`));
  }

  it('an earlier spoken answer by its id is refused', () => {
    assert.equal(refusedFor(message({ audio: { id: 'audio_67a1' } })), 'messages[0].audio.id');
  });

  it('a list of attachments beside the text is refused', () => {
    assert.equal(
      refusedFor(message({ attachments: [{ file_id: 'file-1', tools: [] }] })),
      'messages[0].attachments[0].file_id',
    );
  });

  it('nothing else is: content itself, web addresses, empty ids, and what the model or the client wrote', () => {
    for (const body of [
      part({ type: 'file', file: { filename: 'a.pdf', file_data: 'data:application/pdf;base64,JVBERi0=' } }),
      part({ type: 'file', file: { filename: 'file-1: notes.pdf', file_data: 'JVBERi0=', file_id: null } }),
      part({ type: 'file', file: { file_data: 'https://x.test/a.pdf' } }),
      part({ type: 'image_url', image_url: { url: 'https://x.test/files/1.png' } }),
      part({ type: 'video_url', video_url: { url: 'http://x.test:8080/1.mp4' } }),
      part({ type: 'hologram', id: 'file-1' }),
      message({ audio: null, images: ['https://x.test/1.png'] }),
      message({
        files: [],
        images: ['https://x.test/1.png'],
        tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'open', arguments: { file_id: 'file-1' } } }],
      }),
    ]) {
      assert.equal(refusedFor(body), null, JSON.stringify(body));
    }
  });

  it('are looked for without counting the values of a body twice', () => {
    const parts = Array.from({ length: 60_000 }, () => ({ type: 'text', text: '' }));
    const request = refusedFor({
      messages: [{ role: 'user', content: [...parts, { type: 'file', file: { file_data: 'AAAA' } }] }],
    });
    assert.equal(request, null, '180,000 values are allowed');
  });

  it('is found however deep it is, without a stack of its own running out', () => {
    const deep = `${'{"a":['.repeat(1000)}{"file_id":"f"}${']}'.repeat(1000)}`;
    const text = `{"model":"m","messages":[{"role":"user","content":[{"type":"x","y":${deep}}]}]}`;
    const request = parseChatRequest(Buffer.from(text));
    const { param = '' } = request.objections[0] ?? {};
    assert.match(param, /^messages\[0\]\.content\[0\]\.y\.a\[0\]\.a/);
    assert.ok(param.length < 250, `${param.length}`);
  });
});
