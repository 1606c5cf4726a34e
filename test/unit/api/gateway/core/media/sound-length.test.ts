/** The length of a sound, from its base64: never less than a decoder plays, or nothing. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { soundSeconds } from '../../../../../../api/gateway/core/media/sound-length.ts';

const secondsOf = (...parts: readonly (Buffer | string)[]): number | null => {
  const file = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
  const text = file.toString('base64');
  return soundSeconds(Buffer.from(text), 0, text.length);
};

interface Wav {
  readonly format?: number;
  readonly channels?: number;
  readonly rate?: number;
  readonly bits?: number;
  readonly frameBytes?: number;
  readonly subFormat?: number;
}

function wavHead({
  format = 1,
  channels = 1,
  rate = 8000,
  bits = 16,
  frameBytes = (channels * bits) / 8,
  subFormat,
}: Wav) {
  const extra = subFormat === undefined ? 0 : 24;
  const head = Buffer.alloc(24 + extra);
  head.write('fmt ');
  head.writeUInt32LE(16 + extra, 4);
  head.writeUInt16LE(format, 8);
  head.writeUInt16LE(channels, 10);
  head.writeUInt32LE(rate, 12);
  head.writeUInt32LE(rate * frameBytes, 16);
  head.writeUInt16LE(frameBytes, 20);
  head.writeUInt16LE(bits, 22);
  if (subFormat !== undefined) head.writeUInt16LE(subFormat, 32);
  return head;
}
const chunkOf = (name: string, bytes: number, said = bytes): Buffer => {
  const head = Buffer.alloc(8 + bytes + (bytes % 2));
  head.write(name);
  head.writeUInt32LE(said, 4);
  return head;
};
const RIFF = 'RIFF\0\0\0\0WAVE';

/** A frame of MPEG 1 layer III, 128 kbit/s at 44,100 Hz: 417 bytes, 1,152 samples. */
const FRAME = Buffer.concat([Buffer.from('fffb9000', 'hex'), Buffer.alloc(413)]);
const FRAME_SECONDS = 1152 / 44_100;
/** MPEG 2 layer III, 8 kbit/s at 16,000 Hz: 36 bytes, 576 samples. */
const SLOW_FRAME = Buffer.concat([Buffer.from('fff31800', 'hex'), Buffer.alloc(32)]);
const id3 = (bytes: number): Buffer =>
  Buffer.concat([
    Buffer.from('ID3\x04\0\0', 'latin1'),
    Buffer.from([0, 0, bytes >> 7, bytes & 127]),
    Buffer.alloc(bytes, 0xff),
  ]);
const ID3_TRAILER = Buffer.concat([Buffer.from('TAG'), Buffer.alloc(125)]);

describe('gateway: the length of a sound', () => {
  it('of a WAV is its data by samples, channels and bits', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(8000, 16_000, 44_100),
        fc.integer({ min: 1, max: 2 }),
        fc.constantFrom(8, 16, 24, 32),
        fc.integer({ min: 0, max: 1000 }),
        (rate, channels, bits, frames) => {
          const bytes = (frames * channels * bits) / 8;
          const found = secondsOf(RIFF, wavHead({ rate, channels, bits }), chunkOf('LIST', 31), chunkOf('data', bytes));
          assert.ok(found !== null && found >= frames / rate && found <= frames / rate + 2 / 8000);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('of a WAV is all that follows, whatever it says of its size', () => {
    for (const said of [0, 5, 0xffffffff])
      assert.equal(secondsOf(RIFF, wavHead({}), chunkOf('data', 160_000, said)), 10);
  });

  it('of an MP3 is the sum of its frames, behind and before tags, also where the last is cut', () => {
    for (const [count, parts] of [
      [3, [FRAME, FRAME, FRAME]],
      [2, [id3(1000), FRAME, FRAME, ID3_TRAILER]],
      [2, [id3(10), id3(3), FRAME, FRAME.subarray(0, 100)]],
    ] as const) {
      assert.ok(Math.abs(secondsOf(...parts)! - count * FRAME_SECONDS) < 1e-9, String(count));
    }
    assert.equal(secondsOf(SLOW_FRAME, SLOW_FRAME), (2 * 576) / 16_000);
  });

  for (const [name, parts] of [
    ['nothing', []],
    ['another kind of file', ['OggS', Buffer.alloc(100)]],
    ['a WAV without a head', [RIFF, chunkOf('data', 100)]],
    ['a WAV without data', [RIFF, wavHead({})]],
    ['a compressed WAV', [RIFF, wavHead({ format: 0x55 }), chunkOf('data', 100)]],
    ['a WAV of four bits a sample', [RIFF, wavHead({ format: 1, bits: 4, frameBytes: 1 }), chunkOf('data', 100)]],
    [
      'a WAV that is compressed behind its back',
      [RIFF, wavHead({ format: 0xfffe, subFormat: 0x55 }), chunkOf('data', 100)],
    ],
    ['a WAV whose frames do not fit its samples', [RIFF, wavHead({ frameBytes: 400 }), chunkOf('data', 100)]],
    ['a WAV with two heads', [RIFF, wavHead({ rate: 48_000 }), wavHead({ rate: 8 }), chunkOf('data', 100)]],
    ['a WAV of no samples a second', [RIFF, wavHead({ rate: 0 }), chunkOf('data', 100)]],
    ['an MP3 with something between its frames', [FRAME, 'x', FRAME]],
    ['an MP3 with something behind its frames', [FRAME, Buffer.alloc(50)]],
    ['an MP3 that does not say its rate', [Buffer.from('fffb0000', 'hex'), Buffer.alloc(400)]],
    ['an MP3 of another layer', [Buffer.from('fffd9000', 'hex'), Buffer.alloc(413)]],
    ['nothing but a tag that goes on', [id3(100).subarray(0, 50)]],
  ] as const) {
    it(`of ${name} is not known`, () => assert.equal(secondsOf(...parts), null));
  }

  it('of a WAV that says at the end of its head what it is is known', () => {
    assert.equal(secondsOf(RIFF, wavHead({ format: 0xfffe, subFormat: 1 }), chunkOf('data', 16_000)), 1);
  });

  it('of base64 with a blank in it is not known: decoders differ in what follows', () => {
    const text = Buffer.concat([FRAME, FRAME, FRAME]).toString('base64');
    const broken = `${text.slice(0, 600)} ${text.slice(600)}`;
    assert.equal(soundSeconds(Buffer.from(broken), 0, broken.length), null);
  });

  it('of any bytes is a length or not known, never an exception', () => {
    fc.assert(
      fc.property(fc.constantFrom('', RIFF, 'ID3', '\xff\xfb'), fc.uint8Array({ maxLength: 80 }), (head, bytes) => {
        const found = secondsOf(head, Buffer.from(bytes));
        assert.ok(found === null || (found >= 0 && Number.isFinite(found)));
      }),
      { numRuns: 2000 },
    );
  });
});
