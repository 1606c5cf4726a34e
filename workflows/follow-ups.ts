/**
 * What may follow a charge. Decided by level, not by edge: a settlement says which accounts stand below their threshold
 * and were not told, so a follow-up that a crash prevented is started by the next settlement that sees the account.
 */
import { ParentClosePolicy, startChild, workflowInfo } from '@temporalio/workflow';
import { lowBalanceWorkflowId } from './contract.ts';
import { noticeLowBalance } from './notice-low-balance.ts';
import { startUnlessRunning } from './start-unless-running.ts';

/** Starts what has to follow for these accounts. The starts are awaited; the follow-ups outlive the caller. */
export async function startFollowUps(lowBalanceAccountIds: readonly string[]): Promise<void> {
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
}
