/**
 * The story of one refund: waits until it is posted or rejected, and tells meanwhile what it waits for. It decides nothing and moves
 * nothing: the row `request_refund (request, n)` is written, decided and posted by the interface, for a person who is authenticated.
 */
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  proxyActivities,
  setCurrentDetails,
  setHandler,
} from '@temporalio/workflow';
import type { RefundActivities } from '../../activities/requests/refunds.ts';
import {
  decideRefundUpdate,
  pokeSignal,
  recheckRefundUpdate,
  refundStatusQuery,
  type RefundInput,
  type RefundStatus,
} from '../../contract/index.ts';
import { refuseDecision } from '../kit/refuse-decision.ts';

const { readRefund } = proxyActivities<RefundActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

/** Approval may take a long weekend, and code that a run began with stays in use as long as it runs. */
const RUN_SECONDS = 86_400;
/** A decision tells the run. One that could not, because Temporal was away, is found by this. */
const POLL_SECONDS = 900;

export async function refundRequest(input: RefundInput): Promise<RefundStatus> {
  const { requestId, n, runSeconds = RUN_SECONDS, pollSeconds = POLL_SECONDS } = input;
  const runEnds = Date.now() + runSeconds * 1000;
  let status: RefundStatus | null = null;
  /** Looks that have begun, and that have ended: they come one after the other. */
  let begun = 0;
  let ended = 0;
  let isWanted = false;

  setHandler(refundStatusQuery, () => status);
  setHandler(pokeSignal, () => void (isWanted = true));
  setHandler(recheckRefundUpdate, async () => {
    // One that is under way may have read the row before it was decided.
    const wanted = begun + 1;
    isWanted = true;
    await condition(() => ended >= wanted);
    return status;
  });
  refuseDecision(
    decideRefundUpdate,
    () => `POST /admin/requests/${requestId}/refunds/${n}/approve (or …/reject), as a second person,`,
  );

  for (;;) {
    isWanted = false;
    begun++;
    status = await readRefund({ requestId, n });
    setCurrentDetails(detailsOf(requestId, status));
    ended++;
    await condition(() => isWanted || allHandlersFinished());
    if (isWanted) continue;
    if (status.state !== 'waiting') return status;
    const restMs = runEnds - Date.now();
    if (restMs <= 0) await continueAsNew<typeof refundRequest>(input);
    await condition(() => isWanted, Math.min(pollSeconds * 1000, Math.max(restMs, 1)));
  }
}

function detailsOf(requestId: string, { state, amountUsd, reason, requestedBy, decidedBy }: RefundStatus): string {
  if (state === 'waiting') {
    return `Waiting for a second person to approve ${amountUsd} USD for ${requestId}: ${reason} (asked by ${requestedBy}).`;
  }
  return `${state} by ${decidedBy ?? requestedBy}: ${amountUsd} USD for ${requestId}.`;
}
