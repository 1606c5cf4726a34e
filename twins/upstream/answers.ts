/** One request for an answer, from its bytes to the play: authenticate, read, record, plan. */
import type { IncomingMessage, ServerResponse } from 'node:http';

import { sendJsonText } from '../kit/http.ts';
import { BadInput } from '../kit/input.ts';
import type { Ask } from './answer-plan.ts';
import type { UpstreamTwinConfig } from './config.ts';
import type { Dialect } from './dialect.ts';
import type { FaultRules } from './fault-rules.ts';
import { idsOf } from './ids.ts';
import { NOT_JSON, parseJson } from './json.ts';
import { planAnswer, promptCounts, steer } from './plan.ts';
import { type Head, play } from './player.ts';
import { planRefusal, type RefusalPlan } from './refusal.ts';
import type { Attempt, RequestBook } from './requests.ts';
import { refusalScript, scriptOf } from './script.ts';
import type { Steering } from './steering.ts';
import { NO_TOKENS } from './token-counts.ts';

export interface AnswerContext {
  readonly config: UpstreamTwinConfig;
  readonly faults: Pick<FaultRules, 'take'>;
  readonly book: Pick<RequestBook, 'begin'>;
  readonly dialect: Dialect;
}

const STREAM_TYPE = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' };
const WHOLE_TYPE = { 'content-type': 'application/json' };

/** Answers a request. Every arrival is recorded, also a refused one. */
export function answerRequest(
  context: AnswerContext,
  request: IncomingMessage,
  response: ServerResponse,
  body: Buffer,
): void {
  const { config, dialect } = context;
  const attempt = context.book.begin(headerOf(request, 'x-request-id'));
  const reject = (status: number, message: string, param: string | null = null): void => {
    attempt.end('failed');
    const { headers } = idsOf(config.ids, attempt.ordinal, 0);
    const text = dialect.errorBody({ status, message, param, code: null }, config.error_shape);
    sendJsonText(response, status, text, headers);
  };

  const key = dialect.presentedKey(request.headers);
  if (key === undefined) return reject(401, "You didn't provide an API key.");
  if (config.api_key !== null && key !== config.api_key) return reject(401, 'Incorrect API key provided.');
  const parsed = parseJson(body);
  if (parsed === NOT_JSON) return reject(400, 'We could not parse the JSON body of your request.');
  let ask: Ask;
  try {
    ask = dialect.read(parsed);
  } catch (error) {
    if (error instanceof BadInput) return reject(400, error.message, error.field);
    throw error;
  }
  answer(context, ask, attempt, response);
}

function answer(
  { config, faults: rules, dialect }: AnswerContext,
  ask: Ask,
  attempt: Attempt,
  response: ServerResponse,
): void {
  const { model, stream } = ask;
  const faults = rules.take({ model, stream, requestId: attempt.requestId });
  const steering = steer(config, ask, faults);
  // A provider names the request in its own way, whatever id it was sent.
  const ids = idsOf(steering.ids, attempt.ordinal, ask.seed);
  const headers = { ...ids.headers, ...steering.headers };

  const refusal = planRefusal(steering, ask, faults, dialect);
  if (refusal !== null) {
    const counts = refusal.produced === null ? NO_TOKENS : promptCounts(ask, steering);
    attempt.accept({ model, stream, counts });
    play(response, refusalHead(refusal, steering, headers), refusalScript(refusal, ask.choices), attempt);
    return;
  }

  const plan = planAnswer(steering, ask, faults, dialect);
  attempt.accept(plan.work);
  attempt.name(ids.answer);
  const { encoding, content_type: contentType } = plan.framing;
  const head: Head = {
    status: 200,
    headers: withType({
      ...(plan.stream ? STREAM_TYPE : WHOLE_TYPE),
      ...(contentType !== null && { 'content-type': contentType }),
      ...(encoding !== 'identity' && { 'content-encoding': encoding }),
      ...headers,
    }),
    isStream: plan.stream,
    encoding,
    informational: steering.informational,
    heartbeat: steering.heartbeat,
    noticesLeavingMs: steering.notices_leaving_ms,
  };
  play(response, head, scriptOf(plan, dialect.write(plan, ids.answer, attempt.ordinal)), attempt);
}

/** Headers without an empty content type, which stands for none. */
function withType(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  if (headers['content-type'] !== '') return headers;
  return Object.fromEntries(Object.entries(headers).filter(([name, value]) => name !== 'content-type' || value !== ''));
}

function refusalHead(refusal: RefusalPlan, steering: Steering, headers: Readonly<Record<string, string>>): Head {
  const isAnswer = refusal.how === 'respond';
  return {
    status: isAnswer ? refusal.status : 200,
    headers: withType({ ...headers, ...(isAnswer && refusal.headers) }),
    isStream: false,
    encoding: 'identity',
    informational: steering.informational,
    // A sign of life would send the headers, and with them a status that is not known yet.
    heartbeat: null,
    noticesLeavingMs: steering.notices_leaving_ms,
  };
}

function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}
