/** The twin's rows in Discord's own shapes, as REST and gateway send them. */
import {
  type APIGuild,
  type APIGuildMember,
  type APIMessage,
  type APIRole,
  type APITextChannel,
  type APIUser,
  ChannelType,
  type GatewayGuildCreateDispatchData,
  GuildDefaultMessageNotifications,
  GuildExplicitContentFilter,
  type GuildMemberFlags,
  GuildMFALevel,
  GuildNSFWLevel,
  type GuildPremiumTier,
  type GuildSystemChannelFlags,
  GuildVerificationLevel,
  Locale,
  type MessageType,
  type RoleFlags,
} from 'discord-api-types/v10';

import { type DiscordApplication, type GuildRole, ownerId, rolesOf, systemChannelId } from './application.ts';
import { snowflakeTimeMs } from './ids.ts';
import type { MemberRow, UserRow } from './store.ts';

/** Boosts that a guild needs for each tier. */
const TIER_BOOSTS = [2, 7, 14] as const;
const NO_FLAGS = 0;

export function tierOf(boosts: number): GuildPremiumTier {
  return TIER_BOOSTS.filter((needed) => boosts >= needed).length;
}

export function userObject(user: UserRow): APIUser {
  return {
    id: user.id,
    username: user.username,
    discriminator: '0',
    global_name: null,
    avatar: null,
    ...(user.is_bot && { bot: true }),
  };
}

export function memberObject(member: MemberRow, user: UserRow): APIGuildMember {
  return { user: userObject(user), ...memberFields(member) };
}

/** A member beside a message, whose author says who it is. */
export function memberFields(member: MemberRow): Omit<APIGuildMember, 'user'> {
  return {
    nick: null,
    avatar: null,
    banner: null,
    roles: [...member.roles],
    joined_at: member.joined_at,
    premium_since: member.premium_since,
    deaf: false,
    mute: false,
    flags: NO_FLAGS as GuildMemberFlags,
    pending: false,
    communication_disabled_until: null,
  };
}

export function guildObject({ guildId }: DiscordApplication, boosts: number): APIGuild {
  return {
    id: guildId,
    name: 'Holdfast sandbox',
    icon: null,
    splash: null,
    discovery_splash: null,
    description: null,
    banner: null,
    owner_id: ownerId(guildId),
    afk_channel_id: null,
    afk_timeout: 300,
    verification_level: GuildVerificationLevel.None,
    default_message_notifications: GuildDefaultMessageNotifications.OnlyMentions,
    explicit_content_filter: GuildExplicitContentFilter.Disabled,
    roles: rolesOf(guildId).map(roleObject),
    emojis: [],
    features: [],
    stickers: [],
    mfa_level: GuildMFALevel.None,
    application_id: null,
    system_channel_id: systemChannelId(guildId),
    system_channel_flags: NO_FLAGS as GuildSystemChannelFlags,
    rules_channel_id: null,
    public_updates_channel_id: null,
    safety_alerts_channel_id: null,
    vanity_url_code: null,
    premium_tier: tierOf(boosts),
    premium_subscription_count: boosts,
    premium_progress_bar_enabled: true,
    preferred_locale: Locale.EnglishUS,
    nsfw_level: GuildNSFWLevel.Default,
    hub_type: null,
    incidents_data: null,
    region: 'deprecated',
  };
}

export function roleObject({ id, name, kind }: GuildRole, position: number): APIRole {
  return {
    id,
    name,
    color: 0,
    colors: { primary_color: 0, secondary_color: null, tertiary_color: null },
    hoist: false,
    position,
    permissions: '0',
    // Nobody can hand out the boosters' role: Discord adds and removes it.
    managed: kind === 'booster',
    mentionable: false,
    flags: NO_FLAGS as RoleFlags,
    ...(kind === 'booster' && { tags: { premium_subscriber: null } }),
  };
}

export function channelObject({ guildId }: DiscordApplication): APITextChannel {
  return {
    id: systemChannelId(guildId),
    type: ChannelType.GuildText,
    guild_id: guildId,
    name: 'general',
    topic: null,
    position: 0,
    nsfw: false,
    parent_id: null,
    permission_overwrites: [],
    rate_limit_per_user: 0,
    last_message_id: null,
  };
}

/** `members` are those that Discord sends unasked: without presences, only the bot itself. */
export function guildCreateData(
  application: DiscordApplication,
  boosts: number,
  { bot, memberCount }: { readonly bot: APIGuildMember; readonly memberCount: number },
): GatewayGuildCreateDispatchData {
  return {
    ...guildObject(application, boosts),
    joined_at: bot.joined_at ?? '',
    large: false,
    unavailable: false,
    member_count: memberCount,
    voice_states: [],
    members: [bot],
    channels: [channelObject(application)],
    threads: [],
    presences: [],
    stage_instances: [],
    guild_scheduled_events: [],
    soundboard_sounds: [],
  };
}

/** A message's time is that of its id. */
export function messageObject(
  id: string,
  channelId: string,
  { author, type, content }: { readonly author: UserRow; readonly type: MessageType; readonly content: string },
): APIMessage {
  return {
    id,
    channel_id: channelId,
    type,
    content,
    author: userObject(author),
    timestamp: new Date(snowflakeTimeMs(id)).toISOString(),
    edited_timestamp: null,
    tts: false,
    mention_everyone: false,
    mentions: [],
    mention_roles: [],
    attachments: [],
    embeds: [],
    pinned: false,
  };
}
