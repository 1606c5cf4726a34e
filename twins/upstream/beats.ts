/** The parts of a script: what happens at one moment of an answer, and how it ends. */
import type { Production } from './token-counts.ts';

export type Ending =
  | { readonly how: 'end'; readonly status: 'completed' | 'failed' }
  | { readonly how: 'destroy' | 'reset' }
  /** Nothing more, until the client leaves. `isDone`: there is nothing more to produce either. */
  | { readonly how: 'hang'; readonly isDone: boolean };

export interface Beat {
  /** Milliseconds since the request was read. */
  readonly atMs: number;
  /** To be sent; the first text sends the headers, even when it is empty. Undefined sends nothing. */
  readonly text?: string | undefined;
  /** Not to be framed. */
  readonly isRaw?: boolean | undefined;
  /** Sent instead of `text`, in a TCP write of its own. */
  readonly bytes?: Uint8Array | undefined;
  /** Not earlier than this long after the last write, however late that was. */
  readonly apartMs?: number | undefined;
  /** Output tokens produced by all choices in this beat. */
  readonly production?: Production | undefined;
  readonly ending?: Ending | undefined;
}

export type Script = Generator<Beat, void, undefined>;
