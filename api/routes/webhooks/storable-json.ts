/** JSON that PostgreSQL can store: what people call themselves may hold NUL and halves of characters, which it refuses. */

/** The value of a body; null where it is no JSON. Texts lose NUL, and broken Unicode is replaced. */
export function storableJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'), (_key, value: unknown) =>
      typeof value === 'string' ? value.replaceAll('\u0000', '').toWellFormed() : value,
    );
  } catch {
    return null;
  }
}
