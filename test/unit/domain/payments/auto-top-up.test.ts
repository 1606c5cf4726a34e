/** Whether a saved card is charged now, and what declines lead to. */
import assert from 'node:assert/strict';
import {
  afterDecline,
  decideAutoTopUp,
  slotOf,
  CONSECUTIVE_DECLINES_MAX,
  type AutoTopUpDecision,
  type AutoTopUpFacts,
} from '../../../../domain/payments/auto-top-up.ts';
import { usd } from '../../../../domain/money.ts';

const HOUR = 3600;
const AT = new Date('2026-11-24T10:30:00Z');
const at = (text: string): Date => new Date(text);

const LOW: AutoTopUpFacts = {
  state: 'active',
  isFrozen: false,
  isAccountFrozen: false,
  hasCard: true,
  balance: usd('4.999999999999'),
  threshold: usd('5'),
  amount: usd('10'),
  monthlyCap: usd('100'),
  spentThisMonth: usd('0'),
  openTopUpId: null,
  lastSlot: null,
};

describe('an automatic top-up', () => {
  const cases: readonly [what: string, change: Partial<AutoTopUpFacts>, expected: AutoTopUpDecision][] = [
    ['charges below the threshold', {}, { kind: 'charge' }],
    ['rests at the threshold', { balance: usd('5') }, { kind: 'rest', why: 'enough' }],
    ['charges a debt', { balance: usd('-3') }, { kind: 'charge' }],
    ['rests when ended', { state: 'off' }, { kind: 'rest', why: 'off' }],
    ['rests when paused', { state: 'paused' }, { kind: 'rest', why: 'paused' }],
    ['rests when frozen', { isFrozen: true }, { kind: 'rest', why: 'frozen' }],
    ['rests while the account is frozen', { isAccountFrozen: true }, { kind: 'rest', why: 'frozen' }],
    ['rests without a card', { hasCard: false }, { kind: 'rest', why: 'no_card' }],
    [
      'goes on with a begun attempt, whatever has changed since',
      { openTopUpId: 'x', state: 'off', balance: usd('50'), isFrozen: true },
      { kind: 'resume', topUpId: 'x' },
    ],
    ['spends exactly the cap', { spentThisMonth: usd('90') }, { kind: 'charge' }],
    [
      'waits for the next month rather than pass the cap',
      { spentThisMonth: usd('90.000000000001') },
      { kind: 'wait', why: 'cap_reached', until: at('2026-12-01T00:00:00Z') },
    ],
    [
      'waits for the next slot after an attempt in this one',
      { lastSlot: at('2026-11-24T10:00:00Z') },
      { kind: 'wait', why: 'slot_used', until: at('2026-11-24T11:00:00Z') },
    ],
    ['charges in the slot after it', { lastSlot: at('2026-11-24T09:00:00Z') }, { kind: 'charge' }],
    [
      'takes a slot that a faster clock used as used',
      { lastSlot: at('2026-11-24T11:00:00Z') },
      { kind: 'wait', why: 'slot_used', until: at('2026-11-24T12:00:00Z') },
    ],
  ];
  for (const [what, change, expected] of cases) {
    it(what, () => assert.deepEqual(decideAutoTopUp({ ...LOW, ...change }, AT, HOUR), expected));
  }

  it('an automatic top-up waits until January after a December that is spent', () => {
    const decision = decideAutoTopUp({ ...LOW, spentThisMonth: usd('100') }, at('2026-12-31T23:59:59Z'), HOUR);
    assert.deepEqual(decision, { kind: 'wait', why: 'cap_reached', until: at('2027-01-01T00:00:00Z') });
  });

  it('slots begin with the UTC hour', () => {
    assert.deepEqual(slotOf(at('2026-11-24T10:00:00.000Z'), HOUR), at('2026-11-24T10:00:00Z'));
    assert.deepEqual(slotOf(at('2026-11-24T10:59:59.999Z'), HOUR), at('2026-11-24T10:00:00Z'));
    assert.deepEqual(slotOf(at('2026-11-24T16:29:59.999+05:30'), HOUR), at('2026-11-24T10:00:00Z'));
  });
});

describe('a decline', () => {
  it('pauses at the third in a row', () => {
    for (let before = 0; before < CONSECUTIVE_DECLINES_MAX; before++) {
      const pause = before === CONSECUTIVE_DECLINES_MAX - 1 ? 'card_declined' : null;
      assert.deepEqual(afterDecline('generic_decline', before), { consecutiveDeclines: before + 1, pause });
    }
  });

  for (const [failure, pause] of [
    ['authentication_required', 'authentication_required'],
    ['card_removed', 'card_removed'],
    ['expired_card', 'card_unusable'],
    ['stolen_card', 'card_unusable'],
  ] as const) {
    it(`a decline that no repetition can change pauses at once: ${failure}`, () => {
      assert.equal(afterDecline(failure, 0).pause, pause);
    });
  }

  for (const failure of ['insufficient_funds', 'try_again_later', 'unknown']) {
    it(`a decline that may pass is tried again: ${failure}`, () => assert.equal(afterDecline(failure, 0).pause, null));
  }
});
