/**
 * The vote directories that send webhooks: what each one says of a vote, how it proves who it is, and how often it
 * tries. Facts that a directory does not send (a vote id, a time, whether it was a test), its row here cannot send
 * either.
 */
import { createHmac, randomUUID } from 'node:crypto';

import type { Channel } from '../deliveries.ts';
import type { SiteName, VoteRow } from './vote.ts';

export interface SitesOptions {
  /** Shared with the product, one for each site. */
  readonly secrets: Readonly<Record<SiteName, string>>;
  /** Our listing's id at top.gg; the other sites name the guild. */
  readonly topggProjectId: string;
  readonly guildId: string;
}

/** The optional fields of a vote that a site has a place for. */
export type VoteField = 'weight' | 'test' | 'project_id';

export interface Site {
  readonly name: SiteName;
  readonly title: string;
  readonly carries: readonly VoteField[];
  /** How long it lets a person wait until the next vote. */
  readonly cooldownHours: number;
  readonly eventType: (vote: VoteRow) => string;
  readonly payload: (vote: VoteRow, voter: { readonly username: string }) => unknown;
  readonly channel: Channel;
}

export const DEFAULT_VOTE_SECRETS: Readonly<Record<SiteName, string>> = {
  topgg: 'whs_twin_topgg',
  'topgg-v0': 'topgg-v0-secret',
  discordbotlist: 'discordbotlist-secret',
  discordplace: 'discordplace-secret',
  guildsme: 'guildsme-secret',
};
export const DEFAULT_TOPGG_PROJECT = '803190510032756736';

const HOUR_MS = 3_600_000;
const TIMEOUT_SECONDS = 5;
const FORGED_SECRET = 'not-the-secret';

export function voteSites(options: SitesOptions): readonly Site[] {
  const { secrets, guildId } = options;
  const guildOf = (vote: VoteRow): string => vote.project_id ?? guildId;
  const upvoteOrTest = (vote: VoteRow): string => (vote.is_test ? 'test' : 'upvote');
  const topgg = channelOf('topgg', {
    headers: (body, timestamp, isForged) => ({
      'x-topgg-signature': topggSignature(body, timestamp, isForged ? FORGED_SECRET : secrets.topgg),
      'x-topgg-trace': randomUUID(),
    }),
    retriesSeconds: [1, 2, 4],
    retriesOn: 'server_error',
  });
  return [
    {
      name: 'topgg',
      title: 'top.gg',
      carries: ['weight', 'test', 'project_id'],
      cooldownHours: 12,
      eventType: (vote) => (vote.is_test ? 'webhook.test' : 'vote.create'),
      payload: (vote, voter) => topggPayload(vote, voter, options),
      channel: topgg,
    },
    {
      name: 'topgg-v0',
      title: 'top.gg (old webhooks)',
      carries: ['weight', 'test', 'project_id'],
      cooldownHours: 12,
      eventType: upvoteOrTest,
      payload: (vote) => ({
        guild: guildOf(vote),
        user: vote.discord_user_id,
        type: upvoteOrTest(vote),
        isWeekend: vote.weight > 1,
        query: '',
      }),
      channel: channelOf('topgg-v0', {
        headers: sharedSecret(secrets['topgg-v0']),
        retriesSeconds: doubling(10, 1_024),
        retriesOn: 'server_error',
      }),
    },
    {
      name: 'discordbotlist',
      title: 'discordbotlist.com',
      carries: [],
      cooldownHours: 12,
      eventType: () => 'vote',
      payload: (vote, { username }) => ({ admin: false, avatar: null, username, id: vote.discord_user_id }),
      // It documents no retry, so none may be relied on.
      channel: channelOf('discordbotlist', {
        headers: sharedSecret(secrets.discordbotlist),
        retriesSeconds: [],
        retriesOn: 'server_error',
      }),
    },
    {
      name: 'discordplace',
      title: 'discord.place',
      carries: ['test', 'project_id'],
      cooldownHours: 24,
      eventType: (vote) => (vote.is_test ? 'test' : 'vote'),
      payload: (vote) => ({ guild: guildOf(vote), user: vote.discord_user_id, test: vote.is_test }),
      channel: channelOf('discordplace', {
        headers: sharedSecret(secrets.discordplace),
        retriesSeconds: [5, 5, 5],
        retriesOn: 'any_failure',
      }),
    },
    {
      name: 'guildsme',
      title: 'guilds.me',
      carries: ['weight', 'project_id'],
      cooldownHours: 12,
      eventType: () => 'vote',
      payload: (vote, { username }) => ({
        event: 'vote',
        guildId: guildOf(vote),
        double: vote.weight > 1,
        user: { id: vote.discord_user_id, discord: true, avatar: null, global_name: null, username },
      }),
      channel: channelOf('guildsme', {
        headers: sharedSecret(secrets.guildsme),
        retriesSeconds: doubling(10, 1_200),
        retriesOn: 'server_error',
      }),
    },
  ];
}

/** From when on the site lets this person vote again. */
export function nextVoteMs(site: Site, lastVoteMs: number): number {
  return lastVoteMs + site.cooldownHours * HOUR_MS;
}

/** HMAC-SHA256 of `t.body` under the webhook's secret. */
export function topggSignature(body: Buffer, timestamp: number, secret: string): string {
  const signature = createHmac('sha256', secret).update(`${timestamp}.`).update(body).digest('hex');
  return `t=${timestamp},v1=${signature}`;
}

function topggPayload(vote: VoteRow, { username }: { readonly username: string }, options: SitesOptions): unknown {
  // Another listing has another id at top.gg and stands for another guild.
  const project = {
    id: vote.project_id ?? options.topggProjectId,
    type: 'server',
    platform: 'discord',
    platform_id: vote.project_id ?? options.guildId,
  };
  const user = {
    id: `u${vote.discord_user_id}`,
    platform_id: vote.discord_user_id,
    name: username,
    avatar_url: `https://cdn.discordapp.com/embed/avatars/${Number(vote.discord_user_id.slice(-1)) % 5}.png`,
  };
  if (vote.is_test) return { type: 'webhook.test', data: { project, user } };
  const expires = new Date(Date.parse(vote.at) + 12 * HOUR_MS).toISOString();
  const data = { id: vote.id, weight: vote.weight, created_at: vote.at, expires_at: expires, project, user };
  return { type: 'vote.create', data };
}

type Sending = Pick<Channel, 'headers' | 'retriesSeconds' | 'retriesOn'>;

function channelOf(name: SiteName, sending: Sending): Channel {
  return { name, path: `votes/${name}`, timeoutSeconds: TIMEOUT_SECONDS, ...sending };
}

function sharedSecret(secret: string): Channel['headers'] {
  return (_body, _timestamp, isForged) => ({ authorization: isForged ? FORGED_SECRET : secret });
}

/** Waits of 1, 2, 4 … seconds, none longer than the last argument. */
function doubling(count: number, secondsMax: number): number[] {
  return Array.from({ length: count }, (_, index) => Math.min(2 ** index, secondsMax));
}
