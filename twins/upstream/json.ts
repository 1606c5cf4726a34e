/** JSON that comes and goes as text. */

export const NOT_JSON = Symbol('not JSON');

/** The parsed body, undefined when it is empty. */
export function parseJson(body: Buffer): unknown {
  if (body.length === 0) return undefined;
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return NOT_JSON;
  }
}

/** The members of an object as JSON text, without its braces. */
export function membersOf(fields: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(fields).slice(1, -1);
}
