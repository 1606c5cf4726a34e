/**
 * Reading an answer that is not streamed: the whole body, then what it says about usage. Like the stream relay it reports
 * how the answer ended and leaves money to others.
 */
import type { Dispatcher } from 'undici';
import type { Refusal } from '../../../domain/errors.ts';
import { formatUsd, type PicoUsd } from '../../../domain/money.ts';
import { answerWithoutPurchasePrice } from '../../../domain/requests/purchase-price.ts';
import { mergeReportedUsage } from '../../../domain/usage/reported-usage.ts';
import type { FinishRecord } from '../../../db/requests/requests.ts';
import { areChoices, isErrorBody, isObject, type ChunkChoice } from '../dialects/openai-chat/chunk.ts';
import { endOfAbort } from './endings/ends.ts';
import type { Ending } from './endings/ending.ts';
import { clientUsage, failureContext, reportedOutputTokens, type Exchange } from './held-request.ts';
import type { OutputMeter } from './holds/output-meter.ts';
import { outputOfChoice } from '../dialects/openai-chat/produced-output.ts';
import { failureInAnswer, failureOfConnection, unreadableAnswer } from './upstreams/upstream-failure.ts';
import type { AbortReason } from './upstreams/upstream.ts';

const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const BYTE_ORDER_MARK = '\ufeff';

export interface WholeAnswer extends Ending {
  /** The upstream's JSON; null when it cannot be passed on. */
  readonly body: Record<string, unknown> | null;
  /** What the client is told instead of the body; null when the body is passed on. */
  readonly refusal: Refusal | null;
}

/** Reads until the upstream ends or `signal` aborts. Never throws for what an upstream can do. */
export async function readWholeAnswer(
  response: Dispatcher.ResponseData,
  { exchange, meter, signal }: { exchange: Exchange; meter: OutputMeter; signal: AbortSignal },
): Promise<WholeAnswer> {
  // What was produced and never read is known to nobody here.
  const unread = { body: null, reportedUsage: null, produced: meter, work: 'unseen' as const };
  let text: string;
  try {
    text = await readText(response.body);
  } catch (error) {
    if (signal.aborted) return { ...unread, ...endOfAbort(signal.reason as AbortReason) };
    const failure = failureOfConnection(error, { signal, kind: 'broken', status: 200 });
    return { ...unread, outcome: 'upstream_error', ...failure };
  }
  const body = parseAnswer(text);
  if (isErrorBody(body)) {
    const failure = failureInAnswer(body, failureContext(exchange));
    return { ...unread, outcome: 'upstream_error', ...failure };
  }
  if (!isAnswer(body) || !isPrintable(body, text)) {
    return { ...unread, outcome: 'upstream_error', ...unreadableAnswer() };
  }
  for (const choice of body.choices) meter.add(outputOfChoice(choice));
  const reportedUsage = mergeReportedUsage(null, body);
  const isEmpty = !meter.sawContent && reportedOutputTokens(reportedUsage, exchange.reasoningInOutput) === 0;
  return {
    body,
    reportedUsage,
    produced: meter,
    work: 'shown',
    outcome: isEmpty ? 'empty_completion' : 'completed',
    refusal: null,
  };
}

async function readText(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > ANSWER_BYTES_MAX) throw new Error('the answer is larger than 64 MiB');
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The body as JSON; undefined when it is none. */
function parseAnswer(text: string): unknown {
  try {
    return JSON.parse(text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text) as unknown;
  } catch {
    return undefined;
  }
}

function isAnswer(body: unknown): body is Record<string, unknown> & { choices: ChunkChoice[] } {
  return isObject(body) && areChoices(body['choices']);
}

/** Below this size nothing can be nested so deeply that it cannot be written again. */
const DEEP_TEXT_CHARACTERS = 4000;

/** Found out before the answer is recorded as delivered: afterwards it would be charged and could not be sent. */
function isPrintable(body: unknown, text: string): boolean {
  if (text.length < DEEP_TEXT_CHARACTERS) return true;
  try {
    JSON.stringify(body);
    return true;
  } catch {
    return false;
  }
}

/** The body and headers for the client, with what it paid. */
export function renderWholeAnswer(
  exchange: Exchange,
  answer: Record<string, unknown>,
  { record, cost }: { record: FinishRecord; cost: PicoUsd },
): { body: Record<string, unknown>; headers: Record<string, string> } {
  return {
    body: {
      ...answerWithoutPurchasePrice(answer),
      model: exchange.model.id,
      usage: clientUsage(mergeReportedUsage(null, answer), record, cost),
    },
    headers: { 'x-holdfast-cost-usd': formatUsd(cost) },
  };
}
