/**
 * JSON that PostgreSQL can store: what people call themselves may hold NUL and halves of characters, which it refuses.
 */

/** The value of a body; null where it is no JSON. Texts and names lose NUL, and broken Unicode is replaced. */
export function storableJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'), (_key, value: unknown) => {
      if (typeof value === 'string') return storableText(value);
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
      return Object.fromEntries(Object.entries(value).map(([name, part]) => [storableText(name), part as unknown]));
    });
  } catch {
    return null;
  }
}

const storableText = (text: string): string => text.replaceAll('\u0000', '').toWellFormed();
