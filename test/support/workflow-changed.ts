/**
 * The product's workflows, but for one: this `meterRequests` starts its follow-ups before it settles. Every result is
 * the same and every recorded history is broken: what replay tests must notice.
 */
import { ParentClosePolicy, proxyLocalActivities, startChild, workflowInfo } from '@temporalio/workflow';
import type { SettlementActivities } from '../../activities/requests/settlement.ts';
import { lowBalanceWorkflowId, type MeterInput, type MeterResult } from '../../contract/index.ts';
import { noticeLowBalance } from '../../workflows/accounts/notice-low-balance.ts';

export { autoTopUp } from '../../workflows/payments/auto-top-up.ts';
export { checkCommissions } from '../../workflows/commissions/check-commissions.ts';
export { commissionRun } from '../../workflows/commissions/commission-run.ts';
export { boostReward } from '../../workflows/rewards/boost-reward.ts';
export { bugBounty } from '../../workflows/rewards/bug-bounty.ts';
export { discordLink } from '../../workflows/rewards/discord-link.ts';
export { maintainLedger } from '../../workflows/requests/maintain-ledger.ts';
export { monthlyCommissions } from '../../workflows/commissions/monthly-commissions.ts';
export { noticeLowBalance } from '../../workflows/accounts/notice-low-balance.ts';
export { reconcile } from '../../workflows/payments/reconcile.ts';
export { reconcileBoosts } from '../../workflows/rewards/reconcile-boosts.ts';
export { refundRequest } from '../../workflows/requests/refund-request.ts';
export { resolveOrphan } from '../../workflows/requests/resolve-orphan.ts';
export { reverseTopUp } from '../../workflows/payments/reverse-top-up.ts';
export { sweepEvents } from '../../workflows/payments/sweep-events.ts';
export { sweepRequests } from '../../workflows/requests/sweep-requests.ts';
export { topUp } from '../../workflows/payments/top-up.ts';
export { voteReward } from '../../workflows/rewards/vote-reward.ts';
export { watchChain } from '../../workflows/payments/watch-chain.ts';

const { settleRequests } = proxyLocalActivities<SettlementActivities>({ startToCloseTimeout: '5s' });

export async function meterRequests({ requestIds }: MeterInput): Promise<MeterResult> {
  const { workflowId, taskQueue } = workflowInfo();
  await startChild(noticeLowBalance, {
    workflowId: lowBalanceWorkflowId('acct_early'),
    taskQueue,
    args: [{ accountId: 'acct_early' }],
    parentClosePolicy: ParentClosePolicy.ABANDON,
  });
  const { settled, settleErrors } = await settleRequests({ requestIds, workflowId });
  return { settled, settleErrors };
}
