/** The one application and the one guild of the twin, as somebody would have set them up in Discord. */
import { type SigningKey, signingKeyOf } from './keys.ts';

export interface DiscordApplication {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly botToken: string;
  /** Where people may be sent back to; Discord compares whole strings. */
  readonly redirectUris: readonly string[];
  readonly guildId: string;
  readonly signingKey: SigningKey;
}

export const DEFAULT_APPLICATION: DiscordApplication = {
  clientId: '1216402938470400001',
  clientSecret: 'twin-client-secret',
  botToken: 'twin-bot-token',
  redirectUris: ['http://product.test/api/discord/callback'],
  guildId: '1216402938470400002',
  signingKey: signingKeyOf('twin'),
};

export interface GuildRole {
  readonly id: string;
  readonly name: string;
  readonly kind: 'everyone' | 'booster' | 'vote';
  /** The vote directory that gives the role to its voters; null where it has none. */
  readonly site: string | null;
}

/** Ids near the guild's, as if all had been made in the same moment; the role of everybody has the guild's own id. */
export function rolesOf(guildId: string): readonly GuildRole[] {
  return [
    { id: guildId, name: '@everyone', kind: 'everyone', site: null },
    { id: near(guildId, 1), name: 'Server Booster', kind: 'booster', site: null },
    { id: near(guildId, 2), name: 'discords.com voter', kind: 'vote', site: 'discords' },
    { id: near(guildId, 3), name: 'discadia.com voter', kind: 'vote', site: 'discadia' },
    { id: near(guildId, 4), name: 'discordservers.com voter', kind: 'vote', site: 'discordservers' },
  ];
}

/** Where the guild's system messages appear. */
export function systemChannelId(guildId: string): string {
  return near(guildId, 10);
}

export function ownerId(guildId: string): string {
  return near(guildId, 20);
}

function near(id: string, distance: number): string {
  return String(BigInt(id) + BigInt(distance));
}
