/**
 * `POST /v1/chat/completions`: authenticate → check → hold → proxy → finish, in the order that docs/api.md fixes. Every
 * request that was held is finished exactly once on every path, also when its client leaves, its upstream breaks or the
 * process is told to stop.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Refusal } from '../../domain/errors.ts';
import { formatId, uuidTime, type RequestUuid } from '../../domain/ids.ts';
import { formatUsd, minUsd, picoUsd, usd, ZERO_USD, type PicoUsd } from '../../domain/money.ts';
import { priceRowFor, tiersAt, type PriceVersion, type Tier } from '../../domain/prices.ts';
import { worstCase } from '../../domain/rating.ts';
import { isBilled, isFreeModel, type FinishOutcome } from '../../domain/request.ts';
import type { UpstreamProblem } from '../../domain/upstream-evidence.ts';
import { NO_USAGE } from '../../domain/usage.ts';
import { isFault, ledgerRefusal, type LedgerRefusal } from '../../db/client.ts';
import { versionAt, type Model, type PublishedVersion } from '../../db/catalogue.ts';
import { noteClientLeft, type FinishRecord } from '../../db/requests.ts';
import { sendJson, sendRefusal } from './answers.ts';
import type { ReceivedBody } from './body-intake.ts';
import { modelNotFound } from './catalogue.ts';
import {
  askedUnits,
  checkBodySize,
  checkPricedFields,
  outputLimit,
  reachOf,
  STREAM_LEAST_TOKENS,
  STREAM_SLICE_TOKENS,
} from './chat-reach.ts';
import { refuseUnsupported, type ChatRequest } from './chat-request.ts';
import { upstreamBody } from './chat-upstream-body.ts';
import { outputCapOf, platformPrices, quotaRefusal, requireWithinBounds } from './free-models.ts';
import type { Gateway } from './gateway.ts';
import { rateEnding, type Ending, type RatedEnding } from './ending.ts';
import { endOfAbort } from './ends.ts';
import { failureContext, outputReach, type Exchange } from './exchange.ts';
import { estimateInputTokens } from './input-estimate.ts';
import { checkCaller, type Caller } from './keys.ts';
import { OutputMeter, type ExtendHold } from './output-meter.ts';
import { StreamRelay } from './stream-relay.ts';
import { countTokens } from './token-count.ts';
import { failureOfResponse } from './upstream-failure.ts';
import { NoUpstreamAnswer, type AbortReason } from './upstream.ts';
import { readWholeAnswer, renderWholeAnswer } from './whole-answer.ts';

/** How long a look-up may take while a client waits for its end, and while nobody does. */
const LOOKUP_WAITED_FOR_SECONDS = 1;
const LOOKUP_ALONE_SECONDS = 10;

/** A hold that can grow by less than a sentence is not grown: the stream ends here. */
const EXTENSION_LEAST_TOKENS = 16n;

/** Serves one request. Throws the Refusal to send when nothing has been held; afterwards it answers itself. */
export async function handleChatCompletion(
  gateway: Gateway,
  incoming: IncomingMessage,
  response: ServerResponse,
  call: { uuid: RequestUuid; caller: Caller; arrivedAt: number },
): Promise<void> {
  const { uuid, caller, arrivedAt } = call;
  const refused = { model: '', stream: false };
  let body: ReceivedBody | null = null;
  try {
    checkCaller(caller, gateway.clientAddress(incoming), new Date());
    body = await gateway.bodies.receive(incoming, response, caller);
    const { request } = body;
    refused.model = request.model;
    refused.stream = request.stream;
    const model = findModel(gateway, caller, request);
    const free = isFreeModel(model.id);
    // Before the price is looked at: one that is too old must refuse nothing either.
    gateway.requireLedger(!free);
    const at = uuidTime(uuid);
    const version = free ? null : findPrice(model, at);
    const prices = version?.prices ?? platformPrices(gateway.catalogue, model, at);
    if (free) requireWithinBounds(request, gateway.settings.freeBounds);
    checkPricedFields(request, prices === null ? {} : priceRowFor(tiersAt(prices, at), 0));
    gateway.concurrency.enter(caller);
    try {
      const exchange = await hold(gateway, { uuid, caller, arrivedAt, request, model, version, prices });
      if (response.destroyed) await endUnserved(gateway, exchange);
      else await serve(gateway, exchange, response);
    } finally {
      gateway.concurrency.leave(caller);
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    gateway.bodies.noteRefusal(caller, error.code);
    gateway.logRefusal({ uuid, caller, ...refused, code: error.code, arrivedAt });
    throw error;
  } finally {
    body?.release();
  }
}

/** The model that was asked for. Throws when there is none, the key may not use it, or it must not be asked this. */
function findModel({ catalogue }: Gateway, caller: Caller, request: ChatRequest): Model {
  const model = catalogue.find(request.model);
  if (model !== undefined) checkBodySize(request, model);
  refuseUnsupported(request, model?.passthroughFields ?? []);
  if (model === undefined || model.dialect !== 'openai') throw modelNotFound(request.model);
  if (caller.models !== null && !caller.models.includes(model.id)) {
    throw new Refusal('model_not_allowed', {
      param: 'model',
      message: `This API key may not use the model "${model.id}".`,
    });
  }
  return model;
}

/** The price that counts for a request held at `at`. Throws when there is none. */
function findPrice(model: Model, at: Date): PublishedVersion {
  const version = versionAt(model, at);
  if (version === null)
    throw new Refusal('model_not_priced', { param: 'model', message: `The model "${model.id}" has no price yet.` });
  return version;
}

interface HoldInput {
  readonly uuid: RequestUuid;
  readonly caller: Caller;
  readonly arrivedAt: number;
  readonly request: ChatRequest;
  readonly model: Model;
  /** What the customer pays by; null for `:free`. */
  readonly version: PublishedVersion | null;
  /** What it is rated by, whoever pays; null for a `:free` model that nothing prices. */
  readonly prices: PriceVersion | null;
}

/** Holds the worst case the request can reach, or throws why not. The upstream is not called before this returns. */
async function hold(gateway: Gateway, input: HoldInput): Promise<Exchange> {
  const { uuid, caller, request, model, version, prices } = input;
  const { freeBounds, freeQuota } = gateway.settings;
  const tiers = prices === null ? [] : tiersAt(prices, uuidTime(uuid));
  const exchange: Exchange = {
    uuid,
    id: formatId('request', uuid),
    caller,
    model,
    request,
    free: version === null,
    tiers,
    reasoningInOutput: prices?.reasoningInOutput ?? true,
    outputCap: version === null ? outputCapOf(request, model, freeBounds) : null,
    hold: ZERO_USD,
    heldInFull: true,
    arrivedAt: input.arrivedAt,
    firstTokenAt: null,
    upstream: null,
  };
  const common = {
    requestId: uuid,
    accountId: caller.accountId,
    keyId: caller.keyId,
    modelId: model.id,
    stream: request.stream,
    gatewayId: gateway.gatewayId,
    ttlSeconds: model.requestTimeoutSeconds + gateway.settings.requestGraceSeconds,
  };
  const amounts = version === null ? null : holdAmounts(request, model, tiers);
  const result =
    version === null || amounts === null
      ? await gateway.holds.takeFree(common)
      : await gateway.holds.take({
          ...common,
          ...amounts,
          priceVersion: version.version,
          askedUnits: askedUnits(request),
        });
  switch (result.kind) {
    case 'granted':
      exchange.hold = result.hold;
      exchange.heldInFull = amounts === null || result.hold >= amounts.wanted;
      return exchange;
    case 'refused':
      throw quotaRefusal(result.refusal, freeQuota) ?? refusalOfLedger(result.refusal, model.id);
    case 'unavailable':
      throw new Refusal('ledger_unavailable');
  }
}

function holdAmounts(request: ChatRequest, model: Model, tiers: readonly Tier[]): { wanted: PicoUsd; least: PicoUsd } {
  const limit = outputLimit(request, model);
  const covering = (outputPerChoice: number): PicoUsd => worstCase(tiers, reachOf(request, model, outputPerChoice));
  // Only output that is seen as it comes can be held for slice by slice.
  if (!request.stream || model.hiddenOutput) {
    const whole = covering(limit);
    return { wanted: whole, least: whole };
  }
  return {
    wanted: covering(Math.min(limit, STREAM_SLICE_TOKENS)),
    least: covering(Math.min(limit, STREAM_LEAST_TOKENS)),
  };
}

function refusalOfLedger(refusal: LedgerRefusal, modelId: string): Refusal {
  switch (refusal.code) {
    case 'not_found':
      return new Refusal('invalid_api_key');
    case 'key_revoked':
    case 'key_expired':
    case 'account_frozen':
      return new Refusal(refusal.code);
    case 'model_not_allowed':
      return new Refusal('model_not_allowed', {
        param: 'model',
        message: `This API key may not use the model "${modelId}".`,
      });
    case 'key_limit':
      return new Refusal('key_limit_exceeded', {
        message: `The key's spending limit does not cover this request: remaining ${shown(refusal.remaining)}, required ${shown(refusal.required)}.`,
      });
    case 'insufficient_quota':
      return new Refusal('insufficient_user_quota', {
        message: `insufficient quota: remaining ${shown(refusal.remaining)}, required ${shown(refusal.required)}.`,
      });
    default:
      throw new Error(`invariant broken: a hold was refused with ${refusal.code}`);
  }
}

function shown(amount: string | null): string {
  return amount === null ? 'unknown' : `$${formatUsd(usd(amount))}`;
}

/** Ends a request whose client left before the upstream was called: nothing was consumed, nothing is paid. */
async function endUnserved(gateway: Gateway, exchange: Exchange): Promise<void> {
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
async function serve(gateway: Gateway, exchange: Exchange, response: ServerResponse): Promise<void> {
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
      await record(gateway, exchange, end, response);
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
    const rated = await record(gateway, exchange, answer, response);
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
  const { record: ended, cost } = await record(gateway, exchange, end, response);
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
  await record(gateway, exchange, { ...end, reportedUsage: null, produced: meter }, response);
  if (refusal === null || response.destroyed) return;
  // A heartbeat has begun the stream already: the error can only be told inside it.
  if (response.headersSent) relay?.fail(refusal);
  else sendRefusal(response, refusal);
}

/** Stores how the request ended; what follows in the answer may leave once this returns. */
async function record(
  gateway: Gateway,
  exchange: Exchange,
  ending: Ending,
  response: ServerResponse,
): Promise<RatedEnding> {
  const known = await withEvidence(gateway, exchange, ending, response);
  const rated = await coverOverrun(gateway, exchange, await rateEnding(exchange, known));
  await gateway.finishes.finish(rated.record, !exchange.free);
  if (exchange.free && exchange.tiers.length === 0 && rated.record.usage !== NO_USAGE) {
    gateway.metrics.freeNotPriced.inc({ model: exchange.model.id });
  }
  gateway.countOutcome(rated.record.outcome, exchange);
  gateway.upstreamReport.ended(exchange, rated.record.upstream);
  noteFindings(gateway, exchange, rated);
  return rated;
}

function noteFindings({ findings }: Gateway, exchange: Exchange, { record, found }: RatedEnding): void {
  const { model, upstream, uuid } = exchange;
  if (!isBilled(record.outcome) || upstream === null) return;
  findings.note({
    modelId: model.id,
    upstream: upstream.name,
    requestId: uuid,
    estimated: record.estimated,
    findings: found,
  });
}

/** Asks the upstream's look-up about an answer that was cut or failed and whose usage nobody has told. */
async function withEvidence(
  gateway: Gateway,
  exchange: Exchange,
  ending: Ending,
  response: ServerResponse,
): Promise<Ending> {
  const { outcome, work, reportedUsage } = ending;
  // A shutdown has no time for it, and an answer that was given whole has said all there is.
  const isSettled = outcome === 'completed' || outcome === 'empty_completion' || outcome === 'orphaned';
  const { upstream } = exchange;
  if (isSettled || work === 'none' || reportedUsage !== null || exchange.tiers.length === 0 || upstream === null)
    return ending;
  const seconds = response.destroyed ? LOOKUP_ALONE_SECONDS : LOOKUP_WAITED_FOR_SECONDS;
  const evidence = await gateway.upstreams.lookUp(upstream, exchange.id, seconds * 1000);
  if (evidence.kind === 'usage') return { ...ending, evidence: evidence.usage };
  return evidence.kind === 'nothing' && !exchange.firstTokenAt ? { ...ending, work: 'none' } : ending;
}

/**
 * Holds what an answer cost above its hold (reasoning that no stream shows, an upstream that ignores its limit), so that
 * the cost that the client is told is the cost that is charged. What cannot be held now is decided by the settlement.
 */
async function coverOverrun(gateway: Gateway, exchange: Exchange, rated: RatedEnding): Promise<RatedEnding> {
  const { listCost, outcome, estimated } = rated.record;
  // An estimate takes nothing above what was set aside for it.
  const isOverrun = !exchange.free && isBilled(outcome) && !estimated && listCost > exchange.hold;
  if (!isOverrun || gateway.notReady !== null) return rated;
  try {
    exchange.hold = await gateway.holds.extend(exchange.caller.accountId, exchange.uuid, {
      current: exchange.hold,
      total: listCost,
      step: picoUsd(1n),
    });
  } catch (error) {
    if (ledgerRefusal(error) === null && !isFault(error)) throw error;
    return rated;
  }
  return { ...rated, cost: minUsd(listCost, exchange.hold) };
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

function createMeter(gateway: Gateway, exchange: Exchange, onExhausted: () => void): OutputMeter {
  const { model, request, tiers } = exchange;
  // A whole answer comes when it is over: nothing of it can be cut.
  const most = request.stream ? outputReach(exchange) : Infinity;
  // A whole answer is held for in full from the start, so its output uses nothing up.
  const isUnmetered = exchange.free || !request.stream;
  const base = isUnmetered ? 0n : worstCase(tiers, { ...reachOf(request, model, 0), outputTokens: 0 });
  const perToken = isUnmetered ? 0n : worstCase(tiers, { ...reachOf(request, model, 0), outputTokens: 1 }) - base;
  const tokensCovered = (amount: PicoUsd): number => (perToken === 0n ? Infinity : Number((amount - base) / perToken));

  const extend: ExtendHold = async (outputTokens) => {
    try {
      const total = picoUsd(base + BigInt(Math.ceil(outputTokens)) * perToken);
      const step = picoUsd(perToken * EXTENSION_LEAST_TOKENS);
      exchange.hold = await gateway.holds.extend(exchange.caller.accountId, exchange.uuid, {
        current: exchange.hold,
        total,
        step,
      });
      return { kind: 'extended', outputTokens: tokensCovered(exchange.hold) };
    } catch (error) {
      const refusal = ledgerRefusal(error);
      if (refusal === null) {
        // A bug must not end the process either: nobody may be waiting for this answer.
        if (!isFault(error)) {
          gateway.logger.error(
            { request_id: exchange.id, error: String(error) },
            'hold could not be extended by a bug',
          );
        }
        return { kind: 'unavailable' };
      }
      // The hold was ended under us (the sweep took us for dead): the finish will find that out and book the cost.
      if (refusal.code === 'request_ended') return { kind: 'unavailable' };
      return { kind: 'refused', refusal: refusalOfLedger(refusal, model.id) };
    }
  };
  return new OutputMeter({
    covered: tokensCovered(exchange.hold),
    most,
    slice: STREAM_SLICE_TOKENS * request.choices,
    extend,
    onExhausted,
  });
}
