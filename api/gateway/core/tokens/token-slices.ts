/**
 * Cutting text for the tokenizer, whose time grows with the square of the length of what has no break: 16,000
 * characters of Chinese in one piece take a second, a million of them hours.
 *
 * Cuts are made where the encoding always has a boundary between tokens, so that the slices count what the whole text
 * counts. Only a run of more than a slice without such a place (one word, one row of emojis, base64) is cut anywhere:
 * that changes the count by at most one token per cut, mostly upwards.
 */

/**
 * The worst text then takes some microseconds a character. A multiple of 3 and of 128: the longest tokens of digits and
 * of blanks, so that runs of these lose nothing by their cuts.
 */
export const SLICE_CHARACTERS = 384;

const LETTER_OR_DIGIT = /[\p{L}\p{N}]/u;
/** Behind a letter or digit these always begin a new token; an apostrophe may belong to the word ("it's"). */
const BEGINS_TOKEN = /[^\p{L}\p{M}\p{N}\p{Cs}']/u;

/** Where the slice ends that begins at `start`: behind its last sure boundary, or after SLICE_CHARACTERS. */
export function endOfSlice(text: string, start: number): number {
  const end = start + SLICE_CHARACTERS;
  if (end >= text.length) return text.length;
  for (let cut = end; cut > start; cut -= 1) {
    if (BEGINS_TOKEN.test(text.charAt(cut)) && LETTER_OR_DIGIT.test(text.charAt(cut - 1))) return cut;
  }
  return isInsidePair(text, end) ? end - 1 : end;
}

/** True between the halves of a surrogate pair: apart they would count as two unreadable characters. */
function isInsidePair(text: string, index: number): boolean {
  const before = text.charCodeAt(index - 1);
  const after = text.charCodeAt(index);
  return before >= 0xd800 && before < 0xdc00 && after >= 0xdc00 && after < 0xe000;
}
