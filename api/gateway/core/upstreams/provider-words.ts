/**
 * The words of a provider's error, made fit to be shown: to the client, who may read everything but our keys and
 * accounts at the provider, and to staff, who must not read what the customer wrote. Providers quote requests in their
 * errors, so for staff every quotation goes that is not a name, and everything that the request says itself, quoted or
 * not.
 */

/** For the client: enough for a validator's list of fields. */
const CLIENT_MAX_CHARACTERS = 500;
/** For rows and log lines. */
export const STAFF_MAX_CHARACTERS = 200;
/** As many words in a row that the request has as well are taken for a quotation. */
const RUN_WORDS = 3;

/** Keys by their usual beginnings (also half masked, as providers print them), and ids of accounts. */
const SECRET_LIKE =
  /\b(?:bearer\s+\S+|(?:sk|pk|rk|gsk|xai|key|nvapi|hf|org|proj|team|acct|account)[-_](?=[\w*-]*[\d*])[\w*-]{6,}|AIza[\w*-]{10,})/gi;

const JSON_TEXT = /\{(?:.*\}|.*$)/gs;
const BRACKETED = /\[[^\]]*(?:\]|$)/g;
/** An apostrophe inside a word opens nothing; a quotation that was cut off goes to the end. */
const QUOTED = [
  /"(?:\\.|[^"\\])*(?:"|$)/gs,
  /(?<![\p{L}\p{N}])'.*?(?:'(?![\p{L}\p{N}])|$)/gsu,
  /`[^`]*(?:`|$)/g,
  /[“„«][^”»]*(?:[”»]|$)/g,
] as const;
/** The name of a field, a model or a type. */
const NAME = /^[\w$.:/@[\]-]{0,64}$/;
const CUT = '…';

/** Words of languages that are written without blanks are their characters. */
const WORD =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}\p{sc=Thai}]|[\p{L}\p{N}_]+(?:[.@-][\p{L}\p{N}_]+)*/gu;
/** Nobody writes such a word by chance: a number, an identifier, a word of another language, a long one. */
const TELLING_WORD = /\p{N}|[_@-]|[^\p{ASCII}]|.{13,}/u;

/** What the client reads: the provider's words without our keys. */
export function wordsForClient(message: string, keys: readonly string[]): string {
  return shortened(withoutSecrets(message, keys), CLIENT_MAX_CHARACTERS);
}

/** What staff read: the provider's words without our keys and without what the customer wrote (`said`). */
export function wordsForStaff(message: string, keys: readonly string[], said: string): string {
  const compared = comparable(said);
  const isName = (text: string): boolean => NAME.test(text) && !saysWord(compared, text.toLowerCase());
  let words = withoutSecrets(message, keys).replace(/\s+/g, ' ');
  words = words.replace(JSON_TEXT, CUT);
  for (const quoted of QUOTED) words = words.replace(quoted, (quote) => (isName(quote.slice(1, -1)) ? quote : CUT));
  words = words.replace(BRACKETED, (text) => (/^\[[\w.-]{0,40}\]$/.test(text) ? text : CUT));
  words = withoutSaid(words, compared).replace(/\S{65,}/g, CUT);
  return shortened(words.replace(/…(?:\s*…)+/g, CUT).trim(), STAFF_MAX_CHARACTERS);
}

function withoutSecrets(message: string, keys: readonly string[]): string {
  let words = message;
  for (const key of keys) if (key.length >= 8) words = words.replaceAll(key, CUT);
  return words.replace(SECRET_LIKE, CUT);
}

/** Cuts runs of words that the request has as well, and single telling ones. */
function withoutSaid(message: string, said: string): string {
  if (said === '') return message;
  const words = [...message.matchAll(WORD)].map((match) => ({
    start: match.index,
    end: match.index + match[0].length,
  }));
  const isSaid = words.map(() => false);
  const lower = message.toLowerCase();
  for (const [index, { start, end }] of words.entries()) {
    const word = lower.slice(start, end);
    if ((TELLING_WORD.test(word) || isProperName(message, start)) && saysWord(said, word)) isSaid[index] = true;
    const last = words[index + RUN_WORDS - 1];
    if (last !== undefined && said.includes(lower.slice(start, last.end))) isSaid.fill(true, index, index + RUN_WORDS);
  }
  let kept = '';
  let from = 0;
  for (const [index, { start, end }] of words.entries()) {
    if (!isSaid[index]) continue;
    kept += message.slice(from, start) + CUT;
    from = end;
  }
  return kept + message.slice(from);
}

/** True for a capital letter that no sentence begins with. */
function isProperName(message: string, start: number): boolean {
  return /\p{Lu}/u.test(message[start]!) && !/(?:^|[.!?]\s*)$/.test(message.slice(0, start));
}

/** Places where a word is looked for: one that is part of others so often says nothing. */
const PLACES_MAX = 100;

/** True when `said` has the word, not only as part of another. */
function saysWord(said: string, word: string): boolean {
  if (word === '') return false;
  let at = said.indexOf(word);
  for (let place = 0; at !== -1 && place < PLACES_MAX; place++) {
    const neighbours = `${said[at - 1] ?? ' '}${said[at + word.length] ?? ' '}`;
    if (!/[\p{L}\p{N}]/u.test(neighbours)) return true;
    at = said.indexOf(word, at + 1);
  }
  return false;
}

function comparable(said: string): string {
  return said.toLowerCase().replace(/\s+/g, ' ');
}

function shortened(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}${CUT}`;
}
