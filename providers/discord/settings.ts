/** Discord: its configuration and its clients, for api (link, signed webhooks) and worker (members, gateway). */
import { createPublicKey, verify, type KeyObject } from 'node:crypto';
import { API } from '@discordjs/core';
import { DiscordAPIError, REST } from '@discordjs/rest';
import { z } from 'zod';
import { isSnowflake } from '../../domain/rewards/reward.ts';
import { commaList, seconds } from '../../runtime/environment.ts';

const snowflake = z.string().refine(isSnowflake, 'must be an id of Discord');

export const DISCORD_SCHEMA = {
  DISCORD_CLIENT_ID: snowflake.optional(),
  DISCORD_CLIENT_SECRET: z.string().min(1).optional(),
  DISCORD_BOT_TOKEN: z.string().min(1).optional(),
  DISCORD_GUILD_ID: snowflake.optional(),
  DISCORD_PUBLIC_KEY: z
    .string()
    .regex(/^[0-9a-f]{64}$/i, 'must be 64 hex digits')
    .optional(),
  DISCORD_API_URL: z.url().default('https://discord.com/api'),
  DISCORD_OAUTH_URL: z.url().default('https://discord.com/oauth2/authorize'),
  DISCORD_LINK_SECONDS: seconds(600),
  DISCORD_MIN_ACCOUNT_AGE_DAYS: z.coerce.number().int().min(0).max(3650).default(30),
  DISCORD_REQUIRE_MEMBERSHIP: z
    .enum(['true', 'false'], 'must be true or false')
    .default('false')
    .transform((text) => text === 'true'),
  /** `site=role id` pairs of directories that vote by giving a role. */
  VOTE_ROLES: commaList,
};

export interface DiscordSettings {
  /** Null where accounts cannot be linked. */
  readonly oauth: { readonly clientId: string; readonly clientSecret: string; readonly authorizeUrl: string } | null;
  /** Null where no boosts are seen. */
  readonly bot: { readonly token: string; readonly guildId: string } | null;
  /** Public key of the application, for its signed webhook events; null where there are none. */
  readonly publicKey: KeyObject | null;
  readonly apiUrl: string;
  readonly guildId: string | null;
  readonly linkSeconds: number;
  readonly minimumAgeDays: number;
  readonly requireMembership: boolean;
  /** Site → role. */
  readonly voteRoles: Readonly<Record<string, string>>;
}

/** The prefix of the 32 bytes of an Ed25519 key in its DER form. */
const ED25519_DER_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const VOTE_ROLE = /^([a-z0-9-]{1,40})=(\d{1,20})$/;

/** Adds faults of the variables to `faults`. */
export function discordSettings(env: z.output<z.ZodObject<typeof DISCORD_SCHEMA>>, faults: string[]): DiscordSettings {
  const { DISCORD_CLIENT_ID: clientId, DISCORD_CLIENT_SECRET: clientSecret } = env;
  const { DISCORD_BOT_TOKEN: token, DISCORD_GUILD_ID: guildId } = env;
  if ((clientId === undefined) !== (clientSecret === undefined)) {
    faults.push('DISCORD_CLIENT_SECRET: must be set together with DISCORD_CLIENT_ID');
  }
  if (token !== undefined && guildId === undefined) {
    faults.push('DISCORD_GUILD_ID: must be set where DISCORD_BOT_TOKEN is');
  }
  if (env.DISCORD_REQUIRE_MEMBERSHIP && token === undefined) {
    faults.push('DISCORD_REQUIRE_MEMBERSHIP: needs DISCORD_BOT_TOKEN, which members are read with');
  }
  const voteRoles: Record<string, string> = {};
  for (const pair of env.VOTE_ROLES) {
    const [, site, role] = VOTE_ROLE.exec(pair) ?? [];
    if (site === undefined || role === undefined) faults.push('VOTE_ROLES: must be site=role id, separated by commas');
    else voteRoles[site] = role;
  }
  return {
    oauth:
      clientId === undefined || clientSecret === undefined
        ? null
        : { clientId, clientSecret, authorizeUrl: env.DISCORD_OAUTH_URL },
    bot: token === undefined || guildId === undefined ? null : { token, guildId },
    publicKey: env.DISCORD_PUBLIC_KEY === undefined ? null : publicKeyOf(env.DISCORD_PUBLIC_KEY),
    apiUrl: env.DISCORD_API_URL.replace(/\/+$/, ''),
    guildId: guildId ?? null,
    linkSeconds: env.DISCORD_LINK_SECONDS,
    minimumAgeDays: env.DISCORD_MIN_ACCOUNT_AGE_DAYS,
    requireMembership: env.DISCORD_REQUIRE_MEMBERSHIP,
    voteRoles,
  };
}

function publicKeyOf(hex: string): KeyObject {
  const key = Buffer.concat([ED25519_DER_PREFIX, Buffer.from(hex, 'hex')]);
  return createPublicKey({ key, format: 'der', type: 'spki' });
}

/** True when Discord signed exactly these bytes at that time. */
export function isSignedByDiscord(
  publicKey: KeyObject,
  { timestamp, body, signature }: { timestamp: string; body: Buffer; signature: string },
): boolean {
  if (!/^[0-9a-f]{128}$/i.test(signature)) return false;
  return verify(null, Buffer.concat([Buffer.from(timestamp), body]), publicKey, Buffer.from(signature, 'hex'));
}

/** Temporal's retry, or the person at the browser, decides what happens after a slow answer. */
const DISCORD_TIMEOUT_MS = 10_000;

function restOf(settings: DiscordSettings, authPrefix: 'Bearer' | 'Bot'): REST {
  return new REST({ api: settings.apiUrl, version: '10', authPrefix, timeout: DISCORD_TIMEOUT_MS, retries: 1 });
}

/** Discord as our bot sees it; null where there is none. */
export function createDiscordBot(settings: DiscordSettings): { rest: REST; api: API; guildId: string } | null {
  if (settings.bot === null) return null;
  const rest = restOf(settings, 'Bot').setToken(settings.bot.token);
  return { rest, api: new API(rest), guildId: settings.bot.guildId };
}

export interface DiscordUser {
  readonly id: string;
  readonly username: string;
}

/** The user who authorized us: exchanges the code of a callback for a token, reads the user, revokes the token. */
export async function readAuthorizedUser(
  settings: DiscordSettings & { readonly oauth: NonNullable<DiscordSettings['oauth']> },
  { code, redirectUri }: { code: string; redirectUri: string },
): Promise<DiscordUser> {
  const { clientId, clientSecret } = settings.oauth;
  const rest = restOf(settings, 'Bearer');
  const api = new API(rest);
  const { access_token: token } = await api.oauth2.tokenExchange({
    client_id: clientId,
    client_secret: clientSecret,
    grant_type: 'authorization_code',
    code,
    redirect_uri: redirectUri,
  });
  rest.setToken(token);
  const { id, username } = await api.users.getCurrent();
  return { id, username };
}

/** True when Discord understood and said no, so that repeating cannot help. */
export function isRefusedByDiscord(error: unknown): boolean {
  return error instanceof DiscordAPIError && error.status >= 400 && error.status < 500 && error.status !== 429;
}

/** True when Discord says that there is no such thing, or that we may not see it. */
export function isHiddenByDiscord(error: unknown): boolean {
  return error instanceof DiscordAPIError && (error.status === 404 || error.status === 403);
}
