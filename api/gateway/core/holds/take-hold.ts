/**
 * Holding for an admitted request, before its upstream is called: the worst case that it can reach, or for a stream
 * that is seen as it comes a first slice of it. And what a client is told when the ledger refuses.
 */
import { Refusal } from '../../../../domain/errors.ts';
import { formatUsd, usd, ZERO_USD, type PicoUsd } from '../../../../domain/money.ts';
import { worstCase } from '../../../../domain/requests/rating.ts';
import type { LedgerRefusal } from '../../../../db/shared/client.ts';
import type { Admission, Priced } from '../admission.ts';
import type { Gateway } from '../gateway.ts';
import type { HeldRequest } from '../held-request.ts';
import { modelNotAllowed } from '../refusals.ts';
import { costLine, costOf, type CostLine } from './cost-line.ts';
import { quotaRefusal } from './free-models.ts';
import type { HoldResult } from './holds.ts';
import { askedUnits, outputLimit, STREAM_LEAST_TOKENS, STREAM_SLICE_TOKENS } from './reach.ts';

/** What a paid request asks the ledger for. */
interface HoldAmounts {
  /** What covers it, or its first slice. */
  readonly wanted: PicoUsd;
  /** The smallest hold that is enough to begin. */
  readonly least: PicoUsd;
  /** How its hold grows; null where it is whole from the start. */
  readonly growth: CostLine | null;
}

/** Nothing is held for a `:free` request, so nothing can be missing. */
const NOTHING: HoldAmounts = { wanted: ZERO_USD, least: ZERO_USD, growth: null };

/** Holds what the request can cost, or throws why not. The upstream is not called before this returns. */
export async function takeHold(gateway: Gateway, admission: Admission): Promise<HeldRequest> {
  const { model, price } = admission;
  const amounts = price.kind === 'free' ? NOTHING : holdAmounts(admission, price);
  const askedAt = performance.now();
  const result = await ask(gateway, admission, amounts);
  gateway.metrics.holdSeconds.observe((performance.now() - askedAt) / 1000);
  switch (result.kind) {
    case 'granted':
      return {
        ...admission,
        hold: result.hold,
        heldInFull: result.hold >= amounts.wanted,
        growth: amounts.growth,
        firstTokenAt: null,
        upstream: null,
      };
    case 'refused':
      throw quotaRefusal(result.refusal, gateway.settings.freeQuota) ?? refusalOfLedger(result.refusal, model.id);
    case 'unavailable':
      throw new Refusal('ledger_unavailable');
  }
}

function ask(gateway: Gateway, admission: Admission, { wanted, least }: HoldAmounts): Promise<HoldResult> {
  const { uuid, caller, request, model, price } = admission;
  const hold = {
    requestId: uuid,
    accountId: caller.accountId,
    keyId: caller.keyId,
    modelId: model.id,
    stream: request.stream,
    gatewayId: gateway.gatewayId,
    ttlSeconds: model.requestTimeoutSeconds + gateway.settings.requestGraceSeconds,
  };
  if (price.kind === 'free') return gateway.holds.takeFree(hold);
  const askedFor = { wanted, least, priceVersion: price.version, askedUnits: askedUnits(request) };
  return gateway.holds.take({ ...hold, ...askedFor });
}

function holdAmounts({ dialect, request, model }: Admission, { rates }: Priced): HoldAmounts {
  const limit = outputLimit(request, model);
  if (!request.stream) {
    const whole = worstCase(rates.tiers, dialect.reach(request, model, limit));
    return { wanted: whole, least: whole, growth: null };
  }
  const growth = costLine(rates.tiers, dialect.reach(request, model, 0));
  const covering = (outputPerAnswer: number): PicoUsd =>
    costOf(growth, outputPerAnswer * request.answers + request.predictionTokens);
  // Only output that is seen as it comes can be held for slice by slice.
  if (model.hiddenOutput) return { wanted: covering(limit), least: covering(limit), growth };
  return {
    wanted: covering(Math.min(limit, STREAM_SLICE_TOKENS)),
    least: covering(Math.min(limit, STREAM_LEAST_TOKENS)),
    growth,
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
      return modelNotAllowed(modelId);
    case 'key_limit':
      return new Refusal('key_limit_exceeded', {
        message: `The key's spending limit does not cover this request: ${amountsOf(refusal)}.`,
      });
    case 'insufficient_quota':
      return new Refusal('insufficient_user_quota', { message: `insufficient quota: ${amountsOf(refusal)}.` });
    default:
      throw new Error(`invariant broken: a hold was refused with ${refusal.code}`);
  }
}

function amountsOf({ remaining, required }: LedgerRefusal): string {
  return `remaining ${shown(remaining)}, required ${shown(required)}`;
}

function shown(amount: string | null): string {
  return amount === null ? 'unknown' : `$${formatUsd(usd(amount))}`;
}
