/**
 * Discord: links, what was earned before linking, and what the listing of members and messages shows that no event
 * told.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { formatId } from '../../domain/ids.ts';
import { boostsOfMessage, refusalOfLink, snowflakeOf, snowflakeTime } from '../../domain/rewards/reward.ts';
import {
  linkDiscord,
  noteDeauthorized,
  noteMember,
  provenDiscordLink,
  voteRoleHolders,
} from '../../db/rewards/discord.ts';
import { eventOf, handleEvent, storeEvent } from '../../db/payments/provider-events.ts';
import { releaseClaims } from '../../db/rewards/rewards.ts';
import { createDiscordBot, isHiddenByDiscord, isRefusedByDiscord } from '../../providers/discord/settings.ts';
import { BOOST_EVENT, DISCORD_PROVIDER, readDeauthorized } from '../../providers/reward-events.ts';
import type { RewardSettings } from '../../providers/reward-settings.ts';
import type { EventRef, LinkRequest, RewardRoute } from '../../contract/index.ts';

export interface DiscordActivities {
  /**
   * Links the Discord user that an attempt has proven to the account that began it, and pays the reward for it once;
   * says `linked`, or why not. Fails for good where the attempt has proven nothing, or another user.
   */
  linkDiscordUser(
    input: LinkRequest & { discordUserId: string; at: string },
  ): Promise<{ readonly outcome: string; readonly accountId: string }>;
  /** Pays what a linked user earned before; says how many rewards it looked at. */
  releaseRewardClaims(input: { discordUserId: string; at: string }): Promise<number>;
  /** Books Discord's facts about a link. */
  noteDiscordEvent(input: { event: EventRef; at: string }): Promise<string>;
  /** One page of members: what nobody told us of, and where the next page begins. */
  findMissedMembers(input: { after: string; at: string }): Promise<{
    members: number;
    missed: RewardRoute[];
    next: string | null;
  }>;
  /** Boosts of the last `lookBackSeconds` that the system channel shows and no event reported. */
  findMissedBoostMessages(input: { lookBackSeconds: number; at: string }): Promise<RewardRoute[]>;
}

const CLAIMS_PER_TRANSACTION = 100;
const MEMBERS_PER_PAGE = 1000;
const MESSAGES_PER_PAGE = 100;

export function createDiscordActivities({
  pool,
  logger,
  rewards,
}: {
  pool: pg.Pool;
  logger: Logger;
  rewards: RewardSettings;
}): DiscordActivities {
  const { rules, discord } = rewards;
  const bot = createDiscordBot(discord);
  const required = (): NonNullable<typeof bot> => {
    if (bot === null) throw ApplicationFailure.nonRetryable('no bot is configured on this worker', 'not_configured');
    return bot;
  };

  return {
    async linkDiscordUser({ discordUserId, attemptId, at }) {
      const proven = /^[0-9a-f]{64}$/.test(attemptId)
        ? await provenDiscordLink(pool, Buffer.from(attemptId, 'hex'))
        : null;
      if (proven === null || proven.discordUserId !== discordUserId) {
        throw ApplicationFailure.nonRetryable('no attempt to link has proven to be this user', 'not_proven');
      }
      const accountId = formatId('account', proven.accountId);
      const now = new Date(at);
      const isMember = discord.requireMembership ? await isGuildMember(discordUserId) : null;
      const refusal = refusalOfLink({ discordUserId, minimumAgeDays: discord.minimumAgeDays, isMember, at: now });
      const outcome = await linkDiscord(pool, { ...proven, refusal, rules, at: now });
      logger.info({ discord_user_id: discordUserId, account_id: accountId, outcome }, 'discord link decided');
      return { outcome, accountId };
    },

    async releaseRewardClaims({ discordUserId, at }) {
      let released = 0;
      for (;;) {
        const done = await releaseClaims(pool, {
          discordUserId,
          rules,
          limit: CLAIMS_PER_TRANSACTION,
          at: new Date(at),
        });
        released += done;
        if (done < CLAIMS_PER_TRANSACTION) break;
        Context.current().heartbeat();
      }
      if (released > 0) logger.info({ discord_user_id: discordUserId, released }, 'claims released');
      return released;
    },

    async noteDiscordEvent({ event: { provider, eventId }, at }) {
      const event = await eventOf(pool, provider, eventId);
      const discordUserId = event === null ? null : readDeauthorized(event);
      const isKnown = discordUserId !== null && (await noteDeauthorized(pool, discordUserId, new Date(at)));
      const result = isKnown ? 'link marked as stale' : 'no link';
      await handleEvent(pool, provider, eventId, result);
      return result;
    },

    async findMissedMembers({ after, at }) {
      const { api, guildId } = required();
      const now = new Date(at);
      const members = await api.guilds.getMembers(guildId, { limit: MEMBERS_PER_PAGE, after });
      const holders = await voteRoleHolders(pool);
      const roles = new Set(Object.values(discord.voteRoles));
      const missed: RewardRoute[] = [];
      for (const { user, roles: held, premium_since: premium } of members) {
        const isOfInterest = premium != null || held.some((role) => roles.has(role)) || holders.has(user.id);
        if (!isOfInterest) continue;
        const news = await noteMember(pool, {
          discordUserId: user.id,
          roles: held,
          premiumSince: premium == null ? null : new Date(premium),
          voteRoles: discord.voteRoles,
          at: now,
        });
        for (const event of news) missed.push(routeOfMember(user.id, event));
        Context.current().heartbeat();
      }
      const last = members.at(-1)?.user.id ?? null;
      return { members: members.length, missed, next: members.length < MEMBERS_PER_PAGE ? null : last };
    },

    async findMissedBoostMessages({ lookBackSeconds, at }) {
      const { api, guildId } = required();
      const missed: RewardRoute[] = [];
      const { system_channel_id: channelId } = await api.guilds.get(guildId);
      if (channelId === null) return missed;
      let after = snowflakeOf(new Date(new Date(at).getTime() - lookBackSeconds * 1000));
      for (;;) {
        const messages = await visible(api.channels.getMessages(channelId, { limit: MESSAGES_PER_PAGE, after }));
        for (const message of messages) {
          const event = boostEventOf(message);
          if (event !== null && (await storeEvent(pool, event))) {
            const { provider, eventId } = event;
            missed.push({ process: 'boost', discordUserId: message.author.id, event: { provider, eventId } });
          }
          if (BigInt(message.id) > BigInt(after)) after = message.id;
        }
        if (messages.length < MESSAGES_PER_PAGE) return missed;
        Context.current().heartbeat();
      }
    },
  };

  async function isGuildMember(discordUserId: string): Promise<boolean> {
    const { api, guildId } = required();
    try {
      await api.guilds.getMember(guildId, discordUserId);
      return true;
    } catch (error) {
      // A refusal that is not "no such member" (a bad bot token) must not be taken for one.
      if (isHiddenByDiscord(error)) return false;
      if (isRefusedByDiscord(error)) logger.error({ error: String(error) }, 'discord refuses to show members');
      throw error;
    }
  }
}

/** A channel that the bot may not read shows nothing; the listing of members still finds first boosts. */
async function visible<T>(listing: Promise<T[]>): Promise<T[]> {
  try {
    return await listing;
  } catch (error) {
    if (isHiddenByDiscord(error)) return [];
    throw error;
  }
}

/** The stored form of a system message about boosts; null for any other message. */
export function boostEventOf(message: {
  readonly id: string;
  readonly type: number;
  readonly content: string;
  readonly author: { readonly id: string };
}): { provider: string; eventId: string; type: string; payload: unknown } | null {
  const count = boostsOfMessage(message);
  if (count === 0) return null;
  const payload = {
    discord_user_id: message.author.id,
    message_id: message.id,
    count,
    boosted_at: snowflakeTime(message.id).toISOString(),
  };
  return { provider: DISCORD_PROVIDER, eventId: `message/${message.id}`, type: BOOST_EVENT, payload };
}

/** The run that news of a member belongs to, as `note_member` wrote them. */
export function routeOfMember(discordUserId: string, event: EventRef): RewardRoute {
  if (event.provider === DISCORD_PROVIDER) return { process: 'boost', discordUserId, event };
  return { process: 'vote', site: event.provider.replace(/^votes\//, ''), discordUserId, event };
}
