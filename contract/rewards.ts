/** What the rest of the system may know of the workflows of rewards. See contract.ts, which exports this file. */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { BountyState } from '../domain/rewards/bounty.ts';
import type { BountySeverity, RewardSubject } from '../domain/rewards/reward.ts';
import { SEARCH_ATTRIBUTES } from './search-attributes.ts';

export const REWARD_WORKFLOW_TYPES = {
  discordLink: 'discordLink',
  voteReward: 'voteReward',
  boostReward: 'boostReward',
  bugBounty: 'bugBounty',
  reconcileBoosts: 'reconcileBoosts',
} as const;

export const RECONCILE_BOOSTS_SCHEDULE_ID = 'reconcile-boosts';

export function discordLinkWorkflowId(discordUserId: string): string {
  return `discord-link/${discordUserId}`;
}

export function voteWorkflowId(site: string, discordUserId: string): string {
  return `vote/${site}/${discordUserId}`;
}

export function boostWorkflowId(discordUserId: string): string {
  return `boost/${discordUserId}`;
}

export function bountyWorkflowId(bountyId: string): string {
  return `bounty/${bountyId}`;
}

/** A stored event that a run is to handle. */
export interface EventRef {
  readonly provider: string;
  readonly eventId: string;
}

export type RewardRoute = RewardSubject & { readonly event: EventRef | null };

/** There is news for this process. */
export const rewardEventSignal = defineSignal<[EventRef]>('event');

export interface RewardInput {
  readonly discordUserId: string;
  /** Events that this run is to handle. */
  readonly events?: readonly EventRef[];
}

export interface VoteInput extends RewardInput {
  readonly site: string;
}

/** How the process of a subject is started, by whatever has an event for it. */
export interface RewardStart {
  readonly workflowType: string;
  readonly start: {
    readonly workflowId: string;
    readonly taskQueue: string;
    readonly args: [RewardInput | VoteInput];
    readonly staticSummary: string;
  };
}

/** Start options of the process of a subject; `events` are those that the run begins with. */
export function rewardStart(subject: RewardSubject, taskQueue: string, events?: readonly EventRef[]): RewardStart {
  const { discordUserId } = subject;
  const input: RewardInput = { discordUserId, ...(events === undefined ? {} : { events }) };
  switch (subject.process) {
    case 'vote': {
      const { site } = subject;
      return {
        workflowType: REWARD_WORKFLOW_TYPES.voteReward,
        start: {
          workflowId: voteWorkflowId(site, discordUserId),
          taskQueue,
          args: [{ site, ...input }],
          staticSummary: `votes of ${discordUserId} on ${site}`,
        },
      };
    }
    case 'boost':
      return {
        workflowType: REWARD_WORKFLOW_TYPES.boostReward,
        start: {
          workflowId: boostWorkflowId(discordUserId),
          taskQueue,
          args: [input],
          staticSummary: `boosts of ${discordUserId}`,
        },
      };
    case 'link':
      return {
        workflowType: REWARD_WORKFLOW_TYPES.discordLink,
        start: {
          workflowId: discordLinkWorkflowId(discordUserId),
          taskQueue,
          args: [input],
          staticSummary: `Discord link of ${discordUserId}`,
        },
      };
  }
}

export interface RewardStep {
  readonly at: string;
  readonly what: string;
}

/**
 * Names the attempt; whose account and which Discord user it links is in its row, as Discord has told the interface.
 */
export interface LinkRequest {
  /** Hex of the hash of the attempt's state. */
  readonly attemptId: string;
}

export interface LinkStatus {
  readonly discordUserId: string;
  /** `linked`, or why not (a code of `REWARD_REASONS`); null before the first answer. */
  readonly outcome: string | null;
  /** Rewards earned before linking that this run looked at. */
  readonly released: number;
  readonly steps: readonly RewardStep[];
}

export const linkStatusQuery = defineQuery<LinkStatus>('status');
/** Somebody proved to be this Discord user and wants it linked. The update id is the attempt's as well. */
export const linkUpdate = defineUpdate<LinkStatus, [LinkRequest]>('link');

export interface VoteStatus {
  readonly site: string;
  readonly discordUserId: string;
  /** When the next vote is paid; null: now. */
  readonly nextVoteAt: string | null;
  readonly steps: readonly RewardStep[];
}

export const voteStatusQuery = defineQuery<VoteStatus>('status');

export interface BoostStatus {
  readonly discordUserId: string;
  /** Boosts that this run found to be new. */
  readonly boosts: number;
  readonly steps: readonly RewardStep[];
}

export const boostStatusQuery = defineQuery<BoostStatus>('status');

export interface BountyInput {
  readonly bountyId: string;
  /** How long one run waits before it continues as new. Not given: a day. */
  readonly runSeconds?: number;
  /** How often the row is read without being asked. Not given: every 15 minutes. */
  readonly pollSeconds?: number;
}

/** A report as its row tells it. */
export interface BountyStatus {
  readonly bountyId: string;
  readonly accountId: string;
  readonly title: string;
  readonly state: BountyState;
  readonly severity: BountySeverity | null;
  readonly amountUsd: string | null;
  readonly reason: string | null;
  readonly severityBy: string | null;
  readonly decidedBy: string | null;
}

export const bountyStatusQuery = defineQuery<BountyStatus | null>('status');
/** Read the row now: the interface has taken a step. */
export const checkBountyUpdate = defineUpdate<BountyStatus | null, []>('checkNow');
/** Always refused, with the route that takes the step; each is named for its step. */
export const BOUNTY_UPDATES = {
  triage: defineUpdate<never, [unknown]>('triage'),
  accept: defineUpdate<never, [unknown]>('accept'),
  approve: defineUpdate<never, [unknown]>('approve'),
  duplicate: defineUpdate<never, [unknown]>('duplicate'),
  reject: defineUpdate<never, [unknown]>('reject'),
} as const;

/** How the run of a report is started. */
export function bountyStart({ accountId, ...input }: BountyInput & { readonly accountId: string }, taskQueue: string) {
  const args: [BountyInput] = [input];
  return {
    workflowId: bountyWorkflowId(input.bountyId),
    taskQueue,
    args,
    typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.accountId, value: accountId }],
    staticSummary: `bug report ${input.bountyId}`,
  };
}

export interface ReconcileBoostsInput {
  /** How far back system messages are read again. */
  readonly lookBackSeconds: number;
}

export interface ReconcileBoostsResult {
  readonly members: number;
  /** Boosts and votes by role that nobody had told us of. */
  readonly missed: number;
  readonly expiredClaims: number;
}
