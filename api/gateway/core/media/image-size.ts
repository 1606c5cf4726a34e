/**
 * The size of an image from the first bytes of its file, read straight from its base64 text: PNG, JPEG, GIF and WebP.
 * Nothing is decoded but the few bytes that are looked at. What cannot be read beyond doubt has no size (null): the
 * caller then counts the largest image there can be.
 */
import type { ImageSize } from '../../../../domain/requests/image-tokens.ts';
import { Base64File, Unreadable } from './base64-file.ts';

/** More segments or blocks than any camera or editor writes before the size. */
const SEGMENTS_MAX = 4096;

/** The size of the image whose base64 text lies from `start` to `end`; null where it cannot be known. */
export function imageSize(text: Uint8Array, start: number, end: number): ImageSize | null {
  try {
    const size = sizeOf(new Base64File(text, start, end));
    return size !== null && size.width > 0 && size.height > 0 ? size : null;
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
}

function sizeOf(file: Base64File): ImageSize | null {
  if (file.says(0, '\u0089PNG\r\n\u001a\n')) return sizeOfPng(file);
  if (file.byte(0) === 0xff && file.byte(1) === 0xd8) return sizeOfJpeg(file);
  if (file.says(0, 'GIF87a') || file.says(0, 'GIF89a')) return sizeOfGif(file);
  if (file.says(0, 'RIFF') && file.says(8, 'WEBP')) return sizeOfWebP(file);
  return null;
}

function sizeOfPng(file: Base64File): ImageSize | null {
  if (!file.says(12, 'IHDR')) return null;
  return { width: file.bigEndian(16, 4), height: file.bigEndian(20, 4) };
}

/** The size is in the frame header, behind any number of segments that say how long they are. */
function sizeOfJpeg(file: Base64File): ImageSize | null {
  let at = 2;
  for (let segment = 0; segment < SEGMENTS_MAX; segment += 1) {
    if (file.byte(at) !== 0xff) return null;
    // A marker may be preceded by any number of fill bytes.
    if (file.byte(at + 1) === 0xff) {
      at += 1;
      continue;
    }
    const marker = file.byte(at + 1);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (isFrame) return { height: file.bigEndian(at + 5, 2), width: file.bigEndian(at + 7, 2) };
    // Image data, or the end, before any frame header.
    if (marker === 0xda || marker === 0xd9 || marker === 0x00) return null;
    const standsAlone = marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    const length = standsAlone ? 0 : file.bigEndian(at + 2, 2);
    if (!standsAlone && length < 2) return null;
    at += 2 + length;
  }
  return null;
}

/** The screen, or the first image where that is larger: decoders enlarge the screen to hold it. */
function sizeOfGif(file: Base64File): ImageSize | null {
  const screen = { width: file.littleEndian(6, 2), height: file.littleEndian(8, 2) };
  const flags = file.byte(10);
  let at = 13 + ((flags & 0x80) === 0 ? 0 : 3 * 2 ** ((flags & 7) + 1));
  for (let block = 0; block < SEGMENTS_MAX; block += 1) {
    if (file.byte(at) === 0x2c) {
      return {
        width: Math.max(screen.width, file.littleEndian(at + 1, 2) + file.littleEndian(at + 5, 2)),
        height: Math.max(screen.height, file.littleEndian(at + 3, 2) + file.littleEndian(at + 7, 2)),
      };
    }
    if (file.byte(at) !== 0x21) return null;
    at += 2;
    while (file.byte(at) !== 0) at += 1 + file.byte(at);
    at += 1;
  }
  return null;
}

function sizeOfWebP(file: Base64File): ImageSize | null {
  if (file.says(12, 'VP8X')) return { width: 1 + file.littleEndian(24, 3), height: 1 + file.littleEndian(27, 3) };
  if (file.says(12, 'VP8L') && file.byte(20) === 0x2f) {
    const bits = file.littleEndian(21, 4);
    return { width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) };
  }
  if (file.says(12, 'VP8 ') && file.bigEndian(23, 3) === 0x9d012a) {
    return { width: file.littleEndian(26, 2) & 0x3fff, height: file.littleEndian(28, 2) & 0x3fff };
  }
  return null;
}
