/**
 * JSON-RPC over HTTP to one RPC vendor: one call a request, one time for the whole of it, and an answer of bounded
 * size. Every way in which a vendor can fail to answer is one error here, with what it said in so many words: the same
 * refusal is a JSON-RPC error in a 200 at one vendor, a 400 or 413 with or without JSON at another, plain text or a
 * page of HTML at a third.
 */
import { Agent, request, type Dispatcher } from 'undici';

/** A vendor that does not answer, answers with an error, or with something of another form than it must have. */
export class VendorError extends Error {
  /** The message of its refusal, data included; null where it gave none. */
  readonly said: string | null;
  /** It asks to be asked less often. */
  readonly isThrottled: boolean;
  /** Nothing came, or not in time: asking again at once would cost as much again. */
  readonly isSilent: boolean;
  /** It refuses the logs of one block: there is nothing less to ask for. */
  readonly isRefusal: boolean;

  constructor(
    vendor: string,
    message: string,
    answer: { said?: string | null; isThrottled?: boolean; isSilent?: boolean; isRefusal?: boolean } = {},
  ) {
    super(`${vendor}: ${message}`);
    this.name = 'VendorError';
    this.said = answer.said ?? null;
    this.isThrottled = answer.isThrottled ?? false;
    this.isSilent = answer.isSilent ?? false;
    this.isRefusal = answer.isRefusal ?? false;
  }
}

export interface JsonRpc {
  /** Throws `VendorError` for everything but a result, which may be null. */
  readonly send: (method: string, params: readonly unknown[]) => Promise<unknown>;
  readonly close: () => void;
}

/**
 * Far more than what is ever asked for. A larger answer would cost the process its memory, and has to be asked for in
 * parts.
 */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;
/** Characters stored of a vendor's error message. */
const SAID_MAX = 2000;
const SHOWN_MAX = 300;
/** Words of nodes for too many calls, under any status and code. */
const THROTTLED = /too many requests|rate.?limit|throttl|compute units|exceeded.{0,20}capacity/i;

export function createJsonRpc(options: {
  readonly url: string;
  readonly name: string;
  readonly timeoutSeconds: number;
}): JsonRpc {
  const { name, timeoutSeconds } = options;
  const url = new URL(options.url);
  // A client that names no encoding accepts any, and nothing here unpacks one.
  const headers: Record<string, string> = {
    ...{ 'content-type': 'application/json', accept: 'application/json', 'accept-encoding': 'identity' },
  };
  if (url.username !== '' || url.password !== '') {
    const login = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    headers['authorization'] = `Basic ${Buffer.from(login).toString('base64')}`;
    url.username = '';
    url.password = '';
  }
  const dispatcher = new Agent();
  let calls = 0;

  return {
    async send(method, params) {
      const body = JSON.stringify({ jsonrpc: '2.0', id: ++calls, method, params });
      const signal = AbortSignal.timeout(timeoutSeconds * 1000);
      let status: number;
      let text: string;
      try {
        const answer = await request(url, { method: 'POST', headers, body, dispatcher, signal });
        status = answer.statusCode;
        text = await textOf(answer, name);
      } catch (error) {
        if (error instanceof VendorError) throw error;
        const words = signal.aborted ? `no answer within ${timeoutSeconds} s` : `no answer (${codeOf(error)})`;
        throw new VendorError(name, words, { isSilent: true });
      }
      return resultOf(name, status, text);
    },
    close: () => void dispatcher.destroy(),
  };
}

/** The body as a text. Throws `VendorError` when it is too large. */
async function textOf({ body }: Dispatcher.ResponseData, vendor: string): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of body as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > ANSWER_BYTES_MAX) {
      throw new VendorError(vendor, `an answer of more than ${ANSWER_BYTES_MAX / 1024 / 1024} MiB`);
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function resultOf(vendor: string, status: number, text: string): unknown {
  const isOk = status >= 200 && status < 300;
  const body = parsed(text);
  if (isOk && isObject(body) && (body['error'] ?? null) === null && body['result'] !== undefined) return body['result'];
  const said = withoutAddresses(body === undefined ? wordsOfPage(text) : wordsOfJson(body)).slice(0, SAID_MAX);
  const how = isOk ? 'answers with an error' : `answers with HTTP ${status}`;
  throw new VendorError(vendor, said === '' ? `${how} and no word` : `${how}: ${said.slice(0, SHOWN_MAX)}`, {
    said,
    isThrottled: status === 429 || THROTTLED.test(said),
  });
}

/** Undefined where it is no JSON, or only the beginning of some. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/**
 * The message with its data, where JSON-RPC's error has them; Nethermind's and Tenderly's data alone says what was
 * wrong.
 */
function wordsOfJson(body: unknown): string {
  const error: unknown = isObject(body) ? (body['error'] ?? body) : body;
  if (typeof error === 'string') return error;
  if (!isObject(error) || typeof error['message'] !== 'string') return JSON.stringify(error);
  const { message, data } = error;
  return data === undefined || data === null ? message : `${message} ${JSON.stringify(data)}`;
}

/** The visible text of a page. */
function wordsOfPage(text: string): string {
  return text
    .slice(0, 20 * SAID_MAX)
    .replaceAll(/<(script|style|title)[^]*?<\/\1>|<[^>]*>/gi, ' ')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

/** A vendor's address may hold a key, and what it says may name it. */
function withoutAddresses(words: string): string {
  return words.replaceAll(/https?:\/\/[^\s"']+/gi, '(address)');
}

function codeOf(error: unknown): string {
  const { code, name } = error as { code?: unknown; name?: unknown };
  return typeof code === 'string' ? code : typeof name === 'string' ? name : 'unknown';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
