/**
 * Finds boosts and votes by role that no event showed: Discord's gateway promises no delivery, and nobody listens
 * while no worker runs. Lists all members and the latest system messages; what is new goes the way of any other
 * event. Also closes claims that nobody came for. Runs nightly, and when a new session of the gateway begins.
 */
import { proxyActivities, setCurrentDetails } from '@temporalio/workflow';
import type { DiscordActivities } from '../../activities/rewards/discord.ts';
import type { RewardActivities } from '../../activities/rewards/rewards.ts';
import { deliverReward } from './deliver-reward.ts';
import type { ReconcileBoostsInput, ReconcileBoostsResult } from '../../contract/rewards.ts';

const { findMissedMembers, findMissedBoostMessages } = proxyActivities<DiscordActivities>({
  startToCloseTimeout: '5m',
  heartbeatTimeout: '1m',
  retry: { initialInterval: '1s', maximumInterval: '1m' },
});
const { expireRewardClaims } = proxyActivities<RewardActivities>({
  startToCloseTimeout: '30s',
  retry: { initialInterval: '1s', maximumInterval: '1m' },
});

export async function reconcileBoosts({ lookBackSeconds }: ReconcileBoostsInput): Promise<ReconcileBoostsResult> {
  const now = (): string => new Date().toISOString();
  let members = 0;
  let missed = 0;
  // Messages first: they know how many boosts there were, the listing knows of one.
  for (const route of await findMissedBoostMessages({ lookBackSeconds, at: now() })) {
    await deliverReward(route);
    missed++;
  }
  for (let after: string | null = '0'; after !== null;) {
    const page: Awaited<ReturnType<typeof findMissedMembers>> = await findMissedMembers({ after, at: now() });
    for (const route of page.missed) await deliverReward(route);
    members += page.members;
    missed += page.missed.length;
    after = page.next;
  }
  const expiredClaims = await expireRewardClaims({ at: now() });
  setCurrentDetails(`${members} members looked at, ${missed} missed events found, ${expiredClaims} claims lapsed.`);
  return { members, missed, expiredClaims };
}
