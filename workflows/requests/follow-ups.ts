/**
 * What may follow a charge. Decided by level, not by edge: a settlement says which accounts stand below their threshold
 * and were not told, so a follow-up that a crash prevented is started by the next settlement that sees the account.
 */
import { ParentClosePolicy, proxyActivities, startChild, workflowInfo } from '@temporalio/workflow';
import type { AutoTopUpActivities } from '../../activities/payments/auto-top-up.ts';
import type { SettleOutput } from '../../activities/requests/settlement.ts';
import { lowBalanceWorkflowId } from '../../contract/index.ts';
import { noticeLowBalance } from '../accounts/notice-low-balance.ts';
import { startUnlessRunning } from '../kit/start-unless-running.ts';

/** A child cannot live in another namespace, so the runs that charge cards are started from outside. */
const { startAutoTopUps } = proxyActivities<AutoTopUpActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '30s' },
});

/** Starts what has to follow a settlement. The starts are awaited; the follow-ups outlive the caller. */
export async function startFollowUps({
  lowBalanceAccountIds,
  autoTopUpAccountIds = [],
}: Pick<SettleOutput, 'lowBalanceAccountIds' | 'autoTopUpAccountIds'>): Promise<void> {
  const { taskQueue } = workflowInfo();
  for (const accountId of lowBalanceAccountIds) {
    await startUnlessRunning(() =>
      startChild(noticeLowBalance, {
        workflowId: lowBalanceWorkflowId(accountId),
        taskQueue,
        args: [{ accountId }],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        staticSummary: `Low balance: ${accountId}`,
      }),
    );
  }
  if (autoTopUpAccountIds.length > 0) await startAutoTopUps({ accountIds: autoTopUpAccountIds });
}
