/**
 * Finds payments and rewards that were left behind: stored events that were not handled are delivered again, and open
 * top-ups and reversals that nobody has checked for long get a run where they have none. Runs by schedule, one at a
 * time.
 */
import { ParentClosePolicy, proxyActivities, setCurrentDetails, startChild, workflowInfo } from '@temporalio/workflow';
import type { AutoTopUpActivities } from '../../activities/payments/auto-top-up.ts';
import type { RewardActivities } from '../../activities/rewards/rewards.ts';
import type { TopUpActivities } from '../../activities/payments/top-ups.ts';
import { autoTopUp } from './auto-top-up.ts';
import {
  autoTopUpStart,
  reversalStart,
  topUpStart,
  wakeSignal,
  type EventRoute,
  type QuietReversal,
  type SweepEventsInput,
  type SweepEventsResult,
} from '../../contract/index.ts';
import { deliverReward } from '../rewards/deliver-reward.ts';
import { startOrSignal } from '../kit/start-or-signal.ts';
import { reverseTopUp } from './reverse-top-up.ts';
import { startUnlessRunning } from '../kit/start-unless-running.ts';
import { topUp } from './top-up.ts';

const { findLostEvents, findQuietTopUps, findQuietReversals, findQuietAutoTopUps, findLostRewards } = proxyActivities<
  TopUpActivities & AutoTopUpActivities & RewardActivities
>({
  startToCloseTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '5s', maximumAttempts: 3 },
});

/** A process that may have to be started. */
interface Child {
  readonly workflowId: string;
  readonly start: () => Promise<unknown>;
}

const OUTLIVING = { parentClosePolicy: ParentClosePolicy.ABANDON } as const;

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
  for (const topUpId of await findQuietTopUps(quiet)) {
    if (await startUnlessRunning(topUpChild(topUpId).start)) restarted++;
  }
  for (const reversal of await findQuietReversals(quiet)) {
    if (await startUnlessRunning(reversalChild(reversal).start)) restarted++;
  }
  const keeping = await findQuietAutoTopUps({ ageSeconds: input.eventAgeSeconds, limit: input.rowsPerRun });
  for (const accountId of keeping) if (await startAutoTopUp(accountId)) restarted++;
  const rewards = await findLostRewards({ ageSeconds: input.eventAgeSeconds, limit: input.rowsPerRun });
  for (const route of rewards) await deliverReward(route);
  const result = { delivered: lost.length + rewards.length, restarted };
  setCurrentDetails(`Events delivered again ${result.delivered}, top-ups and reversals restarted ${result.restarted}.`);
  return result;

  /** Starts the process that an event belongs to with it, or wakes the run that is there. */
  async function deliver({ provider, eventId, topUpId, reversalId }: EventRoute): Promise<void> {
    const { workflowId, start } =
      reversalId === null
        ? topUpChild(topUpId, [eventId])
        : reversalChild({ provider, objectId: reversalId, topUpId }, [eventId]);
    await startOrSignal(start, { workflowId, signal: wakeSignal, args: [{ eventId }] });
  }

  function startAutoTopUp(accountId: string): Promise<boolean> {
    const start = autoTopUpStart(accountId, taskQueue, input.topUp);
    return startUnlessRunning(() => startChild(autoTopUp, { ...start, ...OUTLIVING }));
  }

  function topUpChild(topUpId: string, events?: readonly string[]): Child {
    const summary = `top-up ${topUpId}, found by the sweep`;
    const options = topUpStart({ topUpId, summary, ...(events && { events }) }, taskQueue, input.topUp);
    return { workflowId: options.workflowId, start: () => startChild(topUp, { ...options, ...OUTLIVING }) };
  }

  function reversalChild(reversal: QuietReversal, events?: readonly string[]): Child {
    const summary = `${reversal.objectId} of ${reversal.topUpId}, found by the sweep`;
    const options = reversalStart({ ...reversal, summary, ...(events && { events }) }, taskQueue, input.topUp);
    return { workflowId: options.workflowId, start: () => startChild(reverseTopUp, { ...options, ...OUTLIVING }) };
  }
}
