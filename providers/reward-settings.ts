/**
 * The configuration of rewards, read by api (what is shown, links, webhooks) and worker (what is paid): one set of
 * rules for both. A source whose provider has no key is off.
 */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { formatUsd, picoUsd, PICO_PER_USD, type PicoUsd } from '../domain/money.ts';
import {
  BOUNTY_MAX_USD,
  BOUNTY_SEVERITIES,
  REWARD_KINDS,
  type KindRules,
  type RewardKind,
  type RewardRules,
} from '../domain/rewards/reward.ts';
import { DISCORD_SCHEMA, discordSettings, type DiscordSettings } from './discord/settings.ts';
import { ConfigError, invalidEnvironment, positiveInteger, usdInCents } from '../runtime/environment.ts';
import { VOTE_SCHEMA, voteSettings, type VoteSettings } from './votes/settings.ts';

export const REWARD_SCHEMA = {
  ...DISCORD_SCHEMA,
  ...VOTE_SCHEMA,
  REWARD_DISCORD_LINK_USD: usdInCents('1'),
  REWARD_VOTE_USD: usdInCents('0.05'),
  REWARD_BOOST_USD: usdInCents('1'),
  REWARD_BOUNTY_CRITICAL_USD: usdInCents('50'),
  REWARD_BOUNTY_HIGH_USD: usdInCents('25'),
  REWARD_BOUNTY_MEDIUM_USD: usdInCents('10'),
  REWARD_BOUNTY_LOW_USD: usdInCents('3'),
  BOUNTY_APPROVAL_USD: usdInCents('25'),
  BOUNTY_MONTHLY_BUDGET_USD: usdInCents('500'),
  REWARD_CLAIM_DAYS: positiveInteger(30),
  REWARD_DISCORD_LINK_DAILY_USD: usdInCents('100'),
  REWARD_VOTE_DAILY_USD: usdInCents('50'),
  REWARD_BOOST_DAILY_USD: usdInCents('100'),
  REWARD_BOUNTY_DAILY_USD: usdInCents('200'),
  REWARD_DISCORD_LINK_ACCOUNT_DAILY_USD: usdInCents('1'),
  REWARD_VOTE_ACCOUNT_DAILY_USD: usdInCents('1'),
  REWARD_BOOST_ACCOUNT_DAILY_USD: usdInCents('20'),
  REWARD_BOUNTY_ACCOUNT_DAILY_USD: usdInCents('100'),
};

export type RewardEnvironment = z.output<z.ZodObject<typeof REWARD_SCHEMA>>;

export interface RewardSettings {
  readonly rules: RewardRules;
  readonly discord: DiscordSettings;
  readonly votes: VoteSettings;
}

/** Changes when the meaning of a rule does; the rest of a version names the numbers. */
const RULES_EDITION = 1;

export function rewardSettings(env: RewardEnvironment): RewardSettings {
  const faults: string[] = [];
  const kinds: Record<RewardKind, KindRules> = {
    discord_link: {
      amount: env.REWARD_DISCORD_LINK_USD,
      capPerDay: env.REWARD_DISCORD_LINK_DAILY_USD,
      capPerAccountDay: env.REWARD_DISCORD_LINK_ACCOUNT_DAILY_USD,
    },
    vote: {
      amount: env.REWARD_VOTE_USD,
      capPerDay: env.REWARD_VOTE_DAILY_USD,
      capPerAccountDay: env.REWARD_VOTE_ACCOUNT_DAILY_USD,
    },
    boost: {
      amount: env.REWARD_BOOST_USD,
      capPerDay: env.REWARD_BOOST_DAILY_USD,
      capPerAccountDay: env.REWARD_BOOST_ACCOUNT_DAILY_USD,
    },
    bounty: {
      amount: env.REWARD_BOUNTY_CRITICAL_USD,
      capPerDay: env.REWARD_BOUNTY_DAILY_USD,
      capPerAccountDay: env.REWARD_BOUNTY_ACCOUNT_DAILY_USD,
    },
  };
  const bountyAmounts = {
    critical: env.REWARD_BOUNTY_CRITICAL_USD,
    high: env.REWARD_BOUNTY_HIGH_USD,
    medium: env.REWARD_BOUNTY_MEDIUM_USD,
    low: env.REWARD_BOUNTY_LOW_USD,
  };
  for (const kind of REWARD_KINDS) {
    if (kinds[kind].amount <= 0n && kind !== 'bounty') {
      faults.push(`REWARD_${kind.toUpperCase()}_USD: must be above zero`);
    }
  }
  const bountyMax: PicoUsd = picoUsd(BOUNTY_MAX_USD * PICO_PER_USD);
  for (const severity of BOUNTY_SEVERITIES) {
    const worth = bountyAmounts[severity];
    if (worth <= 0n || worth > bountyMax) {
      faults.push(`REWARD_BOUNTY_${severity.toUpperCase()}_USD: must be above zero and at most ${BOUNTY_MAX_USD}`);
    }
  }
  const discord = discordSettings(env, faults);
  const votes = voteSettings(env, faults);
  if (faults.length > 0) throw new ConfigError(invalidEnvironment(faults));
  const rules = {
    kinds,
    bountyAmounts,
    bountyApprovalAbove: env.BOUNTY_APPROVAL_USD,
    bountyMonthlyBudget: env.BOUNTY_MONTHLY_BUDGET_USD,
    claimDays: env.REWARD_CLAIM_DAYS,
  };
  return { rules: { version: versionOf(rules), ...rules }, discord, votes };
}

/** `1-` and a short hash of every number: two rewards of one version were earned under the same rules. */
function versionOf(rules: Omit<RewardRules, 'version'>): string {
  const text = JSON.stringify(rules, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
  return `${RULES_EDITION}-${createHash('sha256').update(text).digest('hex').slice(0, 8)}`;
}

/** One line for the start's log; no secrets. */
export function describeRewards({ rules, discord, votes }: RewardSettings): string {
  const parts = [
    discord.oauth === null ? 'Discord links off' : 'Discord links on',
    discord.bot === null ? 'boosts off' : 'boosts on',
    `votes from ${votes.sites.map(({ name }) => name).join(', ') || 'nowhere'}`,
  ];
  return `rewards (rules ${rules.version}): ${parts.join(', ')}; ${formatUsd(rules.kinds.vote.amount)} USD a vote`;
}
