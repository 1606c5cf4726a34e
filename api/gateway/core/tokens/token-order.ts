/** What the gateway and the thread that counts tokens say to each other. */

/** A request's body as JSON, and the name of the dialect that reads it. */
export interface CountedBody {
  readonly body: Uint8Array;
  readonly dialect: string;
}

/** What is to be counted. */
export interface CountOrder {
  readonly id: number;
  readonly content: string | CountedBody;
  /** Counting ends when this many tokens are found. */
  readonly most: number;
}

export interface CountAnswer {
  readonly id: number;
  readonly tokens: number;
}

/** Characters of a text, bytes of a body. */
export function sizeOf(content: CountOrder['content']): number {
  return typeof content === 'string' ? content.length : content.body.length;
}
