/**
 * Settlement: charges or gives back finished requests. A batch that fails for a reason that lies in a row is halved
 * until that row is alone; it keeps its hold, is marked, and becomes a case for a person. Everything else only retries.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { assert } from '../../domain/assert.ts';
import { formatId, parseId, type AccountUuid, type RequestUuid } from '../../domain/ids.ts';
import { liesInARow } from '../../db/shared/client.ts';
import { openCase } from '../../db/accounts/cases.ts';
import { accountsToFollowUp, markSettleError, settleRequests } from '../../db/requests/settlement.ts';

export interface SettleInput {
  /** Ids of requests (`req_…`). */
  readonly requestIds: readonly string[];
  readonly workflowId: string;
}

export interface SettleOutput {
  readonly settled: number;
  readonly settleErrors: number;
  /** Wire ids of accounts that are below their threshold and have not been told. */
  readonly lowBalanceAccountIds: readonly string[];
  /** Wire ids of accounts whose saved card may have to be charged; absent when there are none. */
  readonly autoTopUpAccountIds?: readonly string[];
}

export interface SettlementActivities {
  settleRequests(input: SettleInput): Promise<SettleOutput>;
}

export function createSettlementActivities({ pool, logger }: { pool: pg.Pool; logger: Logger }): SettlementActivities {
  async function settleHalving(
    ids: readonly RequestUuid[],
    workflowId: string,
  ): Promise<{ settled: number; settleErrors: number }> {
    try {
      return { settled: await settleRequests(pool, ids, workflowId), settleErrors: 0 };
    } catch (error) {
      if (!liesInARow(error)) throw error;
      if (ids.length === 1) {
        await setAside(ids[0]!, error);
        return { settled: 0, settleErrors: 1 };
      }
      const middle = Math.ceil(ids.length / 2);
      const left = await settleHalving(ids.slice(0, middle), workflowId);
      const right = await settleHalving(ids.slice(middle), workflowId);
      return { settled: left.settled + right.settled, settleErrors: left.settleErrors + right.settleErrors };
    }
  }

  async function setAside(id: RequestUuid, error: unknown): Promise<void> {
    const message = error instanceof Error ? error.message : String(error);
    const requestId = formatId('request', id);
    // The case first: a marked row is never looked at again, so one without a case would be seen by nobody.
    await openCase(pool, { kind: 'settle_error', subject: requestId, evidence: { error: message } });
    await markSettleError(pool, id, message);
    logger.error(
      { request_id: requestId, error: message },
      'request cannot be settled; its hold stays and a case is open',
    );
  }

  return {
    async settleRequests({ requestIds, workflowId }) {
      const ids = requestIds.map(requestUuid);
      const { settled, settleErrors } = await settleHalving(ids, workflowId);
      const { toNotify, toTopUp } = await accountsToFollowUp(pool, ids);
      const wire = (accounts: readonly AccountUuid[]): string[] => accounts.map((id) => formatId('account', id));
      return {
        settled,
        settleErrors,
        lowBalanceAccountIds: wire(toNotify),
        ...(toTopUp.length > 0 && { autoTopUpAccountIds: wire(toTopUp) }),
      };
    },
  };
}

function requestUuid(id: string): RequestUuid {
  const uuid = parseId('request', id);
  assert(uuid !== null, `"${id}" is a request id`);
  return uuid;
}
