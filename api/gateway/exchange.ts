/**
 * One metered request on its way through the gateway: what was held for it, at which prices, and how its end is turned
 * into a record. Shared by streamed and whole answers; knows nothing of HTTP.
 */
import type { RequestId, RequestUuid } from '../../domain/ids.ts';
import { formatUsdShort, minUsd, ZERO_USD, type PicoUsd } from '../../domain/money.ts';
import type { Tier } from '../../domain/prices.ts';
import { rate } from '../../domain/rating.ts';
import { isBilled, type FinishOutcome } from '../../domain/request.ts';
import { NO_USAGE, parseOpenAiUsage, type Usage } from '../../domain/usage.ts';
import type { Model } from '../../db/catalogue.ts';
import type { FinishRecord } from '../../db/requests.ts';
import { textOf, type ChatRequest } from './chat-request.ts';
import type { Caller } from './keys.ts';
import { countTokens } from './token-count.ts';

export interface Exchange {
  readonly uuid: RequestUuid;
  readonly id: RequestId;
  readonly caller: Caller;
  readonly model: Model;
  readonly request: ChatRequest;
  /** The price rows in force when the request was held; empty for `:free`, which nothing is rated for. */
  readonly tiers: readonly Tier[];
  readonly reasoningInOutput: boolean;
  /** What the ledger holds for it now. */
  hold: PicoUsd;
  /** False where key or account could not carry all that was wanted: there is no money for it to grow by. */
  heldInFull: boolean;
  /** `performance.now()` when the request arrived. */
  readonly arrivedAt: number;
  firstTokenAt: number | null;
}

/** What was seen of the upstream's answer when it ended. */
export interface Ending {
  readonly outcome: FinishOutcome;
  /** The upstream's usage object, undefined when it sent none. */
  readonly reportedUsage: unknown;
  /** The text that the upstream produced, for counting when its usage cannot be used. */
  readonly producedText: string;
}

/** An ending with its price. */
export interface RatedEnding {
  readonly record: FinishRecord;
  /** What the customer pays as far as the hold goes; 0 for what is not billed. */
  readonly cost: PicoUsd;
}

/** `:free` requests are never rated. */
export function isFree(exchange: Exchange): boolean {
  return exchange.tiers.length === 0;
}

/**
 * Turns an ending into the record that the ledger stores. Usage that is missing, malformed or beyond what the model can
 * do is replaced by a local count, marked `estimated`, with the reported one kept as evidence. A cost beyond the ledger's
 * range ends the request as `upstream_error` at cost 0.
 */
export async function rateEnding(exchange: Exchange, ending: Ending): Promise<RatedEnding> {
  const { usage, estimated, rawUsage } = await usageOf(exchange, ending);
  const base = {
    requestId: exchange.uuid,
    usage,
    estimated,
    rawUsage,
    latencyMs: performance.now() - exchange.arrivedAt,
    firstTokenMs: exchange.firstTokenAt === null ? null : exchange.firstTokenAt - exchange.arrivedAt,
    upstream: null,
  };
  if (isFree(exchange)) return { record: { ...base, outcome: ending.outcome, listCost: ZERO_USD }, cost: ZERO_USD };
  let listCost: PicoUsd;
  try {
    // An ending without any usage consumed nothing that could be rated, not even the flat price of a call.
    listCost = usage === NO_USAGE ? ZERO_USD : rate(exchange.tiers, usage).cost;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return {
      record: {
        ...base,
        outcome: 'upstream_error',
        listCost: ZERO_USD,
        usage: NO_USAGE,
        rawUsage: ending.reportedUsage,
      },
      cost: ZERO_USD,
    };
  }
  return {
    record: { ...base, outcome: ending.outcome, listCost },
    cost: isBilled(ending.outcome) ? minUsd(listCost, exchange.hold) : ZERO_USD,
  };
}

async function usageOf(
  exchange: Exchange,
  { outcome, reportedUsage, producedText }: Ending,
): Promise<{ usage: Usage; estimated: boolean; rawUsage: unknown }> {
  const webSearches = exchange.request.webSearch ? exchange.request.choices : 0;
  if (reportedUsage !== undefined) {
    const parsed = parseOpenAiUsage(reportedUsage, { reasoningInOutput: exchange.reasoningInOutput });
    if (parsed.ok && isPossible(exchange, parsed.usage) && !isDenied(parsed.usage, producedText)) {
      return {
        usage: { ...parsed.usage, webSearches },
        estimated: false,
        rawUsage: parsed.clamped ? reportedUsage : null,
      };
    }
  }
  const rawUsage = reportedUsage ?? null;
  // Only what is billed is worth an estimate; what failed without usage costs the platform nothing it could prove.
  if (!isBilled(outcome)) return { usage: NO_USAGE, estimated: false, rawUsage };
  const inputTokens = Math.min(await countTokens(textOf(exchange.request)), exchange.model.contextLength);
  const outputTokens = await countTokens(producedText);
  return { usage: { ...NO_USAGE, inputTokens, outputTokens, webSearches }, estimated: true, rawUsage };
}

/** No model reads or writes more than its context per answer: a larger number is an upstream's mistake, not a bill. */
function isPossible({ model, request }: Exchange, usage: Usage): boolean {
  return usage.inputTokens <= model.contextLength && usage.outputTokens <= model.contextLength * request.choices;
}

/** Every request has input, and text is output: a provider that reports neither has not counted, and 0 would be a gift. */
function isDenied(usage: Usage, producedText: string): boolean {
  return usage.inputTokens === 0 || (usage.outputTokens === 0 && producedText !== '');
}

/** The usage object that a client reads, in OpenAI's shape. `cost` is a JSON number by the OpenRouter convention. */
export function clientUsage(reported: unknown, record: FinishRecord, cost: PicoUsd): Record<string, unknown> {
  const { usage, estimated } = record;
  const shown: Record<string, unknown> = estimated
    ? {
        prompt_tokens: usage.inputTokens,
        completion_tokens: usage.outputTokens,
        total_tokens: usage.inputTokens + usage.outputTokens,
        estimated: true,
      }
    : { ...(reported as Record<string, unknown>) };
  // Printed from the exact decimal: a JavaScript number could not hold it.
  shown['cost'] = JSON.rawJSON(formatUsdShort(cost));
  return shown;
}
