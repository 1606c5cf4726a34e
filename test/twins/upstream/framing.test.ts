/** How the upstream twin frames its bytes, as legal and as broken as servers and proxies have been seen to do it. */
import assert from 'node:assert/strict';
import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib';

import { startUpstreamTwin, type SteeringInput, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { ask, newId, QUESTION, rawReads, record, steered } from './fixture.ts';

type Framing = NonNullable<SteeringInput['framing']>;

describe('upstream twin frames its answers in every way', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  after(() => twin.close());

  /** The bytes of a stream of two tokens, which is counted like any other. */
  async function streamOf(framing: Framing, knobs: SteeringInput = {}): Promise<string> {
    const id = newId();
    const { text } = await ask(twin, steered({ output_tokens: 2, ...knobs, framing }, { stream: true }), id);
    assert.equal(record(twin, id).completion_tokens, 2);
    assert.equal(record(twin, id).status, 'completed');
    return text;
  }

  it('with CR alone, CRLF, and without a blank behind the colon', async () => {
    const carriage = await streamOf({ line_end: 'cr' });
    assert.ok(!carriage.includes('\n'));
    assert.ok(carriage.endsWith('data: [DONE]\r\r'));
    assert.ok((await streamOf({ line_end: 'crlf' })).endsWith('data: [DONE]\r\n\r\n'));
    const tight = await streamOf({ colon_space: false });
    assert.ok(tight.startsWith('data:{') && tight.endsWith('\n\ndata:[DONE]\n\n'));
  });

  it('with a byte-order mark before everything, in streams and whole answers', async () => {
    const { reads } = await rawReads(twin, { ...QUESTION, ...steered({ framing: { bom: true } }), stream: true });
    assert.equal(Buffer.concat(reads).toString('hex', 0, 3), 'efbbbf');
    const whole = await rawReads(twin, { ...QUESTION, ...steered({ framing: { bom: true } }) });
    assert.equal(Buffer.concat(whole.reads).toString('hex', 0, 3), 'efbbbf');
  });

  it('with event, id and retry fields', async () => {
    const text = await streamOf({ event: 'message', id: true, retry: 3000 });
    assert.ok(text.startsWith('event: message\nid: 1\nretry: 3000\ndata: {'));
    assert.ok(text.includes('event: message\nid: 5\nretry: 3000\ndata: [DONE]\n\n'));
  });

  it('with JSON over several data lines, on the line after, or without events at all', async () => {
    const lines = (await streamOf({ multi_line: true })).split('\n\n')[1]?.split('\n') ?? [];
    assert.ok(lines.length > 5 && lines.every((line) => line.startsWith('data: ')));
    JSON.parse(lines.map((line) => line.slice(6)).join('\n'));
    assert.ok((await streamOf({ next_line: true })).startsWith('data:\n {'));
    const json = (await streamOf({ ndjson: true, done: null })).trimEnd().split('\n');
    assert.equal(json.length, 4);
    for (const line of json) JSON.parse(line);
  });

  it('with another end: blanks behind [DONE], none, one line end, no [DONE], garbage behind it', async () => {
    assert.ok((await streamOf({ done: 'data: [DONE] \n\n' })).endsWith('\n\ndata: [DONE] \n\n'));
    assert.ok(!(await streamOf({ done: null })).includes('[DONE]'));
    assert.ok((await streamOf({ last_line_ends: 1 })).endsWith('}\n\ndata: [DONE]\n'));
    assert.ok((await streamOf({ last_line_ends: 0 })).endsWith('}\n\ndata: [DONE]'));
    const garbage: Framing = { insert: [{ at: 'done', text: 'garbage' }] };
    assert.ok((await streamOf(garbage)).endsWith('data: [DONE]\n\ngarbage'));
  });

  it('with any text between its events, where it is told', async () => {
    const text = await streamOf({
      insert: [
        { at: 'start', text: ': OPENROUTER PROCESSING\n\n' },
        { at: 'each', text: 'data:\n\n' },
        { at: 1, text: 'data: null\n\n' },
        { at: 'finish', text: '{"bare":1}\n' },
        { at: 'usage', text: '\u0000' },
      ],
    });
    const marks = text.replaceAll(/data: \{"id[^\n]*\n\n/g, 'x');
    assert.equal(
      marks,
      ': OPENROUTER PROCESSING\n\nxdata:\n\nxdata: null\n\ndata:\n\nxx{"bare":1}\n\u0000data: [DONE]\n\n',
    );
  });

  it('with long insertions and with bytes that are no text', async () => {
    const text = await streamOf({ insert: [{ at: 'start', text: ':x', repeat: 100_000 }] });
    assert.ok(text.startsWith(':x:x') && text.length > 200_000);
    const insert = [{ at: 1, base64: Buffer.from([0xff, 0xfe]).toString('base64') }] as const;
    const { reads } = await rawReads(twin, { ...QUESTION, ...steered({ framing: { insert } }), stream: true });
    assert.ok(Buffer.concat(reads).includes(Buffer.from([0xff, 0xfe])));
  });

  it('in writes that end inside CRLF, and in writes of a few bytes', async () => {
    const inside = await rawReads(twin, {
      ...QUESTION,
      ...steered({ output_tokens: 3, framing: { line_end: 'crlf', split: 'line_ends', apart_ms: 10 } }),
      stream: true,
    });
    assert.ok(
      inside.reads.some((read) => read.at(-1) === 0x0d),
      'at least one read ended between CR and LF',
    );
    const small = await rawReads(twin, {
      ...QUESTION,
      ...steered({ output_tokens: 1, framing: { split: 100, apart_ms: 5 } }),
    });
    assert.ok(small.reads.length > 3, `${small.reads.length} reads`);
    JSON.parse(Buffer.concat(small.reads).toString());
  });

  for (const [encoding, decode] of [
    ['gzip', gunzipSync],
    ['deflate', inflateSync],
    ['br', brotliDecompressSync],
    ['zstd', zstdDecompressSync],
  ] as const) {
    it(`compressed with ${encoding} although nobody asked, streamed and whole`, async () => {
      for (const stream of [true, false]) {
        const id = newId();
        const { reads, headers } = await rawReads(twin, { ...QUESTION, ...steered({ framing: { encoding } }), stream });
        assert.equal(headers['content-encoding'], encoding);
        const text = decode(Buffer.concat(reads)).toString();
        assert.ok(text.includes(stream ? '[DONE]' : '"chat.completion"'), id);
      }
    });
  }

  it('with another content type, or none', async () => {
    for (const [content_type, expected] of [
      ['text/plain', 'text/plain'],
      ['application/x-ndjson', 'application/x-ndjson'],
      ['', undefined],
    ] as const) {
      const { headers } = await rawReads(twin, { ...QUESTION, ...steered({ framing: { content_type } }) });
      assert.equal(headers['content-type'], expected);
    }
  });

  it('whole answers with blanks before and anything behind', async () => {
    const insert = [
      { at: 'start', text: '\n\n  ' },
      { at: 'done', text: '\nbye' },
    ] as const;
    const { text } = await ask(twin, steered({ framing: { insert } }));
    assert.match(text, /^\n\n {2}\{.*\}\nbye$/s);
  });

  it('streams for those who want a whole answer, and the other way round', async () => {
    const streamed = await ask(twin, steered({ answers_as: 'stream' }));
    assert.match(streamed.headers.get('content-type') ?? '', /^text\/event-stream/);
    assert.ok(streamed.text.endsWith('data: [DONE]\n\n') && streamed.text.includes('"usage":{'));
    const whole = await ask(twin, steered({ answers_as: 'whole' }, { stream: true }));
    assert.equal(whole.headers.get('content-type'), 'application/json');
    JSON.parse(whole.text);
  });

  it('with further headers and informational responses before', async () => {
    const knobs = { headers: { 'X-Provider': 'twin' }, informational: [102, 103] };
    const { headers, informational } = await rawReads(twin, { ...QUESTION, ...steered(knobs) });
    assert.equal(headers['x-provider'], 'twin');
    assert.deepEqual(informational, [102, 103]);
  });
});
