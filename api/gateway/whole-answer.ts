/**
 * Reading an answer that is not streamed: the whole body, then what it says about usage. Like the stream relay it reports
 * how the answer ended and leaves money to others.
 */
import type { Dispatcher } from 'undici';
import { Refusal } from '../../domain/errors.ts';
import { formatUsd, type PicoUsd } from '../../domain/money.ts';
import type { FinishRecord } from '../../db/requests.ts';
import { clientUsage, type Ending, type Exchange } from './exchange.ts';
import { OutputMeter } from './output-meter.ts';
import { completionTokens, endOfAbort } from './stream-relay.ts';
import { refusalOfFailure, type AbortReason } from './upstream.ts';

const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

export interface WholeAnswer extends Ending {
  /** The upstream's JSON; null when it cannot be passed on. */
  readonly body: Record<string, unknown> | null;
  /** What the client is told instead of the body; null when the body is passed on. */
  readonly refusal: Refusal | null;
}

/** Reads until the upstream ends or `signal` aborts. Never throws for what an upstream can do. */
export async function readWholeAnswer(response: Dispatcher.ResponseData, signal: AbortSignal): Promise<WholeAnswer> {
  let text: string;
  try {
    text = await readText(response.body);
  } catch {
    const ended = { body: null, reportedUsage: undefined, producedText: '' };
    if (!signal.aborted) return { ...ended, outcome: 'upstream_error', refusal: refusalOfFailure(signal) };
    const { outcome, refusal } = endOfAbort(signal.reason as AbortReason);
    return { ...ended, outcome, refusal };
  }
  const body = parseAnswer(text);
  if (body === null) {
    const refusal = new Refusal('upstream_failed', {
      message: 'The model provider sent an unreadable answer. You were not charged.',
    });
    return { body: null, reportedUsage: undefined, producedText: '', outcome: 'upstream_error', refusal };
  }
  const choices = body['choices'] as { message?: Record<string, unknown> | null }[];
  const meter = new OutputMeter({
    covered: Infinity,
    most: 0,
    slice: 0,
    extend: () => Promise.resolve({ kind: 'unavailable' }),
    onExhausted: () => undefined,
  });
  meter.add(choices.map((choice) => choice.message ?? null));
  const reportedUsage = body['usage'] ?? undefined;
  const isEmpty = !meter.sawContent && completionTokens(reportedUsage) === 0;
  return {
    body,
    reportedUsage,
    producedText: meter.text,
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

function parseAnswer(text: string): Record<string, unknown> | null {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body !== 'object' || body === null) return null;
    const { choices } = body as { choices?: unknown };
    const isAnswer = Array.isArray(choices) && choices.every((choice) => typeof choice === 'object' && choice !== null);
    return isAnswer && isPrintable(body, text) ? (body as Record<string, unknown>) : null;
  } catch {
    return null;
  }
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
    body: { ...answer, model: exchange.model.id, usage: clientUsage(answer['usage'], record, cost) },
    headers: { 'x-holdfast-cost-usd': formatUsd(cost) },
  };
}
