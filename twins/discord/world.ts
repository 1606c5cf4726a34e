/**
 * Actions of people in the guild: they join, leave, boost, vote on sites that hand out roles. Each change is stored and
 * told to the gateway in the way and order in which Discord tells it, or is not told, as Discord sometimes does not.
 */
import {
  type APIGuildMember,
  type APIMessage,
  GatewayDispatchEvents,
  MessageType,
  type RESTPostAPIChannelMessageJSONBody,
} from 'discord-api-types/v10';

import { type DiscordApplication, rolesOf, systemChannelId } from './application.ts';
import { SnowflakeMaker } from './ids.ts';
import {
  guildCreateData,
  guildObject,
  memberFields,
  memberObject,
  messageObject,
  tierOf,
  userObject,
} from './objects.ts';
import type { DiscordStore, MemberRow, UserRow } from './store.ts';
import type { TwinClock } from '../kit/clock.ts';

/** Something that the control API asked for and that cannot be. */
export class Impossible extends Error {
  readonly status: 404 | 409;

  constructor(status: 404 | 409, message: string) {
    super(message);
    this.status = status;
  }
}

/** Tells the gateway's sessions. */
export type Dispatch = (event: string, data: unknown) => void;

export interface Announcements {
  /** A system message in the guild's channel; people can switch these off. */
  readonly message: boolean;
  /** GUILD_MEMBER_UPDATE. With neither, the change shows only in the REST listing. */
  readonly memberUpdate: boolean;
  /** The member's premium time and role change in two dispatches, of which the first shows only the time. */
  readonly split: boolean;
}

const TIER_MESSAGES = [
  MessageType.GuildBoost,
  MessageType.GuildBoostTier1,
  MessageType.GuildBoostTier2,
  MessageType.GuildBoostTier3,
] as const;

export class DiscordWorld {
  readonly store: DiscordStore;
  readonly clock: TwinClock;
  readonly application: DiscordApplication;
  readonly #ids = new SnowflakeMaker();
  readonly #dispatch: Dispatch;

  constructor(store: DiscordStore, clock: TwinClock, application: DiscordApplication, dispatch: Dispatch) {
    this.store = store;
    this.clock = clock;
    this.application = application;
    this.#dispatch = dispatch;
    if (store.users.get(application.clientId) === undefined) this.#addBot();
  }

  newId(atMs = this.clock.nowMs()): string {
    return this.#ids.at(atMs);
  }

  /** The bot's user id is the application's. */
  get bot(): UserRow {
    return this.user(this.application.clientId);
  }

  /** Boosts that run in the guild. */
  get boosts(): number {
    return this.store.members.oldestFirst().reduce((sum, { boosts }) => sum + boosts, 0);
  }

  user(id: string): UserRow {
    const user = this.store.users.get(id);
    if (user === undefined) throw new Impossible(404, `There is no user '${id}'.`);
    return user;
  }

  member(userId: string): MemberRow {
    const member = this.store.members.get(this.user(userId).id);
    if (member === undefined) throw new Impossible(409, `User '${userId}' is not in the guild.`);
    return member;
  }

  memberObject(userId: string): APIGuildMember {
    return memberObject(this.member(userId), this.user(userId));
  }

  guild(): ReturnType<typeof guildObject> {
    return guildObject(this.application, this.boosts);
  }

  /** The guild as a new session gets it. */
  guildCreate(): ReturnType<typeof guildCreateData> {
    const memberCount = this.store.members.oldestFirst().length;
    return guildCreateData(this.application, this.boosts, { bot: this.memberObject(this.bot.id), memberCount });
  }

  addUser(
    username: string,
    options: { createdMs?: number; id?: string; email?: string; verified?: boolean } = {},
  ): UserRow {
    const id = options.id ?? this.newId(options.createdMs);
    if (this.store.users.get(id) !== undefined) throw new Impossible(409, `There is a user '${id}' already.`);
    return this.store.users.put({
      id,
      username,
      email: options.email ?? `${username}@people.test`,
      is_verified: options.verified ?? true,
      is_bot: false,
    });
  }

  join(userId: string): MemberRow {
    const user = this.user(userId);
    if (this.store.members.get(userId) !== undefined) throw new Impossible(409, 'The user is in the guild already.');
    const member = this.#newMember(userId);
    this.#dispatch(GatewayDispatchEvents.GuildMemberAdd, { ...memberObject(member, user), guild_id: this.#guildId });
    this.#post(user, MessageType.UserJoin, '');
    return member;
  }

  /** Boosts end with the membership; the member's removal is the only event of it. */
  leave(userId: string): void {
    this.member(userId);
    if (userId === this.bot.id) throw new Impossible(409, 'Without its bot the guild would be out of sight.');
    this.store.members.delete(userId);
    this.#dispatch(GatewayDispatchEvents.GuildMemberRemove, {
      guild_id: this.#guildId,
      user: userObject(this.user(userId)),
    });
  }

  /** Several boosts at once: one message that says how many, and which tier the guild has reached with them. */
  boost(userId: string, count: number, announced: Announcements): MemberRow {
    const member = this.member(userId);
    const tierBefore = tierOf(this.boosts);
    member.boosts += count;
    this.store.members.put(member);
    const tier = tierOf(this.boosts);
    if (announced.message) {
      const type = tier > tierBefore ? TIER_MESSAGES[tier] : MessageType.GuildBoost;
      this.#post(this.user(userId), type, count === 1 ? '' : String(count));
    }
    // Further boosts leave the member as it was.
    if (member.premium_since === null) this.#setPremium(member, new Date(this.clock.nowMs()).toISOString(), announced);
    this.#dispatch(GatewayDispatchEvents.GuildUpdate, this.guild());
    return member;
  }

  endBoosts(userId: string, count: number | null, announced: Announcements): MemberRow {
    const member = this.member(userId);
    member.boosts = count === null ? 0 : Math.max(0, member.boosts - count);
    this.store.members.put(member);
    if (member.boosts === 0 && member.premium_since !== null) this.#setPremium(member, null, announced);
    this.#dispatch(GatewayDispatchEvents.GuildUpdate, this.guild());
    return member;
  }

  /** As a vote directory's bot does it. */
  setRole(
    userId: string,
    roleId: string,
    isHeld: boolean,
    { memberUpdate }: Pick<Announcements, 'memberUpdate'>,
  ): MemberRow {
    const role = rolesOf(this.#guildId).find(({ id }) => id === roleId);
    if (role?.kind !== 'vote') throw new Impossible(409, `'${roleId}' is not a role that can be handed out.`);
    const member = this.member(userId);
    const others = member.roles.filter((id) => id !== roleId);
    this.#changeMember(member, { roles: isHeld ? [...others, roleId] : others }, memberUpdate);
    return member;
  }

  /** A message of the bot. */
  post({ content = '' }: RESTPostAPIChannelMessageJSONBody): APIMessage {
    return this.#post(this.bot, MessageType.Default, content);
  }

  get #guildId(): string {
    return this.application.guildId;
  }

  #addBot(): void {
    const { clientId } = this.application;
    this.store.users.put({ id: clientId, username: 'holdfast', email: null, is_verified: true, is_bot: true });
    this.#newMember(clientId);
  }

  #newMember(id: string): MemberRow {
    const joined = new Date(this.clock.nowMs()).toISOString();
    return this.store.members.put({ id, joined_at: joined, roles: [], boosts: 0, premium_since: null });
  }

  #setPremium(member: MemberRow, since: string | null, { memberUpdate, split }: Announcements): void {
    const booster = rolesOf(this.#guildId).find(({ kind }) => kind === 'booster')!.id;
    const others = member.roles.filter((id) => id !== booster);
    const roles = since === null ? others : [...others, booster];
    if (split) {
      this.#changeMember(member, { premium_since: since }, memberUpdate);
      this.#changeMember(member, { roles }, memberUpdate);
    } else {
      this.#changeMember(member, { premium_since: since, roles }, memberUpdate);
    }
  }

  #changeMember(member: MemberRow, change: Partial<MemberRow>, isTold: boolean): void {
    Object.assign(member, change);
    this.store.members.put(member);
    if (!isTold) return;
    this.#dispatch(GatewayDispatchEvents.GuildMemberUpdate, {
      ...memberObject(member, this.user(member.id)),
      guild_id: this.#guildId,
    });
  }

  #post(author: UserRow, type: MessageType, content: string): APIMessage {
    const message = messageObject(this.newId(), systemChannelId(this.#guildId), { author, type, content });
    this.store.messages.put(message);
    const member = memberFields(this.member(author.id));
    this.#dispatch(GatewayDispatchEvents.MessageCreate, { ...message, guild_id: this.#guildId, member });
    return message;
  }
}
