/**
 * The votes of one Discord user on one site: each is decided and paid once, and the run lasts until the cooldown of the last
 * paid one is over, so that anybody can read when the next one counts. What is paid is decided by the spans in PostgreSQL;
 * a run that was lost is replaced by the next vote's.
 */
import { condition, continueAsNew, proxyActivities, setCurrentDetails, setHandler } from '@temporalio/workflow';
import type { RewardActivities } from '../../activities/rewards/rewards.ts';
import {
  rewardEventSignal,
  voteStatusQuery,
  type EventRef,
  type VoteInput,
  type VoteStatus,
} from '../../contract/rewards.ts';

const { rewardVotes } = proxyActivities<RewardActivities>({
  startToCloseTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

/** Without a vote there is only the question when the next one counts. */
const SIGNAL_MS = 1000;
/** A run that gathers more steps (somebody votes every few seconds) begins anew: a history must not grow without end. */
const STEPS_MAX = 200;

export async function voteReward(input: VoteInput): Promise<VoteStatus> {
  const { site, discordUserId } = input;
  const steps: { at: string; what: string }[] = [];
  let events: EventRef[] = [...(input.events ?? [])];
  let nextVoteAt: string | null = null;

  setHandler(voteStatusQuery, (): VoteStatus => ({ site, discordUserId, nextVoteAt, steps }));
  setHandler(rewardEventSignal, (event) => void events.push(event));

  // The signal that started this run may be handed over after its code has begun.
  await condition(() => events.length > 0, SIGNAL_MS);
  for (;;) {
    const taken = events;
    events = [];
    const at = new Date().toISOString();
    const answer = await rewardVotes({ site, discordUserId, events: taken, at });
    nextVoteAt = answer.nextVoteAt;
    for (const what of answer.results) steps.push({ at, what });
    if (events.length > 0) continue;
    const restMs = nextVoteAt === null ? 0 : Date.parse(nextVoteAt) - Date.now();
    if (nextVoteAt === null || restMs <= 0) break;
    if (steps.length > STEPS_MAX) await continueAsNew<typeof voteReward>({ site, discordUserId, events });
    setCurrentDetails(`${discordUserId} on ${site}: the next vote is paid from ${nextVoteAt}.`);
    await condition(() => events.length > 0, restMs);
  }
  nextVoteAt = null;
  setCurrentDetails(`${discordUserId} on ${site}: the next vote is paid at once.`);
  return { site, discordUserId, nextVoteAt, steps };
}
