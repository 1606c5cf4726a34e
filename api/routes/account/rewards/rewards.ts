/**
 * Rewards as a customer sees them: what is paid for what (the one place amounts are shown from), what was earned, what
 * waits and for what, when the next vote counts, and why something was not paid.
 */
import { z } from 'zod';
import { findDiscordLink } from '../../../../db/rewards/discord.ts';
import { listDenials, listRewards, sumRewards, type Denial, type Reward } from '../../../../db/rewards/rewards.ts';
import { nextVotes } from '../../../../db/rewards/votes.ts';
import { formatId, uuidOf } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import {
  BOUNTY_SEVERITIES,
  REWARD_KINDS,
  REWARD_STATES,
  reasonWords,
  type RewardKind,
} from '../../../../domain/rewards/reward.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import {
  idText,
  listOf,
  pageById,
  pageOfQuery,
  renderPage,
  renderTime,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { accountRoute, ok, type Route } from '../../../http/route.ts';

const DENIALS_SHOWN = 50;
const WAITING_SHOWN = 200;

const kindText = () => z.enum(REWARD_KINDS);
const message = () => z.string().meta({ description: 'The reason in words.' });

const rewardView = z.object({
  id: idText('reward'),
  kind: kindText(),
  source_event: z.string(),
  amount_usd: usdText(),
  state: z.enum(REWARD_STATES),
  reason: z.string().nullable(),
  message: message().nullable(),
  earned_at: timeText(),
  expires_at: timeText().nullable().meta({ description: 'The last moment to link a Discord user for it.' }),
  decided_at: timeText().nullable(),
  rule_version: z.string(),
  posting_id: idText('posting').nullable(),
});

/** The source of a reward: for a bounty its report, which has an id of ours. */
export function renderSource(kind: RewardKind, sourceEvent: string): string {
  return kind === 'bounty' ? formatId('bounty', uuidOf('bounty', sourceEvent)) : sourceEvent;
}

export function renderReward(reward: Reward): z.output<typeof rewardView> {
  return {
    id: formatId('reward', reward.id),
    kind: reward.kind,
    source_event: renderSource(reward.kind, reward.sourceEvent),
    amount_usd: formatUsd(reward.amount),
    state: reward.state,
    reason: reward.reason,
    message: reward.reason === null ? null : reasonWords(reward.reason),
    earned_at: reward.earnedAt.toISOString(),
    expires_at: renderTime(reward.expiresAt),
    decided_at: renderTime(reward.decidedAt),
    rule_version: reward.ruleVersion,
    posting_id: reward.postingId === null ? null : formatId('posting', reward.postingId),
  };
}

export const rewardFields = rewardView.shape;

const denialView = z.object({
  at: timeText(),
  kind: kindText(),
  subject: z.string(),
  reason: z.string(),
  message: message(),
});

const renderDenial = ({ at, kind, subject, reason }: Denial): z.output<typeof denialView> => ({
  at: at.toISOString(),
  kind,
  subject: renderSource(kind, subject),
  reason,
  message: reasonWords(reason),
});

export function rewardRoutes({ management, settings }: ManagementDeps): Route[] {
  const { rules, discord, votes } = settings.rewards;
  // The first interface of a site names it.
  const sites = [...new Map(votes.sites.toReversed().map((site) => [site.site, site])).values()].toReversed();

  return [
    accountRoute({
      method: 'get',
      path: '/api/rewards',
      scope: 'read',
      summary: 'Show reward programmes, earned and waiting rewards, and when the next vote counts',
      response: z.object({
        rule_version: z.string(),
        amounts: z.object({
          discord_link_usd: usdText(),
          boost_usd: usdText(),
          vote_usd: usdText(),
          bounty: z.array(z.object({ severity: z.enum(BOUNTY_SEVERITIES), amount_usd: usdText() })),
        }),
        discord: z.object({
          available: z.boolean(),
          linked: z.boolean(),
          discord_user_id: z.string().nullable(),
          username: z.string().nullable(),
          linked_at: timeText().nullable(),
          stale_at: timeText().nullable().meta({ description: 'When you revoked the authorization at Discord.' }),
          minimum_account_age_days: z.number(),
        }),
        sites: z.array(
          z.object({
            site: z.string(),
            title: z.string(),
            cooldown_seconds: z.number(),
            next_vote_at: timeText().nullable().meta({ description: 'When the next vote is paid; null: now.' }),
          }),
        ),
        earned: z.array(z.object({ kind: kindText(), count: z.number(), total_usd: usdText() })),
        waiting: z
          .array(rewardView)
          .meta({ description: 'Rewards that wait for staff, or for the link to be finished.' }),
        denials: z.array(denialView),
      }),
      async handle({ accountId }) {
        const link = await findDiscordLink(management, accountId);
        const discordUserId = link?.discordUserId ?? null;
        const now = new Date();
        const first = { after: null, limit: WAITING_SHOWN };
        const [next, earned, waiting, claims, denials] = await Promise.all([
          discordUserId === null ? new Map<string, Date>() : nextVotes(management, discordUserId),
          sumRewards(management, accountId),
          listRewards(management, { accountId, discordUserId: null, state: 'waiting' }, first),
          discordUserId === null
            ? { rows: [] }
            : listRewards(management, { accountId: null, discordUserId, state: 'claimable' }, first),
          listDenials(management, { accountId, discordUserId, limit: DENIALS_SHOWN }),
        ]);
        return ok({
          rule_version: rules.version,
          amounts: {
            discord_link_usd: formatUsd(rules.kinds.discord_link.amount),
            boost_usd: formatUsd(rules.kinds.boost.amount),
            vote_usd: formatUsd(rules.kinds.vote.amount),
            bounty: BOUNTY_SEVERITIES.map((severity) => ({
              severity,
              amount_usd: formatUsd(rules.bountyAmounts[severity]),
            })),
          },
          discord: {
            available: discord.oauth !== null,
            linked: link !== null,
            discord_user_id: discordUserId,
            username: link?.username ?? null,
            linked_at: renderTime(link?.linkedAt ?? null),
            stale_at: renderTime(link?.staleAt ?? null),
            minimum_account_age_days: discord.minimumAgeDays,
          },
          sites: sites.map(({ site, title, cooldownSeconds }) => {
            const nextAt = next.get(site);
            return {
              site,
              title,
              cooldown_seconds: cooldownSeconds,
              next_vote_at: nextAt === undefined || nextAt <= now ? null : nextAt.toISOString(),
            };
          }),
          earned: earned.map(({ kind, count, total }) => ({ kind, count, total_usd: formatUsd(total) })),
          waiting: [...waiting.rows, ...claims.rows].map(renderReward),
          denials: denials.map(renderDenial),
        });
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/rewards/history',
      scope: 'read',
      summary: 'List rewards of the account, newest first',
      query: z.strictObject(pageById),
      response: listOf(rewardView),
      async handle({ accountId, query }) {
        const filter = { accountId, discordUserId: null, state: null };
        return ok(renderPage(await listRewards(management, filter, pageOfQuery(query)), renderReward));
      },
    }),
  ];
}
