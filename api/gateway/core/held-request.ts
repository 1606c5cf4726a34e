/**
 * One metered request on its way through the gateway: what was held for it, at which prices, and what its client is told of
 * its usage. Shared by streamed and whole answers; knows nothing of HTTP.
 */
import type { RequestId, RequestUuid } from '../../../domain/ids.ts';
import { formatUsdShort, type PicoUsd } from '../../../domain/money.ts';
import type { Tier } from '../../../domain/requests/prices.ts';
import { withoutPurchasePrice } from '../../../domain/requests/purchase-price.ts';
import { rawUsageOf, readReportedUsage, type ReportedUsage } from '../../../domain/usage/reported-usage.ts';
import type { Model } from '../../../db/requests/catalogue.ts';
import type { FinishRecord } from '../../../db/requests/requests.ts';
import { outputLimit } from './holds/reach.ts';
import type { ChatRequest } from '../dialects/openai-chat/request.ts';
import type { Caller } from './keys/keys.ts';
import { saidIn } from './upstreams/provider-words.ts';
import type { FailureContext } from './upstreams/upstream-failure.ts';
import type { CalledUpstream } from './upstreams/upstream.ts';

export interface Exchange {
  readonly uuid: RequestUuid;
  readonly id: RequestId;
  readonly caller: Caller;
  readonly model: Model;
  readonly request: ChatRequest;
  /** True for `:free` models: the customer pays nothing, whatever it costs the platform. */
  readonly free: boolean;
  /** The price rows in force when the request was held; for `:free` those by which the platform books it, empty without any. */
  readonly tiers: readonly Tier[];
  readonly reasoningInOutput: boolean;
  /** Most output tokens of an answer that a `:free` model gives; null where only money limits it. */
  readonly outputCap: number | null;
  /** What the ledger holds for it now. */
  hold: PicoUsd;
  /** False where key or account could not carry all that was wanted: there is no money for it to grow by. */
  heldInFull: boolean;
  /** `performance.now()` when the request arrived. */
  readonly arrivedAt: number;
  firstTokenAt: number | null;
  /** The upstream that answered, or the last one that did not; null before one was called. */
  upstream: CalledUpstream | null;
}

/** What a provider's error about this request must not show to whom. */
export function failureContext({ request, upstream }: Exchange): FailureContext {
  return { keys: upstream?.key == null ? [] : [upstream.key], said: () => saidIn(request.raw) };
}

/** Output tokens that the request can reach over all its answers: what an answer is held for where it cannot be watched. */
export function outputReach({ request, model, outputCap }: Exchange): number {
  const ofAnswer = Math.min(outputLimit(request, model), outputCap ?? Infinity);
  return ofAnswer * request.choices + request.predictionTokens;
}

/** Output tokens as reported; 0 when nothing usable was. */
export function reportedOutputTokens(reported: ReportedUsage | null, reasoningInOutput: boolean): number {
  const read = reported === null ? null : readReportedUsage(reported, { reasoningInOutput });
  return read?.ok === true ? read.usage.outputTokens : 0;
}

/** The usage object that a client reads, in OpenAI's shape. `cost` is a JSON number by the OpenRouter convention. */
export function clientUsage(
  reported: ReportedUsage | null,
  record: FinishRecord,
  cost: PicoUsd,
): Record<string, unknown> {
  const { usage, estimated } = record;
  const shown: Record<string, unknown> = {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    ...(estimated ? { estimated: true } : (withoutPurchasePrice(rawUsageOf(reported)) as object | null)),
  };
  // Printed from the exact decimal: a JavaScript number could not hold it.
  shown['cost'] = JSON.rawJSON(formatUsdShort(cost));
  return shown;
}
