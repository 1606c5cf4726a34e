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
  #rest: Buffer = Buffer.alloc(0);

  /** The events that are complete now. Throws SseTooLarge when one event grows beyond 16 MiB. */
  push(chunk: Buffer): SseEvent[] {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const events: SseEvent[] = [];
    let start = 0;
    for (let end = endOfEvent(bytes, start); end !== -1; end = endOfEvent(bytes, start)) {
      events.push(toEvent(bytes.subarray(start, end)));
      start = end;
    }
    this.#rest = bytes.subarray(start);
    if (this.#rest.length > EVENT_BYTES_MAX) throw new SseTooLarge('a server-sent event is larger than 16 MiB');
    return events;
  }

  /** What was left when the stream ended: an event whose blank line is missing still counts. */
  end(): SseEvent | null {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest.length === 0 ? null : toEvent(rest);
  }
}

/** Index behind the blank line that ends the event beginning at `start`; -1 while there is none. */
function endOfEvent(bytes: Buffer, start: number): number {
  for (let lineStart = start; ;) {
    const lineEnd = bytes.indexOf(LF, lineStart);
    if (lineEnd === -1) return -1;
    const isBlank = lineEnd === lineStart || (lineEnd === lineStart + 1 && bytes[lineStart] === CR);
    if (isBlank) return lineEnd + 1;
    lineStart = lineEnd + 1;
  }
}

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
