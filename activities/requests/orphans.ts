/**
 * Evidence about orphans: asks the upstream what a request consumed, and records it, as the customer's bill where the
 * client had left, else as platform cost. The price is that of the version on the row, the time window that of the
 * hold.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { ApplicationFailure } from '@temporalio/common';
import { Agent } from 'undici';
import { assert } from '../../domain/assert.ts';
import { formatId, parseId, uuidTime, type RequestUuid } from '../../domain/ids.ts';
import { formatUsd, ZERO_USD, type PicoUsd } from '../../domain/money.ts';
import { tiersAt, type PriceVersion } from '../../domain/requests/prices.ts';
import { rate } from '../../domain/requests/rating.ts';
import { mergeReportedUsage, readReportedUsage, type ReadUsage } from '../../domain/usage/reported-usage.ts';
import { NO_USAGE, type Usage } from '../../domain/usage/usage.ts';
import { findFreePrices, findPriceVersion, findUpstreams } from '../../db/requests/catalogue.ts';
import { orphanFacts, type OrphanFacts } from '../../db/requests/orphans.ts';
import { bookPlatformCost, finishRequests } from '../../db/requests/requests.ts';
import { UpstreamNotAllowed, upstreamRules } from '../../providers/upstreams/settings.ts';
import { lookUpUsage, type Evidence } from '../../providers/upstreams/usage-lookup.ts';

export interface OrphanActivities {
  lookUpUsage(requestId: string): Promise<Evidence>;
  /**
   * Ends a hold whose client had left; `usage` null means by the gateway's own count. Returns a sentence for the
   * operator. Refuses `not_an_orphan` for a hold that no sweep has handed over: a run for it would end a request that
   * its gateway is about to bill.
   */
  finishOrphan(input: { requestId: string; usage: unknown }): Promise<string>;
  /**
   * Books what a released orphan consumed; `usage` null means that nobody can say, and then all that was held is booked
   * as an estimate. Returns a sentence for the operator. Fails, to be repeated, while the hold is not released; books
   * nothing when its gateway came back in time and ended it itself.
   */
  bookOrphanCost(input: { requestId: string; usage: unknown }): Promise<string>;
}

const LOOKUP_TIMEOUT_MS = 5000;

interface Dependencies {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  /** Reads the provider keys that the catalogue names. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export function createOrphanActivities({ pool, logger, environment }: Dependencies): OrphanActivities {
  const rules = upstreamRules(environment);
  const dispatcher = new Agent({ connect: { lookup: rules.lookup } });

  async function facts(requestId: string): Promise<{ id: RequestUuid; row: OrphanFacts }> {
    const id = parseId('request', requestId);
    assert(id !== null, `"${requestId}" is a request id`);
    const row = await orphanFacts(pool, id);
    assert(row !== null, `orphan ${requestId} exists`);
    return { id, row };
  }

  /** The price version pinned on the row, for `:free` that of the platform's own cost; null where nothing prices it. */
  async function pinnedPrices(id: RequestUuid, row: OrphanFacts): Promise<PriceVersion | null> {
    if (row.free) return findFreePrices(pool, row.modelId, uuidTime(id));
    if (row.priceVersion === null) return null;
    const version = await findPriceVersion(pool, row.modelId, row.priceVersion);
    assert(version !== null, `price version ${row.modelId}@${row.priceVersion} exists`);
    return version;
  }

  function costOf(id: RequestUuid, prices: PriceVersion | null, usage: Usage): PicoUsd {
    return prices === null ? ZERO_USD : rate(tiersAt(prices, uuidTime(id)), usage).cost;
  }

  return {
    async lookUpUsage(requestId) {
      const { row } = await facts(requestId);
      const upstream = (await findUpstreams(pool, row.modelId)).find((candidate) => candidate.lookup !== null);
      if (upstream === undefined) return { kind: 'no-lookup' };
      const fault = rules.faultOf(upstream);
      // The configuration may be set right while there is time.
      if (fault !== null) return { kind: 'pending', reason: new UpstreamNotAllowed(fault).message };
      const lookup = { url: upstream.lookup, apiKey: rules.keyOf(upstream) };
      return lookUpUsage(lookup, requestId, { timeoutMs: LOOKUP_TIMEOUT_MS, dispatcher });
    },

    async finishOrphan({ requestId, usage: raw }) {
      const { id, row } = await facts(requestId);
      if (row.state === 'held' && !(row.isHandedOver && row.countedTokens !== null)) {
        throw ApplicationFailure.nonRetryable(`no sweep has found ${requestId} to be an orphan`, 'not_an_orphan');
      }
      const prices = await pinnedPrices(id, row);
      const reported = readUsage(raw, row, prices);
      const counted = row.countedTokens ?? { input: 0, output: 0 };
      const usage = reported?.usage ?? {
        ...NO_USAGE,
        ...row.askedUnits,
        inputTokens: counted.input,
        outputTokens: counted.output,
      };
      const listCost = costOf(id, prices, usage);
      const [verdict] = await finishRequests(pool, [
        {
          requestId: id,
          outcome: 'client_disconnected',
          listCost,
          usage,
          estimated: reported === null,
          // Evidence that could not be used as it is stays on the row, to explain the bill.
          rawUsage: reported === null || reported.flags.length > 0 ? raw : null,
          latencyMs: 0,
          firstTokenMs: null,
          upstream: null,
        },
      ]);
      logger.warn(
        {
          request_id: requestId,
          verdict,
          estimated: reported === null,
          usage_flags: reported?.flags ?? [],
          list_cost_usd: formatUsd(listCost),
        },
        'orphan resolved',
      );
      const source =
        reported === null
          ? "the gateway's count when the client left (no evidence from the upstream)"
          : "the upstream's usage";
      return verdict === 'late'
        ? 'The request had ended otherwise meanwhile; its usage is platform cost.'
        : `Ended as client_disconnected by ${source}: ${formatUsd(listCost)} USD.`;
    },

    async bookOrphanCost({ requestId, usage: raw }) {
      const { id, row } = await facts(requestId);
      if (row.state === 'held') throw ApplicationFailure.retryable('the hold is not released yet', 'not_released');
      if (row.outcome !== 'orphaned') return `The request had ended as ${row.outcome} meanwhile; nothing to book.`;
      const prices = await pinnedPrices(id, row);
      const usage = readUsage(raw, row, prices)?.usage ?? null;
      const estimated = usage === null;
      // An unknown usage may be as large as the hold.
      const listCost = usage === null ? row.hold : costOf(id, prices, usage);
      await bookPlatformCost(pool, {
        requestId: id,
        reason: 'orphan',
        usage: usage ?? { ...NO_USAGE, ...row.askedUnits },
        listCost,
        estimated,
      });
      const source = estimated ? ' (an estimate: all that was held; the upstream could not say)' : '';
      return `Platform cost of ${formatId('request', id)}: ${formatUsd(listCost)} USD${source}.`;
    },
  };
}

/** Reads usage in whichever form the upstream reports it; null where there is none or it cannot be true. */
function readUsage(
  raw: unknown,
  row: OrphanFacts,
  prices: PriceVersion | null,
): Extract<ReadUsage, { ok: true }> | null {
  const reported = mergeReportedUsage(null, { usage: raw });
  if (reported === null) return null;
  const read = readReportedUsage(reported, { reasoningInOutput: prices?.reasoningInOutput ?? true });
  if (!read.ok || !isPossible(row, read.usage)) return null;
  const { furtherAnswers, webSearches } = row.askedUnits;
  // Answers are never reported, searches by few.
  const usage = { ...read.usage, furtherAnswers, webSearches: Math.max(webSearches, read.usage.webSearches) };
  return { ...read, usage };
}

/**
 * No model reads more than its context, or writes more for one answer: a larger number is an upstream's mistake, not a
 * bill. Without this check it would be an overrun, which settlement takes from all the money that the account has. And
 * every request has input: a report without any has not counted, and would give the answer away.
 */
function isPossible({ contextLength, askedUnits }: OrphanFacts, usage: Usage): boolean {
  const most = contextLength ?? 0;
  const answers = 1 + askedUnits.furtherAnswers;
  return usage.inputTokens > 0 && usage.inputTokens <= most && usage.outputTokens <= most * answers;
}
