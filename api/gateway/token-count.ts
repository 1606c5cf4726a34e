/**
 * Counting tokens here, for the rows that the upstream left without usable usage (marked `estimated`) and for cutting a
 * stream at the money's end. The tokenizer's tables are large, so they are loaded when they are first needed.
 *
 * Whatever the text is, counting it never fails and never keeps the process from its other work: prompts and answers are
 * written by others, and a request whose tokens cannot be counted could not be charged.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Longer text is counted by its size: tokenizing it would take long, and the result is an estimate anyway. */
const TOKENIZED_CHARACTERS_MAX = 200_000;
const BYTES_PER_TOKEN = 4;
/**
 * Characters counted in one turn of the event loop, in some milliseconds. The time grows with the square of the length of
 * what has no break (200,000 characters of Chinese in one piece take minutes), so a longer piece is cut all the same: that
 * adds at most one token per cut.
 */
const SLICE_CHARACTERS = 1000;

type CountTokens = (text: string) => number;
let loading: Promise<CountTokens> | null = null;

/** Tokens of `text` in OpenAI's current encoding (o200k); 0 for no text. */
export async function countTokens(text: string): Promise<number> {
  if (text === '') return 0;
  if (text.length > TOKENIZED_CHARACTERS_MAX) return Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN);
  loading ??= import('gpt-tokenizer/encoding/o200k_base').then(
    ({ countTokens: count }) =>
      (input) =>
        // Text like "<|endoftext|>" is text: by default the tokenizer throws on it.
        count(input, { disallowedSpecial: new Set() }),
  );
  const count = await loading;
  let tokens = 0;
  for (let start = 0; start < text.length;) {
    const end = endOfSlice(text, start);
    tokens += count(text.slice(start, end));
    start = end;
    if (start < text.length) await nextTurn();
  }
  return tokens;
}

/** Cuts before a blank where there is one: no token of this encoding ends behind a blank that a word follows. */
function endOfSlice(text: string, start: number): number {
  const end = start + SLICE_CHARACTERS;
  if (end >= text.length) return text.length;
  const blank = text.lastIndexOf(' ', end);
  return blank > start ? blank : end;
}
