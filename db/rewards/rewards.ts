/**
 * Rewards: what was earned, paid, or waits, and boosts. One function per SQL function of db/functions/rewards; what is
 * paid once is said there and by the keys of the tables. The time is always the caller's.
 */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import {
  BOOST_MATCH_SECONDS,
  type KindRules,
  type RewardKind,
  type RewardRules,
  type RewardState,
} from '../../domain/rewards/reward.ts';
import { limitsText, type ManualLimits } from '../accounts/manual-limits.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';

export interface Reward {
  readonly id: Uuid<'reward'>;
  readonly kind: RewardKind;
  readonly sourceEvent: string;
  readonly discordUserId: string | null;
  /** Null as long as nobody has linked the Discord user. */
  readonly accountId: AccountUuid | null;
  readonly amount: PicoUsd;
  readonly state: RewardState;
  /** Why it was not paid, or waits: a code of `REWARD_REASONS`, or a person's words. */
  readonly reason: string | null;
  readonly earnedAt: Date;
  readonly expiresAt: Date | null;
  readonly decidedAt: Date | null;
  readonly requestedBy: string;
  readonly decidedBy: string | null;
  readonly ruleVersion: string;
  readonly postingId: Uuid<'posting'> | null;
}

export interface RewardRow {
  id: string;
  kind: RewardKind;
  source_event: string;
  discord_user_id: string | null;
  account_id: string | null;
  amount: string;
  state: RewardState;
  reason: string | null;
  earned_at: Date;
  expires_at: Date | null;
  decided_at: Date | null;
  requested_by: string;
  decided_by: string | null;
  rule_version: string;
  posting_id: string | null;
}

function toReward(row: RewardRow): Reward {
  return {
    id: uuidOf('reward', row.id),
    kind: row.kind,
    sourceEvent: row.source_event,
    discordUserId: row.discord_user_id,
    accountId: row.account_id === null ? null : uuidOf('account', row.account_id),
    amount: usd(row.amount),
    state: row.state,
    reason: row.reason,
    earnedAt: row.earned_at,
    expiresAt: row.expires_at,
    decidedAt: row.decided_at,
    requestedBy: row.requested_by,
    decidedBy: row.decided_by,
    ruleVersion: row.rule_version,
    postingId: row.posting_id === null ? null : uuidOf('posting', row.posting_id),
  };
}

/** The rules of one kind as the SQL functions read them. */
export function rulesOf(rules: RewardRules, kind: RewardKind, amount = rules.kinds[kind].amount): string {
  return JSON.stringify(ruleFields(rules, { ...rules.kinds[kind], amount }));
}

function ruleFields({ version, claimDays }: RewardRules, kind: KindRules): Record<string, string | number> {
  return {
    version,
    amount: formatUsd(kind.amount),
    cap_per_day: formatUsd(kind.capPerDay),
    cap_per_account_day: formatUsd(kind.capPerAccountDay),
    claim_seconds: claimDays * 86_400,
  };
}

/** Pays up to `limit` of what a linked Discord user earned before; fewer than `limit` means that none is left. */
export async function releaseClaims(
  pool: pg.Pool,
  { discordUserId, rules, limit, at }: { discordUserId: string; rules: RewardRules; limit: number; at: Date },
): Promise<number> {
  const byKind = { vote: ruleFields(rules, rules.kinds.vote), boost: ruleFields(rules, rules.kinds.boost) };
  const row = await queryOne<{ done: number }>(pool, {
    name: 'release_claims',
    text: 'select release_claims($1, $2, $3, $4) as done',
    values: [discordUserId, JSON.stringify(byKind), limit, at],
  });
  return row.done;
}

/** Closes up to `limit` claims that nobody came for in time; says how many. */
export async function expireClaims(pool: pg.Pool, limit: number, at: Date): Promise<number> {
  const row = await queryOne<{ done: number }>(pool, {
    name: 'expire_claims',
    text: 'select expire_claims($1, $2) as done',
    values: [limit, at],
  });
  return row.done;
}

/** Linked Discord users who still have claims. */
export async function findWaitingClaims(pool: pg.Pool, limit: number): Promise<string[]> {
  const row = await queryOne<{ users: string[] }>(pool, {
    name: 'find_waiting_claims',
    text: 'select find_waiting_claims($1) as users',
    values: [limit],
  });
  return row.users;
}

/** Records the boosts of one system message and pays each once; says how many are new. */
export async function recordBoosts(
  pool: pg.Pool,
  boosts: {
    readonly discordUserId: string;
    readonly messageId: string;
    readonly count: number;
    readonly boostedAt: Date;
    readonly rules: RewardRules;
    readonly at: Date;
  },
): Promise<number> {
  const { discordUserId, messageId, count, boostedAt, rules, at } = boosts;
  const row = await queryOne<{ made: number }>(pool, {
    name: 'record_boosts',
    text: 'select record_boosts($1, $2, $3, $4, $5, $6, $7) as made',
    values: [discordUserId, messageId, count, boostedAt, BOOST_MATCH_SECONDS, rulesOf(rules, 'boost'), at],
  });
  return row.made;
}

/**
 * Records that a user became a booster; pays it unless a system message reported the same boost. Returns whether it is
 * new.
 */
export async function recordPremium(
  pool: pg.Pool,
  premium: {
    readonly discordUserId: string;
    readonly since: Date;
    readonly rules: RewardRules;
    readonly at: Date;
  },
): Promise<boolean> {
  const { discordUserId, since, rules, at } = premium;
  const row = await queryOne<{ made: boolean }>(pool, {
    name: 'record_premium',
    text: 'select record_premium($1, $2, $3, $4, $5) as made',
    values: [discordUserId, since, BOOST_MATCH_SECONDS, rulesOf(rules, 'boost'), at],
  });
  return row.made;
}

/**
 * A person decides a reward that waits; beyond `limits` an approval takes two, and the first leaves it waiting. Refuses
 * `second_person_needed`. A repeat returns it as it was decided.
 */
export async function decideReward(
  session: Session,
  decision: {
    id: Uuid<'reward'>;
    approve: boolean;
    by: string;
    reason: string | null;
    at: Date;
    limits: ManualLimits | null;
  },
): Promise<Reward> {
  const row = await queryOne<RewardRow>(session, {
    name: 'decide_reward',
    text: 'select * from decide_reward($1, $2, $3, $4, $5, $6)',
    values: [decision.id, decision.approve, decision.by, decision.reason, decision.at, limitsText(decision.limits)],
  });
  return toReward(row);
}

/** Null when there is no such reward. */
export async function findReward(session: Session, id: Uuid<'reward'>): Promise<Reward | null> {
  const [row] = await query<RewardRow>(session, {
    name: 'find_reward',
    text: 'select * from reward where id = $1',
    values: [id],
  });
  return row === undefined ? null : toReward(row);
}

export interface RewardFilter {
  readonly accountId: AccountUuid | null;
  readonly discordUserId: string | null;
  readonly state: RewardState | null;
}

/** Rewards, newest first; null filters nothing. */
export async function listRewards(session: Session, filter: RewardFilter, page: PageRequest): Promise<Page<Reward>> {
  const rows = await query<RewardRow>(session, {
    name: 'list_rewards',
    text: `select * from reward
      where ($1::uuid is null or account_id = $1) and ($2::text is null or discord_user_id = $2)
        and ($3::text is null or state = $3) and ($4::uuid is null or id < $4)
      order by id desc limit $5`,
    values: [filter.accountId, filter.discordUserId, filter.state, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toReward), page.limit, (reward) => reward.id);
}

/** The sums paid to an account so far, by kind. */
export async function sumRewards(
  session: Session,
  accountId: AccountUuid,
): Promise<{ kind: RewardKind; total: PicoUsd; count: number }[]> {
  const rows = await query<{ kind: RewardKind; total: string; count: number }>(session, {
    name: 'sum_rewards',
    text: `select kind, sum(amount) as total, count(*)::integer as count from reward
      where account_id = $1 and state = 'posted' group by kind order by kind`,
    values: [accountId],
  });
  return rows.map(({ kind, total, count }) => ({ kind, total: usd(total), count }));
}

export interface Denial {
  readonly at: Date;
  readonly kind: RewardKind;
  /** The denied source: the site of a vote, else the source event. */
  readonly subject: string;
  readonly reason: string;
}

/** The denied rewards of an account, or of its linked Discord user, newest first. */
export async function listDenials(
  session: Session,
  { accountId, discordUserId, limit }: { accountId: AccountUuid; discordUserId: string | null; limit: number },
): Promise<Denial[]> {
  return query<{ at: Date; kind: RewardKind; subject: string; reason: string }>(session, {
    name: 'list_denials',
    text: `select at, kind, subject, reason from (
        (select coalesce(decided_at, earned_at) as at, kind, source_event as subject, reason from reward
          where account_id = $1 and state in ('denied', 'rejected', 'expired') order by id desc limit $3)
        union all
        (select coalesce(decided_at, earned_at), kind, source_event, reason from reward
          where account_id is null and discord_user_id = $2 and state = 'expired' order by id desc limit $3)
        union all
        (select arrived_at, 'vote', site, reason from vote
          where discord_user_id = $2 and outcome = 'refused' order by id desc limit $3)
      ) denied order by at desc limit $3`,
    values: [accountId, discordUserId, limit],
  });
}
