/**
 * Splitting a byte stream into server-sent events, as an upstream may cut it: anywhere, also inside a character, with LF
 * or CRLF line ends, with comments. Nothing is decoded until an event is whole.
 */

/** One event: its data lines joined, and the bytes to pass on unchanged. */
export interface SseEvent {
  /** Null for comments and events without data. */
  readonly data: string | null;
  /** True when it has text that is neither a field nor a comment: a web page or a JSON body in place of a stream. */
  readonly isForeign: boolean;
  readonly raw: Buffer;
}

const LF = 0x0a;
const CR = 0x0d;
/** A comment or one of the four fields of the format. */
const LINE = /^(:|(data|event|id|retry)(:|$))/;

/** An upstream that never ends a line must not fill our memory. */
const EVENT_BYTES_MAX = 16 * 1024 * 1024;

export class SseTooLarge extends Error {}

export class SseSplitter {
  /** What has come of an event that is not whole yet. */
  #rest: Buffer = NOTHING;
  /** Memory of ours that `#rest` is the beginning of; it doubles, so that a long event is not copied with every chunk. */
  #room: Buffer = NOTHING;
  /** Where the last line of `#rest` begins; what is before its end was looked at. */
  #lineStart = 0;

  /** The events that are complete now. Throws SseTooLarge when one event grows beyond 16 MiB. */
  push(chunk: Buffer): SseEvent[] {
    const seen = this.#rest.length;
    const bytes = seen === 0 ? chunk : this.#append(chunk);
    const events: SseEvent[] = [];
    let start = 0;
    let lineStart = this.#lineStart;
    for (let lineEnd = bytes.indexOf(LF, seen); lineEnd !== -1; lineEnd = bytes.indexOf(LF, lineStart)) {
      const isBlank = lineEnd === lineStart || (lineEnd === lineStart + 1 && bytes[lineStart] === CR);
      lineStart = lineEnd + 1;
      if (!isBlank) continue;
      events.push(toEvent(bytes.subarray(start, lineStart)));
      start = lineStart;
    }
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

function toEvent(raw: Buffer): SseEvent {
  let data: string | null = null;
  let isForeign = false;
  for (const line of raw.toString('utf8').split(/\r?\n/)) {
    if (line.startsWith('data:')) {
      const value = line.startsWith('data: ') ? line.slice(6) : line.slice(5);
      data = data === null ? value : `${data}\n${value}`;
    } else if (line !== '' && !LINE.test(line)) {
      isForeign = true;
    }
  }
  return { data, isForeign, raw };
}

/** The bytes of an event with one data line. */
export function sseData(data: string): Buffer {
  return Buffer.from(`data: ${data}\n\n`);
}
