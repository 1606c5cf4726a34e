/** A whole chat completion: what it says, what it reports, and how it is shown. */
import { mergeReportedUsage } from '../../../../domain/usage/reported-usage.ts';
import type { AnswerReading, WholeAnswer } from '../../core/dialect.ts';
import { areChoices, isErrorBody, isObject, type ChunkChoice } from './chunk.ts';
import { outputOfChoice } from './produced-output.ts';
import { answerWithoutPurchasePrice } from './purchase-price.ts';
import { renderUsage } from './usage.ts';

const BYTE_ORDER_MARK = '\ufeff';

interface Completion extends Readonly<Record<string, unknown>> {
  readonly choices: readonly ChunkChoice[];
}

/** Reads the body under status 200. Never throws. */
export function readChatAnswer(text: string): AnswerReading {
  const body = parseAnswer(text);
  if (isErrorBody(body)) return { kind: 'failure', said: body };
  if (!isCompletion(body) || !isPrintable(body, text)) return { kind: 'unreadable' };
  return { kind: 'answer', answer: wholeAnswer(body) };
}

/** The body as JSON; undefined when it is none. */
function parseAnswer(text: string): unknown {
  try {
    return JSON.parse(text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text) as unknown;
  } catch {
    return undefined;
  }
}

function isCompletion(body: unknown): body is Completion {
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

function wholeAnswer(body: Completion): WholeAnswer {
  return {
    usage: mergeReportedUsage(null, body),
    outputs: body.choices.map(outputOfChoice),
    render: ({ id }, used) => ({ ...answerWithoutPurchasePrice(body), model: id, usage: renderUsage(used) }),
  };
}
