/** Writing answers: JSON bodies and errors, each with the request id. Nothing here decides anything. */
import type { ServerResponse } from 'node:http';
import { openAiErrorBody, type Refusal } from '../../../../domain/errors.ts';

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

/** Sends a refusal in OpenAI's shape. */
export function sendRefusal(response: ServerResponse, refusal: Refusal): void {
  const headers: Record<string, string> = {};
  if (refusal.retryAfterSeconds !== null) headers['retry-after'] = String(refusal.retryAfterSeconds);
  // SDKs retry 5xx by themselves; a request that reached a provider and failed there may be tried again, one that cannot succeed must not.
  sendJson(response, refusal.status, openAiErrorBody(refusal), headers);
}
