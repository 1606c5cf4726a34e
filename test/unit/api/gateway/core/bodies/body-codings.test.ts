/** Compressed bodies: every coding and their combinations within limits, and a clear refusal of everything else. */
import assert from 'node:assert/strict';
import {
  brotliCompressSync,
  constants,
  createZstdCompress,
  deflateRawSync,
  deflateSync,
  gzipSync,
  zstdCompressSync,
} from 'node:zlib';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { codingsOf, decode, type Coding } from '../../../../../../api/gateway/core/bodies/body-codings.ts';
import { Refusal } from '../../../../../../domain/errors.ts';

const MEBIBYTE = 1024 * 1024;
const LIMIT = 10 * MEBIBYTE;
const BODY = Buffer.from(
  JSON.stringify({ model: 'test/small', messages: [{ role: 'user', content: 'hello '.repeat(99) }] }),
);

const COMPRESS: Readonly<Record<Coding, (data: Buffer) => Buffer>> = {
  gzip: (data) => gzipSync(data),
  deflate: (data) => deflateSync(data),
  br: (data) => brotliCompressSync(data, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  zstd: (data) => zstdCompressSync(data),
};
const CODINGS = Object.keys(COMPRESS) as Coding[];

function refusal(work: () => unknown): Refusal {
  try {
    work();
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
  assert.fail('a refusal was expected');
}

describe('content codings', () => {
  describe('in a header', () => {
    for (const [header, codings] of [
      [undefined, []],
      ['', []],
      ['identity', []],
      [' , identity,', []],
      ['gzip', ['gzip']],
      ['GZIP', ['gzip']],
      ['x-gzip', ['gzip']],
      ['br', ['br']],
      ['zstd', ['zstd']],
      ['deflate', ['deflate']],
      ['gzip, br', ['gzip', 'br']],
      ['identity,zstd ,\tgzip', ['zstd', 'gzip']],
    ] as const) {
      it(`"${header}" is ${codings.length === 0 ? 'none' : codings.join(' and then ')}`, () => {
        assert.deepEqual(codingsOf(header), codings);
      });
    }

    for (const [header, named] of [
      ['compress', 'compress'],
      ['gzip, aws-chunked', 'aws-chunked'],
      ['utf-8', 'utf-8'],
      ['application/json', 'application/json'],
      ['gzip;q=1', 'gzip;q=1'],
      ['*', '*'],
      ['__proto__', '__proto__'],
      ['dcb', 'dcb'],
    ] as const) {
      it(`"${header}" is refused with 415, and named`, () => {
        const { status, code, param, message } = refusal(() => codingsOf(header));
        assert.deepEqual([status, code, param], [415, 'unsupported_content_encoding', 'content-encoding']);
        assert.ok(message.includes(`"${named}"`), message);
        assert.match(message, /gzip, deflate, br, zstd/);
      });
    }

    it('more than three are refused, and a long name is not repeated in full', () => {
      assert.equal(refusal(() => codingsOf('gzip,gzip,gzip,gzip')).status, 415);
      assert.ok(refusal(() => codingsOf('x'.repeat(5000))).message.length < 200);
    });
  });

  describe('of a body', () => {
    for (const coding of CODINGS) {
      const compressed = COMPRESS[coding](BODY);

      it(`${coding} is undone`, () => {
        assert.deepEqual(decode(compressed, [coding], LIMIT), BODY);
        assert.deepEqual(decode(COMPRESS[coding](Buffer.alloc(0)), [coding], LIMIT), Buffer.alloc(0));
      });

      it(`${coding} that is cut anywhere is broken`, () => {
        for (const length of [0, 1, 2, 5, compressed.length >> 1, compressed.length - 1]) {
          const { status, code, message } = refusal(() => decode(compressed.subarray(0, length), [coding], LIMIT));
          assert.deepEqual([status, code], [400, 'invalid_body'], `${length} bytes`);
          assert.match(message, new RegExp(`not valid ${coding}`));
        }
      });

      it(`${coding} with other data behind it, and data that never was ${coding}, is broken`, () => {
        for (const data of [Buffer.concat([compressed, Buffer.from('behind')]), BODY, Buffer.from('{"a":')]) {
          assert.equal(refusal(() => decode(data, [coding], LIMIT)).code, 'invalid_body');
        }
      });

      it(`${coding} is refused with 413 as soon as it becomes larger than the limit, not later`, () => {
        const tooLarge = COMPRESS[coding](Buffer.alloc(LIMIT + 1, 'x'));
        const { status, message } = refusal(() => decode(tooLarge, [coding], LIMIT));
        assert.deepEqual([status, message], [413, `The decompressed request body is larger than ${LIMIT} bytes.`]);
        const bomb = COMPRESS[coding](Buffer.alloc(256 * MEBIBYTE));
        assert.equal(refusal(() => decode(bomb, [coding], LIMIT)).code, 'body_too_large');
      });

      it(`${coding} of as much as the limit is undone, however well it was compressed`, () => {
        assert.equal(decode(COMPRESS[coding](Buffer.alloc(LIMIT, 'x')), [coding], LIMIT).length, LIMIT);
      });
    }

    it('several are undone in the reverse of their order, each within the limit', () => {
      fc.assert(
        fc.property(
          fc.array(fc.constantFrom(...CODINGS), { maxLength: 3 }),
          fc.uint8Array({ maxLength: 5000 }),
          (codings, content) => {
            const body = Buffer.from(content);
            const sent = codings.reduce<Buffer>((data, coding) => COMPRESS[coding](data), body);
            assert.deepEqual(decode(sent, codings, LIMIT), body);
          },
        ),
      );
      const twice = gzipSync(gzipSync(Buffer.alloc(64 * MEBIBYTE)));
      assert.equal(refusal(() => decode(twice, ['gzip', 'gzip'], LIMIT)).code, 'body_too_large');
    });

    it('deflate without the header of zlib, as many clients send it, is undone as well', () => {
      assert.deepEqual(decode(deflateRawSync(BODY), ['deflate'], LIMIT), BODY);
    });

    it('gzip of several members and zstd of several frames, skippable ones included, are one body', () => {
      const [first, second] = [BODY.subarray(0, 50), BODY.subarray(50)];
      assert.deepEqual(decode(Buffer.concat([gzipSync(first), gzipSync(second)]), ['gzip'], LIMIT), BODY);
      const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
      const frames = Buffer.concat([zstdCompressSync(first), skippable, zstdCompressSync(second)]);
      assert.deepEqual(decode(frames, ['zstd'], LIMIT), BODY);
    });

    it('the limit holds for all frames together, and their number is bounded', () => {
      const frame = zstdCompressSync(Buffer.from('0123456789'.repeat(600_000)));
      assert.equal(refusal(() => decode(Buffer.concat([frame, frame]), ['zstd'], LIMIT)).code, 'body_too_large');
      const empty = zstdCompressSync(Buffer.alloc(0));
      const many = Buffer.concat(Array.from({ length: 100_000 }, () => empty));
      assert.match(refusal(() => decode(many, ['zstd'], LIMIT)).message, /more than 1000 frames/);
    });

    it('where the limit is high, more than a thousandfold compression is refused: nobody sent those bytes', () => {
      for (const coding of ['br', 'zstd'] as const) {
        const sent = COMPRESS[coding](Buffer.alloc(20 * MEBIBYTE, 'x'));
        assert.match(refusal(() => decode(sent, [coding], 64 * MEBIBYTE)).message, /more than 1100 times/);
      }
      const sent = gzipSync(Buffer.alloc(20 * MEBIBYTE, 'x'));
      assert.equal(decode(sent, ['gzip'], 64 * MEBIBYTE).length, 20 * MEBIBYTE);
    });

    it('zstd that asks for more memory than the web allows is refused', async () => {
      const stream = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: 27 } });
      stream.end(Buffer.alloc(100_000, 'abc'));
      const sent = await buffer(stream);
      const { code, message } = refusal(() => decode(sent, ['zstd'], LIMIT));
      assert.equal(code, 'invalid_body');
      assert.match(message, /memory/);
    });
  });
});
