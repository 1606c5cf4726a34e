/**
 * Splitting a byte stream into server-sent events, as an upstream may cut it: anywhere, also inside a character or
 * between CR and LF; with LF, CRLF or CR line ends, a byte-order mark, comments. As tolerant as a browser's EventSource
 * (WHATWG HTML, "server-sent events"), and says what such a reader would silently drop. Nothing is decoded until an
 * event is whole.
 */

/** One event: its data lines joined, and the bytes to pass on unchanged. */
export interface SseEvent {
  /** Null for comments and events without data; a `data:` without text is no data either. */
  readonly data: string | null;
  /** The `event:` field; null when there is none. */
  readonly name: string | null;
  /**
   * Text that is neither a field nor a comment: a web page or a JSON body in place of a stream. Null when there is
   * none.
   */
  readonly foreign: string | null;
  readonly raw: Buffer;
}

const LF = 0x0a;
const CR = 0x0d;
const DATA = Buffer.from('data: ');
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);
const LINE_END = /\r\n|\n|\r/;
/** A comment or one of the four fields of the format. */
const LINE = /^(:|(data|event|id|retry)(:|$))/;

/** An upstream that never ends a line must not fill our memory. */
const EVENT_BYTES_MAX = 16 * 1024 * 1024;

export class SseTooLarge extends Error {}

export class SseSplitter {
  /** What has come of an event that is not whole yet. */
  #rest: Buffer = NOTHING;
  /**
   * Memory of ours that `#rest` is the beginning of; it doubles, so that a long event is not copied with every chunk.
   */
  #room: Buffer = NOTHING;
  /** Where the last line of `#rest` begins; what is before its end was looked at. */
  #lineStart = 0;
  #isAtStart = true;
  #endsWithCr = false;

  /** The events that are complete now. Throws SseTooLarge when one event grows beyond 16 MiB. */
  push(chunk: Buffer): SseEvent[] {
    const seen = this.#rest.length;
    const bytes = seen === 0 ? chunk : this.#append(chunk);
    if (this.#isAtStart && !this.#skipByteOrderMark(bytes)) return [];
    const events: SseEvent[] = [];
    let start = 0;
    let lineStart = this.#lineStart;
    // The last byte seen may be a CR whose LF comes now.
    const lines = new LineEnds(bytes, Math.max(seen - 1, lineStart), this.#endsWithCr);
    for (let end = lines.next(); end !== null; end = lines.next()) {
      const isBlank = end.at === lineStart;
      lineStart = end.at + end.length;
      if (!isBlank) continue;
      events.push(toEvent(bytes.subarray(start, lineStart)));
      start = lineStart;
    }
    this.#endsWithCr = lines.endsWithCr;
    this.#lineStart = lineStart - start;
    this.#rest = bytes.subarray(start);
    // What was handed out stays as it is: the next chunk is not written behind it into the same memory.
    if (start > 0) this.#room = NOTHING;
    if (this.#rest.length > EVENT_BYTES_MAX) throw new SseTooLarge('a server-sent event is larger than 16 MiB');
    return events;
  }

  /** What was left when the stream ended: an event whose blank line is missing still counts. */
  end(): SseEvent | null {
    const rest = this.#rest;
    this.#rest = NOTHING;
    this.#room = NOTHING;
    this.#lineStart = 0;
    return rest.length === 0 ? null : toEvent(rest);
  }

  /** Makes the first line begin after a byte-order mark; false while it cannot be known yet whether there is one. */
  #skipByteOrderMark(bytes: Buffer): boolean {
    const length = Math.min(bytes.length, BYTE_ORDER_MARK.length);
    const isMark = BYTE_ORDER_MARK.subarray(0, length).equals(bytes.subarray(0, length));
    if (isMark && length < BYTE_ORDER_MARK.length) {
      this.#rest = bytes;
      return false;
    }
    this.#isAtStart = false;
    if (isMark) this.#lineStart = BYTE_ORDER_MARK.length;
    return true;
  }

  #append(chunk: Buffer): Buffer {
    const length = this.#rest.length + chunk.length;
    if (length > this.#room.length) {
      this.#room = Buffer.allocUnsafeSlow(length * 2);
      this.#rest.copy(this.#room);
    }
    chunk.copy(this.#room, this.#rest.length);
    return this.#room.subarray(0, length);
  }
}

const NOTHING = Buffer.alloc(0);

/**
 * The line ends of some bytes, in order. A CR that is the last byte ends no line yet, because an LF may belong to it;
 * only in a stream that was seen to end lines with CR alone does it, since nothing may follow for a while.
 */
class LineEnds {
  readonly #bytes: Buffer;
  #from: number;
  #endsWithCr: boolean;
  /** The next CR; Infinity once there is none, so that a stream without any is not searched again for each line. */
  #cr: number;

  constructor(bytes: Buffer, from: number, endsWithCr: boolean) {
    this.#bytes = bytes;
    this.#from = from;
    this.#endsWithCr = endsWithCr;
    this.#cr = this.#find(CR);
  }

  /** True once a CR was followed by something else than LF. */
  get endsWithCr(): boolean {
    return this.#endsWithCr;
  }

  next(): { at: number; length: number } | null {
    const lf = this.#find(LF);
    if (this.#cr < this.#from) this.#cr = this.#find(CR);
    const at = Math.min(lf, this.#cr);
    if (at === Infinity) return null;
    if (at === this.#cr) {
      const isLastByte = at === this.#bytes.length - 1;
      if (isLastByte && !this.#endsWithCr) return null;
      if (!isLastByte && lf !== at + 1) this.#endsWithCr = true;
    }
    const length = at === this.#cr && lf === at + 1 ? 2 : 1;
    this.#from = at + length;
    return { at, length };
  }

  #find(byte: number): number {
    const at = this.#bytes.indexOf(byte, this.#from);
    return at === -1 ? Infinity : at;
  }
}

function toEvent(raw: Buffer): SseEvent {
  const ordinary = ordinaryData(raw);
  if (ordinary !== null) return { data: ordinary, name: null, foreign: null, raw };
  let data: string | null = null;
  let name: string | null = null;
  let foreign: string | null = null;
  const text = raw.toString('utf8');
  // A byte-order mark can only stand at the very beginning; inside a line it is a character like any other.
  for (const line of (text.startsWith('\ufeff') ? text.slice(1) : text).split(LINE_END)) {
    if (line.startsWith('data:')) {
      const value = line.startsWith('data: ') ? line.slice(6) : line.slice(5);
      data = data === null ? value : `${data}\n${value}`;
    } else if (line.startsWith('event:')) {
      name = line.slice('event:'.length).trim();
    } else if (line !== '' && !LINE.test(line)) {
      foreign = foreign === null ? line : `${foreign}\n${line}`;
    }
  }
  return { data: data === '' ? null : data, name, foreign, raw };
}

/**
 * The data of an event in the form of nearly every chunk, one line `data: …` that LF ends; null for every other form.
 */
function ordinaryData(raw: Buffer): string | null {
  const end = raw.length - 2;
  if (end <= DATA.length || raw.indexOf(LF) !== end || raw[end + 1] !== LF) return null;
  if (raw.indexOf(DATA) !== 0 || raw.includes(CR)) return null;
  return raw.toString('utf8', DATA.length, end);
}

/** The bytes of an event with one data line. */
export function sseData(data: string): Buffer {
  return Buffer.from(`data: ${data}\n\n`);
}

/** A comment: every reader ignores it, and every proxy on the way sees that the connection is alive. */
export const SSE_HEARTBEAT = Buffer.from(': keep-alive\n\n');
