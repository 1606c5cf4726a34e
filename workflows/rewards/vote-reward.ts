/**
 * The votes of one Discord user on one site: each is decided and paid once, and the run lasts until the cooldown of
 * the last paid one is over, so that anybody can read when the next one counts. What is paid is decided by the spans
 * in PostgreSQL; a run that was lost is replaced by the next vote's.
 */
import { condition, continueAsNew, proxyActivities, setCurrentDetails, setHandler } from '@temporalio/workflow';
import type { RewardActivities } from '../../activities/rewards/rewards.ts';
import { CheckLoop, type NextCheck } from '../kit/check-loop.ts';
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

export async function voteReward(input: VoteInput): Promise<VoteStatus> {
  const { site, discordUserId } = input;
  const loop = new CheckLoop();
  const { steps } = loop;
  /** Those that no check has answered yet. */
  const events: EventRef[] = [...(input.events ?? [])];
  let nextVoteAt: string | null = null;
  const status = (): VoteStatus => ({ site, discordUserId, nextVoteAt, steps: steps.list });

  setHandler(voteStatusQuery, status);
  setHandler(rewardEventSignal, (event) => {
    events.push(event);
    loop.wake();
  });

  // The signal that started this run may be handed over after its code has begun.
  await condition(() => events.length > 0, SIGNAL_MS);
  await loop.run({
    check,
    failed(error) {
      throw error;
    },
    continueAsNew: () => continueAsNew<typeof voteReward>({ site, discordUserId, events }),
  });
  return status();

  async function check(): Promise<NextCheck> {
    const taken = events.splice(0);
    const at = new Date().toISOString();
    const answer = await rewardVotes({ site, discordUserId, events: taken, at });
    for (const what of answer.results) steps.note(what);
    nextVoteAt = answer.nextVoteAt !== null && Date.parse(answer.nextVoteAt) > Date.now() ? answer.nextVoteAt : null;
    const when = nextVoteAt === null ? 'at once' : `from ${nextVoteAt}`;
    setCurrentDetails(`${discordUserId} on ${site}: the next vote is paid ${when}.`);
    return nextVoteAt === null ? 'done' : { at: Date.parse(nextVoteAt) };
  }
}
