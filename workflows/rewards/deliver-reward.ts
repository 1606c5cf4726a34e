/** Hands an event about a reward to the process that it belongs to, from within a workflow. */
import { getExternalWorkflowHandle, ParentClosePolicy, startChild, workflowInfo } from '@temporalio/workflow';
import { rewardEventSignal, rewardRunOf, type RewardRoute } from '../../contract/rewards.ts';
import { startUnlessRunning } from '../kit/start-unless-running.ts';

/** Starts the process with the event, or tells the one that is running. */
export async function deliverReward(route: RewardRoute): Promise<void> {
  const { workflowType, workflowId, input, summary } = rewardRunOf(route);
  const { event } = route;
  const isStarted = await startUnlessRunning(() =>
    startChild(workflowType, {
      workflowId,
      taskQueue: workflowInfo().taskQueue,
      args: [{ ...input, ...(event === null ? {} : { events: [event] }) }],
      parentClosePolicy: ParentClosePolicy.ABANDON,
      staticSummary: summary,
    }),
  );
  if (isStarted || event === null) return;
  try {
    await getExternalWorkflowHandle(workflowId).signal(rewardEventSignal, event);
  } catch {
    // It has ended meanwhile. The next sweep starts it again.
  }
}
