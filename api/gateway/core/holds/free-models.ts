/**
 * `:free` models: how much one request may ask for, and at which prices the platform books what it gives away. How much
 * an account may use over time is the ledger's to count (`place_free_holds`), over all keys and gateways.
 */
import { Refusal } from '../../../../domain/errors.ts';
import { isPriced, type PriceVersion } from '../../../../domain/requests/prices.ts';
import { FREE_SUFFIX } from '../../../../domain/requests/request.ts';
import { versionAt, type Model } from '../../../../db/requests/catalogue.ts';
import type { LedgerRefusal } from '../../../../db/shared/client.ts';
import type { FreeQuota } from '../../../../db/requests/requests.ts';
import type { Catalogue } from '../catalogue.ts';
import type { DialectRequest, FreeAsk } from '../dialect.ts';

/** What one `:free` request may ask for. */
export interface FreeBounds {
  readonly answers: number;
  /** Output tokens of each answer. */
  readonly outputTokens: number;
}

const PAID_MODELS_WORK = 'Models that are paid for have no such limit.';

/** Throws `invalid_body`, naming the field, when a request asks a `:free` model for more than it gives at once. */
export function requireWithinBounds(asks: readonly FreeAsk[], bounds: FreeBounds): void {
  for (const { field, value, bound } of asks) {
    const most = bounds[bound];
    if (value === null || value <= most) continue;
    throw new Refusal('invalid_body', {
      param: field,
      message: `${field} may be at most ${most} with a ${FREE_SUFFIX} model. ${PAID_MODELS_WORK}`,
    });
  }
}

/** The limit of each answer that the upstream is told: the client's own, else the model's default within the bounds. */
export function outputCapOf({ outputTokensMax }: DialectRequest, model: Model, bounds: FreeBounds): number {
  return outputTokensMax ?? Math.min(model.defaultOutputTokens, bounds.outputTokens);
}

/**
 * The prices by which what a `:free` model gives away is booked: its own list prices, else those of the model it is
 * named after. Null where neither has any.
 */
export function platformPrices(catalogue: Catalogue, model: Model, at: Date): PriceVersion | null {
  const namesake = catalogue.peek(model.id.slice(0, -FREE_SUFFIX.length));
  for (const priced of [model, namesake]) {
    const prices = priced === undefined ? undefined : versionAt(priced, at)?.prices;
    if (prices !== undefined && isPriced(prices)) return prices;
  }
  return null;
}

/**
 * Says which bound of an account is used up and when it begins again; null for refusals that are about something else.
 */
export function quotaRefusal({ code, retryAfterSeconds }: LedgerRefusal, quota: FreeQuota): Refusal | null {
  const seconds = retryAfterSeconds ?? 1;
  switch (code) {
    case 'free_tokens_used_up':
      return quotaExceeded(
        `This account has used its ${quota.tokensPerDay} tokens a day of ${FREE_SUFFIX} models. They are back at 00:00 UTC.`,
        seconds,
      );
    case 'free_requests_used_up':
      return quotaExceeded(
        `This account has used its ${quota.requestsPerMinute} requests a minute of ${FREE_SUFFIX} models. They are back in ${seconds} s.`,
        seconds,
      );
    case 'free_requests_open':
      return quotaExceeded(
        `This account has ${quota.open} requests to ${FREE_SUFFIX} models open, which is its limit. There is room when one of them ends.`,
        seconds,
      );
    default:
      return null;
  }
}

function quotaExceeded(message: string, retryAfterSeconds: number): Refusal {
  return new Refusal('free_quota_exceeded', { message: `${message} ${PAID_MODELS_WORK}`, retryAfterSeconds });
}
