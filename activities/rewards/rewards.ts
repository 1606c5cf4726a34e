/**
 * Rewards: reads stored events, decides (domain/) and books what follows. Each activity can be repeated: what is paid
 * once is keyed in PostgreSQL by the event. The time of a decision is the workflow's.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { ApplicationFailure } from '@temporalio/common';
import { assert } from '../../domain/assert.ts';
import { formatId, parseId, type Uuid } from '../../domain/ids.ts';
import { formatUsd } from '../../domain/money.ts';
import { decideVote } from '../../domain/rewards/vote.ts';
import { bountyById, type Bounty } from '../../db/rewards/bounties.ts';
import {
  closeForeignEvent,
  eventOf,
  findUnhandledRewardEvents,
  handleEvent,
} from '../../db/payments/provider-events.ts';
import { expireClaims, findWaitingClaims, recordBoosts, recordPremium } from '../../db/rewards/rewards.ts';
import { recordVote, voteSpans } from '../../db/rewards/votes.ts';
import { readBoostEvent, readVoteEvent, subjectOfRewardEvent, voteSiteOf } from '../../providers/reward-events.ts';
import type { RewardSettings } from '../../providers/reward-settings.ts';
import type { BountyStatus, EventRef, RewardRoute } from '../../contract/index.ts';

export interface HandledEvents {
  /** The result of each event, in words. */
  readonly results: readonly string[];
}

export interface RewardActivities {
  /** Decides on votes of one user on one site and pays those that count; says when the next one counts. */
  rewardVotes(input: {
    site: string;
    discordUserId: string;
    events: readonly EventRef[];
    at: string;
  }): Promise<HandledEvents & { readonly nextVoteAt: string | null }>;
  /** Pays the boosts that events report, each once; says how many are new. */
  rewardBoosts(input: {
    discordUserId: string;
    events: readonly EventRef[];
    at: string;
  }): Promise<HandledEvents & { readonly boosts: number }>;
  readBounty(bountyId: string): Promise<BountyStatus>;
  /**
   * Events that nobody handled for `ageSeconds`, and linked users whose claims wait; what belongs nowhere is closed.
   */
  findLostRewards(input: { ageSeconds: number; limit: number }): Promise<RewardRoute[]>;
  /** Closes claims that nobody came for; says how many. */
  expireRewardClaims(input: { at: string }): Promise<number>;
}

const EXPIRED_PER_CALL = 1000;

export function createRewardActivities({
  pool,
  logger,
  rewards,
}: {
  pool: pg.Pool;
  logger: Logger;
  rewards: RewardSettings;
}): RewardActivities {
  const { rules, votes } = rewards;

  return {
    async rewardVotes({ site, discordUserId, events, at }) {
      const now = new Date(at);
      const results: string[] = [];
      for (const event of events) results.push(await rewardVote(event, now));
      const ends = (await voteSpans(pool, { site, discordUserId, from: now })).map(({ until }) => until.getTime());
      return { results, nextVoteAt: ends.length === 0 ? null : new Date(Math.max(...ends)).toISOString() };
    },

    async rewardBoosts({ discordUserId, events, at }) {
      const now = new Date(at);
      const results: string[] = [];
      let boosts = 0;
      for (const ref of events) {
        const event = await eventOf(pool, ref.provider, ref.eventId);
        const boost = event === null ? null : readBoostEvent(event);
        if (boost === null || boost.discordUserId !== discordUserId) {
          await handleEvent(pool, ref.provider, ref.eventId, 'no boost');
          results.push(`${ref.eventId}: no boost`);
          continue;
        }
        const made =
          boost.kind === 'message'
            ? await recordBoosts(pool, { ...boost, boostedAt: boost.at, rules, at: now })
            : Number(await recordPremium(pool, { discordUserId, since: boost.at, rules, at: now }));
        const result = made === 0 ? 'known already' : `${made} new`;
        await handleEvent(pool, ref.provider, ref.eventId, result);
        if (made > 0)
          logger.info({ discord_user_id: discordUserId, event_id: ref.eventId, boosts: made }, 'boosts rewarded');
        results.push(`${ref.eventId}: ${result}`);
        boosts += made;
      }
      return { results, boosts };
    },

    async readBounty(bountyId) {
      const bounty = await bountyById(pool, uuidOfBounty(bountyId));
      if (bounty === null) throw ApplicationFailure.nonRetryable(`there is no report ${bountyId}`, 'not_found');
      return statusOf(bounty);
    },

    async findLostRewards({ ageSeconds, limit }) {
      const routes: RewardRoute[] = [];
      for (const event of await findUnhandledRewardEvents(pool, ageSeconds, limit)) {
        const subject = subjectOfRewardEvent(rewards, event);
        if (subject !== null) routes.push({ ...subject, event: { provider: event.provider, eventId: event.eventId } });
        else if (event.provider.startsWith('votes/') && voteSiteOf(rewards, event.provider) === null) {
          // It stays unhandled, which `violations` shows after an hour.
          logger.warn(
            { provider: event.provider, event_id: event.eventId },
            'the site of a vote is not configured here',
          );
        } else await closeForeignEvent(pool, event.provider, event.eventId, 'nothing_of_ours');
      }
      for (const discordUserId of await findWaitingClaims(pool, limit)) {
        routes.push({ process: 'link', discordUserId, event: null });
      }
      return routes;
    },

    expireRewardClaims: ({ at }) => expireClaims(pool, EXPIRED_PER_CALL, new Date(at)),
  };

  async function rewardVote({ provider, eventId }: EventRef, now: Date): Promise<string> {
    const event = await eventOf(pool, provider, eventId);
    const site = voteSiteOf(rewards, provider);
    const delivery = event === null ? null : readVoteEvent(event.payload);
    const facts = delivery === null || site === null ? null : site.read(delivery.body);
    if (site === null || delivery === null || facts === null) return `${eventId}: cannot be read`;
    const cooldown = {
      cooldownSeconds: site.cooldownSeconds,
      toleranceSeconds: votes.toleranceSeconds,
      lateSeconds: votes.lateSeconds,
    };
    const { arrivedAt } = delivery;
    const { discordUserId } = facts;
    const paid = await voteSpans(pool, { site: facts.site, discordUserId, from: facts.votedAt ?? arrivedAt });
    const decision = decideVote(facts, arrivedAt, cooldown, paid);
    const recordId = `${site.name}/${eventId}`;
    const recorded = await recordVote(pool, { eventId: recordId, facts, arrivedAt, decision, rules, at: now });
    const result = recorded.reason === null ? recorded.outcome : `${recorded.outcome}: ${recorded.reason}`;
    await handleEvent(pool, provider, eventId, result);
    logger.info({ site: site.name, discord_user_id: discordUserId, event_id: eventId, result }, 'vote decided');
    return result;
  }
}

function statusOf(bounty: Bounty): BountyStatus {
  return {
    bountyId: formatId('bounty', bounty.id),
    accountId: formatId('account', bounty.accountId),
    title: bounty.title,
    state: bounty.state,
    severity: bounty.severity,
    amountUsd: bounty.amount === null ? null : formatUsd(bounty.amount),
    reason: bounty.reason,
    severityBy: bounty.severityBy,
    decidedBy: bounty.decidedBy,
  };
}

function uuidOfBounty(bountyId: string): Uuid<'bounty'> {
  const id = parseId('bounty', bountyId);
  assert(id !== null, `"${bountyId}" is the id of a bug report`);
  return id;
}
