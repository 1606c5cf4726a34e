/**
 * Sees to it that no payment and no reward stays behind: stored events that nobody handled are delivered again, and open top-ups
 * and reversals that have been quiet get a run where they have none. Runs by schedule, one at a time.
 */
import {
  getExternalWorkflowHandle,
  ParentClosePolicy,
  proxyActivities,
  setCurrentDetails,
  startChild,
  workflowInfo,
} from '@temporalio/workflow';
import type { AutoTopUpActivities } from '../../activities/payments/auto-top-up.ts';
import type { RewardActivities } from '../../activities/rewards/rewards.ts';
import type { TopUpActivities } from '../../activities/payments/top-ups.ts';
import { autoTopUp } from './auto-top-up.ts';
import {
  autoTopUpStart,
  pokeSignal,
  reversalWorkflowId,
  topUpWorkflowId,
  type EventRoute,
  type SweepEventsInput,
  type SweepEventsResult,
} from '../../contract/index.ts';
import { deliverReward } from '../rewards/deliver-reward.ts';
import { reverseTopUp } from './reverse-top-up.ts';
import { startUnlessRunning } from '../kit/start-unless-running.ts';
import { topUp } from './top-up.ts';

const { findLostEvents, findQuietTopUps, findQuietReversals, findQuietAutoTopUps, findLostRewards } = proxyActivities<
  TopUpActivities & AutoTopUpActivities & RewardActivities
>({
  startToCloseTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '5s', maximumAttempts: 3 },
});

export async function sweepEvents(input: SweepEventsInput): Promise<SweepEventsResult> {
  const { taskQueue } = workflowInfo();
  const lost = await findLostEvents({ ageSeconds: input.eventAgeSeconds, limit: input.rowsPerRun });
  for (const route of lost) await deliver(route);
  const quiet = {
    ageSeconds: input.eventAgeSeconds,
    pollSeconds: input.topUp.pollMaxSeconds,
    limit: input.rowsPerRun,
  };
  let restarted = 0;
  for (const topUpId of await findQuietTopUps(quiet)) if (await startTopUp(topUpId)) restarted++;
  for (const { provider, objectId, topUpId } of await findQuietReversals(quiet)) {
    if (await startReversal(provider, objectId, topUpId, [])) restarted++;
  }
  const keeping = await findQuietAutoTopUps({ ageSeconds: input.eventAgeSeconds, limit: input.rowsPerRun });
  for (const accountId of keeping) if (await startAutoTopUp(accountId)) restarted++;
  const rewards = await findLostRewards({ ageSeconds: input.eventAgeSeconds, limit: input.rowsPerRun });
  for (const route of rewards) await deliverReward(route);
  const result = { delivered: lost.length + rewards.length, restarted };
  setCurrentDetails(`Events delivered again ${result.delivered}, top-ups and reversals restarted ${result.restarted}.`);
  return result;

  async function deliver({ provider, eventId, topUpId, reversalId }: EventRoute): Promise<void> {
    const isStarted =
      reversalId === null
        ? await startTopUp(topUpId, [eventId])
        : await startReversal(provider, reversalId, topUpId, [eventId]);
    if (isStarted) return;
    const workflowId = reversalId === null ? topUpWorkflowId(topUpId) : reversalWorkflowId(provider, reversalId);
    try {
      await getExternalWorkflowHandle(workflowId).signal(pokeSignal, { eventId });
    } catch {
      // It has ended meanwhile. The next sweep starts it again.
    }
  }

  function startAutoTopUp(accountId: string): Promise<boolean> {
    const start = autoTopUpStart(accountId, taskQueue, input.topUp);
    return startUnlessRunning(() => startChild(autoTopUp, { ...start, parentClosePolicy: ParentClosePolicy.ABANDON }));
  }

  function startTopUp(topUpId: string, events: readonly string[] = []): Promise<boolean> {
    return startUnlessRunning(() =>
      startChild(topUp, {
        workflowId: topUpWorkflowId(topUpId),
        taskQueue,
        args: [{ topUpId, events, ...input.topUp }],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        staticSummary: `top-up ${topUpId}, found by the sweep`,
      }),
    );
  }

  function startReversal(
    provider: string,
    objectId: string,
    topUpId: string,
    events: readonly string[],
  ): Promise<boolean> {
    return startUnlessRunning(() =>
      startChild(reverseTopUp, {
        workflowId: reversalWorkflowId(provider, objectId),
        taskQueue,
        args: [{ topUpId, provider, objectId, events, ...input.topUp }],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        staticSummary: `${objectId} of ${topUpId}, found by the sweep`,
      }),
    );
  }
}
