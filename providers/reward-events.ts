/**
 * Stored events about rewards, read from their payload alone. Used where events arrive and where they are handled
 * or swept up. The payloads are those that api/routes/webhooks, the gateway's listener and `note_member` (SQL) write.
 */
import { z } from 'zod';
import { isSnowflake, type RewardSubject } from '../domain/rewards/reward.ts';
import type { RewardSettings } from './reward-settings.ts';
import type { VoteSite } from './votes/settings.ts';

export const DISCORD_PROVIDER = 'discord';
const VOTES_PREFIX = 'votes/';

export const voteProvider = (siteName: string): string => `${VOTES_PREFIX}${siteName}`;

export interface RewardEvent {
  readonly provider: string;
  readonly type: string;
  readonly payload: unknown;
}

const id = z.string().refine(isSnowflake);
const moment = z.string().transform((text, context): Date => {
  const at = new Date(text);
  if (!Number.isNaN(at.getTime())) return at;
  context.issues.push({ code: 'custom', input: text, message: 'must be a time' });
  return z.NEVER;
});

const votePayload = z.object({ arrived_at: moment, body: z.unknown() });
const boostPayload = z.object({
  discord_user_id: id,
  message_id: id,
  count: z.number().int().min(1).max(100),
  boosted_at: moment,
});
const premiumPayload = z.object({ discord_user_id: id, premium_since: moment });
const deauthorizedPayload = z.object({
  event: z.object({ type: z.literal('APPLICATION_DEAUTHORIZED'), data: z.object({ user: z.object({ id }) }) }),
});

/** The event's type, and what it says of boosts. */
export const BOOST_EVENT = 'boost';
export const PREMIUM_EVENT = 'premium';

export type BoostEvent =
  | {
      readonly kind: 'message';
      readonly discordUserId: string;
      readonly messageId: string;
      readonly count: number;
      readonly at: Date;
    }
  | { readonly kind: 'premium'; readonly discordUserId: string; readonly at: Date };

/** Null when the event is about no boost. */
export function readBoostEvent({ provider, type, payload }: RewardEvent): BoostEvent | null {
  if (provider !== DISCORD_PROVIDER) return null;
  if (type === BOOST_EVENT) {
    const boost = boostPayload.safeParse(payload);
    if (!boost.success) return null;
    const { discord_user_id: discordUserId, message_id: messageId, count, boosted_at: at } = boost.data;
    return { kind: 'message', discordUserId, messageId, count, at };
  }
  if (type !== PREMIUM_EVENT) return null;
  const premium = premiumPayload.safeParse(payload);
  if (!premium.success) return null;
  return { kind: 'premium', discordUserId: premium.data.discord_user_id, at: premium.data.premium_since };
}

/** The Discord user who took our authorization back; null when the event is about something else. */
export function readDeauthorized({ provider, payload }: RewardEvent): string | null {
  if (provider !== DISCORD_PROVIDER) return null;
  const event = deauthorizedPayload.safeParse(payload);
  return event.success ? event.data.event.data.user.id : null;
}

/** The site that an event's provider names; null when it is none that is configured here. */
export function voteSiteOf({ votes }: RewardSettings, provider: string): VoteSite | null {
  if (!provider.startsWith(VOTES_PREFIX)) return null;
  return votes.sites.find(({ name }) => voteProvider(name) === provider) ?? null;
}

/** When a vote's event arrived, and what its site sent. */
export function readVoteEvent(payload: unknown): { readonly arrivedAt: Date; readonly body: unknown } | null {
  const event = votePayload.safeParse(payload);
  return event.success ? { arrivedAt: event.data.arrived_at, body: event.data.body } : null;
}

/** The subject of an event; null when it earns nothing. */
export function subjectOfRewardEvent(settings: RewardSettings, event: RewardEvent): RewardSubject | null {
  const site = voteSiteOf(settings, event.provider);
  if (site !== null) {
    const vote = site.read(readVoteEvent(event.payload)?.body);
    return vote === null ? null : { process: 'vote', site: vote.site, discordUserId: vote.discordUserId };
  }
  const boost = readBoostEvent(event);
  if (boost !== null) return { process: 'boost', discordUserId: boost.discordUserId };
  const deauthorized = readDeauthorized(event);
  return deauthorized === null ? null : { process: 'link', discordUserId: deauthorized };
}
