/**
 * The product's workflows, but for one: this `meterRequests` starts its follow-ups before it settles. Every result is
 * the same and every recorded history is broken: what replay tests must notice.
 */
import { ParentClosePolicy, proxyLocalActivities, startChild, workflowInfo } from '@temporalio/workflow';
import type { SettlementActivities } from '../../activities/settlement.ts';
import { lowBalanceWorkflowId, type MeterInput, type MeterResult } from '../../workflows/contract.ts';
import { noticeLowBalance } from '../../workflows/notice-low-balance.ts';

export { autoTopUp } from '../../workflows/auto-top-up.ts';
export { checkCommissions } from '../../workflows/check-commissions.ts';
export { commissionRun } from '../../workflows/commission-run.ts';
export { boostReward } from '../../workflows/boost-reward.ts';
export { bugBounty } from '../../workflows/bug-bounty.ts';
export { discordLink } from '../../workflows/discord-link.ts';
export { maintainLedger } from '../../workflows/maintain-ledger.ts';
export { monthlyCommissions } from '../../workflows/monthly-commissions.ts';
export { noticeLowBalance } from '../../workflows/notice-low-balance.ts';
export { reconcile } from '../../workflows/reconcile.ts';
export { reconcileBoosts } from '../../workflows/reconcile-boosts.ts';
export { refundRequest } from '../../workflows/refund-request.ts';
export { resolveOrphan } from '../../workflows/resolve-orphan.ts';
export { reverseTopUp } from '../../workflows/reverse-top-up.ts';
export { sweepEvents } from '../../workflows/sweep-events.ts';
export { sweepRequests } from '../../workflows/sweep-requests.ts';
export { topUp } from '../../workflows/top-up.ts';
export { voteReward } from '../../workflows/vote-reward.ts';
export { watchChain } from '../../workflows/watch-chain.ts';

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
