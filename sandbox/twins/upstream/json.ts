/** Bodies as JSON. */

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
