/**
 * The story of one refund: waits until it is posted or rejected, and tells meanwhile what it waits for. It decides
 * nothing and moves nothing: the row `request_refund (request, n)` is written, decided and posted by the interface,
 * for a person who is authenticated.
 */
import { continueAsNew, proxyActivities, setCurrentDetails } from '@temporalio/workflow';
import type { RefundActivities } from '../../activities/requests/refunds.ts';
import {
  decideRefundUpdate,
  checkRefundUpdate,
  refundStatusQuery,
  type RefundInput,
  type RefundStatus,
} from '../../contract/index.ts';
import { followRow } from '../kit/follow-row.ts';
import { refuseDecision } from '../kit/refuse-decision.ts';

const { readRefund } = proxyActivities<RefundActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

export async function refundRequest(input: RefundInput): Promise<RefundStatus> {
  const { requestId, n } = input;
  refuseDecision(
    decideRefundUpdate,
    () => `POST /admin/requests/${requestId}/refunds/${n}/approve (or …/reject), as a second person,`,
  );
  return followRow<RefundStatus>(input, {
    statusQuery: refundStatusQuery,
    checkUpdate: checkRefundUpdate,
    read: () => readRefund({ requestId, n }),
    show: (status) => setCurrentDetails(detailsOf(requestId, status)),
    isOpen: ({ state }) => state === 'waiting',
    continueAsNew: () => continueAsNew<typeof refundRequest>(input),
  });
}

function detailsOf(requestId: string, { state, amountUsd, reason, requestedBy, decidedBy }: RefundStatus): string {
  if (state === 'waiting') {
    const what = `${amountUsd} USD for ${requestId}: ${reason} (asked by ${requestedBy})`;
    return `Waiting for a second person to approve ${what}.`;
  }
  return `${state} by ${decidedBy ?? requestedBy}: ${amountUsd} USD for ${requestId}.`;
}
