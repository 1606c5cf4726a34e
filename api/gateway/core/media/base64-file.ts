/**
 * The bytes of a file from its base64 text, each decoded when it is asked for: what a file is and how large can be told
 * from a few of them. Decoders differ in what they make of blanks, line breaks or the URL alphabet, so a text with any
 * of these up to the byte that is asked for is not read.
 */

/** Value of each base64 character; 64 for every other byte. */
const SEXTETS = new Uint8Array(256).fill(64);
for (const [value, character] of [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'].entries()) {
  SEXTETS[character.charCodeAt(0)] = value;
}

const PADDING = 0x3d;

/** The bytes were too few, or no base64 that every decoder reads alike. */
export class Unreadable extends Error {}

export class Base64File {
  readonly #text: Uint8Array;
  readonly #start: number;
  readonly #end: number;
  /** Everything before this position is known to be of the alphabet. */
  #checked: number;

  constructor(text: Uint8Array, start: number, end: number) {
    this.#text = text;
    this.#start = start;
    this.#end = end;
    this.#checked = start;
  }

  /** How many bytes the text holds. */
  get length(): number {
    let end = this.#end;
    while (end > this.#start && this.#text[end - 1] === PADDING) end -= 1;
    return Math.floor(((end - this.#start) * 3) / 4);
  }

  byte(index: number): number {
    const at = this.#start + Math.floor(index / 3) * 4;
    const [first, second] = [at + (index % 3), at + (index % 3) + 1];
    if (second >= this.#end) throw new Unreadable();
    for (; this.#checked <= second; this.#checked += 1) {
      if (SEXTETS[this.#text[this.#checked]!] === 64) throw new Unreadable();
    }
    const pair = (SEXTETS[this.#text[first]!]! << 6) | SEXTETS[this.#text[second]!]!;
    return (pair >> (4 - (index % 3) * 2)) & 0xff;
  }

  bigEndian(index: number, bytes: number): number {
    let value = 0;
    for (let i = 0; i < bytes; i += 1) value = value * 256 + this.byte(index + i);
    return value;
  }

  littleEndian(index: number, bytes: number): number {
    let value = 0;
    for (let i = bytes - 1; i >= 0; i -= 1) value = value * 256 + this.byte(index + i);
    return value;
  }

  says(index: number, text: string): boolean {
    for (let i = 0; i < text.length; i += 1) if (this.byte(index + i) !== text.charCodeAt(i)) return false;
    return true;
  }
}
