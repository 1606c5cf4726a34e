/** Hands an event about a reward to the process that it belongs to, from within a workflow. */
import { ParentClosePolicy, startChild, workflowInfo } from '@temporalio/workflow';
import { startOrSignal } from '../kit/start-or-signal.ts';
import { rewardEventSignal, rewardStart, type RewardRoute } from '../../contract/rewards.ts';
import { startUnlessRunning } from '../kit/start-unless-running.ts';

/** Starts the process with the event, or signals the event to the run that is there. */
export async function deliverReward(route: RewardRoute): Promise<void> {
  const { event } = route;
  const { taskQueue } = workflowInfo();
  const { workflowType, start } = rewardStart(route, taskQueue, event === null ? undefined : [event]);
  const child = (): Promise<unknown> =>
    startChild(workflowType, { ...start, parentClosePolicy: ParentClosePolicy.ABANDON });
  if (event === null) await startUnlessRunning(child);
  else await startOrSignal(child, { workflowId: start.workflowId, signal: rewardEventSignal, args: [event] });
}
