/**
 * How an ending becomes a record with its price. Usage that the provider reported is the price, if it is possible at
 * all. Otherwise everything is counted that can be counted, and what nobody can see is taken as it was held, marked
 * `estimated`: what a billed end delivered is the customer's, all else the platform's cost, and nothing is silently
 * free.
 */
import { minUsd, picoUsd, ZERO_USD, type PicoUsd } from '../../../../domain/money.ts';
import { priceRowFor } from '../../../../domain/requests/prices.ts';
import { rate, tokenPrice } from '../../../../domain/requests/rating.ts';
import { isBilled, type FinishOutcome } from '../../../../domain/requests/request.ts';
import type { UpstreamProblem } from '../../../../domain/requests/upstream-evidence.ts';
import {
  mergeReportedUsage,
  rawUsageOf,
  readReportedUsage,
  type ReportedUsage,
} from '../../../../domain/usage/reported-usage.ts';
import { NO_USAGE, type Usage } from '../../../../domain/usage/usage.ts';
import type { UsageFlag } from '../../../../domain/usage/contradictions.ts';
import type { FinishRecord } from '../../../../db/requests/requests.ts';
import type { Rates } from '../admission.ts';
import { outputReach, readOptions, reportedOutputTokens, type HeldRequest } from '../held-request.ts';
import { askedUnits } from '../holds/reach.ts';
import { estimateInputTokens } from '../tokens/input-estimate.ts';
import type { TokenCounter } from '../tokens/token-count.ts';
import { evidenceOf } from '../upstreams/upstream-evidence.ts';
import type { Finding } from './model-findings.ts';

/** What was seen of an answer. */
export interface SeenOutput {
  readonly text: string;
  /** Characters of the text. */
  readonly characters: number;
  /** Bytes of what is no text, which bound its tokens. */
  readonly otherBytes: number;
  readonly hasMedia: boolean;
  /** Output tokens that were held for. */
  readonly coveredTokens: number;
}

/** What was seen of the upstream's work when a request ended. */
export interface Ending {
  readonly outcome: FinishOutcome;
  /** What the upstream reported, null when it reported nothing. */
  readonly reportedUsage: ReportedUsage | null;
  readonly produced: SeenOutput;
  /**
   * `none`: the provider did not take the request up, so nothing was consumed. `shown`: all that it produced was seen,
   * unless the model produces output unseen. `unseen`: it may have produced whatever it was allowed to.
   */
  readonly work: 'none' | 'shown' | 'unseen';
  /** What went wrong at the provider, where more is known than the outcome says. */
  readonly problem?: UpstreamProblem;
  /** Usage as the upstream's look-up told it afterwards; absent where it was not asked or had no answer. */
  readonly evidence?: unknown;
}

/** An ending with its price. */
export interface RatedEnding {
  readonly record: FinishRecord;
  /** What the customer pays as far as the hold goes; 0 for what is not billed. */
  readonly cost: PicoUsd;
  /** What the answer tells about how its provider counts. */
  readonly found: readonly Finding[];
}

/**
 * Turns an ending into the record that the ledger stores. Reported usage that is missing, malformed or beyond what the
 * model can do is kept as evidence and an estimate takes its place. A cost beyond the ledger's range ends the request
 * as `upstream_error` at cost 0.
 */
export async function rateEnding(held: HeldRequest, ending: Ending, tokens: TokenCounter): Promise<RatedEnding> {
  const { usage, produced, estimated, rawUsage, flags } = await usageOf(held, ending, tokens);
  const found = findingsOf(held, ending, { usage, estimated, flags });
  const base = {
    requestId: held.uuid,
    usage,
    estimated,
    rawUsage,
    latencyMs: performance.now() - held.arrivedAt,
    firstTokenMs: held.firstTokenAt === null ? null : held.firstTokenAt - held.arrivedAt,
    upstream: evidenceOf(held.upstream, ending),
  };
  let listCost: PicoUsd;
  let producedCost: PicoUsd;
  try {
    listCost = costOf(held.price.rates, usage);
    producedCost = produced === usage ? listCost : costOf(held.price.rates, produced);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return {
      record: {
        ...base,
        outcome: 'upstream_error',
        listCost: ZERO_USD,
        usage: NO_USAGE,
        rawUsage: rawUsageOf(ending.reportedUsage),
      },
      cost: ZERO_USD,
      found,
    };
  }
  const record = { ...base, outcome: ending.outcome, listCost };
  const undeliveredCost = picoUsd(producedCost - listCost);
  return {
    record:
      undeliveredCost > 0n
        ? { ...record, undelivered: { usage: beyond(usage, produced), listCost: undeliveredCost } }
        : record,
    cost: isBilled(ending.outcome) && held.price.kind === 'priced' ? minUsd(listCost, held.hold) : ZERO_USD,
    found,
  };
}

function findingsOf(
  held: HeldRequest,
  { outcome, reportedUsage }: Ending,
  { usage, estimated, flags }: Pick<CountedUsage, 'usage' | 'estimated' | 'flags'>,
): Finding[] {
  const found: Finding[] = [...flags];
  if (usage.outputTokens > outputReach(held)) found.push('output_above_limit');
  if (estimated && reportedUsage !== null) found.push('usage_unusable');
  if (estimated && reportedUsage === null && outcome === 'completed') found.push('usage_missing');
  return found;
}

/**
 * An ending without any usage consumed nothing that could be rated, not even the flat price of a call; nor can a
 * `:free` model that nothing prices.
 */
function costOf(rates: Rates | null, usage: Usage): PicoUsd {
  return usage === NO_USAGE || rates === null ? ZERO_USD : rate(rates.tiers, usage).cost;
}

/** What `produced` has more than `usage`. */
function beyond(usage: Usage, produced: Usage): Usage {
  const fields = Object.keys(NO_USAGE) as (keyof Usage)[];
  return Object.fromEntries(
    fields.map((field) => [field, Math.max(0, (produced[field] ?? 0) - (usage[field] ?? 0))]),
  ) as unknown as Usage;
}

interface CountedUsage {
  /** What the record says: of a billed end what its customer pays. */
  readonly usage: Usage;
  /** All that is known or must be taken to have been produced; beside a bill the rest is the platform's cost. */
  readonly produced: Usage;
  readonly estimated: boolean;
  readonly rawUsage: unknown;
  /** Contradictions in what was reported. */
  readonly flags: readonly UsageFlag[];
}

async function usageOf(held: HeldRequest, ending: Ending, tokens: TokenCounter): Promise<CountedUsage> {
  const { reportedUsage, evidence, outcome } = ending;
  const rawUsage = rawUsageOf(reportedUsage) ?? evidence ?? null;
  const told = readUsage(held, ending, reportedUsage);
  if (told !== null) return reportedAs(told, told.flags.length > 0 ? rawUsage : null);
  const found = readUsage(held, ending, mergeReportedUsage(null, { usage: evidence }));
  const isCut = outcome === 'cut_by_limit' || outcome === 'cut_by_time';
  if (found !== null && !isCut) return reportedAs(found, rawUsage);
  if (ending.work === 'none') return reportedAs({ usage: NO_USAGE, flags: [] }, rawUsage);
  const estimate = await estimateUsage(held, ending, { evidence: found?.usage ?? null, tokens });
  return { ...estimate, estimated: true, rawUsage, flags: found?.flags ?? [] };
}

function reportedAs({ usage, flags }: ToldUsage, rawUsage: unknown): CountedUsage {
  return { usage, produced: usage, estimated: false, rawUsage, flags };
}

interface ToldUsage {
  readonly usage: Usage;
  readonly flags: readonly UsageFlag[];
}

/** Usage as the provider told it; null when there is none, or none that can be. */
function readUsage(held: HeldRequest, { produced }: Ending, told: ReportedUsage | null): ToldUsage | null {
  if (told === null) return null;
  const read = readReportedUsage(told, readOptions(held.price));
  if (!read.ok || !isPossible(held, read.usage) || isDenied(read, produced)) return null;
  return { usage: { ...read.usage, ...askedUnits(held.request) }, flags: read.flags };
}

/**
 * What can be counted, and the rest as it was held. An answer that we have cut is paid as far as it was delivered; what
 * else was produced, as `evidence` tells or as it was held, is the platform's.
 */
async function estimateUsage(
  held: HeldRequest,
  ending: Ending,
  { evidence, tokens }: { evidence: Usage | null; tokens: TokenCounter },
): Promise<Pick<CountedUsage, 'usage' | 'produced'>> {
  const { model } = held;
  const { produced: seenOutput, outcome } = ending;
  const inputTokens = evidence?.inputTokens ?? (await estimateInputTokens(held, tokens));
  const counted = (await tokens.count(seenOutput.text)) + seenOutput.otherBytes;
  // A report whose input cannot be true may still know of output that we cannot count.
  const told = reportedOutputTokens(ending.reportedUsage, held);
  const seen = told <= model.contextLength * held.request.answers ? Math.max(counted, told) : counted;
  const delivered = { ...NO_USAGE, inputTokens, outputTokens: seen, ...askedUnits(held.request) };
  if (evidence !== null && evidence.outputTokens >= seen) return { usage: delivered, produced: evidence };
  const mayHide = ending.work === 'unseen' || model.hiddenOutput || seenOutput.hasMedia;
  const reached = Math.min(outputReach(held), seenOutput.coveredTokens);
  const produced = withUnseen(held, delivered, mayHide ? Math.max(0, reached - seen) : 0);
  return { usage: outcome === 'cut_by_time' ? delivered : produced, produced };
}

/** `usage` with output that nobody saw, in the dearest of the dimensions that the request can reach. */
function withUnseen({ price, request }: HeldRequest, usage: Usage, unseen: number): Usage {
  if (unseen === 0) return usage;
  const row = price.rates === null ? {} : priceRowFor(price.rates.tiers, usage.inputTokens);
  const dimensions = [
    { dimension: 'output', tokens: {} },
    { dimension: 'reasoning', tokens: { reasoningTokens: usage.reasoningTokens + unseen } },
    ...(request.output.audio ? [{ dimension: 'audio_out', tokens: { audioOutputTokens: unseen } } as const] : []),
    ...(request.output.image ? [{ dimension: 'image_out', tokens: { imageOutputTokens: unseen } } as const] : []),
  ] as const;
  const dearest = dimensions.reduce((best, next) =>
    tokenPrice(row, next.dimension) > tokenPrice(row, best.dimension) ? next : best,
  );
  return { ...usage, outputTokens: usage.outputTokens + unseen, ...dearest.tokens };
}

/** No model reads or writes more than its context per answer: a larger number is an upstream's mistake, not a bill. */
function isPossible({ model, request }: HeldRequest, usage: Usage): boolean {
  return usage.inputTokens <= model.contextLength && usage.outputTokens <= model.contextLength * request.answers;
}

/** No tokenizer in use makes a token of more bytes than this, long runs of blanks included. */
const BYTES_PER_TOKEN_MAX = 128;

/**
 * Every request has input, and what was seen is output: a provider that reports neither, or far less than any tokenizer
 * could make of it, has not counted, and its number would be a gift. What only the total shows cannot be all of the
 * output either, where there is some.
 */
function isDenied({ usage, flags }: ToldUsage, { characters, otherBytes }: SeenOutput): boolean {
  if (usage.inputTokens === 0) return true;
  const listed = flags.includes('unlisted_output') ? usage.outputTokens - usage.reasoningTokens : usage.outputTokens;
  return listed < characters / BYTES_PER_TOKEN_MAX || (listed === 0 && otherBytes > 0);
}
