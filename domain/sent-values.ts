/**
 * Numbers and times as the other side sends them: as a number, or as a text of one. A sum that nobody reads because of
 * its form would be a refund that is not taken back.
 */

/** A whole number that JavaScript holds exactly; null for anything else. */
export function wholeNumberIn(value: unknown): number | null {
  const number = typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  return Number.isSafeInteger(number) ? (number as number) : null;
}

/** Milliseconds since 1970, or a date in any form; null for anything else. */
export function timeIn(value: unknown): Date | null {
  const sent = wholeNumberIn(value) ?? value;
  if (typeof sent !== 'number' && typeof sent !== 'string' && !(sent instanceof Date)) return null;
  const time = new Date(sent);
  return Number.isNaN(time.getTime()) ? null : time;
}
