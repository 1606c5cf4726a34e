/**
 * What a customer wrote in a JSON body, for telling it from a provider's own words (core/upstreams/provider-words.ts).
 */

/**
 * How much of a request is compared, from its beginning and from its end: an error must not cost more than its request.
 */
const COMPARED_MAX_BYTES = 32 * 1024;
/**
 * A string of JSON, also one that was cut off, and whether it names a field. Every match ends where it must: nothing is
 * read twice.
 */
const JSON_STRING = /"((?:\\.|[^"\\]+|\\$)*)(?:"|$)(\s{0,100}:)?/gs;
const ESCAPE = /\\(?:u([0-9a-fA-F]{4})|(.))/gs;
/** Their values are the interface's words, of which errors speak. */
const PRESCRIBED = new Set(['model', 'role', 'type']);

/**
 * What a customer wrote in a JSON body, for comparing: its beginning and its end, without the names of fields. Not
 * parsed: that of a large body would hold up everybody else.
 */
export function saidIn(body: Uint8Array): string {
  const whole = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (whole.length <= 2 * COMPARED_MAX_BYTES) return stringsOf(whole.toString('utf8'));
  const end = whole.toString('utf8', whole.length - COMPARED_MAX_BYTES);
  // The end may begin inside a string, where what is outside of strings seems to be inside.
  return `${stringsOf(whole.toString('utf8', 0, COMPARED_MAX_BYTES))} ${stringsOf(end)} ${stringsOf(`"${end}`)}`;
}

function stringsOf(json: string): string {
  const strings: string[] = [];
  let field = '';
  for (const [, text, colon] of json.matchAll(JSON_STRING)) {
    if (colon !== undefined) field = text!;
    else if (!PRESCRIBED.has(field)) strings.push(unescaped(text!));
    if (colon === undefined) field = '';
  }
  return strings.join(' ');
}

function unescaped(text: string): string {
  return text.replace(ESCAPE, (_, code: string | undefined, character: string | undefined) => {
    if (code !== undefined) return String.fromCharCode(Number.parseInt(code, 16));
    return character !== undefined && 'bfnrt'.includes(character) ? ' ' : (character ?? '');
  });
}
