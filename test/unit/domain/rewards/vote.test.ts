/** Votes: the second that decides, in both directions of arrival, and what is never paid. */
import assert from 'node:assert/strict';
import { decideVote, type CooldownRules, type VoteFacts, type VoteSpan } from '../../../../domain/rewards/vote.ts';

const HOUR_MS = 3_600_000;
const RULES: CooldownRules = { cooldownSeconds: 12 * 3600, toleranceSeconds: 3600, lateSeconds: 7 * 86_400 };
const FIRST = new Date('2026-03-01T08:00:00Z');
const after = (ms: number): Date => new Date(FIRST.getTime() + ms);
const PAID: VoteSpan[] = [{ from: FIRST, until: after(12 * HOUR_MS) }];

const vote = (given: Partial<VoteFacts> = {}): VoteFacts => ({
  site: 'topgg',
  voteId: 'v1',
  discordUserId: '1',
  votedAt: FIRST,
  nextVoteAt: null,
  weight: 1,
  isTest: false,
  isOurs: true,
  ...given,
});

describe('votes', () => {
  for (const { elapsed, ms, outcome } of [
    { elapsed: '11:59:59', ms: 12 * HOUR_MS - 1000, outcome: 'refused' },
    { elapsed: '11:59:59.999', ms: 12 * HOUR_MS - 1, outcome: 'refused' },
    { elapsed: '12:00:00', ms: 12 * HOUR_MS, outcome: 'accepted' },
    { elapsed: '-11:59:59 (delivered late)', ms: -12 * HOUR_MS + 1000, outcome: 'refused' },
    { elapsed: '-12:00:00 (delivered late)', ms: -12 * HOUR_MS, outcome: 'accepted' },
  ]) {
    it(`a vote on one site ${elapsed} after a paid one: ${outcome}`, () => {
      const next = vote({ voteId: 'v2', votedAt: after(ms) });
      assert.equal(decideVote(next, after(13 * HOUR_MS), RULES, PAID).outcome, outcome);
    });
  }

  it('votes are measured between the site’s own times, however late they arrive', () => {
    const next = vote({ voteId: 'v2', votedAt: after(12 * HOUR_MS) });
    assert.equal(decideVote(next, after(5 * 24 * HOUR_MS), RULES, PAID).outcome, 'accepted');
    const late = decideVote(next, after(8 * 24 * HOUR_MS), RULES, PAID);
    assert.deepEqual(late, { outcome: 'refused', reason: 'too_late' });
  });

  it('a vote of which only the arrival is known is forgiven an hour, and no second more', () => {
    const arriving = vote({ voteId: null, votedAt: null });
    const first = decideVote(arriving, FIRST, RULES, []);
    assert.ok(first.outcome === 'accepted');
    assert.equal(first.span.until.getTime(), after(11 * HOUR_MS).getTime());
    assert.equal(decideVote(arriving, after(11 * HOUR_MS), RULES, [first.span]).outcome, 'accepted');
    const early = decideVote(arriving, after(11 * HOUR_MS - 1000), RULES, [first.span]);
    assert.deepEqual(early, { outcome: 'refused', reason: 'cooldown' });
  });

  it('a vote that a site without vote ids delivers again within the hour is one vote, not a refused one', () => {
    const again = vote({ voteId: null, votedAt: null });
    assert.equal(decideVote(again, after(17 * 60_000), RULES, PAID).outcome, 'repeated');
    assert.equal(decideVote(again, after(HOUR_MS), RULES, PAID).outcome, 'refused');
    assert.equal(decideVote(vote({ voteId: 'v2', votedAt: after(1000) }), after(2000), RULES, PAID).outcome, 'refused');
  });

  it('a vote waits for the site’s own longer cooldown', () => {
    const decided = decideVote(vote({ nextVoteAt: after(24 * HOUR_MS) }), FIRST, RULES, []);
    assert.ok(decided.outcome === 'accepted');
    assert.equal(decided.span.until.getTime(), after(24 * HOUR_MS).getTime());
    const shorter = decideVote(vote({ nextVoteAt: after(HOUR_MS) }), FIRST, RULES, []);
    assert.ok(shorter.outcome === 'accepted');
    assert.equal(shorter.span.until.getTime(), after(12 * HOUR_MS).getTime());
  });

  it('a vote that is a test, for another listing, or from the future is never paid', () => {
    assert.equal(decideVote(vote({ isTest: true, isOurs: false }), FIRST, RULES, []).outcome, 'test');
    assert.deepEqual(decideVote(vote({ isOurs: false }), FIRST, RULES, []), {
      outcome: 'refused',
      reason: 'wrong_project',
    });
    assert.deepEqual(decideVote(vote({ votedAt: after(5 * 60_000 + 1) }), FIRST, RULES, []), {
      outcome: 'refused',
      reason: 'time_in_future',
    });
    assert.equal(decideVote(vote({ votedAt: after(5 * 60_000) }), FIRST, RULES, []).outcome, 'accepted');
  });

  it('a vote counts once for any weight: a decision has no amount', () => {
    assert.deepEqual(decideVote(vote({ weight: 2 }), FIRST, RULES, []), decideVote(vote(), FIRST, RULES, []));
  });
});
