/**
 * Holding for a chat request, before its upstream is called: the worst case that it can reach, or for a stream that is seen as it
 * comes a first slice of it. And what a client is told when the ledger refuses.
 */
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, uuidTime, type RequestUuid } from '../../../../domain/ids.ts';
import { formatUsd, usd, ZERO_USD, type PicoUsd } from '../../../../domain/money.ts';
import { tiersAt, type PriceVersion, type Tier } from '../../../../domain/requests/prices.ts';
import { worstCase } from '../../../../domain/requests/rating.ts';
import type { LedgerRefusal } from '../../../../db/shared/client.ts';
import type { Model, PublishedVersion } from '../../../../db/requests/catalogue.ts';
import { askedUnits, outputLimit, reachOf, STREAM_LEAST_TOKENS, STREAM_SLICE_TOKENS } from './reach.ts';
import type { ChatRequest } from '../../dialects/openai-chat/request.ts';
import type { Exchange } from '../held-request.ts';
import { outputCapOf, quotaRefusal } from './free-models.ts';
import type { Gateway } from '../gateway.ts';
import type { Caller } from '../keys/keys.ts';

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
export async function holdChat(gateway: Gateway, input: HoldInput): Promise<Exchange> {
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

/** What the client is told when the ledger refuses a hold, or to let one grow. */
export function refusalOfLedger(refusal: LedgerRefusal, modelId: string): Refusal {
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
