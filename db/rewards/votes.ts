/** Votes: what each site told, and which spans of a user are taken by paid votes. */
import type pg from 'pg';
import type { RewardRules } from '../../domain/rewards/reward.ts';
import type { VoteDecision, VoteFacts, VoteOutcome, VoteSpan } from '../../domain/rewards/vote.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { rulesOf } from './rewards.ts';

export interface RecordedVote {
  readonly outcome: VoteOutcome;
  /** Why it was refused, as a code. */
  readonly reason: string | null;
}

/** The spans of a user's paid votes on a site that end after `from`, in order. */
export async function voteSpans(
  pool: pg.Pool,
  { site, discordUserId, from }: { site: string; discordUserId: string; from: Date },
): Promise<VoteSpan[]> {
  const rows = await query<{ starts_at: Date; ends_at: Date }>(pool, {
    name: 'vote_spans',
    text: 'select * from vote_spans($1, $2, $3)',
    values: [site, discordUserId, from],
  });
  return rows.map((row) => ({ from: row.starts_at, until: row.ends_at }));
}

/**
 * Records the decision about a vote, once per event, and pays an accepted vote. Returns the decision on record: a
 * vote that another one overtook is refused, whatever was decided.
 */
export async function recordVote(
  pool: pg.Pool,
  vote: {
    readonly eventId: string;
    readonly facts: VoteFacts;
    readonly arrivedAt: Date;
    readonly decision: VoteDecision;
    readonly rules: RewardRules;
    readonly at: Date;
  },
): Promise<RecordedVote> {
  const { eventId, facts, arrivedAt, decision, rules, at } = vote;
  return queryOne<{ outcome: VoteOutcome; reason: string | null }>(pool, {
    name: 'record_vote',
    text: 'select outcome, reason from record_vote($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)',
    values: [
      facts.site,
      eventId,
      facts.voteId,
      facts.discordUserId,
      facts.votedAt ?? arrivedAt,
      arrivedAt,
      facts.weight,
      decision.outcome,
      decision.outcome === 'refused' ? decision.reason : null,
      decision.outcome === 'accepted' ? decision.span.until : null,
      rulesOf(rules, 'vote'),
      at,
    ],
  });
}

/** When each site pays the next vote of a Discord user, of those where one was paid. For roles that may read tables. */
export async function nextVotes(session: Session, discordUserId: string): Promise<ReadonlyMap<string, Date>> {
  const rows = await query<{ site: string; next_at: Date }>(session, {
    name: 'next_votes',
    text: `select site, max(upper(cooldown)) as next_at from vote
      where discord_user_id = $1 and outcome = 'accepted' group by site`,
    values: [discordUserId],
  });
  return new Map(rows.map((row) => [row.site, row.next_at]));
}
