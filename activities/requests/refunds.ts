/** Refunds of single requests as their runs read them. They are asked for, decided and posted by the interface. */
import type pg from 'pg';
import { ApplicationFailure } from '@temporalio/common';
import { assert } from '../../domain/assert.ts';
import { formatId, parseId } from '../../domain/ids.ts';
import { formatUsd } from '../../domain/money.ts';
import { refundOf } from '../../db/requests/refunds.ts';
import type { RefundStatus } from '../../contract/index.ts';

export interface RefundActivities {
  /** How the refund's row stands. Fails for good where there is none. */
  readRefund(input: { requestId: string; n: number }): Promise<RefundStatus>;
}

export function createRefundActivities({ pool }: { pool: pg.Pool }): RefundActivities {
  return {
    async readRefund({ requestId, n }) {
      const id = parseId('request', requestId);
      assert(id !== null, `"${requestId}" is a request id`);
      const refund = await refundOf(pool, { requestId: id, n });
      if (refund === null)
        throw ApplicationFailure.nonRetryable(`there is no refund ${n} of ${requestId}`, 'not_found');
      return {
        state: refund.state,
        amountUsd: formatUsd(refund.amount),
        reason: refund.reason,
        requestedBy: refund.requestedBy,
        decidedBy: refund.decidedBy,
        postingId: refund.postingId === null ? null : formatId('posting', refund.postingId),
      };
    },
  };
}
