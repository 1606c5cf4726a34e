/** Writing answers: JSON bodies and errors, each with the request id. Nothing here decides anything. */
import type { ServerResponse } from 'node:http';
import type { Refusal } from '../../../../domain/errors.ts';

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const text = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { ...headers, 'content-type': 'application/json', 'content-length': text.length });
  response.end(text);
}

/** Sends a refusal; `body` is what it says in the shape of the API that was called. */
export function sendRefusal(response: ServerResponse, refusal: Refusal, body: unknown): void {
  const headers: Record<string, string> = {};
  if (refusal.retryAfterSeconds !== null) headers['retry-after'] = String(refusal.retryAfterSeconds);
  sendJson(response, refusal.status, body, headers);
}
