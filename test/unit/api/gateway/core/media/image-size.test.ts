/** The size of an image, from the head of its base64: what decoders will see, or nothing. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { imageSize } from '../../../../../../api/gateway/core/media/image-size.ts';

type Size = { readonly width: number; readonly height: number };

const sizeOf = (text: string): Size | null => imageSize(Buffer.from(text), 0, text.length);
const sizeOfFile = (...parts: readonly (Buffer | string)[]): Size | null =>
  sizeOf(
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part))).toString(
      'base64',
    ),
  );

const big = (value: number, bytes: number): Buffer => {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntBE(value, 0, bytes);
  return buffer;
};
const little = (value: number, bytes: number): Buffer => {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntLE(value, 0, bytes);
  return buffer;
};

const png = ({ width, height }: Size): Buffer[] => [
  Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'),
  big(width, 4),
  big(height, 4),
  Buffer.from('0802000000', 'hex'),
];

const segment = (marker: number, content: Buffer): Buffer =>
  Buffer.concat([Buffer.from([0xff, marker]), big(content.length + 2, 2), content]);
const frame = (marker: number, { width, height }: Size): Buffer =>
  segment(
    marker,
    Buffer.concat([Buffer.from([8]), big(height, 2), big(width, 2), Buffer.from('0301220002110103', 'hex')]),
  );
const START = Buffer.from([0xff, 0xd8]);
const EXIF = segment(0xe1, Buffer.alloc(60_000, 0xff));

const gifHead = ({ width, height }: Size, colours: 0 | 256 = 0): Buffer =>
  Buffer.concat([
    Buffer.from('GIF89a'),
    little(width, 2),
    little(height, 2),
    Buffer.from([colours === 0 ? 0 : 0x87, 0, 0]),
    Buffer.alloc(colours * 3),
  ]);
const gifImage = (left: number, top: number, { width, height }: Size): Buffer =>
  Buffer.concat([
    Buffer.from([0x2c]),
    ...[left, top, width, height].map((value) => little(value, 2)),
    Buffer.from([0]),
  ]);
const GIF_COMMENT = Buffer.from('21fe0548656c6c6f00', 'hex');

const webp = (kind: string, content: Buffer): Buffer =>
  Buffer.concat([Buffer.from('RIFF\0\0\0\0WEBP'), Buffer.from(kind), little(content.length, 4), content]);
const lossy = ({ width, height }: Size): Buffer =>
  webp(
    'VP8 ',
    Buffer.concat([Buffer.from('9000009d012a', 'hex'), little(width, 2), little(height, 2), Buffer.alloc(8)]),
  );
const lossless = ({ width, height }: Size): Buffer =>
  webp('VP8L', Buffer.concat([Buffer.from([0x2f]), little(width - 1 + (height - 1) * 2 ** 14, 4), Buffer.alloc(8)]));
const extended = ({ width, height }: Size): Buffer =>
  webp('VP8X', Buffer.concat([Buffer.alloc(4), little(width - 1, 3), little(height - 1, 3)]));

const size = (max: number): fc.Arbitrary<Size> =>
  fc.record({ width: fc.integer({ min: 1, max }), height: fc.integer({ min: 1, max }) }, { noNullPrototype: true });

describe('gateway: the size of an image', () => {
  it('is read from PNG, JPEG, GIF and WebP of every size', () => {
    fc.assert(
      fc.property(size(16_383), (expected) => {
        assert.deepEqual(sizeOfFile(...png(expected)), expected);
        for (const marker of [0xc0, 0xc1, 0xc2, 0xc9]) {
          assert.deepEqual(sizeOfFile(START, EXIF, segment(0xdb, Buffer.alloc(65)), frame(marker, expected)), expected);
        }
        assert.deepEqual(sizeOfFile(gifHead(expected, 256), GIF_COMMENT, gifImage(0, 0, expected)), expected);
        for (const file of [lossy(expected), lossless(expected), extended(expected)]) {
          assert.deepEqual(sizeOfFile(file), expected);
        }
      }),
      { numRuns: 50 },
    );
    assert.deepEqual(sizeOfFile(...png({ width: 2 ** 31 - 1, height: 1 })), { width: 2 ** 31 - 1, height: 1 });
  });

  it('of a JPEG is the frame’s, behind fill bytes and segments of every kind, not a thumbnail’s in its EXIF', () => {
    const thumbnail = Buffer.concat([Buffer.from('Exif\0\0'), START, frame(0xc0, { width: 16, height: 16 })]);
    const expected = { width: 4032, height: 3024 };
    assert.deepEqual(
      sizeOfFile(
        START,
        segment(0xe1, thumbnail),
        '\xff\xff\xff',
        segment(0xe2, Buffer.alloc(500)),
        frame(0xc2, expected),
      ),
      expected,
    );
  });

  it('of a GIF is that of its first image, where it is larger than the screen', () => {
    const screen = gifHead({ width: 1, height: 1 });
    assert.deepEqual(sizeOfFile(screen, gifImage(100, 200, { width: 5000, height: 4000 })), {
      width: 5100,
      height: 4200,
    });
  });

  it('may stand anywhere in a document', () => {
    const text = Buffer.concat(png({ width: 3, height: 4 })).toString('base64');
    const document = Buffer.from(`{"url":"data:image/png;base64,${text}"}`);
    assert.deepEqual(imageSize(document, 30, 30 + text.length), { width: 3, height: 4 });
  });

  const PNG_TEXT = Buffer.concat(png({ width: 4000, height: 3000 })).toString('base64');
  for (const [name, text] of [
    ['nothing', ''],
    ['no image', Buffer.from('%PDF-1.7 and so on, a document').toString('base64')],
    ['an image of another kind', Buffer.from('....ftypheic....').toString('base64')],
    ['a cut head', PNG_TEXT.slice(0, 30)],
    ['a width of 0', Buffer.concat(png({ width: 0, height: 5 })).toString('base64')],
    ['a PNG whose first chunk is another', PNG_TEXT.replace('SUhEUg', 'Q2dCSQ')],
    ['a blank that decoders skip', `${PNG_TEXT.slice(0, 8)} ${PNG_TEXT.slice(8)}`],
    ['a line break', `${PNG_TEXT.slice(0, 20)}\n${PNG_TEXT.slice(20)}`],
    ['a character that only some decoders skip', `${PNG_TEXT.slice(0, 4)}-${PNG_TEXT.slice(4)}`],
    ['a padding in the middle', `${PNG_TEXT.slice(0, 4)}=${PNG_TEXT.slice(4)}`],
    ['the alphabet of URLs', Buffer.concat([START, Buffer.alloc(30, 0xfb)]).toString('base64url')],
    ['no base64', 'hello, world! this is no base64 at all'],
    [
      'a JPEG whose data comes before its frame',
      Buffer.concat([START, segment(0xda, Buffer.alloc(20))]).toString('base64'),
    ],
    ['a JPEG with bytes between its segments', Buffer.concat([START, Buffer.from('ab'), EXIF]).toString('base64')],
    ['a JPEG with a segment of length 0', Buffer.from('ffd8ffe00000ffc0', 'hex').toString('base64')],
    ['a JPEG that never says', Buffer.concat([START, Buffer.alloc(100_000, 0xff)]).toString('base64')],
    [
      'a GIF without an image',
      Buffer.concat([gifHead({ width: 1, height: 1 }), Buffer.from([0x3b])]).toString('base64'),
    ],
  ] as const) {
    it(`of ${name} is not known`, () => assert.equal(sizeOf(text), null));
  }

  it('of any bytes is a size or not known, never an exception', () => {
    const heads = ['', '\x89PNG\r\n\x1a\n', '\xff\xd8', 'GIF89a', 'RIFF....WEBPVP8 ', 'RIFF....WEBPVP8L'];
    fc.assert(
      fc.property(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 60 }), (head, bytes) => {
        const found = sizeOfFile(head, Buffer.from(bytes));
        assert.ok(found === null || (found.width > 0 && found.height > 0));
      }),
      { numRuns: 2000 },
    );
  });
});
