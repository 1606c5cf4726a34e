/**
 * How long a sound is, from its base64 text: WAV and MP3, as OpenAI's interface takes them. Never shorter than a
 * decoder hears it; what cannot be read beyond doubt has no length (null).
 */
import { Base64File, Unreadable } from './base64-file.ts';

/** Seconds of the sound whose base64 text lies from `start` to `end`; null where they cannot be known. */
export function soundSeconds(text: Uint8Array, start: number, end: number): number | null {
  try {
    const file = new Base64File(text, start, end);
    if (file.says(0, 'RIFF') && file.says(8, 'WAVE')) return secondsOfWav(file);
    return secondsOfMp3(file);
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
}

const CHUNKS_MAX = 1000;
/** PCM, float, A-law and µ-law: a sample takes as many bits as the head says. */
const UNCOMPRESSED = [1, 3, 6, 7];
/** The format is one of the others and is said at the end of the head. */
const EXTENSIBLE = 0xfffe;

/** Everything behind the head of its data counts as sound: writers that stream do not know how much there will be. */
function secondsOfWav(file: Base64File): number | null {
  let bytesPerSecond: number | null = null;
  let at = 12;
  for (let chunk = 0; chunk < CHUNKS_MAX; chunk += 1) {
    if (file.says(at, 'data')) {
      const bytes = Math.max(0, file.length - at - 8);
      return bytesPerSecond === null ? null : bytes / bytesPerSecond;
    }
    if (file.says(at, 'fmt ')) {
      const tag = file.littleEndian(at + 8, 2);
      const format = tag === EXTENSIBLE ? file.littleEndian(at + 32, 2) : tag;
      const channels = file.littleEndian(at + 10, 2);
      const [rate, frameBytes] = [file.littleEndian(at + 12, 4), file.littleEndian(at + 20, 2)];
      const bits = file.littleEndian(at + 22, 2);
      const isSound = UNCOMPRESSED.includes(format) && rate > 0 && channels > 0 && bits % 8 === 0;
      if (!isSound || frameBytes !== (channels * bits) / 8 || frameBytes === 0 || bytesPerSecond !== null) return null;
      bytesPerSecond = rate * frameBytes;
    }
    const size = file.littleEndian(at + 4, 4);
    at += 8 + size + (size % 2);
  }
  return null;
}

const KILOBITS_MPEG1 = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const KILOBITS_MPEG2 = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const SAMPLE_RATES = [44_100, 48_000, 32_000];
const ID3_TRAILER_BYTES = 128;

/** The sum of its frames, which must follow each other to the end: between them a decoder would look for more. */
function secondsOfMp3(file: Base64File): number | null {
  let at = 0;
  while (file.says(at, 'ID3')) {
    const size = [6, 7, 8, 9].reduce((sum, offset) => sum * 128 + (file.byte(at + offset) & 0x7f), 0);
    const hasFooter = (file.byte(at + 5) & 0x10) !== 0;
    at += 10 + size + (hasFooter ? 10 : 0);
  }
  let seconds = 0;
  const { length } = file;
  while (at < length) {
    if (length - at === ID3_TRAILER_BYTES && file.says(at, 'TAG')) break;
    const frame = frameOfMp3(file, at);
    if (frame === null) return null;
    seconds += frame.seconds;
    at += frame.bytes;
  }
  return seconds;
}

function frameOfMp3(file: Base64File, at: number): { bytes: number; seconds: number } | null {
  const [sync, second, third] = [file.byte(at), file.byte(at + 1), file.byte(at + 2)];
  const version = (second >> 3) & 3;
  const isLayer3 = ((second >> 1) & 3) === 1;
  if (sync !== 0xff || second < 0xe0 || version === 1 || !isLayer3) return null;
  const isMpeg1 = version === 3;
  const kilobits = (isMpeg1 ? KILOBITS_MPEG1 : KILOBITS_MPEG2)[third >> 4];
  const fullRate = SAMPLE_RATES[(third >> 2) & 3];
  // 0 is a rate that is not said.
  if (kilobits === undefined || kilobits === 0 || fullRate === undefined) return null;
  const rate = isMpeg1 ? fullRate : version === 2 ? fullRate / 2 : fullRate / 4;
  const samples = isMpeg1 ? 1152 : 576;
  const padding = (third >> 1) & 1;
  return { bytes: Math.floor(((samples / 8) * kilobits * 1000) / rate) + padding, seconds: samples / rate };
}
