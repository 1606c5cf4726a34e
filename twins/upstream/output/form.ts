/** A form of output: how a chunk of a stream carries a part of it, and how a whole answer does. */
import type { CountedAs } from '../token-counts.ts';

export type Fields = Record<string, unknown>;

/** A piece of one choice's output, ready to be written. */
export interface Part {
  /** The words produced; one token each. */
  readonly text: string;
  /** All words of the segment up to and with this part. */
  readonly soFar: () => string;
  /** Data in place of words, for what is no text. */
  readonly data: () => Buffer;
  readonly choice: number;
  readonly isFirst: boolean;
  /** The last part of a segment that the maximum did not cut. */
  readonly isLast: boolean;
  /** An id that the whole segment shares. */
  readonly id: string;
  /** The function that is called. */
  readonly toolName: string;
  /** Which of the choice's tool calls this is, from 0. */
  readonly callIndex: number;
}

/** The content of a chunk: a delta, or fields beside it in the choice, or fields of the chunk itself. */
export interface ChunkPart {
  readonly delta?: unknown;
  readonly choice?: Fields;
  readonly top?: Fields;
  readonly logprobs?: object;
}

/** A whole answer under construction: a choice with its message, and the fields beside the choices. */
export interface WholePart {
  readonly message: Fields;
  readonly choice: Fields;
  readonly top: Fields;
}

/** How a form is written. */
export interface FormBody {
  /** The kind that tokens of this form count as unless a segment states another. */
  readonly countedAs: CountedAs;
  readonly chunk: (part: Part) => ChunkPart;
  /** A chunk of its own before the first part. */
  readonly head?: (part: Part) => ChunkPart;
  readonly whole: (whole: WholePart, part: Part) => void;
  /** Whether a byte of the answer shows it; default true. */
  readonly isShown?: boolean;
  /** Whether it carries data in place of words. */
  readonly isData?: boolean;
  /** Whether the form is a call of a tool, which decides the finish reason. */
  readonly isCall?: boolean;
}

export interface OutputForm extends FormBody {
  /** The document that shows it, or its sender. */
  readonly source: string;
}

/** A form with the document that shows it. */
export function from(source: string, form: FormBody): OutputForm {
  return { ...form, source };
}

/** Adds text to a field that may have some already. */
export function append(fields: Fields, name: string, text: string): void {
  const present = fields[name];
  if (Array.isArray(present)) present.push({ type: 'text', text });
  else fields[name] = (typeof present === 'string' ? present : '') + text;
}

/** Adds an item to a list; text that stood there before becomes its first part. */
export function push(fields: Fields, name: string, item: unknown): void {
  const present = fields[name];
  if (Array.isArray(present)) present.push(item);
  else fields[name] = typeof present === 'string' && present !== '' ? [{ type: 'text', text: present }, item] : [item];
}
