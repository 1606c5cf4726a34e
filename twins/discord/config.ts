/**
 * Settings of the Discord twin's process, from its environment: `TWIN_…` is its own, and what it shares with the
 * product (ids and secrets) has the product's names.
 */
import { SITE_NAMES, type SiteName } from './directories/vote.ts';
import { DEFAULT_APPLICATION, type DiscordApplication, rolesOf } from './application.ts';
import { isSnowflake } from './ids.ts';
import { signingKeyOf } from './keys.ts';
import { AUTHORIZE_PATH } from './oauth-page.ts';
import type { DiscordTwin, DiscordTwinOptions } from './twin.ts';
import { TwinEnvironment } from '../kit/environment.ts';

/** The product's variable of each directory's secret. */
export const VOTE_SECRET_VARIABLES: Readonly<Record<SiteName, string>> = {
  topgg: 'VOTE_TOPGG_SECRET',
  'topgg-v0': 'VOTE_TOPGG_V0_SECRET',
  discordbotlist: 'VOTE_DISCORDBOTLIST_SECRET',
  discordplace: 'VOTE_DISCORDPLACE_SECRET',
  guildsme: 'VOTE_GUILDSME_SECRET',
};

/** The settings of the product for a twin. */
export function productEnvironment({
  url,
  application,
  voteSecrets,
  topggProjectId,
}: Pick<DiscordTwin, 'url' | 'application' | 'voteSecrets' | 'topggProjectId'>): Record<string, string> {
  return {
    ...sharedEnvironment(application, voteSecrets, topggProjectId),
    DISCORD_PUBLIC_KEY: application.signingKey.publicKey,
    DISCORD_API_URL: `${url}/api`,
    DISCORD_OAUTH_URL: `${url}${AUTHORIZE_PATH}`,
    VOTE_ROLES: rolesOf(application.guildId)
      .flatMap(({ id, site }) => (site === null ? [] : [`${site}=${id}`]))
      .join(','),
  };
}

/** The ids and secrets that the product and the twin's process both know. */
export function sharedEnvironment(
  { clientId, clientSecret, botToken, guildId }: DiscordApplication,
  voteSecrets: Readonly<Record<SiteName, string>>,
  topggProjectId: string,
): Record<string, string> {
  return {
    DISCORD_CLIENT_ID: clientId,
    DISCORD_CLIENT_SECRET: clientSecret,
    DISCORD_BOT_TOKEN: botToken,
    DISCORD_GUILD_ID: guildId,
    VOTE_TOPGG_PROJECT_ID: topggProjectId,
    ...Object.fromEntries(SITE_NAMES.map((site) => [VOTE_SECRET_VARIABLES[site], voteSecrets[site]])),
  };
}

const SECOND_MS_MAX = 60_000;

/** Throws one `BadInput` that lists every bad variable. */
export function optionsFromEnvironment(environment: Readonly<Record<string, string | undefined>>): DiscordTwinOptions {
  const env = new TwinEnvironment(environment);
  const snowflake = (name: string, otherwise: string): string => {
    const text = env.text(name) ?? otherwise;
    if (!isSnowflake(text)) env.problem(`'${name}' must be a snowflake.`);
    return text;
  };
  const place = env.place();
  const retrySecondMs = env.number('TWIN_RETRY_SECOND_MS', SECOND_MS_MAX);
  const webhookUrl = env.url('TWIN_WEBHOOK_URL');
  const redirectUris = env.list('TWIN_REDIRECT_URIS');
  for (const uri of redirectUris ?? []) env.url('TWIN_REDIRECT_URIS', uri);
  const seed = env.text('TWIN_SIGNING_SEED');
  const projectId = env.text('VOTE_TOPGG_PROJECT_ID');
  const secrets = Object.entries(VOTE_SECRET_VARIABLES).flatMap(([site, variable]) => {
    const secret = env.text(variable);
    return secret === undefined ? [] : [[site, secret] as const];
  });
  const application = {
    clientId: snowflake('DISCORD_CLIENT_ID', DEFAULT_APPLICATION.clientId),
    guildId: snowflake('DISCORD_GUILD_ID', DEFAULT_APPLICATION.guildId),
    clientSecret: env.text('DISCORD_CLIENT_SECRET') ?? DEFAULT_APPLICATION.clientSecret,
    botToken: env.text('DISCORD_BOT_TOKEN') ?? DEFAULT_APPLICATION.botToken,
    ...(redirectUris !== undefined && { redirectUris }),
    ...(seed !== undefined && { signingKey: signingKeyOf(seed) }),
  };
  env.check();
  return {
    ...place,
    application,
    voteSecrets: Object.fromEntries(secrets),
    ...(projectId !== undefined && { topggProjectId: projectId }),
    webhookUrl: webhookUrl ?? null,
    ...(retrySecondMs !== undefined && { retrySecondMs }),
    demoUsers: true,
    dataFile: env.text('TWIN_DATA_FILE') ?? null,
  };
}
