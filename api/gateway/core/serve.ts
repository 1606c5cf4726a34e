/**
 * Serving a held request: calls the upstream, passes its answer on, and records how it ended, exactly once on every
 * path.
 */
import type { ServerResponse } from 'node:http';
import { Refusal } from '../../../domain/errors.ts';
import { formatId } from '../../../domain/ids.ts';
import { formatUsd } from '../../../domain/money.ts';
import { isBilled, type FinishOutcome } from '../../../domain/requests/request.ts';
import type { UpstreamProblem } from '../../../domain/requests/upstream-evidence.ts';
import { noteClientLeft } from '../../../db/requests/requests.ts';
import type { CutReason } from './dialect.ts';
import type { Ending } from './endings/ending.ts';
import { endOfAbort } from './endings/ends.ts';
import { recordEnding } from './endings/record.ts';
import { unservedRecord } from './endings/unserved-record.ts';
import type { Gateway } from './gateway.ts';
import { failureContext, type HeldRequest } from './held-request.ts';
import { createMeter } from './holds/hold-meter.ts';
import type { OutputMeter } from './holds/output-meter.ts';
import { STREAM_SLICE_TOKENS } from './holds/reach.ts';
import { sendJson, sendRefusal } from './http/answers.ts';
import { StreamRelay } from './streams/stream-relay.ts';
import { estimateInputTokens } from './tokens/input-estimate.ts';
import { failureOfResponse } from './upstreams/upstream-failure.ts';
import { NoUpstreamAnswer, type AbortReason } from './upstreams/upstream.ts';
import { readWholeAnswer, type WholeEnd } from './whole-answer.ts';

/** Ends a request whose client left before the upstream was called. */
export async function endUnserved(gateway: Gateway, held: HeldRequest): Promise<void> {
  const record = unservedRecord(held.uuid, 'client_disconnected', performance.now() - held.arrivedAt);
  await gateway.finishes.finish(record, held.price.kind === 'priced');
  gateway.countOutcome(record.outcome, held);
}

/** Calls the upstream and answers the client; ends with the request recorded. */
export async function serve(gateway: Gateway, held: HeldRequest, response: ServerResponse): Promise<void> {
  const abort = new AbortController();
  const abortFor = (reason: AbortReason): void => abort.abort(reason);
  const meter = createMeter(gateway, held, () => abortFor('cut_by_limit'));
  const timeout = setTimeout(() => abortFor('timeout'), held.model.requestTimeoutSeconds * 1000);
  let drain: NodeJS.Timeout | undefined;
  const onClose = (): void => {
    if (response.writableFinished || drain !== undefined) return;
    drain = setTimeout(() => {
      // What is held in full is drained to its end: nothing it produces is lost, and its usage is the bill.
      if (held.price.kind === 'free' || !meter.coversAll) abortFor('client_left');
    }, gateway.settings.drainSeconds * 1000);
    void noteLeft(gateway, held, meter);
  };
  response.once('close', onClose);
  const forget = gateway.track(abortFor);
  const relay = createRelay(gateway, { held, response, meter });
  try {
    await proxy(gateway, held, { response, meter, relay, signal: abort.signal });
  } finally {
    relay?.close();
    forget();
    response.off('close', onClose);
    clearTimeout(timeout);
    clearTimeout(drain);
  }
}

/** Null for an answer that is not streamed. */
function createRelay(
  { settings }: Gateway,
  { held, response, meter }: { held: HeldRequest; response: ServerResponse; meter: OutputMeter },
): StreamRelay | null {
  const { dialect, request, model } = held;
  const stream = request.stream ? dialect.openStream?.(request, model, meter) : undefined;
  if (stream === undefined) return null;
  return new StreamRelay({
    held,
    stream,
    response,
    meter,
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

async function proxy(gateway: Gateway, held: HeldRequest, proxying: Proxying): Promise<void> {
  const { response, meter, relay, signal } = proxying;
  const { dialect, model, request } = held;
  const outputCap = outputCapOf(held, meter);
  let upstream;
  try {
    const answered = await gateway.upstreams.post(model, {
      requestId: held.uuid,
      message: (chosen) => dialect.upstream(request, { model, upstream: chosen, outputCap }),
      signal,
      onPassedOver: (evidence) => gateway.upstreamReport.passedOver(held, evidence),
    });
    held.upstream = answered.upstream;
    upstream = answered.response;
  } catch (error) {
    if (!(error instanceof NoUpstreamAnswer)) {
      // A bug of ours, before anything was sent: the hold must not stay for it.
      const end = { outcome: 'orphaned', work: 'none', reportedUsage: null, produced: meter } as const;
      await recordEnding(gateway, held, end, response);
      throw error;
    }
    held.upstream = error.upstream;
    await answerFailure(gateway, held, proxying, endOfFailedCall(error, proxying));
    return;
  }
  if (upstream.statusCode !== 200) {
    const failure = await failureOfResponse(upstream, failureContext(held));
    await answerFailure(gateway, held, proxying, { outcome: 'upstream_error', work: 'none', ...failure });
    return;
  }
  if (relay === null) {
    await answerWhole(gateway, held, proxying, await readWholeAnswer(upstream, { held, meter, signal }));
    return;
  }
  const end = await relay.relay(upstream.body, signal);
  const { record, cost } = await recordEnding(gateway, held, end, response);
  if (end.refusal === null) relay.finish(record, cost, cutReason(record.outcome, meter));
  else if (response.headersSent) relay.fail(end.refusal);
  else if (!response.destroyed) refuse(held, response, end.refusal);
}

/**
 * Most output tokens per answer that the upstream is told; null where money does not end it. Where it does not cover
 * the whole limit, one slice more is allowed than is covered, so that visible output still ends by the meter.
 */
function outputCapOf({ price, heldInFull, request }: HeldRequest, meter: OutputMeter): number | null {
  if (price.kind === 'free') return price.outputCap;
  return heldInFull ? null : Math.ceil(meter.coveredTokens / request.answers + STREAM_SLICE_TOKENS);
}

async function answerWhole(gateway: Gateway, held: HeldRequest, { response }: Proxying, end: WholeEnd): Promise<void> {
  const { answer, refusal } = end;
  if (end.outcome === 'completed') held.firstTokenAt = performance.now();
  const { record, cost } = await recordEnding(gateway, held, end, response);
  if (response.destroyed) return;
  if (refusal !== null || answer === null) {
    refuse(held, response, refusal ?? new Refusal('upstream_failed'));
    return;
  }
  const { usage, estimated } = record;
  const body = answer.render(held.model, { usage, estimated, reported: answer.usage, cost });
  sendJson(response, 200, body, { 'x-holdfast-cost-usd': formatUsd(cost) });
}

/** What the client is told to have ended a cut answer; null for one that was not cut. */
function cutReason(outcome: FinishOutcome, meter: OutputMeter): CutReason | null {
  if (outcome === 'cut_by_time') return 'request_timeout';
  return outcome === 'cut_by_limit' ? (meter.refusalCode ?? 'output_limit') : null;
}

interface FailedCall {
  readonly outcome: FinishOutcome;
  readonly work: Ending['work'];
  readonly refusal: Refusal | null;
  readonly problem?: UpstreamProblem;
}

/** How a call ended that has no answer: by us or by the provider, who may still have worked on it. */
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
  held: HeldRequest,
  { response, relay, meter }: Proxying,
  { refusal, ...end }: FailedCall,
): Promise<void> {
  await recordEnding(gateway, held, { ...end, reportedUsage: null, produced: meter }, response);
  if (refusal === null || response.destroyed) return;
  // A heartbeat has begun the stream already: the error can only be told inside it.
  if (response.headersSent) relay?.fail(refusal);
  else refuse(held, response, refusal);
}

function refuse({ dialect }: HeldRequest, response: ServerResponse, refusal: Refusal): void {
  sendRefusal(response, refusal, dialect.error(refusal));
}

/** The note of a client that has left must not wait for a count. */
const NOTE_WITHIN_MS = 50;

/**
 * Notes that the client has left, with what has been counted by now: used should this process die and no evidence be
 * found.
 */
async function noteLeft(gateway: Gateway, held: HeldRequest, meter: OutputMeter): Promise<void> {
  try {
    const [inputTokens, textTokens] = await Promise.all([
      estimateInputTokens(held, gateway.tokens, NOTE_WITHIN_MS),
      gateway.tokens.count(meter.text, Infinity, NOTE_WITHIN_MS),
    ]);
    const counted = { inputTokens, outputTokens: textTokens + meter.otherBytes };
    await noteClientLeft(gateway.pool, held.uuid, counted);
  } catch (error) {
    const details = { request_id: formatId('request', held.uuid), error: String(error) };
    gateway.logger.warn(details, 'client left; it could not be noted');
  }
}
