/**
 * The text the twin writes. A token is one word with its leading space, and every word here is exactly one
 * token in OpenAI's o200k_base and cl100k_base: a gateway that counts a cut answer itself must come to the
 * twin's own count. The same seed writes the same text; every fourth word has a letter of more than one byte,
 * so that an answer can be split inside a character.
 */

const PLAIN =
  'river stone light window silver paper market simple winter summer bridge story music forest yellow green ' +
  'orange little large city road house table letter number water fire wind cloud night star moon field hill north ' +
  'south east west early late slow quick warm cold open close first last high low deep wide round square soft hard ' +
  'young old new good kind clear bright dark';

const ACCENTED = 'für über día año café été más aquí também où já não são después país según';

const PLAIN_TOKENS = PLAIN.split(' ').map((word) => ` ${word}`);
const ACCENTED_TOKENS = ACCENTED.split(' ').map((word) => ` ${word}`);

/** The `index`-th token of a choice. */
export function tokenText(seed: number, choice: number, index: number): string {
  const start = (seed >>> 8) + choice * 5;
  if (index % 4 === 3) return ACCENTED_TOKENS[(start + (index >>> 2)) % ACCENTED_TOKENS.length]!;
  // The stride is odd, so it visits all 64 plain words before one comes again.
  const stride = ((seed & 0xff) << 1) | 1;
  return PLAIN_TOKENS[(start + index * stride) % PLAIN_TOKENS.length]!;
}

/** FNV-1a over the first characters of a text: cheap, and enough to tell requests apart. */
export function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  const length = Math.min(text.length, 512);
  for (let index = 0; index < length; index += 1) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return (hash ^ text.length) >>> 0;
}

/** The first bytes of a PNG picture of one point. */
const PNG_HEAD = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ', 'base64');

/** Bytes that stand for audio or a picture; they begin as a picture does where `isFirst`. */
export function dataBytes(seed: number, length: number, isFirst: boolean): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed >>> 0;
  for (let index = 0; index < length; index += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[index] = state >>> 24;
  }
  if (isFirst) PNG_HEAD.copy(bytes, 0, 0, Math.min(length, PNG_HEAD.length));
  return bytes;
}

/** OpenAI's probabilities of the tokens of a text, which repeat it word by word. */
export function tokenLogprobs(text: string): object {
  const tokens = text.match(/ [^ ]*/g) ?? [];
  return {
    content: tokens.map((token) => ({ token, logprob: -0.01, bytes: [...Buffer.from(token)], top_logprobs: [] })),
    refusal: null,
  };
}
