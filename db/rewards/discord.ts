/**
 * Discord users and accounts: attempts to link, links, members' vote roles, and the process that listens to the
 * gateway.
 */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import type { LinkRefusal, RewardRules } from '../../domain/rewards/reward.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { rulesOf } from './rewards.ts';

export interface DiscordLink {
  readonly discordUserId: string;
  readonly accountId: AccountUuid;
  readonly username: string;
  readonly linkedAt: Date;
  /** When the user took our authorization back at Discord; null while it stands. */
  readonly staleAt: Date | null;
}

/** Keeps the beginning of a link: the hash of its state, and of the cookie and token that may finish it. */
export async function beginDiscordLink(
  session: Session,
  attempt: {
    readonly stateHash: Buffer;
    readonly browserHash: Buffer;
    readonly accountId: AccountUuid;
    readonly tokenId: Uuid<'token'>;
    readonly ttlSeconds: number;
    readonly at: Date;
  },
): Promise<void> {
  const { stateHash, browserHash, accountId, tokenId, ttlSeconds, at } = attempt;
  await query(session, {
    name: 'begin_discord_link',
    text: 'select begin_discord_link($1, $2, $3, $4, $5, $6)',
    values: [stateHash, browserHash, accountId, tokenId, ttlSeconds, at],
  });
}

/** Uses an attempt up; null when it is unknown, over, used, or was begun by somebody else. */
export async function useDiscordState(
  session: Session,
  use: {
    readonly stateHash: Buffer;
    readonly browserHash: Buffer | null;
    readonly tokenId: Uuid<'token'> | null;
    readonly at: Date;
  },
): Promise<AccountUuid | null> {
  const row = await queryOne<{ account_id: string | null }>(session, {
    name: 'use_discord_state',
    text: 'select use_discord_state($1, $2, $3, $4) as account_id',
    values: [use.stateHash, use.browserHash, use.tokenId, use.at],
  });
  return row.account_id === null ? null : uuidOf('account', row.account_id);
}

/** Writes down who Discord says the user of a used attempt is, once. */
export async function proveDiscordLink(
  session: Session,
  proof: { readonly stateHash: Buffer; readonly discordUserId: string; readonly username: string },
): Promise<void> {
  await query(session, {
    name: 'prove_discord_link',
    text: 'select prove_discord_link($1, $2, $3)',
    values: [proof.stateHash, proof.discordUserId, proof.username],
  });
}

/** The Discord user that an attempt has proven; null before. */
export async function provenDiscordLink(
  session: Session,
  stateHash: Buffer,
): Promise<Pick<DiscordLink, 'discordUserId' | 'accountId' | 'username'> | null> {
  const [row] = await query<{ discord_user_id: string; account_id: string; username: string }>(session, {
    name: 'proven_discord_link',
    text: 'select * from proven_discord_link($1)',
    values: [stateHash],
  });
  if (row === undefined) return null;
  const { discord_user_id: discordUserId, account_id: accountId, username } = row;
  return { discordUserId, accountId: uuidOf('account', accountId), username };
}

/** True while the attempt may still be used by the browser that began it. For roles that may read tables. */
export async function isOpenDiscordState(session: Session, stateHash: Buffer, at: Date): Promise<boolean> {
  const rows = await query(session, {
    name: 'is_open_discord_state',
    text: 'select from discord_state where hash = $1 and used_at is null and expires_at > $2',
    values: [stateHash, at],
  });
  return rows.length === 1;
}

export type LinkOutcome = 'linked' | LinkRefusal | 'linked_elsewhere' | 'account_has_link';

/**
 * Links a Discord user, unless `refusal` or another link speaks against it, and pays the reward for linking once per
 * user.
 */
export async function linkDiscord(
  pool: pg.Pool,
  link: {
    readonly discordUserId: string;
    readonly accountId: AccountUuid;
    readonly username: string;
    readonly refusal: LinkRefusal | null;
    readonly rules: RewardRules;
    readonly at: Date;
  },
): Promise<LinkOutcome> {
  const row = await queryOne<{ outcome: LinkOutcome }>(pool, {
    name: 'link_discord',
    text: 'select link_discord($1, $2, $3, $4, $5, $6) as outcome',
    values: [
      link.discordUserId,
      link.accountId,
      link.username,
      link.refusal,
      rulesOf(link.rules, 'discord_link'),
      link.at,
    ],
  });
  return row.outcome;
}

/** Ends an account's link; false when it had none. Paid rewards stay paid. */
export async function unlinkDiscord(session: Session, accountId: AccountUuid, at: Date): Promise<boolean> {
  const row = await queryOne<{ done: boolean }>(session, {
    name: 'unlink_discord',
    text: 'select unlink_discord($1, $2) as done',
    values: [accountId, at],
  });
  return row.done;
}

/** Marks a link as stale; false when the user has none. */
export async function noteDeauthorized(pool: pg.Pool, discordUserId: string, at: Date): Promise<boolean> {
  const row = await queryOne<{ done: boolean }>(pool, {
    name: 'note_deauthorized',
    text: 'select note_deauthorized($1, $2) as done',
    values: [discordUserId, at],
  });
  return row.done;
}

/** An account's link; null when it has none. For roles that may read tables. */
export async function findDiscordLink(session: Session, accountId: AccountUuid): Promise<DiscordLink | null> {
  const [row] = await query<{
    discord_user_id: string;
    account_id: string;
    username: string;
    linked_at: Date;
    stale_at: Date | null;
  }>(session, {
    name: 'find_discord_link',
    text: 'select * from discord_link where account_id = $1 and unlinked_at is null',
    values: [accountId],
  });
  if (row === undefined) return null;
  return {
    discordUserId: row.discord_user_id,
    accountId: uuidOf('account', row.account_id),
    username: row.username,
    linkedAt: row.linked_at,
    staleAt: row.stale_at,
  };
}

export interface StoredEvent {
  readonly provider: string;
  readonly eventId: string;
}

/** Keeps what a member's roles and `premium_since` tell as events; returns the new ones. */
export async function noteMember(
  pool: pg.Pool,
  member: {
    readonly discordUserId: string;
    readonly roles: readonly string[];
    readonly premiumSince: Date | null;
    /** Site → the role that it gives for a vote. */
    readonly voteRoles: Readonly<Record<string, string>>;
    readonly at: Date;
  },
): Promise<StoredEvent[]> {
  const rows = await query<{ provider: string; event_id: string }>(pool, {
    name: 'note_member',
    text: 'select provider, event_id from note_member($1, $2, $3, $4, $5)',
    values: [member.discordUserId, member.roles, member.premiumSince, JSON.stringify(member.voteRoles), member.at],
  });
  return rows.map((row) => ({ provider: row.provider, eventId: row.event_id }));
}

/** Members of whom a role of a directory is on record. */
export async function voteRoleHolders(pool: pg.Pool): Promise<ReadonlySet<string>> {
  const row = await queryOne<{ users: string[] }>(pool, {
    name: 'vote_role_holders',
    text: 'select vote_role_holders() as users',
    values: [],
  });
  return new Set(row.users);
}

/** The right to listen to Discord's gateway: one process has it, as long as its connection to PostgreSQL lasts. */
export interface GatewayLease {
  /** False once it may be lost. */
  isHeld(): Promise<boolean>;
  release(): Promise<void>;
}

/** Takes the lease; null while another process has it. */
export async function takeGatewayLease(pool: pg.Pool): Promise<GatewayLease | null> {
  const client = await pool.connect();
  try {
    const { taken } = await queryOne<{ taken: boolean }>(client, {
      name: 'take_gateway_lease',
      text: "select pg_try_advisory_lock(hashtextextended('holdfast.discord_gateway', 0)) as taken",
      values: [],
    });
    if (!taken) {
      client.release();
      return null;
    }
  } catch (error) {
    client.release(true);
    throw error;
  }
  return {
    isHeld: () =>
      client.query('select 1').then(
        () => true,
        () => false,
      ),
    // The lock belongs to the session, so ending the session is what gives it back for certain.
    release: async () => client.release(true),
  };
}
