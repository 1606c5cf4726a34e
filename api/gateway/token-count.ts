/**
 * Counting tokens here, for the rows that the upstream left without usable usage (marked `estimated`) and for cutting a
 * stream at the money's end. The tokenizer's tables are large, so they are loaded when they are first needed.
 */

/** Longer text is counted by its size: tokenizing it would block the process, and the result is an estimate anyway. */
const TOKENIZED_CHARACTERS_MAX = 200_000;
const BYTES_PER_TOKEN = 4;

type CountTokens = (text: string) => number;
let loading: Promise<CountTokens> | null = null;

/** Tokens of `text` in OpenAI's current encoding (o200k); 0 for no text. */
export async function countTokens(text: string): Promise<number> {
  if (text === '') return 0;
  if (text.length > TOKENIZED_CHARACTERS_MAX) return Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN);
  loading ??= import('gpt-tokenizer/encoding/o200k_base').then(
    ({ countTokens: count }) =>
      (input) =>
        count(input),
  );
  const count = await loading;
  return count(text);
}
