/**
 * Links one Discord user to an account: pays the reward for linking once, permanently, then what the user earned before.
 * The row is the state and its unique keys are the guarantee; a run can begin with nothing but the user and ends when
 * all is paid.
 */
import { allHandlersFinished, condition, proxyActivities, setCurrentDetails, setHandler } from '@temporalio/workflow';
import type { DiscordActivities } from '../../activities/rewards/discord.ts';
import { Steps } from '../kit/steps.ts';
import {
  linkStatusQuery,
  linkUpdate,
  rewardEventSignal,
  type EventRef,
  type LinkStatus,
  type RewardInput,
} from '../../contract/rewards.ts';

const { linkDiscordUser, releaseRewardClaims, noteDiscordEvent } = proxyActivities<DiscordActivities>({
  startToCloseTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

export async function discordLink({ discordUserId, events: given = [] }: RewardInput): Promise<LinkStatus> {
  const steps = new Steps();
  let events: EventRef[] = [...given];
  let outcome: string | null = null;
  let released = 0;

  const now = (): string => new Date().toISOString();
  const note = (what: string): void => {
    steps.note(what);
    setCurrentDetails(`${discordUserId}: ${what}.`);
  };
  const status = (): LinkStatus => ({ discordUserId, outcome, released, steps: steps.list });
  const release = async (): Promise<void> => {
    const done = await releaseRewardClaims({ discordUserId, at: now() });
    released += done;
    if (done > 0) note(`${done} rewards from before`);
  };

  setHandler(linkStatusQuery, status);
  setHandler(rewardEventSignal, (event) => void events.push(event));
  setHandler(linkUpdate, async ({ attemptId }) => {
    const { outcome: answer, accountId } = await linkDiscordUser({ discordUserId, attemptId, at: now() });
    outcome = answer;
    note(answer === 'linked' ? `linked to ${accountId}` : `not linked to ${accountId}: ${answer}`);
    if (answer === 'linked') await release();
    return status();
  });

  await condition(allHandlersFinished);
  do {
    const taken = events;
    events = [];
    for (const event of taken) note(await noteDiscordEvent({ event, at: now() }));
    await release();
    await condition(allHandlersFinished);
  } while (events.length > 0);
  return status();
}
