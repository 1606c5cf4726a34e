/** How a twin reads a request's body and answers: bounded, whole, and pages that may load nothing. */
import type { IncomingMessage, ServerResponse } from 'node:http';

export interface PageAnswer {
  readonly status: number;
  /** Where a 302 or 303 goes. */
  readonly location?: string;
  readonly html?: string;
}

/** The whole body; null when it is larger than `bytesMax`. */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<string | null> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes <= bytesMax) parts.push(part);
  }
  return bytes > bytesMax ? null : Buffer.concat(parts).toString('utf8');
}

/** `text` is JSON. */
export function sendJsonText(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, {
    ...headers,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  sendJsonText(response, status, JSON.stringify(body), headers);
}

export function sendPage(response: ServerResponse, { status, location, html = '' }: PageAnswer): void {
  response.writeHead(status, {
    ...(location !== undefined && { location }),
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
  });
  response.end(html);
}
