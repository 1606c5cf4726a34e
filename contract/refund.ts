/** The process of one refund as others may know it. See contract.ts, which exports this file. */
import { defineQuery, defineUpdate } from '@temporalio/workflow';
import { SEARCH_ATTRIBUTES } from './search-attributes.ts';

export function refundWorkflowId(requestId: string, n: number): string {
  return `refund/${requestId}/${n}`;
}

/** Names the refund; everything else is read from its row. */
export interface RefundInput {
  readonly requestId: string;
  readonly n: number;
  /** How long one run waits before it continues as new. Not given: a day. */
  readonly runSeconds?: number;
  /** How often the row is read without being asked. Not given: every 15 minutes. */
  readonly pollSeconds?: number;
}

export interface RefundStatus {
  readonly state: 'waiting' | 'posted' | 'rejected';
  readonly amountUsd: string;
  readonly reason: string;
  readonly requestedBy: string;
  readonly decidedBy: string | null;
  readonly postingId: string | null;
}

/** Null until the row is read for the first time. */
export const refundStatusQuery = defineQuery<RefundStatus | null>('status');
/** Read the row now: the interface has decided. */
export const checkRefundUpdate = defineUpdate<RefundStatus | null, []>('checkNow');
/** Always refused, with the route that decides. */
export const decideRefundUpdate = defineUpdate<never, [unknown]>('decideRefund');

/** How the run of a refund is started. A refund whose run has ended has told its story: no second one starts. */
export function refundStart(
  { accountId, amountUsd, ...input }: RefundInput & { readonly accountId: string; readonly amountUsd: string },
  taskQueue: string,
) {
  const args: [RefundInput] = [input];
  return {
    workflowId: refundWorkflowId(input.requestId, input.n),
    workflowIdReusePolicy: 'REJECT_DUPLICATE' as const,
    taskQueue,
    args,
    typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.accountId, value: accountId }],
    staticSummary: `refund ${amountUsd} USD of ${input.requestId}`,
  };
}
