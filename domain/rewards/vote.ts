/**
 * Votes on directories: whether one is paid. Pure. A site's own time of the vote counts where it tells one; where only
 * the arrival is known, an hour is forgiven. A vote is paid when its span, from the vote to the end of the cooldown,
 * touches no span that was paid before: so order of arrival does not matter, and SQL can say the same by an exclusion
 * constraint.
 */

/** A vote as its site tells it. */
export interface VoteFacts {
  /** The site of the cooldown; two interfaces of one directory are one site. */
  readonly site: string;
  /** The site's own id of the vote; null where it has none. */
  readonly voteId: string | null;
  readonly discordUserId: string;
  /** The site's own time of the vote; null where it tells none. */
  readonly votedAt: Date | null;
  /** When the site lets the user vote again; null where it does not say. */
  readonly nextVoteAt: Date | null;
  /** How often the site counts the vote. Recorded, never multiplied. */
  readonly weight: number;
  readonly isTest: boolean;
  /** False for a vote on somebody else's listing that came under our secret. */
  readonly isOurs: boolean;
}

export interface CooldownRules {
  /** The site's own cooldown, or the product's where that is longer. */
  readonly cooldownSeconds: number;
  /** Tolerance where only the arrival is known. */
  readonly toleranceSeconds: number;
  /** How late a vote may arrive. */
  readonly lateSeconds: number;
}

/** From a paid vote to the end of its cooldown; the end itself is free again. */
export interface VoteSpan {
  readonly from: Date;
  readonly until: Date;
}

export const VOTE_OUTCOMES = ['accepted', 'refused', 'repeated', 'test'] as const;
export type VoteOutcome = (typeof VOTE_OUTCOMES)[number];
export type VoteRefusal = 'cooldown' | 'wrong_project' | 'time_in_future' | 'too_late';

export type VoteDecision =
  | { readonly outcome: 'accepted'; readonly span: VoteSpan }
  | { readonly outcome: 'refused'; readonly reason: VoteRefusal }
  /** Another delivery of a vote that was paid, by a site that has no vote ids. */
  | { readonly outcome: 'repeated' }
  | { readonly outcome: 'test' };

/** How far a site's clock may be ahead of ours. */
const CLOCK_SKEW_MS = 5 * 60_000;

/** Decides on a vote, given the spans of the votes of this user on this site that were paid. */
export function decideVote(
  vote: VoteFacts,
  arrivedAt: Date,
  rules: CooldownRules,
  paid: readonly VoteSpan[],
): VoteDecision {
  if (vote.isTest) return { outcome: 'test' };
  if (!vote.isOurs) return { outcome: 'refused', reason: 'wrong_project' };
  const at = vote.votedAt ?? arrivedAt;
  if (at.getTime() > arrivedAt.getTime() + CLOCK_SKEW_MS) return { outcome: 'refused', reason: 'time_in_future' };
  if (arrivedAt.getTime() - at.getTime() > rules.lateSeconds * 1000) return { outcome: 'refused', reason: 'too_late' };
  const span = spanOf(vote, at, rules);
  const taken = paid.find((other) => span.from < other.until && other.from < span.until);
  if (taken === undefined) return { outcome: 'accepted', span };
  const sinceTaken = span.from.getTime() - taken.from.getTime();
  // Retries end within the hour that is forgiven; a person cannot have voted twice in it.
  const isRetry = vote.voteId === null && sinceTaken >= 0 && sinceTaken < rules.toleranceSeconds * 1000;
  return isRetry ? { outcome: 'repeated' } : { outcome: 'refused', reason: 'cooldown' };
}

function spanOf(vote: VoteFacts, at: Date, rules: CooldownRules): VoteSpan {
  const forgivenSeconds = vote.votedAt === null ? rules.toleranceSeconds : 0;
  const ownEnd = at.getTime() + (rules.cooldownSeconds - forgivenSeconds) * 1000;
  return { from: at, until: new Date(Math.max(ownEnd, vote.nextVoteAt?.getTime() ?? 0)) };
}
