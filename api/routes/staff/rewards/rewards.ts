/** Rewards for staff: what was earned by whom, and what waits for a person because it is above a cap. */
import { z } from 'zod';
import { decideReward, findReward, listRewards, type Reward } from '../../../../db/rewards/rewards.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import { isSnowflake, REWARD_STATES } from '../../../../domain/rewards/reward.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { id, idText, listOf, pageById, pageOfQuery, renderPage } from '../../../http/fields.ts';
import { renderReward, rewardFields } from '../../account/rewards/rewards.ts';
import { ok, staffRoute, type Route } from '../../../http/route.ts';
import { approvalPair } from '../approval-pair.ts';

const params = z.strictObject({ id: id('reward') });

const staffRewardView = z.object({
  ...rewardFields,
  account_id: idText('account').nullable(),
  discord_user_id: z.string().nullable(),
  requested_by: z.string(),
  decided_by: z.string().nullable(),
});

const render = (reward: Reward): z.output<typeof staffRewardView> => ({
  ...renderReward(reward),
  account_id: reward.accountId === null ? null : formatId('account', reward.accountId),
  discord_user_id: reward.discordUserId,
  requested_by: reward.requestedBy,
  decided_by: reward.decidedBy,
});

export function adminRewardRoutes({ management, settings }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'get',
      path: '/admin/rewards',
      summary: 'List rewards, newest first',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject({
        ...pageById,
        account_id: id('account').optional(),
        discord_user_id: z.string().refine(isSnowflake, 'must be a Discord id').optional(),
        state: z.enum(REWARD_STATES).optional(),
      }),
      response: listOf(staffRewardView),
      async handle({ query }) {
        const filter = {
          accountId: query.account_id ?? null,
          discordUserId: query.discord_user_id ?? null,
          state: query.state ?? null,
        };
        return ok(renderPage(await listRewards(management, filter, pageOfQuery(query)), render));
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/rewards/{id}',
      summary: 'Get a reward',
      roles: READERS_AND_SUPPORT,
      params,
      response: staffRewardView,
      async handle(call) {
        const reward = await findReward(management, call.params.id);
        if (reward === null) throw new Refusal('not_found');
        return ok(render(reward));
      },
    }),
    ...approvalPair(management, {
      path: '/admin/rewards/{id}',
      params,
      response: staffRewardView,
      approve: {
        segment: 'approve',
        summary: 'Pay a waiting reward; above the limits of one person it needs two',
        action: 'reward.approve',
        state: 'posted',
      },
      reject: {
        segment: 'reject',
        summary: 'Refuse a waiting reward; the customer sees the reason',
        action: 'reward.reject',
        state: 'rejected',
        takesReason: true,
      },
      mayTakeTwo: true,
      conflict: (state) => `The reward is ${state}.`,
      async decide(client, call, { approve, reason: words }) {
        const before = await findReward(client, call.params.id);
        if (before === null) throw new Refusal('not_found');
        if (before.kind === 'bounty') {
          throw new Refusal('conflict', { message: 'Decide a bounty with its report, under /admin/bounties.' });
        }
        const limits = { ...settings.manualLimits, movement: settings.adjustmentApprovalThreshold };
        const decision = { id: before.id, approve, by: call.actor, reason: words, at: new Date(), limits };
        return { ...(await decideReward(client, decision)), decidedNow: before.state === 'waiting' };
      },
      record: (reward, { reason: words }) => ({
        subject: formatId('reward', reward.id),
        details: {
          kind: reward.kind,
          source_event: reward.sourceEvent,
          ...(words === null ? {} : { reason: words }),
        },
      }),
      render: (reward) => render(reward),
    }),
  ];
}
