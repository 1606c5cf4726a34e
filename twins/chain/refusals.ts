/**
 * How an RPC vendor of a test chain refuses: which calls, and what comes instead of an answer. Rented nodes agree on
 * nothing here. The same limit is a JSON-RPC error in a 200 at one, a 400 or 413 with or without one at the next, a
 * page of HTML, a cut connection or silence behind a third one's balancer, so every form can be set for itself.
 */
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { isObject, type JsonObject } from '../kit/input.ts';

export const REFUSED_TAGS = ['latest', 'safe', 'finalized'] as const;

/** Refuses the calls that every given condition fits. At most one of the forms from `error` on. */
export interface Refusal {
  /** Default `eth_getLogs`. */
  readonly method?: string;
  /** Ranges of more blocks than this. */
  readonly overBlocks?: number;
  /** Filters with more values than this at one position of their topics. */
  readonly overTopics?: number;
  /** Calls that name this block. */
  readonly tag?: (typeof REFUSED_TAGS)[number];
  /** HTTP status, default 200. */
  readonly status?: number;
  readonly retryAfterSeconds?: number;
  readonly delayMs?: number;
  /**
   * JSON-RPC's error. In its message and data, and in `text`, `{from}`, `{to}` and `{fits}` (the last block that would
   * do) are filled in.
   */
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
  /** The body itself, JSON or not; may be empty. */
  readonly text?: string;
  /** The result is null. */
  readonly nullResult?: boolean;
  /** The right answer ends in its middle. */
  readonly truncated?: boolean;
  /** The right answer is followed by so many blanks. */
  readonly padBytes?: number;
  /** The connection is cut. */
  readonly reset?: boolean;
  /** No answer ever comes. */
  readonly hang?: boolean;
}

/** The response of a refusal instead of the answer, so that a rule cannot ask for two things at once. */
export const REFUSAL_FORMS = ['error', 'text', 'nullResult', 'truncated', 'padBytes', 'reset', 'hang'] as const;

/** The first rule that fits a call of the body; null when none does. */
export function refusalOf(
  rules: readonly Refusal[],
  body: unknown,
): { readonly rule: Refusal; readonly call: JsonObject } | null {
  for (const call of Array.isArray(body) ? body : [body]) {
    if (!isObject(call)) continue;
    const rule = rules.find((candidate) => fits(candidate, call));
    if (rule !== undefined) return { rule, call };
  }
  return null;
}

function fits({ method = 'eth_getLogs', overBlocks, overTopics, tag }: Refusal, call: JsonObject): boolean {
  if (call['method'] !== method) return false;
  const first = firstParameter(call);
  if (tag !== undefined && first !== tag) return false;
  const filter = isObject(first) ? first : {};
  if (overBlocks !== undefined && blocksIn(filter) <= overBlocks) return false;
  return overTopics === undefined || mostTopics(filter) > overTopics;
}

function firstParameter({ params }: JsonObject): unknown {
  return Array.isArray(params) ? (params as readonly unknown[])[0] : null;
}

/** A range that is not given in numbers ends at the head, and is longer than any limit. */
function blocksIn({ fromBlock, toBlock, blockHash }: JsonObject): number {
  if (blockHash !== undefined) return 1;
  const blocks = Number(toBlock) - Number(fromBlock) + 1;
  return Number.isNaN(blocks) ? Infinity : blocks;
}

function mostTopics({ topics }: JsonObject): number {
  const positions: unknown[] = Array.isArray(topics) ? topics : [];
  return Math.max(0, ...positions.map((wanted) => (Array.isArray(wanted) ? wanted.length : 1)));
}

/** Sends what the rule says; `answer` is the right one, for those that spoil it. */
export async function sendRefusal(
  response: ServerResponse,
  { rule, call }: NonNullable<ReturnType<typeof refusalOf>>,
  { closing, answer }: { readonly closing: AbortSignal; readonly answer: () => Promise<unknown> },
): Promise<void> {
  const { status = 200, retryAfterSeconds, delayMs, error, text, truncated, padBytes } = rule;
  if (rule.hang === true) return;
  if (delayMs !== undefined) await sleep(delayMs, undefined, { signal: closing });
  if (rule.reset === true) {
    response.destroy();
    return;
  }
  const fill = (words: string): string => filled(words, rule, call);
  let body: string;
  if (text !== undefined) body = fill(text);
  else if (error !== undefined) body = fill(JSON.stringify({ jsonrpc: '2.0', id: call['id'] ?? null, error }));
  else if (rule.nullResult === true) body = JSON.stringify({ jsonrpc: '2.0', id: call['id'] ?? null, result: null });
  else if (status >= 400) body = '';
  else {
    const right = JSON.stringify(await answer());
    body = truncated === true ? right.slice(0, right.length / 2) : right + ' '.repeat(padBytes ?? 0);
  }
  const type = /^\s*[[{]/.test(body) ? 'application/json' : body.includes('<html') ? 'text/html' : 'text/plain';
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    ...(retryAfterSeconds !== undefined && { 'retry-after': String(retryAfterSeconds) }),
  });
  response.end(body);
}

/** Puts the call's blocks into a vendor's words, in hex and, as `{from_number}`, in decimals. */
function filled(words: string, { overBlocks = 1 }: Refusal, call: JsonObject): string {
  const filter = firstParameter(call);
  if (!isObject(filter)) return words;
  const from = Number(filter['fromBlock']);
  const places = { from, to: Number(filter['toBlock']), fits: from + overBlocks - 1 };
  return Object.entries(places).reduce(
    (text, [name, height]) =>
      text.replaceAll(`{${name}}`, `0x${height.toString(16)}`).replaceAll(`{${name}_number}`, String(height)),
    words,
  );
}
