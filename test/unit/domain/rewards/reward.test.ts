/** Discord's ids and messages, the rule who may be linked, and the words of every stored reason. */
import assert from 'node:assert/strict';
import {
  boostsOfMessage,
  isSnowflake,
  reasonWords,
  refusalOfLink,
  REWARD_REASONS,
  snowflakeOf,
  snowflakeTime,
} from '../../../../domain/rewards/reward.ts';
import { BOUNTY_STATES, refusalOfStep, type BountyStep } from '../../../../domain/rewards/bounty.ts';

const DAY_MS = 86_400_000;
const NOW = new Date('2026-03-01T00:00:00Z');
const bornDaysAgo = (days: number, ms = 0): string => snowflakeOf(new Date(NOW.getTime() - days * DAY_MS + ms));

describe('rewards', () => {
  it('an id of Discord tells its time', () => {
    assert.equal(snowflakeTime('175928847299117063').toISOString(), '2016-04-30T11:18:25.796Z');
    assert.equal(snowflakeTime(snowflakeOf(NOW)).getTime(), NOW.getTime());
    assert.equal(snowflakeOf(new Date('2014-01-01T00:00:00Z')), '0');
    for (const text of ['', '-1', '1.5', '1e3', '123456789012345678901', '9223372036854775808']) {
      assert.ok(!isSnowflake(text), text);
    }
  });

  for (const { age, discordUserId, refusal } of [
    { age: '30 days to the millisecond', discordUserId: bornDaysAgo(30), refusal: null },
    { age: 'a millisecond less', discordUserId: bornDaysAgo(30, 1), refusal: 'account_too_young' },
    { age: 'years', discordUserId: '175928847299117063', refusal: null },
  ]) {
    it(`a Discord account of ${age} ${refusal === null ? 'may be linked' : 'may not'}`, () => {
      const user = { discordUserId, minimumAgeDays: 30, isMember: null, at: NOW };
      assert.equal(refusalOfLink(user), refusal);
    });
  }

  it('membership counts only where it is asked for', () => {
    const user = { discordUserId: bornDaysAgo(99), minimumAgeDays: 30, at: NOW };
    assert.equal(refusalOfLink({ ...user, isMember: false }), 'not_a_member');
    assert.equal(refusalOfLink({ ...user, isMember: true }), null);
  });

  for (const { type, content, count } of [
    { type: 8, content: '', count: 1 },
    { type: 8, content: '2', count: 2 },
    { type: 9, content: '', count: 1 },
    { type: 10, content: '14', count: 14 },
    { type: 11, content: '3', count: 3 },
    { type: 8, content: '0', count: 1 },
    { type: 8, content: '999', count: 100 },
    { type: 8, content: 'many', count: 1 },
    { type: 0, content: '5', count: 0 },
    { type: 7, content: '', count: 0 },
    { type: 12, content: '2', count: 0 },
  ]) {
    it(`a message of type ${type} that says “${content}” is about ${count} boosts`, () => {
      assert.equal(boostsOfMessage({ type, content }), count);
    });
  }

  it('a person’s own words are shown as they are, codes in words', () => {
    assert.equal(reasonWords('cooldown'), REWARD_REASONS.cooldown);
    assert.equal(reasonWords('Not reproducible.'), 'Not reproducible.');
  });
});

describe('bug reports', () => {
  const STEPS: readonly BountyStep[] = [
    { kind: 'triage', by: 'a' },
    { kind: 'accept', by: 'a', severity: 'low' },
    { kind: 'approve', by: 'b' },
    { kind: 'duplicate', by: 'a', of: null, reason: 'known' },
    { kind: 'reject', by: 'a', reason: 'no bug' },
  ];
  const ALLOWED: Readonly<Record<(typeof BOUNTY_STATES)[number], readonly BountyStep['kind'][]>> = {
    submitted: ['triage', 'duplicate', 'reject'],
    triaged: ['triage', 'accept', 'duplicate', 'reject'],
    accepted: ['approve', 'reject'],
    rewarded: ['approve'],
    duplicate: ['duplicate'],
    rejected: ['reject'],
  };
  for (const state of BOUNTY_STATES) {
    it(`bug reports that are ${state} can only be: ${ALLOWED[state].join(', ')}`, () => {
      const possible = STEPS.filter((step) => refusalOfStep(state, step) === null).map(({ kind }) => kind);
      assert.deepEqual(possible, ALLOWED[state]);
    });
  }
});
