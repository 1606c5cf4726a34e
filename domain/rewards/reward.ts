/**
 * Rewards: which event earns what, and why an event earns nothing. Pure. Amounts are the operator's settings; code that
 * shows or pays one reads them from the same `RewardRules`, and every reward keeps the version of the rules it was
 * earned under.
 *
 * Whether a cap or the month's budget is reached, and which signs are of one boost, is decided in SQL, under the locks
 * without which it cannot be known (db/functions/rewards).
 */
import type { PicoUsd } from '../money.ts';

export const REWARD_KINDS = ['discord_link', 'vote', 'boost', 'bounty'] as const;
export type RewardKind = (typeof REWARD_KINDS)[number];

/**
 * `claimable` is earned by a Discord user whom nobody has linked yet, `waiting` needs a person, the others are ends:
 * `denied` by the rules, `rejected` by a person, `expired` because nobody linked in time.
 */
export const REWARD_STATES = ['claimable', 'waiting', 'posted', 'denied', 'rejected', 'expired'] as const;
export type RewardState = (typeof REWARD_STATES)[number];

/** The rules of one kind of reward. */
export interface KindRules {
  readonly amount: PicoUsd;
  /** The most that all customers together get in a UTC day without a person's approval. */
  readonly capPerDay: PicoUsd;
  /** The most that one account gets in a UTC day without a person's approval. */
  readonly capPerAccountDay: PicoUsd;
}

export const BOUNTY_SEVERITIES = ['critical', 'high', 'medium', 'low'] as const;
export type BountySeverity = (typeof BOUNTY_SEVERITIES)[number];

export interface RewardRules {
  /** Names these very rules: changes with every number in them. */
  readonly version: string;
  readonly kinds: Readonly<Record<RewardKind, KindRules>>;
  readonly bountyAmounts: Readonly<Record<BountySeverity, PicoUsd>>;
  /** A bounty above this amount waits for a second person. */
  readonly bountyApprovalAbove: PicoUsd;
  /** Bounties beyond this sum in a UTC month wait for a second person. */
  readonly bountyMonthlyBudget: PicoUsd;
  /** How long a reward waits for its Discord user to link an account. */
  readonly claimDays: number;
}

/** How far the time of a system message and of `premium_since` may lie apart for one boost. */
export const BOOST_MATCH_SECONDS = 600;

/** No bounty is higher, whatever the settings say. */
export const BOUNTY_MAX_USD = 50n;

const DISCORD_EPOCH_MS = 1_420_070_400_000n;
const SNOWFLAKE = /^\d{1,20}$/;
const SNOWFLAKE_BOUND = 2n ** 63n;

/** True for the form of an id of Discord. */
export function isSnowflake(text: string): boolean {
  return SNOWFLAKE.test(text) && BigInt(text) < SNOWFLAKE_BOUND;
}

/** The time when Discord created an id: its upper bits are milliseconds since 2015. */
export function snowflakeTime(snowflake: string): Date {
  return new Date(Number((BigInt(snowflake) >> 22n) + DISCORD_EPOCH_MS));
}

/** The smallest id of a moment: where a listing that goes by ids has to begin. */
export function snowflakeOf(at: Date): string {
  const ms = BigInt(at.getTime()) - DISCORD_EPOCH_MS;
  return ms <= 0n ? '0' : (ms << 22n).toString();
}

export const LINK_REFUSALS = ['account_too_young', 'not_a_member'] as const;
export type LinkRefusal = (typeof LINK_REFUSALS)[number];

/** Whether a Discord user may be linked at all. `isMember` null: membership is not asked for. */
export function refusalOfLink(user: {
  readonly discordUserId: string;
  readonly minimumAgeDays: number;
  readonly isMember: boolean | null;
  readonly at: Date;
}): LinkRefusal | null {
  const ageMs = user.at.getTime() - snowflakeTime(user.discordUserId).getTime();
  if (ageMs < user.minimumAgeDays * 86_400_000) return 'account_too_young';
  return user.isMember === false ? 'not_a_member' : null;
}

/** Discord's system messages about boosts: one alone, and those that lift the server to tier 1, 2, 3. */
const BOOST_MESSAGE_TYPES: readonly number[] = [8, 9, 10, 11];
/** More boosts than anybody can own: a text that says more is none of Discord's. */
const BOOSTS_MAX = 100;

/**
 * How many boosts a message announces: its content has the count when there are several at once. 0: it is about none.
 */
export function boostsOfMessage(message: { readonly type: number; readonly content: string }): number {
  if (!BOOST_MESSAGE_TYPES.includes(message.type)) return 0;
  const count = /^\s*(\d{1,3})\s*$/.exec(message.content);
  return count === null ? 1 : Math.min(Math.max(Number(count[1]), 1), BOOSTS_MAX);
}

/** Why a reward was not paid, waits or lapsed, in words for the one who expected it. */
export const REWARD_REASONS = {
  account_too_young: 'The Discord account is too young to be linked. Please try again later.',
  not_a_member: 'The Discord user is not a member of our server.',
  linked_elsewhere: 'The Discord user is linked to another account. Unlink it there first.',
  account_has_link: 'Another Discord user is linked to this account. Unlink that one first.',
  user_rewarded: 'The reward for linking was given for this Discord user before; it is given once.',
  account_rewarded: 'The reward for linking was given to this account before; it is given once.',
  cooldown: 'The vote came before the site’s cooldown was over.',
  wrong_project: 'The vote was for another listing than ours.',
  time_in_future: 'The site says that the vote is in the future.',
  too_late: 'The vote reached us too long after it was cast.',
  source_cap: 'Today’s limit for this kind of reward is used up; a person looks at it.',
  account_cap: 'Today’s limit of this account for this kind of reward is used up; a person looks at it.',
  account_frozen: 'The account is frozen; a person looks at it.',
  second_approval: 'An amount this high needs a second person’s approval.',
  monthly_budget: 'This month’s budget is used up; a second person has to approve.',
  rejected: 'A person looked at it and said no.',
  claim_expired: 'No account was linked to the Discord user in time.',
} as const;
export type RewardReason = keyof typeof REWARD_REASONS;

/** Words for a stored reason. A person's own words (a rejection) are shown as they are. */
export function reasonWords(reason: string): string {
  return reason in REWARD_REASONS ? REWARD_REASONS[reason as RewardReason] : reason;
}

/**
 * The subject of an event about rewards: the process of a vote's site and user, of a user's boosts, or of a user's
 * link.
 */
export type RewardSubject =
  | { readonly process: 'vote'; readonly discordUserId: string; readonly site: string }
  | { readonly process: 'boost' | 'link'; readonly discordUserId: string };
