/**
 * Reading a JSON document that somebody else wrote, from its bytes: values that nobody asks for are checked and
 * skipped, never built. Accepts what `JSON.parse` accepts of UTF-8, up to two bounds: levels of nesting and number of
 * values. It holds no recursion, so no document can exhaust the stack, and its time grows with the bytes and with
 * nothing else.
 *
 * It is a pull reader: the caller stands before a value, looks at its kind, and enters, reads or skips it. Positions
 * are byte offsets, so that a document can be passed on with a few of its values replaced and all others untouched.
 */
import { isUtf8 } from 'node:buffer';

export type JsonKind = 'object' | 'array' | 'string' | 'number' | 'boolean' | 'null';

/** Bytes `start` (inclusive) to `end` (exclusive) of a document. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface JsonBounds {
  /** Levels of nesting, the outermost value included. */
  readonly depthMax: number;
  /** Values of every kind, containers included. */
  readonly valuesMax: number;
}

/** The document is no JSON (`syntax`), nested too deeply (`depth`) or made of too many values (`values`). */
export class JsonError extends Error {
  readonly reason: 'syntax' | 'depth' | 'values';

  constructor(reason: JsonError['reason']) {
    super(`unreadable JSON: ${reason}`);
    this.name = 'JsonError';
    this.reason = reason;
  }
}

/** Names to recognize among the keys or string values of a document without decoding each of them. */
export class NameTable<Name extends string> {
  readonly #byText: ReadonlyMap<string, Name>;
  /** By length in bytes. */
  readonly #byLength: readonly (readonly { readonly bytes: Uint8Array; readonly name: Name }[])[];
  /** No escaped spelling of a name is longer: `\u006d` is six bytes. */
  readonly #escapedMax: number;

  constructor(names: readonly Name[]) {
    this.#byText = new Map(names.map((name) => [name, name]));
    const byLength: { bytes: Uint8Array; name: Name }[][] = [];
    for (const name of names) {
      const bytes = new TextEncoder().encode(name);
      while (byLength.length <= bytes.length) byLength.push([]);
      byLength[bytes.length]!.push({ bytes, name });
    }
    this.#byLength = byLength;
    this.#escapedMax = byLength.length * 6;
  }

  /** The name that a string of the document spells, however it is escaped; null when it is none of them. */
  find(document: Uint8Array, string: JsonString): Name | null {
    const { start, end } = string;
    if (string.isEscaped) {
      return end - start > this.#escapedMax ? null : (this.#byText.get(decodeString(document, string)) ?? null);
    }
    const candidates = this.#byLength[end - start];
    if (candidates === undefined) return null;
    next: for (const { bytes, name } of candidates) {
      for (let i = 0; i < bytes.length; i += 1) if (document[start + i] !== bytes[i]) continue next;
      return name;
    }
    return null;
  }
}

/** A string of a document: the span between its quotes, and whether a backslash is in it. */
export interface JsonString extends Span {
  readonly isEscaped: boolean;
}

/** What a string of a document says. */
export function decodeString(document: Uint8Array, { start, end, isEscaped }: JsonString): string {
  const bytes = Buffer.from(document.buffer, document.byteOffset, document.byteLength);
  return isEscaped
    ? (JSON.parse(bytes.toString('utf8', start - 1, end + 1)) as string)
    : bytes.toString('utf8', start, end);
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const LITERALS = ['true', 'false', 'null'].map((word) => new TextEncoder().encode(word));

/** Where a reader stands, to come back to. */
export interface JsonMark {
  readonly position: number;
  readonly depth: number;
  readonly values: number;
}

export class JsonReader {
  readonly bytes: Uint8Array;
  readonly #bounds: JsonBounds;
  #position = 0;
  #depth = 0;
  #values = 0;
  /** Nothing of the container that was entered last has been read yet. */
  #isFresh = false;
  /** Whether the string that was passed last has a backslash. */
  #isEscaped = false;
  /** The key that was passed last: its quotes, and whether it has a backslash. */
  #keyStart = 0;
  #keyEnd = 0;
  #isKeyEscaped = false;

  /**
   * Throws a JsonError for bytes that are not UTF-8. A byte-order mark is found to be no value when the first is read.
   */
  constructor(bytes: Uint8Array, bounds: JsonBounds) {
    if (!isUtf8(bytes)) throw new JsonError('syntax');
    this.bytes = bytes;
    this.#bounds = bounds;
    this.#position = this.#afterBlanks(0);
  }

  /** The kind of the value the reader stands before. */
  peek(): JsonKind {
    switch (this.bytes[this.#position]) {
      case OPEN_OBJECT:
        return 'object';
      case OPEN_ARRAY:
        return 'array';
      case QUOTE:
        return 'string';
      case 0x74:
      case 0x66:
        return 'boolean';
      case 0x6e:
        return 'null';
      default:
        return 'number';
    }
  }

  /** Where the value begins that the reader stands before. */
  get position(): number {
    return this.#position;
  }

  mark(): JsonMark {
    return { position: this.#position, depth: this.#depth, values: this.#values };
  }

  /** Goes back to a value that {@link mark} stood before, so that a value that is read twice counts once. */
  reset(mark: JsonMark): void {
    this.#position = mark.position;
    this.#depth = mark.depth;
    this.#values = mark.values;
    this.#isFresh = false;
  }

  /** Steps into the object or array that the reader stands before; {@link nextKey} or {@link nextItem} goes on. */
  enter(): void {
    const opening = this.bytes[this.#position];
    if (opening !== OPEN_OBJECT && opening !== OPEN_ARRAY) throw new JsonError('syntax');
    this.#count();
    this.#depth += 1;
    if (this.#depth > this.#bounds.depthMax) throw new JsonError('depth');
    this.#position = this.#afterBlanks(this.#position + 1);
    this.#isFresh = true;
  }

  /** Steps to the next member of the object that was entered and stands before its value; false at the object's end. */
  nextKey(): boolean {
    if (!this.#nextOrEnd(CLOSE_OBJECT)) return false;
    this.#position = this.#afterKey(this.#position);
    return true;
  }

  /** Steps to the next element of the array that was entered; false at the array's end. */
  nextItem(): boolean {
    return this.#nextOrEnd(CLOSE_ARRAY);
  }

  /** The key of the member the reader stands in. */
  get key(): JsonString {
    return { start: this.#keyStart + 1, end: this.#keyEnd - 1, isEscaped: this.#isKeyEscaped };
  }

  /** Where that member begins: the quote before its key. */
  get keyStart(): number {
    return this.#keyStart;
  }

  /** Passes the value the reader stands before, whatever it is, and says where it was. */
  skip(): Span {
    const start = this.#position;
    this.#count();
    const end = this.#afterValue(start);
    this.#position = end;
    return { start, end };
  }

  /** Passes a string without decoding it. The caller has looked at {@link peek}. */
  readString(): JsonString {
    const { start, end } = this.skip();
    return { start: start + 1, end: end - 1, isEscaped: this.#isEscaped };
  }

  /** Passes a number, rounded as `JSON.parse` rounds it. The caller has looked at {@link peek}. */
  readNumber(): number {
    const { start, end } = this.skip();
    const { buffer, byteOffset, byteLength } = this.bytes;
    return Number(Buffer.from(buffer, byteOffset, byteLength).toString('latin1', start, end));
  }

  /** Passes a boolean. The caller has looked at {@link peek}. */
  readBoolean(): boolean {
    const { start, end } = this.skip();
    return end - start === 4;
  }

  /** Passes a value; the name that it spells, null when it is none of them or no string. */
  readName<Name extends string>(names: NameTable<Name>): Name | null {
    if (this.peek() === 'string') return names.find(this.bytes, this.readString());
    this.skip();
    return null;
  }

  /** Passes a value; false for null and `false`, which ask for nothing. */
  readIsSet(): boolean {
    const kind = this.peek();
    if (kind === 'boolean') return this.readBoolean();
    this.skip();
    return kind !== 'null';
  }

  /** Throws unless nothing but blanks follows: the outermost value has been passed. */
  end(): void {
    if (this.#afterBlanks(this.#position) !== this.bytes.length) throw new JsonError('syntax');
  }

  #count(): void {
    this.#values += 1;
    if (this.#values > this.#bounds.valuesMax) throw new JsonError('values');
  }

  #nextOrEnd(closing: number): boolean {
    const at = this.#afterBlanks(this.#position);
    const next = this.bytes[at];
    if (next === closing) {
      this.#isFresh = false;
      this.#depth -= 1;
      this.#position = at + 1;
      return false;
    }
    if (this.#isFresh) {
      this.#isFresh = false;
      this.#position = at;
      return true;
    }
    if (next !== COMMA) throw new JsonError('syntax');
    this.#position = this.#afterBlanks(at + 1);
    return true;
  }

  #afterBlanks(from: number): number {
    const { bytes } = this;
    let at = from;
    for (;;) {
      const byte = bytes[at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
      at += 1;
    }
  }

  /** Where the value ends that begins at `from`. */
  #afterValue(from: number): number {
    const first = this.bytes[from];
    if (first === QUOTE) return this.#afterString(from);
    if (first === OPEN_OBJECT || first === OPEN_ARRAY) return this.#afterContainer(from);
    return this.#afterScalar(from);
  }

  #afterContainer(from: number): number {
    const { bytes } = this;
    const levels = this.#bounds.depthMax - this.#depth;
    /** The closing bytes of what is open inside this value, innermost last. */
    const open: number[] = [];
    let at = from;
    for (;;) {
      const first = bytes[at];
      if (first === OPEN_OBJECT || first === OPEN_ARRAY) {
        if (open.length >= levels) throw new JsonError('depth');
        const closing = first === OPEN_OBJECT ? CLOSE_OBJECT : CLOSE_ARRAY;
        at = this.#afterBlanks(at + 1);
        if (bytes[at] !== closing) {
          open.push(closing);
          if (first === OPEN_OBJECT) at = this.#afterKey(at);
          this.#count();
          continue;
        }
        at += 1;
      } else {
        at = first === QUOTE ? this.#afterString(at) : this.#afterScalar(at);
      }
      // A value has ended: so do the containers that close behind it.
      for (;;) {
        const closing = open.at(-1);
        if (closing === undefined) return at;
        at = this.#afterBlanks(at);
        const next = bytes[at];
        if (next === COMMA) {
          at = this.#afterBlanks(at + 1);
          if (closing === CLOSE_OBJECT) at = this.#afterKey(at);
          this.#count();
          break;
        }
        if (next !== closing) throw new JsonError('syntax');
        open.pop();
        at += 1;
      }
    }
  }

  /** Passes a key and its colon; where the member's value begins. */
  #afterKey(from: number): number {
    if (this.bytes[from] !== QUOTE) throw new JsonError('syntax');
    const end = this.#afterString(from);
    this.#keyStart = from;
    this.#keyEnd = end;
    this.#isKeyEscaped = this.#isEscaped;
    const colon = this.#afterBlanks(end);
    if (this.bytes[colon] !== COLON) throw new JsonError('syntax');
    return this.#afterBlanks(colon + 1);
  }

  /** Where the string ends that begins with the quote at `from`. */
  #afterString(from: number): number {
    const { bytes } = this;
    this.#isEscaped = false;
    let at = from + 1;
    for (;;) {
      const byte = bytes[at];
      if (byte === QUOTE) return at + 1;
      if (byte === BACKSLASH) {
        this.#isEscaped = true;
        at = this.#afterEscape(at + 1);
      } else {
        // Control characters must be escaped, and a document must not end here.
        if (byte === undefined || byte < 0x20) throw new JsonError('syntax');
        at += 1;
      }
    }
  }

  #afterEscape(at: number): number {
    switch (this.bytes[at]) {
      case QUOTE:
      case BACKSLASH:
      case 0x2f: // /
      case 0x62: // b
      case 0x66: // f
      case 0x6e: // n
      case 0x72: // r
      case 0x74: // t
        return at + 1;
      case 0x75: // u
        for (let digit = at + 1; digit <= at + 4; digit += 1) {
          if (!isHexDigit(this.bytes[digit])) throw new JsonError('syntax');
        }
        return at + 5;
      default:
        throw new JsonError('syntax');
    }
  }

  /** Where a number, `true`, `false` or `null` ends that begins at `from`. */
  #afterScalar(from: number): number {
    const first = this.bytes[from];
    if (first === MINUS || isDigit(first)) return this.#afterNumber(from);
    literal: for (const word of LITERALS) {
      for (let i = 0; i < word.length; i += 1) if (this.bytes[from + i] !== word[i]) continue literal;
      return from + word.length;
    }
    throw new JsonError('syntax');
  }

  #afterNumber(from: number): number {
    const { bytes } = this;
    let at = bytes[from] === MINUS ? from + 1 : from;
    // A zero stands alone: what follows it is a fraction, an exponent or the end.
    at = bytes[at] === ZERO ? at + 1 : this.#afterDigits(at);
    if (bytes[at] === DOT) at = this.#afterDigits(at + 1);
    if (bytes[at] === 0x65 || bytes[at] === 0x45) {
      const sign = bytes[at + 1];
      at = this.#afterDigits(sign === MINUS || sign === 0x2b ? at + 2 : at + 1);
    }
    return at;
  }

  /** Passes one digit or more. */
  #afterDigits(from: number): number {
    let at = from;
    while (isDigit(this.bytes[at])) at += 1;
    if (at === from) throw new JsonError('syntax');
    return at;
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}

function isHexDigit(byte: number | undefined): boolean {
  if (byte === undefined) return false;
  // Setting the sixth bit makes a capital letter a small one.
  const small = byte | 0x20;
  return isDigit(byte) || (small >= 0x61 && small <= 0x66);
}
