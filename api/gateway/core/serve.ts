/**
 * Serving a held chat request: calls the upstream, passes its answer on, and records how it ended, exactly once on every path.
 */
import type { ServerResponse } from 'node:http';
import { Refusal } from '../../../domain/errors.ts';
import { ZERO_USD } from '../../../domain/money.ts';
import { isBilled, type FinishOutcome } from '../../../domain/requests/request.ts';
import type { UpstreamProblem } from '../../../domain/requests/upstream-evidence.ts';
import { NO_USAGE } from '../../../domain/usage/usage.ts';
import { noteClientLeft, type FinishRecord } from '../../../db/requests/requests.ts';
import { sendJson, sendRefusal } from './http/answers.ts';
import { createMeter } from './holds/hold-meter.ts';
import { recordChat } from './endings/record.ts';
import { STREAM_SLICE_TOKENS } from './holds/reach.ts';
import { upstreamBody } from '../dialects/openai-chat/upstream-body.ts';
import type { Ending } from './endings/ending.ts';
import { endOfAbort } from './endings/ends.ts';
import { failureContext, type Exchange } from './held-request.ts';
import type { Gateway } from './gateway.ts';
import { estimateInputTokens } from './tokens/input-estimate.ts';
import type { OutputMeter } from './holds/output-meter.ts';
import { StreamRelay } from './streams/stream-relay.ts';
import { countTokens } from './tokens/token-count.ts';
import { failureOfResponse } from './upstreams/upstream-failure.ts';
import { NoUpstreamAnswer, type AbortReason } from './upstreams/upstream.ts';
import { readWholeAnswer, renderWholeAnswer } from './whole-answer.ts';

/** Ends a request whose client left before the upstream was called: nothing was consumed, nothing is paid. */
export async function endUnserved(gateway: Gateway, exchange: Exchange): Promise<void> {
  const record: FinishRecord = {
    requestId: exchange.uuid,
    outcome: 'client_disconnected',
    listCost: ZERO_USD,
    usage: NO_USAGE,
    estimated: false,
    rawUsage: null,
    latencyMs: performance.now() - exchange.arrivedAt,
    firstTokenMs: null,
    upstream: null,
  };
  await gateway.finishes.finish(record, !exchange.free);
  gateway.countOutcome(record.outcome, exchange);
}

/** Calls the upstream and answers the client; ends with the request recorded. */
export async function serveChat(gateway: Gateway, exchange: Exchange, response: ServerResponse): Promise<void> {
  const abort = new AbortController();
  const abortFor = (reason: AbortReason): void => abort.abort(reason);
  const meter = createMeter(gateway, exchange, () => abortFor('cut_by_limit'));
  const timeout = setTimeout(() => abortFor('timeout'), exchange.model.requestTimeoutSeconds * 1000);
  let drain: NodeJS.Timeout | undefined;
  const onClose = (): void => {
    if (response.writableFinished || drain !== undefined) return;
    drain = setTimeout(() => {
      // What is held in full is drained to its end: nothing it produces is lost, and its usage is the bill.
      if (exchange.free || !meter.coversAll) abortFor('client_left');
    }, gateway.settings.drainSeconds * 1000);
    void noteLeft(gateway, exchange, meter);
  };
  response.once('close', onClose);
  const forget = gateway.track(abortFor);
  const relay = exchange.request.stream ? createRelay(gateway, { exchange, response, meter }) : null;
  try {
    await proxy(gateway, exchange, { response, meter, relay, signal: abort.signal });
  } finally {
    relay?.close();
    forget();
    response.off('close', onClose);
    clearTimeout(timeout);
    clearTimeout(drain);
  }
}

function createRelay(
  { settings }: Gateway,
  parts: { exchange: Exchange; response: ServerResponse; meter: OutputMeter },
): StreamRelay {
  return new StreamRelay({
    ...parts,
    heartbeatMs: settings.streamHeartbeatSeconds * 1000,
    endGraceMs: settings.endGraceSeconds * 1000,
  });
}

interface Proxying {
  readonly response: ServerResponse;
  readonly meter: OutputMeter;
  /** Null for an answer that is not streamed. */
  readonly relay: StreamRelay | null;
  readonly signal: AbortSignal;
}

async function proxy(gateway: Gateway, exchange: Exchange, proxying: Proxying): Promise<void> {
  const { response, meter, relay, signal } = proxying;
  const { model, request } = exchange;
  // Where the money does not cover the whole limit the upstream is told so, with one slice more than is covered, so that visible
  // output still ends by the meter.
  const covered = meter.coveredTokens / request.choices + STREAM_SLICE_TOKENS;
  const outputCap = exchange.outputCap ?? (exchange.heldInFull ? null : Math.ceil(covered));
  let upstream;
  try {
    const answered = await gateway.upstreams.post(model, {
      path: '/chat/completions',
      requestId: exchange.id,
      body: (chosen) => upstreamBody(request, model, chosen, outputCap),
      signal,
      onPassedOver: (evidence) => gateway.upstreamReport.passedOver(exchange, evidence),
    });
    exchange.upstream = answered.upstream;
    upstream = answered.response;
  } catch (error) {
    if (!(error instanceof NoUpstreamAnswer)) {
      // A bug of ours, before anything was sent: the hold must not stay for it.
      const end = { outcome: 'orphaned', work: 'none', reportedUsage: null, produced: meter } as const;
      await recordChat(gateway, exchange, end, response);
      throw error;
    }
    exchange.upstream = error.upstream;
    await answerFailure(gateway, exchange, proxying, endOfFailedCall(error, proxying));
    return;
  }
  if (upstream.statusCode !== 200) {
    const failure = await failureOfResponse(upstream, failureContext(exchange));
    await answerFailure(gateway, exchange, proxying, { outcome: 'upstream_error', work: 'none', ...failure });
    return;
  }
  if (relay === null) {
    const answer = await readWholeAnswer(upstream, { exchange, meter, signal });
    if (answer.outcome === 'completed') exchange.firstTokenAt = performance.now();
    const rated = await recordChat(gateway, exchange, answer, response);
    if (response.destroyed) return;
    if (answer.refusal !== null || answer.body === null) {
      sendRefusal(response, answer.refusal ?? new Refusal('upstream_failed'));
      return;
    }
    const { body, headers } = renderWholeAnswer(exchange, answer.body, rated);
    sendJson(response, 200, body, headers);
    return;
  }
  const end = await relay.relay(upstream.body, signal);
  const { record: ended, cost } = await recordChat(gateway, exchange, end, response);
  if (end.refusal === null) relay.finish(ended, cost, cutReason(ended.outcome, meter));
  else if (response.headersSent) relay.fail(end.refusal);
  else if (!response.destroyed) sendRefusal(response, end.refusal);
}

/** What the client is told to have ended a cut answer; null for one that was not cut. */
function cutReason(outcome: FinishOutcome, meter: OutputMeter): string | null {
  if (outcome === 'cut_by_time') return 'request_timeout';
  return outcome === 'cut_by_limit' ? (meter.refusalCode ?? 'max_tokens') : null;
}

interface FailedCall {
  readonly outcome: FinishOutcome;
  readonly work: Ending['work'];
  readonly refusal: Refusal | null;
  readonly problem?: UpstreamProblem;
}

/** How a call ended that has no answer: by us or by the provider, who may have worked on it all the same. */
function endOfFailedCall({ failure, mayHaveArrived }: NoUpstreamAnswer, { signal, relay }: Proxying): FailedCall {
  if (!signal.aborted) return { outcome: 'upstream_error', work: mayHaveArrived ? 'unseen' : 'none', ...failure };
  const end = endOfAbort(signal.reason as AbortReason);
  // Nobody pays for the stream that was never seen to begin; what the provider's silence cost is booked as it was held.
  const isPaidAsSeen = relay !== null && isBilled(end.outcome);
  return { ...end, work: isPaidAsSeen ? 'shown' : 'unseen' };
}

/** Records and answers a call that has failed before any of its answer was passed on. */
async function answerFailure(
  gateway: Gateway,
  exchange: Exchange,
  { response, relay, meter }: Proxying,
  { refusal, ...end }: FailedCall,
): Promise<void> {
  await recordChat(gateway, exchange, { ...end, reportedUsage: null, produced: meter }, response);
  if (refusal === null || response.destroyed) return;
  // A heartbeat has begun the stream already: the error can only be told inside it.
  if (response.headersSent) relay?.fail(refusal);
  else sendRefusal(response, refusal);
}

/** The note of a client that has left must not wait for a count. */
const NOTE_WITHIN_MS = 50;

/** Notes that the client has left, with what has been counted by now: used should this process die and no evidence be found. */
async function noteLeft(gateway: Gateway, exchange: Exchange, meter: OutputMeter): Promise<void> {
  try {
    const [inputTokens, textTokens] = await Promise.all([
      estimateInputTokens(exchange, NOTE_WITHIN_MS),
      countTokens(meter.text, Infinity, NOTE_WITHIN_MS),
    ]);
    const counted = { inputTokens, outputTokens: textTokens + meter.otherBytes };
    await noteClientLeft(gateway.pool, exchange.uuid, counted);
  } catch (error) {
    gateway.logger.warn({ request_id: exchange.id, error: String(error) }, 'client left; it could not be noted');
  }
}
