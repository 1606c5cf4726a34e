/**
 * Findings of the sweep: unsettled finished requests, and holds without an owner. Holds that were cut by our
 * own fault are ended at once; those whose client had left wait for evidence. Finding a hold does not end it, so a
 * search whose answer is lost is repeated and finds the same.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { assert } from '../../domain/assert.ts';
import { formatId, parseId, type RequestUuid } from '../../domain/ids.ts';
import { ZERO_USD } from '../../domain/money.ts';
import { NO_USAGE } from '../../domain/usage/usage.ts';
import { findOrphans, noteReachable } from '../../db/requests/orphans.ts';
import { finishRequests } from '../../db/requests/requests.ts';
import { findUnsettled } from '../../db/requests/settlement.ts';
import type { SweepInput } from '../../contract/index.ts';

export interface OrphanedHold {
  /** Wire id. */
  readonly requestId: string;
  /** True when the client had left: what was produced is billed, once evidence says what it was. */
  readonly clientLeft: boolean;
}

export interface SweepWork {
  /** Finished long ago and not settled; wire ids, oldest first. */
  readonly unsettled: readonly string[];
  readonly orphans: readonly OrphanedHold[];
}

export interface SweepActivities {
  /**
   * Follows `input`, but takes no gateway for gone sooner than this worker's own configuration says: anybody who
   * reaches Temporal can start a sweep with other numbers, and what living gateways are about to bill would be given
   * away.
   */
  findWork(input: SweepInput): Promise<SweepWork>;
  /** Ends holds (wire ids) as `orphaned`, unbilled. A hold that has ended meanwhile keeps its end. Repeatable. */
  releaseOrphans(input: { readonly requestIds: readonly string[] }): Promise<void>;
}

export function createSweepActivities({
  pool,
  logger,
  sweep,
}: {
  pool: pg.Pool;
  logger: Logger;
  /** As configured. */
  sweep: Pick<SweepInput, 'gatewayGoneSeconds' | 'reachabilityGapSeconds'>;
}): SweepActivities {
  return {
    async findWork(input) {
      const goneSeconds = Math.max(input.gatewayGoneSeconds, sweep.gatewayGoneSeconds);
      const gapSeconds = Math.min(input.reachabilityGapSeconds, sweep.reachabilityGapSeconds);
      await noteReachable(pool, gapSeconds);
      const unsettled = await findUnsettled(pool, input.finishedAgeSeconds, input.rowsPerRun);
      const orphans = await findOrphans(pool, goneSeconds, input.orphansPerRun);
      return {
        unsettled: unsettled.map((id) => formatId('request', id)),
        orphans: orphans.map(({ requestId, clientLeft }) => ({
          requestId: formatId('request', requestId),
          clientLeft,
        })),
      };
    },

    async releaseOrphans({ requestIds }) {
      await finishRequests(pool, requestIds.map(orphanedEnd));
      logger.warn({ request_ids: requestIds }, 'orphaned holds released');
    },
  };
}

function orphanedEnd(requestId: string) {
  return {
    requestId: requestUuid(requestId),
    outcome: 'orphaned',
    listCost: ZERO_USD,
    usage: NO_USAGE,
    estimated: false,
    rawUsage: null,
    latencyMs: 0,
    firstTokenMs: null,
    upstream: null,
  } as const;
}

function requestUuid(id: string): RequestUuid {
  const uuid = parseId('request', id);
  assert(uuid !== null, `"${id}" is a request id`);
  return uuid;
}
