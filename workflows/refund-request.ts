/**
 * Reverses a wrong charge once, with a reason. Above the threshold it waits until a second person approves or rejects.
 * The row `request_refund (request, n)` is the state and the posting's key; this workflow is the wait and its story.
 */
import { ApplicationFailure } from '@temporalio/common';
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  proxyActivities,
  setCurrentDetails,
  setHandler,
} from '@temporalio/workflow';
import type { RefundActivities } from '../activities/refunds.ts';
import {
  decideRefundUpdate,
  refundStatusQuery,
  type RefundDecision,
  type RefundInput,
  type RefundStatus,
} from './contract.ts';

const { decideRefund } = proxyActivities<RefundActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '1s', maximumInterval: '1m' },
});

/** Approval may take a long weekend, and code that a run began with stays in use as long as it runs. */
const RUN_SECONDS = 86_400;

export async function refundRequest(input: RefundInput): Promise<RefundStatus> {
  const { requestId, n, amountUsd, reason, requestedBy, needsApproval, runSeconds = RUN_SECONDS } = input;
  let status: RefundStatus = { state: 'waiting', amountUsd, reason, requestedBy, decidedBy: null, postingId: null };

  const decide = async (decision: RefundDecision): Promise<RefundStatus> => {
    status = await decideRefund({ requestId, n, ...decision });
    return status;
  };
  setHandler(refundStatusQuery, () => status);
  setHandler(decideRefundUpdate, decide, {
    validator: ({ approve, decidedBy }) => {
      if (approve && needsApproval && decidedBy === requestedBy) {
        throw ApplicationFailure.nonRetryable('a second person must approve this refund', 'second_person_needed');
      }
    },
  });

  if (needsApproval) {
    setCurrentDetails(
      `Waiting for a second person to approve ${amountUsd} USD for ${requestId}: ${reason} (asked by ${requestedBy}).`,
    );
    const decided = await condition(() => status.state !== 'waiting', runSeconds * 1000);
    if (!decided) {
      await condition(allHandlersFinished);
      if (status.state === 'waiting') await continueAsNew<typeof refundRequest>(input);
    }
  } else {
    await decide({ approve: true, decidedBy: requestedBy });
  }
  setCurrentDetails(`${status.state} by ${status.decidedBy ?? requestedBy}: ${amountUsd} USD for ${requestId}.`);
  await condition(allHandlersFinished);
  return status;
}
