/** How long a provider asks us to wait, in the forms that providers use; the client is told the same. */

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** A provider that asks for longer is out of order for the day, which says as much. */
const WAIT_MAX_SECONDS = 24 * 3600;

/**
 * Whole seconds, at least one: `retry-after-ms` (OpenAI, Azure), then `retry-after` as seconds or as a date (RFC 9110
 * §10.2.3). Null when there is neither, or neither can be read.
 */
export function retryAfterOf(headers: Headers, now: Date): number | null {
  const milliseconds = numberOf(first(headers['retry-after-ms']));
  if (milliseconds !== null) return wholeSeconds(milliseconds / 1000);
  const text = first(headers['retry-after']);
  const seconds = numberOf(text);
  if (seconds !== null) return wholeSeconds(seconds);
  // Dates begin with the name of a day; `Date` would also take lone numbers for years.
  const at = text !== null && /^[A-Za-z]{3}/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? null : wholeSeconds((at - now.getTime()) / 1000);
}

/** A wait as a client can be told it. */
export function wholeSeconds(seconds: number): number {
  return Math.min(Math.max(Math.ceil(seconds), 1), WAIT_MAX_SECONDS);
}

function first(value: string | string[] | undefined): string | null {
  return (Array.isArray(value) ? value[0] : value)?.trim() ?? null;
}

function numberOf(text: string | null): number | null {
  return text !== null && /^\d{1,12}(\.\d{1,9})?$/.test(text) ? Number(text) : null;
}
