/** Splitting a stream into events: the same events however the bytes are cut, and not one byte lost. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { SseSplitter, SseTooLarge, type SseEvent } from '../../../../../../api/gateway/core/streams/sse.ts';

type Line = 'LF' | 'CRLF' | 'CR';

/** An event as a provider could write it, with what must be read of it. */
interface Written {
  readonly text: string;
  readonly data: string | null;
}

const LINE_ENDS: Readonly<Record<Line, string>> = { LF: '\n', CRLF: '\r\n', CR: '\r' };
const lineEnd = fc.constantFrom<Line>('LF', 'CRLF').map((kind) => LINE_ENDS[kind]);
/** Anything but line ends. */
const lineText = fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => text.replaceAll(/[\r\n]/g, '_'));

const dataEvent = fc
  .tuple(fc.array(fc.tuple(lineText, fc.boolean()), { minLength: 1, maxLength: 3 }), lineEnd, fc.boolean())
  .map(([lines, end, isNamed]): Written => {
    // A value that begins with a blank needs one before it, or that blank is the separator.
    const written = lines.map(([text, isSpaced]) => `data:${isSpaced || text.startsWith(' ') ? ' ' : ''}${text}`);
    return {
      text: [...(isNamed ? ['event: message', 'id: 7'] : []), ...written, '', ''].join(end),
      // `data:` without text is no data.
      data: lines.map(([text]) => text).join('\n') || null,
    };
  });
const comment = fc
  .tuple(lineText, lineEnd)
  .map(([text, end]): Written => ({ text: `:${text}${end}${end}`, data: null }));
const blank = lineEnd.map((end): Written => ({ text: end, data: null }));
const someEvents = fc.array(fc.oneof({ weight: 4, arbitrary: dataEvent }, comment, blank), { maxLength: 8 });

/** All events of `bytes`, cut at the given places. */
function split(bytes: Buffer, cuts: readonly number[]): SseEvent[] {
  const splitter = new SseSplitter();
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  const events: SseEvent[] = [];
  let from = 0;
  for (const to of [...places, bytes.length]) {
    events.push(...splitter.push(bytes.subarray(from, to)));
    from = to;
  }
  const rest = splitter.end();
  return rest === null ? events : [...events, rest];
}

describe('gateway: server-sent events', () => {
  it('are read the same wherever the bytes are cut, with LF and CRLF, and keep every byte', () => {
    fc.assert(
      fc.property(someEvents, fc.array(fc.nat(), { maxLength: 30 }), (written, cuts) => {
        const bytes = Buffer.from(written.map(({ text }) => text).join(''));
        const events = split(bytes, cuts);
        assert.deepEqual(
          events.map(({ data }) => data),
          written.map(({ data }) => data),
        );
        assert.deepEqual(Buffer.concat(events.map(({ raw }) => raw)), bytes);
        assert.ok(events.every(({ foreign }) => foreign === null));
      }),
      { numRuns: 500 },
    );
  });

  it('are handed out as soon as they are whole, not one byte later', () => {
    const splitter = new SseSplitter();
    const bytes = Buffer.from('data: für\n\ndata: b\r\n\r\n');
    const completedAt: number[] = [];
    for (let at = 0; at < bytes.length; at += 1) {
      if (splitter.push(bytes.subarray(at, at + 1)).length > 0) completedAt.push(at);
    }
    assert.deepEqual(completedAt, ['data: für\n\n'.length, bytes.length - 1]);
    assert.equal(splitter.end(), null);
  });

  it('are read the same with CR alone, and handed out although nothing follows yet', () => {
    const written = 'data: a\rdata: b\r\r: x\r\rdata: c\r\r';
    const expected = ['a\nb', null, 'c'];
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 20 }), (cuts) => {
        const events = split(Buffer.from(written), cuts);
        assert.deepEqual(
          events.map(({ data }) => data),
          expected,
        );
      }),
    );
    const splitter = new SseSplitter();
    assert.deepEqual(
      splitter.push(Buffer.from('data: a\r\r')).map(({ data }) => data),
      ['a'],
    );
  });

  it('may begin with a byte-order mark, wherever it is cut', () => {
    const bytes = Buffer.from('\ufeffdata: a\n\ndata: b\n\n');
    for (const cuts of [[], [1], [2], [3], [1, 2, 3, 4]]) {
      assert.deepEqual(
        split(bytes, cuts).map(({ data, foreign }) => [data, foreign]),
        [
          ['a', null],
          ['b', null],
        ],
      );
    }
  });

  it('name their kind', () => {
    const [event] = split(Buffer.from('event: error\ndata: {}\n\n'), []);
    assert.equal(event?.name, 'error');
  });

  it('an end without its blank line still counts', () => {
    assert.deepEqual(
      split(Buffer.from('data: a\n\ndata: [DONE]'), []).map(({ data }) => data),
      ['a', '[DONE]'],
    );
  });

  it('text that is no stream at all is told apart from comments and from fields we do not read', () => {
    for (const [text, foreign] of [
      ['<html>\n<body>\n\n', '<html>\n<body>'],
      ['{"error":{"message":"x"}}', '{"error":{"message":"x"}}'],
      ['upstream connect error\n\n', 'upstream connect error'],
      ['database: x\n\n', 'database: x'],
      [': keep-alive\n\n', null],
      ['event: ping\n\n', null],
      ['retry: 10\n\n', null],
      ['data\n\n', null],
      ['\r\n', null],
    ] as const) {
      const [event] = split(Buffer.from(text), []);
      assert.deepEqual([event?.foreign, event?.data], [foreign, null], text);
    }
  });

  it('an event beyond 16 MiB is refused, one below is not', () => {
    const splitter = new SseSplitter();
    const mebibyte = Buffer.alloc(1024 * 1024, 'x');
    assert.deepEqual(splitter.push(Buffer.from('data: ')), []);
    for (let i = 0; i < 15; i += 1) assert.deepEqual(splitter.push(mebibyte), []);
    assert.equal(splitter.push(Buffer.from('\n\n'))[0]?.data?.length, 15 * 1024 * 1024);
    assert.throws(() => {
      for (let i = 0; i < 17; i += 1) splitter.push(mebibyte);
    }, SseTooLarge);
  });
});
