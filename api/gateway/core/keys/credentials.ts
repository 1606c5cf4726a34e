/**
 * The API keys that a request carries: as `Authorization: Bearer`, `x-api-key` (Anthropic's clients) or `api-key`
 * (Azure's). Clients that insist on a Bearer send a dummy beside the real key, and some send the same key twice: what
 * looks like a key of ours goes before everything else, and is looked up once.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { API_KEY_PREFIX } from '../../../../db/shared/secrets.ts';

/** Keys that are looked up for one request: two places with a key each, of which one may be revoked or mistyped. */
const LOOKED_UP_MAX = 2;
/** What is read of one header: `Bearer Bearer <key>` and lists have several words. */
const WORDS_MAX = 8;

/**
 * The secrets to look up, in this order; empty when the request carries none. Only where none looks like ours is one
 * taken that does not, so that its sender is told that it is unknown.
 */
export function secretsOf(headers: IncomingHttpHeaders): string[] {
  const sent = [...bearersOf(headers.authorization), ...wordsOf(headers['x-api-key']), ...wordsOf(headers['api-key'])];
  const ours = new Set(sent.filter((secret) => secret.startsWith(API_KEY_PREFIX)));
  return ours.size > 0 ? [...ours].slice(0, LOOKED_UP_MAX) : sent.slice(0, 1);
}

function bearersOf(authorization: string | undefined): string[] {
  const [scheme, ...words] = wordsOf(authorization);
  if (scheme === undefined || !isBearer(scheme)) return [];
  return words.filter((word) => !isBearer(word));
}

function isBearer(word: string): boolean {
  return word.toLowerCase() === 'bearer';
}

/**
 * The words of a header, also of one that came several times, without the quotation marks that settings files leave.
 */
function wordsOf(header: string | string[] | undefined): string[] {
  const text = Array.isArray(header) ? header.join(' ') : (header ?? '');
  const words = text.split(/[\s,]+/, WORDS_MAX).map((word) => word.replace(/^["']|["']$/g, ''));
  return words.filter((word) => word !== '');
}
