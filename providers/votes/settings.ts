/**
 * The directories that pay for votes: how each proves that a webhook is its own, and what it says of a vote. One row
 * per interface; two interfaces of one directory are one site, so a vote that comes by both is one vote.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import { isSnowflake } from '../../domain/rewards/reward.ts';
import type { VoteFacts } from '../../domain/rewards/vote.ts';
import { seconds } from '../../runtime/environment.ts';
import { clockRefusal, type WebhookRefusal } from '../webhook-refusals.ts';

const secret = z.string().min(8, 'must have at least 8 characters').optional();

export const VOTE_SCHEMA = {
  VOTE_TOPGG_SECRET: secret,
  VOTE_TOPGG_V0_SECRET: secret,
  VOTE_TOPGG_PROJECT_ID: z.string().min(1).optional(),
  VOTE_DISCORDBOTLIST_SECRET: secret,
  VOTE_DISCORDPLACE_SECRET: secret,
  VOTE_GUILDSME_SECRET: secret,
  VOTE_COOLDOWN_SECONDS: seconds(12 * 3600),
  VOTE_TOLERANCE_SECONDS: seconds(3600),
  VOTE_LATE_SECONDS: seconds(7 * 86_400),
};

type VoteEnvironment = z.output<z.ZodObject<typeof VOTE_SCHEMA>> & {
  readonly DISCORD_GUILD_ID?: string | undefined;
  readonly VOTE_ROLES: readonly string[];
};

/** The secrets that verify an interface's votes. */
interface Ours {
  readonly secret: string;
  readonly topggProjectId: string | null;
  readonly guildId: string | null;
}

export interface VoteSite {
  /** Name in the webhook's path and in the stored events' provider `votes/<name>`. */
  readonly name: string;
  /** The site of the cooldown. */
  readonly site: string;
  readonly title: string;
  readonly cooldownSeconds: number;
  /** Why the site has not sent exactly these bytes just now; null where it has. */
  refusalOf(body: Buffer, headers: IncomingHttpHeaders, at: Date): WebhookRefusal | null;
  /** The vote in a body; null when it is not a vote of the site. */
  read(body: unknown): VoteFacts | null;
}

export interface VoteSettings {
  readonly sites: readonly VoteSite[];
  readonly toleranceSeconds: number;
  readonly lateSeconds: number;
}

const id = z.string().refine(isSnowflake);
const moment = z.iso.datetime({ offset: true }).transform((text) => new Date(text));
const project = z.object({ id: z.string().optional(), platform_id: z.string().optional() });
const voter = z.object({ platform_id: id });

const topggVote = z.object({
  type: z.literal('vote.create'),
  data: z.object({
    id: z.string().min(1).max(100),
    weight: z.number().int().min(1).max(100).default(1),
    created_at: moment,
    expires_at: moment.optional(),
    project,
    user: voter,
  }),
});
const topggTest = z.object({ type: z.literal('webhook.test'), data: z.object({ project, user: voter }) });
const topggOld = z.object({
  guild: id.optional(),
  bot: id.optional(),
  user: id,
  type: z.enum(['upvote', 'test']),
  isWeekend: z.boolean().default(false),
});
const discordBotList = z.object({ id });
const discordPlace = z.object({ guild: id.optional(), bot: id.optional(), user: id, test: z.boolean().default(false) });
const guildsMe = z.object({
  event: z.string(),
  guildId: id,
  double: z.boolean().default(false),
  user: z.object({ id }),
});
const roleVote = z.object({ user: id });

/** Defaults for the fields that a site's body does not have. */
const PLAIN = { voteId: null, votedAt: null, nextVoteAt: null, weight: 1, isTest: false, isOurs: true } as const;

interface SiteRow {
  readonly name: string;
  readonly site: string;
  readonly title: string;
  /** The site's own cooldown where it is longer than ours. */
  readonly ownCooldownSeconds: number;
  readonly secret: (env: VoteEnvironment) => string | undefined;
  readonly refusalOf: (ours: Ours, body: Buffer, headers: IncomingHttpHeaders, at: Date) => WebhookRefusal | null;
  readonly read: (ours: Ours, body: unknown) => Omit<VoteFacts, 'site'> | null;
}

const SITES: readonly SiteRow[] = [
  {
    name: 'topgg',
    site: 'topgg',
    title: 'top.gg',
    ownCooldownSeconds: 0,
    secret: (env) => env.VOTE_TOPGG_SECRET,
    refusalOf: ({ secret }, body, headers, at) => topggRefusal(secret, body, headers['x-topgg-signature'], at),
    read(ours, body) {
      const test = topggTest.safeParse(body);
      if (test.success) return { ...PLAIN, discordUserId: test.data.data.user.platform_id, isTest: true };
      const vote = topggVote.safeParse(body);
      if (!vote.success) return null;
      const { id: voteId, weight, created_at: votedAt, expires_at: nextVoteAt = null, project, user } = vote.data.data;
      const isOurs =
        (ours.topggProjectId === null || project.id === ours.topggProjectId) &&
        (ours.guildId === null || project.platform_id === undefined || project.platform_id === ours.guildId);
      return { voteId, votedAt, nextVoteAt, weight, discordUserId: user.platform_id, isTest: false, isOurs };
    },
  },
  {
    name: 'topgg-v0',
    site: 'topgg',
    title: 'top.gg (old webhooks)',
    ownCooldownSeconds: 0,
    secret: (env) => env.VOTE_TOPGG_V0_SECRET,
    refusalOf: secretRefusal,
    read(ours, body) {
      const vote = topggOld.safeParse(body);
      if (!vote.success) return null;
      const { user, type, isWeekend, guild, bot } = vote.data;
      return {
        ...PLAIN,
        discordUserId: user,
        weight: isWeekend ? 2 : 1,
        isTest: type === 'test',
        isOurs: isOurGuild(ours, guild, bot),
      };
    },
  },
  {
    name: 'discordbotlist',
    site: 'discordbotlist',
    title: 'discordbotlist.com',
    ownCooldownSeconds: 0,
    secret: (env) => env.VOTE_DISCORDBOTLIST_SECRET,
    refusalOf: secretRefusal,
    read(_ours, body) {
      const vote = discordBotList.safeParse(body);
      return vote.success ? { ...PLAIN, discordUserId: vote.data.id } : null;
    },
  },
  {
    name: 'discordplace',
    site: 'discordplace',
    title: 'discord.place',
    ownCooldownSeconds: 24 * 3600,
    secret: (env) => env.VOTE_DISCORDPLACE_SECRET,
    refusalOf: secretRefusal,
    read(ours, body) {
      const vote = discordPlace.safeParse(body);
      if (!vote.success) return null;
      const { user, test, guild, bot } = vote.data;
      return { ...PLAIN, discordUserId: user, isTest: test, isOurs: isOurGuild(ours, guild, bot) };
    },
  },
  {
    name: 'guildsme',
    site: 'guildsme',
    title: 'guilds.me',
    ownCooldownSeconds: 0,
    secret: (env) => env.VOTE_GUILDSME_SECRET,
    refusalOf: secretRefusal,
    read(ours, body) {
      const vote = guildsMe.safeParse(body);
      if (!vote.success) return null;
      const { event, guildId, double, user } = vote.data;
      return {
        ...PLAIN,
        discordUserId: user.id,
        weight: double ? 2 : 1,
        isTest: event !== 'vote',
        isOurs: isOurGuild(ours, guildId, undefined),
      };
    },
  },
];

/** Directories that give the voter a role; our own bot sees it and tells, nobody else can. */
const ROLE_SITES: readonly { readonly name: string; readonly title: string }[] = [
  { name: 'discords', title: 'discords.com' },
  { name: 'discadia', title: 'discadia.com' },
  { name: 'discordservers', title: 'discordservers.com' },
];

/** Adds faults of the variables to `faults`. */
export function voteSettings(env: VoteEnvironment, faults: string[]): VoteSettings {
  if (env.VOTE_TOLERANCE_SECONDS >= env.VOTE_COOLDOWN_SECONDS) {
    faults.push('VOTE_TOLERANCE_SECONDS: must be less than VOTE_COOLDOWN_SECONDS');
  }
  if (env.VOTE_TOPGG_SECRET !== undefined && env.VOTE_TOPGG_PROJECT_ID === undefined) {
    faults.push('VOTE_TOPGG_PROJECT_ID: must be set where VOTE_TOPGG_SECRET is, or votes for other listings would pay');
  }
  const sites: VoteSite[] = [];
  for (const row of SITES) {
    const key = row.secret(env);
    if (key === undefined) continue;
    const ours: Ours = {
      secret: key,
      topggProjectId: env.VOTE_TOPGG_PROJECT_ID ?? null,
      guildId: env.DISCORD_GUILD_ID ?? null,
    };
    sites.push({
      name: row.name,
      site: row.site,
      title: row.title,
      cooldownSeconds: Math.max(env.VOTE_COOLDOWN_SECONDS, row.ownCooldownSeconds),
      refusalOf: (body, headers, at) => row.refusalOf(ours, body, headers, at),
      read(body) {
        const facts = row.read(ours, body);
        return facts === null ? null : { site: row.site, ...facts };
      },
    });
  }
  for (const pair of env.VOTE_ROLES) {
    const name = pair.split('=')[0] ?? '';
    const row = ROLE_SITES.find((known) => known.name === name);
    if (row === undefined) {
      faults.push(`VOTE_ROLES: knows only ${ROLE_SITES.map((known) => known.name).join(', ')}`);
      continue;
    }
    sites.push({
      name,
      site: name,
      title: row.title,
      cooldownSeconds: env.VOTE_COOLDOWN_SECONDS,
      refusalOf: () => ({ reason: 'not_configured', detail: 'votes of this site come by roles' }),
      read(body) {
        const vote = roleVote.safeParse(body);
        return vote.success ? { site: name, ...PLAIN, discordUserId: vote.data.user } : null;
      },
    });
  }
  return { sites, toleranceSeconds: env.VOTE_TOLERANCE_SECONDS, lateSeconds: env.VOTE_LATE_SECONDS };
}

function isOurGuild({ guildId }: Ours, guild: string | undefined, bot: string | undefined): boolean {
  if (guildId === null) return true;
  return guild === guildId && bot === undefined;
}

/** Compares in the same time whatever the difference. */
function secretRefusal({ secret }: Ours, _body: Buffer, headers: IncomingHttpHeaders): WebhookRefusal | null {
  const { authorization } = headers;
  if (typeof authorization !== 'string') return { reason: 'no_signature' };
  return isSame(authorization, secret) ? null : { reason: 'wrong_secret' };
}

function isSame(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

function topggRefusal(
  secret: string,
  body: Buffer,
  header: string | string[] | undefined,
  at: Date,
): WebhookRefusal | null {
  // The old webhooks of top.gg have another header, and an endpoint of their own here.
  if (header === undefined) return { reason: 'malformed_signature', detail: 'no x-topgg-signature' };
  const [, timestamp, signature] =
    /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(typeof header === 'string' ? header : '') ?? [];
  if (timestamp === undefined || signature === undefined) return { reason: 'malformed_signature' };
  const expected = createHmac('sha256', secret).update(`${timestamp}.`).update(body).digest('hex');
  return isSame(signature, expected) ? clockRefusal(Number(timestamp), at) : { reason: 'wrong_secret' };
}
