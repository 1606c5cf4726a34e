/**
 * What the Discord twin's process is started with, from its environment: `TWIN_…` is its own, and what it shares with the
 * product (ids and secrets) has the product's names.
 */
import { SITE_NAMES, type SiteName } from '../directories/sites.ts';
import { DEFAULT_APPLICATION, type DiscordApplication, rolesOf } from './application.ts';
import { isSnowflake } from './ids.ts';
import { signingKeyOf } from './keys.ts';
import { AUTHORIZE_PATH } from './oauth-page.ts';
import type { DiscordTwin, DiscordTwinOptions } from './twin.ts';
import { BadInput } from '../input.ts';

/** The product's variable of each directory's secret. */
export const VOTE_SECRET_VARIABLES: Readonly<Record<SiteName, string>> = {
  topgg: 'VOTE_TOPGG_SECRET',
  'topgg-v0': 'VOTE_TOPGG_V0_SECRET',
  discordbotlist: 'VOTE_DISCORDBOTLIST_SECRET',
  discordplace: 'VOTE_DISCORDPLACE_SECRET',
  guildsme: 'VOTE_GUILDSME_SECRET',
};

/** What the product is told of a twin. */
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

const PORT_MAX = 65_535;
const SECOND_MS_MAX = 60_000;

/** Parses the process environment; throws one `BadInput` that lists every bad variable. */
export function optionsFromEnvironment(environment: Readonly<Record<string, string | undefined>>): DiscordTwinOptions {
  const problems: string[] = [];
  const given = (name: string): string | undefined => {
    const value = environment[name]?.trim();
    return value === '' ? undefined : value;
  };
  const number = (name: string, max: number): number | undefined => {
    const text = given(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!Number.isInteger(value) || value < 0 || value > max) {
      problems.push(`'${name}' must be a whole number between 0 and ${max}.`);
    }
    return value;
  };
  const snowflake = (name: string, otherwise: string): string => {
    const text = given(name) ?? otherwise;
    if (!isSnowflake(text)) problems.push(`'${name}' must be a snowflake.`);
    return text;
  };
  const url = (name: string, text: string | undefined): string | undefined => {
    if (text !== undefined && !/^https?:\/\/./.test(text)) problems.push(`'${name}' must be a URL.`);
    return text?.replace(/\/$/, '');
  };

  const port = number('TWIN_PORT', PORT_MAX);
  const retrySecondMs = number('TWIN_RETRY_SECOND_MS', SECOND_MS_MAX);
  const webhookUrl = url('TWIN_WEBHOOK_URL', given('TWIN_WEBHOOK_URL'));
  const redirectUris = given('TWIN_REDIRECT_URIS')
    ?.split(',')
    .map((uri) => uri.trim());
  for (const uri of redirectUris ?? []) url('TWIN_REDIRECT_URIS', uri);
  const seed = given('TWIN_SIGNING_SEED');
  const projectId = given('VOTE_TOPGG_PROJECT_ID');
  const secrets = Object.entries(VOTE_SECRET_VARIABLES).flatMap(([site, variable]) => {
    const secret = given(variable);
    return secret === undefined ? [] : [[site, secret] as const];
  });
  const application = {
    clientId: snowflake('DISCORD_CLIENT_ID', DEFAULT_APPLICATION.clientId),
    guildId: snowflake('DISCORD_GUILD_ID', DEFAULT_APPLICATION.guildId),
    clientSecret: given('DISCORD_CLIENT_SECRET') ?? DEFAULT_APPLICATION.clientSecret,
    botToken: given('DISCORD_BOT_TOKEN') ?? DEFAULT_APPLICATION.botToken,
    ...(redirectUris !== undefined && { redirectUris }),
    ...(seed !== undefined && { signingKey: signingKeyOf(seed) }),
  };
  if (problems.length > 0) throw new BadInput(`Bad environment. ${problems.join(' ')}`);

  return {
    host: given('TWIN_HOST') ?? '127.0.0.1',
    port: port ?? 0,
    application,
    voteSecrets: Object.fromEntries(secrets),
    ...(projectId !== undefined && { topggProjectId: projectId }),
    webhookUrl: webhookUrl ?? null,
    ...(retrySecondMs !== undefined && { retrySecondMs }),
    demoUsers: true,
    dataFile: given('TWIN_DATA_FILE') ?? null,
  };
}
