/** The boosts of one Discord user: pays each that an event shows, once (message id, n), in any order and number. */
import { condition, proxyActivities, setCurrentDetails, setHandler } from '@temporalio/workflow';
import type { RewardActivities } from '../../activities/rewards/rewards.ts';
import { Steps } from '../kit/steps.ts';
import {
  boostStatusQuery,
  rewardEventSignal,
  type BoostStatus,
  type EventRef,
  type RewardInput,
} from '../../contract/rewards.ts';

const { rewardBoosts } = proxyActivities<RewardActivities>({
  startToCloseTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

/** Without an event there is nothing to do. */
const SIGNAL_MS = 1000;

export async function boostReward({ discordUserId, events: given = [] }: RewardInput): Promise<BoostStatus> {
  const steps = new Steps();
  let events: EventRef[] = [...given];
  let boosts = 0;
  const status = (): BoostStatus => ({ discordUserId, boosts, steps: steps.list });

  setHandler(boostStatusQuery, status);
  setHandler(rewardEventSignal, (event) => void events.push(event));

  // The signal that started this run may be handed over after its code has begun.
  await condition(() => events.length > 0, SIGNAL_MS);
  while (events.length > 0) {
    const taken = events;
    events = [];
    const at = new Date().toISOString();
    const answer = await rewardBoosts({ discordUserId, events: taken, at });
    boosts += answer.boosts;
    for (const what of answer.results) steps.note(what);
    setCurrentDetails(
      `${discordUserId}: ${boosts} new boosts.\n\n${answer.results.map((what) => `- ${what}`).join('\n')}`,
    );
  }
  return status();
}
