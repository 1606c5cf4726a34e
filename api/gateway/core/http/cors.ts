/**
 * Browsers on the gateway. Every page may call it and read all of its answers: a caller is known by the key it sends
 * and by nothing that a browser adds on its own (no cookies), so another page can do no more than a program could. The
 * management interface, which will have cookies, allows none of this.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

/** What SDKs and this interface's own clients read of an answer. */
const EXPOSED_HEADERS = [
  'x-request-id',
  'request-id',
  'x-holdfast-cost-usd',
  'retry-after',
  'retry-after-ms',
  'x-should-retry',
  'x-ratelimit-limit-requests',
  'x-ratelimit-limit-tokens',
  'x-ratelimit-remaining-requests',
  'x-ratelimit-remaining-tokens',
  'x-ratelimit-reset-requests',
  'x-ratelimit-reset-tokens',
  'openai-processing-ms',
  'openai-version',
  'allow',
].join(', ');

/** What clients are known to send; a preflight that asks for others by name gets those. */
const ALLOWED_HEADERS = [
  'authorization',
  'content-type',
  'accept',
  'x-api-key',
  'api-key',
  'anthropic-version',
  'anthropic-beta',
  'anthropic-dangerous-direct-browser-access',
  'openai-organization',
  'openai-project',
  'openai-beta',
  'idempotency-key',
  'http-referer',
  'x-title',
  'x-requested-with',
  'x-client-request-id',
  'x-stainless-arch',
  'x-stainless-lang',
  'x-stainless-os',
  'x-stainless-package-version',
  'x-stainless-retry-count',
  'x-stainless-runtime',
  'x-stainless-runtime-version',
  'x-stainless-timeout',
].join(', ');

const METHODS = 'GET, HEAD, POST, OPTIONS';
/** A day: as long as any browser keeps it. */
const MAX_AGE_SECONDS = '86400';

/** Names of headers as a browser lists them (RFC 9110 §5.6.2), and no more than it could ever need. */
const HEADER_NAMES = /^[\w!#$%&'*+.^`|~-]+(?:[ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*$/;
const HEADER_NAMES_MAX_CHARACTERS = 4096;

/** Lets any page read the answer. Sent to everybody, so that no cache keeps an answer without it. */
export function allowPages(response: ServerResponse): void {
  response.setHeader('access-control-allow-origin', '*');
  response.setHeader('access-control-expose-headers', EXPOSED_HEADERS);
}

/** Answers OPTIONS: what a browser asks before it sends a key, and so without one. */
export function answerPreflight(incoming: IncomingMessage, response: ServerResponse): void {
  const asked = incoming.headers['access-control-request-headers'];
  const isList = asked !== undefined && asked.length <= HEADER_NAMES_MAX_CHARACTERS && HEADER_NAMES.test(asked);
  const headers: Record<string, string> = {
    allow: METHODS,
    'access-control-allow-methods': METHODS,
    'access-control-allow-headers': isList ? asked : ALLOWED_HEADERS,
    'access-control-max-age': MAX_AGE_SECONDS,
    vary: 'access-control-request-headers',
  };
  // A gateway on a private address, asked by a page on a public one: the key decides here as well.
  if (incoming.headers['access-control-request-private-network'] === 'true') {
    headers['access-control-allow-private-network'] = 'true';
  }
  response.writeHead(204, headers).end();
}
