/**
 * How an answer's bytes are framed: line ends, fields beside `data:`, text between the events, the writes they are cut
 * into. A script is written in the plainest framing (`data: …`, two line feeds) and rewritten here.
 */
import { BadInput, readBoolean, readChoice, readCount, readMilliseconds, readString } from '../kit/input.ts';
import type { Beat, Script } from './beats.ts';
import { type Encoding, ENCODINGS } from './encoding.ts';
import { listOf, nullable, readBase64, readFields, readText } from './fields.ts';
import { MAX_INSERTED_CHARACTERS } from './limits.ts';

const LINE_ENDS = { lf: '\n', crlf: '\r\n', cr: '\r' } as const;

/**
 * Where in an answer something happens: after so many content chunks of each choice, or behind one of its last parts.
 */
export type Position = number | 'finish' | 'usage' | 'done';

export const LATE_POSITIONS = ['finish', 'usage', 'done'] as const;

/** Text that stands between the events, sent as it is. */
export interface Insertion {
  /** `start`: before everything; `each`: before every content chunk. Whole answers know `start` and `done`. */
  readonly at: Position | 'start' | 'each';
  readonly text?: string;
  /** Bytes that need not be text. */
  readonly base64?: string;
  readonly repeat?: number;
}

/** Where the writes are cut: inside characters, inside CRLF, or every so many bytes. */
type Split = 'characters' | 'line_ends' | number;

export interface Framing {
  readonly line_end: keyof typeof LINE_ENDS;
  /** `data: x` or `data:x`. */
  readonly colon_space: boolean;
  /** A byte-order mark before the first byte. */
  readonly bom: boolean;
  /** JSON over several lines, each of which is a `data:` line of its own. */
  readonly multi_line: boolean;
  /** An `event:` field on every event. */
  readonly event: string | null;
  /** An `id:` field on every event, counting. */
  readonly id: boolean;
  readonly retry: number | null;
  /** `data:` alone, and the JSON on the next line behind a blank, which no parser of events reads. */
  readonly next_line: boolean;
  /** A JSON text per line instead of events. */
  readonly ndjson: boolean;
  /** The end, sent as it is; null leaves it out. Undefined: `data: [DONE]`. */
  readonly done?: string | null;
  /** Line ends behind the last event: 2, unless something is amiss. */
  readonly last_line_ends: number;
  readonly insert: readonly Insertion[];
  readonly split: Split | null;
  /** Between the writes that a split makes of one. */
  readonly apart_ms: number;
  /** `content-encoding`, whatever the client accepts. */
  readonly encoding: Encoding;
  /** Null: the usual one. Empty: none. */
  readonly content_type: string | null;
}

/** Long enough apart that two writes are two reads on the other side of a loopback connection. */
const APART_MS = 2;

export const DEFAULT_FRAMING: Framing = {
  line_end: 'lf',
  colon_space: true,
  bom: false,
  multi_line: false,
  event: null,
  id: false,
  retry: null,
  next_line: false,
  ndjson: false,
  last_line_ends: 2,
  insert: [],
  split: null,
  apart_ms: APART_MS,
  encoding: 'identity',
  content_type: null,
};

export function readFraming(value: unknown, field: string): Framing {
  return {
    ...DEFAULT_FRAMING,
    ...readFields<Framing>(value, field, {
      line_end: (end, name) => readChoice(end, name, Object.keys(LINE_ENDS) as (keyof typeof LINE_ENDS)[]),
      colon_space: readBoolean,
      bom: readBoolean,
      multi_line: readBoolean,
      event: nullable(readString),
      id: readBoolean,
      retry: nullable(readCount),
      next_line: readBoolean,
      ndjson: readBoolean,
      done: nullable(readText),
      last_line_ends: (count, name) => readCount(count, name, 0, 2),
      insert: listOf(readInsertion),
      split: nullable(readSplit),
      apart_ms: readMilliseconds,
      encoding: (encoding, name) => readChoice(encoding, name, ENCODINGS),
      content_type: nullable(readText),
    }),
  };
}

function readPosition(value: unknown, field: string): Position {
  return typeof value === 'number' ? readCount(value, field) : readChoice(value, field, LATE_POSITIONS);
}

function readInsertion(value: unknown, field: string): Insertion {
  const insertion = readFields<Insertion>(value, field, {
    at: (at, name) => (at === 'start' || at === 'each' ? at : readPosition(at, name)),
    text: readText,
    base64: readBase64,
    repeat: (count, name) => readCount(count, name, 1, MAX_INSERTED_CHARACTERS),
  });
  const { at, text = insertion.base64, repeat = 1 } = insertion;
  if (at === undefined || text === undefined) {
    throw new BadInput(`'${field}' needs 'at', and 'text' or 'base64'.`, field);
  }
  if (text.length * repeat > MAX_INSERTED_CHARACTERS) throw new BadInput(`'${field}' is too long.`, field);
  return { ...insertion, at };
}

/** The beat that sends an insertion. */
export function insertedBeat({ text, base64, repeat = 1 }: Insertion, atMs: number): Beat {
  if (base64 === undefined) return { atMs, text: (text ?? '').repeat(repeat), isRaw: true };
  return { atMs, bytes: Buffer.concat(Array<Buffer>(repeat).fill(Buffer.from(base64, 'base64'))) };
}

function readSplit(value: unknown, field: string): Split {
  return typeof value === 'number'
    ? readCount(value, field, 1)
    : readChoice(value, field, ['characters', 'line_ends'] as const);
}

/** Rewrites the texts of a script; what is inserted is only cut into writes. */
export function* framed(script: Script, framing: Framing, isStream: boolean): Script {
  const frame = isStream ? eventFramer(framing) : (text: string): string => text;
  let bom = framing.bom ? '\ufeff' : '';
  for (const beat of script) {
    if (beat.text === undefined || beat.text === '') {
      yield beat;
      continue;
    }
    let text = beat.isRaw === true ? beat.text : frame(beat.text);
    if (isStream && beat.isRaw !== true && beat.ending?.how === 'end') text = endedBy(text, framing);
    text = bom + text;
    bom = '';
    if (framing.split === null) {
      yield { ...beat, text };
      continue;
    }
    yield* inWrites(beat, cut(Buffer.from(text), framing.split), framing.apart_ms);
  }
}

/** One beat's bytes as several writes, the ending with the last. */
function* inWrites(beat: Beat, writes: readonly Buffer[], apartMs: number): Script {
  for (const [index, bytes] of writes.entries()) {
    const isLast = index === writes.length - 1;
    yield {
      atMs: beat.atMs,
      apartMs,
      bytes,
      production: index === 0 ? beat.production : undefined,
      ending: isLast ? beat.ending : undefined,
    };
  }
}

function eventFramer(framing: Framing): (text: string) => string {
  const lineEnd = LINE_ENDS[framing.line_end];
  const colon = framing.colon_space ? ': ' : ':';
  let lastId = 0;
  return (text) =>
    text
      .split('\n\n')
      .filter((event) => event !== '')
      .map((event) => {
        const data = event.replace(/^(?:event: .*\n)?data: /, '');
        if (framing.ndjson) return `${data}\n`;
        const own = /^event: (.*)\n/.exec(event)?.[1] ?? framing.event;
        const lines = own === null ? [] : [`event${colon}${own}`];
        if (framing.id) lines.push(`id${colon}${(lastId += 1)}`);
        if (framing.retry !== null) lines.push(`retry${colon}${framing.retry}`);
        if (framing.next_line) lines.push('data:', ` ${data}`);
        else for (const line of dataLines(data, framing.multi_line)) lines.push(`data${colon}${line}`);
        return lines.map((line) => line + lineEnd).join('') + lineEnd;
      })
      .join('');
}

function dataLines(data: string, isMultiLine: boolean): string[] {
  if (!isMultiLine || !data.startsWith('{')) return [data];
  try {
    return JSON.stringify(JSON.parse(data), null, 1).split('\n');
  } catch {
    return [data];
  }
}

function endedBy(text: string, framing: Framing): string {
  if (framing.last_line_ends === 2) return text;
  const lineEnd = LINE_ENDS[framing.line_end];
  let bare = text;
  while (bare.endsWith(lineEnd)) bare = bare.slice(0, -lineEnd.length);
  return bare + lineEnd.repeat(framing.last_line_ends);
}

/** Cuts bytes where the split says; once in the middle where there is no such place. */
function cut(bytes: Buffer, split: Split): Buffer[] {
  if (typeof split === 'number') {
    const parts: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += split) parts.push(bytes.subarray(at, at + split));
    return parts;
  }
  const isContinuation = (byte: number): boolean => (byte & 0xc0) === 0x80;
  const inside = split === 'characters' ? bytes.findIndex(isContinuation) : bytes.indexOf('\r\n') + 1;
  const at = inside <= 0 ? bytes.length >> 1 : inside;
  return at === 0 ? [bytes] : [bytes.subarray(0, at), bytes.subarray(at)];
}
