/**
 * What the sweep finds: finished requests that nobody settled, and holds without an owner. Holds that were cut by our
 * own fault are ended here, at once; those whose client had left wait for evidence.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { formatId } from '../domain/ids.ts';
import { ZERO_USD } from '../domain/money.ts';
import { NO_USAGE } from '../domain/usage.ts';
import { findOrphans, findUnsettled, finishRequests, noteReachable } from '../db/requests.ts';
import type { SweepInput } from '../workflows/contract.ts';

export interface SweepWork {
  /** Finished long ago and not settled; wire ids. */
  readonly unsettled: readonly string[];
  /** Ended just now as `orphaned`, to be given back; wire ids. */
  readonly released: readonly string[];
  /** Every orphan, for its resolver. */
  readonly orphans: readonly { readonly requestId: string; readonly clientLeft: boolean }[];
}

export interface SweepActivities {
  findWork(input: SweepInput): Promise<SweepWork>;
}

export function createSweepActivities({ pool, logger }: { pool: pg.Pool; logger: Logger }): SweepActivities {
  return {
    async findWork(input) {
      await noteReachable(pool, input.reachabilityGapSeconds);
      const unsettled = await findUnsettled(pool, input.finishedAgeSeconds, input.rowsPerRun);
      const orphans = await findOrphans(pool, input.gatewayGoneSeconds, input.orphansPerRun);
      const cut = orphans.filter((orphan) => !orphan.clientLeft);
      if (cut.length > 0) {
        await finishRequests(
          pool,
          cut.map((orphan) => ({
            requestId: orphan.requestId,
            outcome: 'orphaned',
            listCost: ZERO_USD,
            usage: NO_USAGE,
            estimated: false,
            rawUsage: null,
            latencyMs: 0,
            firstTokenMs: null,
          })),
        );
        logger.warn(
          { request_ids: cut.map((orphan) => formatId('request', orphan.requestId)) },
          'orphaned holds released',
        );
      }
      return {
        unsettled: unsettled.map((id) => formatId('request', id)),
        released: cut.map((orphan) => formatId('request', orphan.requestId)),
        orphans: orphans.map(({ requestId, clientLeft }) => ({
          requestId: formatId('request', requestId),
          clientLeft,
        })),
      };
    },
  };
}
