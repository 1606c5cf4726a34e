/** Refunds of single requests: posts or closes what was asked for, once. */
import type pg from 'pg';
import type { Logger } from 'pino';
import { ApplicationFailure } from '@temporalio/common';
import { assert } from '../domain/assert.ts';
import { formatId, parseId } from '../domain/ids.ts';
import { formatUsd } from '../domain/money.ts';
import { ledgerRefusal } from '../db/client.ts';
import { decideRefund } from '../db/refunds.ts';
import type { RefundStatus } from '../workflows/contract.ts';

export interface RefundActivities {
  decideRefund(input: { requestId: string; n: number; approve: boolean; decidedBy: string }): Promise<RefundStatus>;
}

export function createRefundActivities({ pool, logger }: { pool: pg.Pool; logger: Logger }): RefundActivities {
  return {
    async decideRefund({ requestId, n, approve, decidedBy }) {
      const id = parseId('request', requestId);
      assert(id !== null, `"${requestId}" is a request id`);
      try {
        const refund = await decideRefund(pool, { requestId: id, n, approve, decidedBy });
        logger.info({ request_id: requestId, n, state: refund.state, decided_by: decidedBy }, 'refund decided');
        return {
          state: refund.state,
          amountUsd: formatUsd(refund.amount),
          reason: refund.reason,
          requestedBy: refund.requestedBy,
          decidedBy: refund.decidedBy,
          postingId: refund.postingId === null ? null : formatId('posting', refund.postingId),
        };
      } catch (error) {
        const refusal = ledgerRefusal(error);
        if (refusal === null) throw error;
        throw ApplicationFailure.nonRetryable(`refund refused: ${refusal.code}`, refusal.code);
      }
    },
  };
}
