/**
 * The life of a request, exhaustively: every state × recorded outcome × event against a table written out here,
 * and the outcome table of the contract ("failed requests are not billed").
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  isBilled,
  isFreeModel,
  OUTCOMES,
  REQUEST_STATES,
  transition,
  type FinishOutcome,
  type Outcome,
  type RequestEvent,
  type RequestState,
  type TransitionResult,
} from '../../../../domain/requests/request.ts';

const BILLED: Readonly<Record<Outcome, boolean>> = {
  completed: true,
  client_disconnected: true,
  cut_by_limit: true,
  cut_by_time: true,
  upstream_error: false,
  upstream_timeout: false,
  empty_completion: false,
  orphaned: false,
  refused: false,
};

type Verdict = RequestState | 'unchanged' | 'late';

/** What a finish leads to, by state, and whether the model is `:free`. The outcome it brings does not matter. */
const FINISH: Readonly<Record<RequestState, { readonly paid: Verdict; readonly free: Verdict }>> = {
  held: { paid: 'finished', free: 'released' },
  finished: { paid: 'late', free: 'late' },
  charged: { paid: 'late', free: 'late' },
  released: { paid: 'late', free: 'late' },
};

/** What a settle leads to, by state and by the outcome recorded on the row. */
const SETTLE: Readonly<Record<RequestState, Readonly<Record<Outcome | 'none', Verdict>>>> = {
  held: everyOutcome('unchanged'),
  finished: {
    completed: 'charged',
    client_disconnected: 'charged',
    cut_by_limit: 'charged',
    cut_by_time: 'charged',
    upstream_error: 'released',
    upstream_timeout: 'released',
    empty_completion: 'released',
    orphaned: 'released',
    refused: 'released',
    none: 'unchanged',
  },
  charged: everyOutcome('unchanged'),
  released: everyOutcome('unchanged'),
};

function everyOutcome(verdict: Verdict): Record<Outcome | 'none', Verdict> {
  return {
    completed: verdict,
    client_disconnected: verdict,
    cut_by_limit: verdict,
    cut_by_time: verdict,
    upstream_error: verdict,
    upstream_timeout: verdict,
    empty_completion: verdict,
    orphaned: verdict,
    refused: verdict,
    none: verdict,
  };
}

const OUTCOME_NAMES = Object.keys(BILLED) as Outcome[];
const RECORDED: readonly (Outcome | null)[] = [...OUTCOME_NAMES, null];
const FINISH_OUTCOMES = OUTCOME_NAMES.filter((outcome): outcome is FinishOutcome => outcome !== 'refused');

const EVENTS: readonly RequestEvent[] = [
  { type: 'settle' },
  ...FINISH_OUTCOMES.flatMap((outcome) =>
    [true, false].map((free): RequestEvent => ({ type: 'finish', outcome, free })),
  ),
];

function verdictOf(result: TransitionResult): Verdict {
  return result.kind === 'changed' ? result.state : result.kind;
}

function expectedVerdict(state: RequestState, recorded: Outcome | null, event: RequestEvent): Verdict {
  if (event.type === 'settle') return SETTLE[state][recorded ?? 'none'];
  return FINISH[state][event.free ? 'free' : 'paid'];
}

describe('request outcomes', () => {
  for (const outcome of OUTCOME_NAMES) {
    it(`${outcome} is ${BILLED[outcome] ? 'billed' : 'not billed'}`, () => {
      assert.equal(isBilled(outcome), BILLED[outcome]);
      assert.notEqual(OUTCOMES[outcome].meaning, '');
    });
  }

  it('has no outcome that the contract does not name', () => {
    assert.deepEqual(Object.keys(OUTCOMES).toSorted(), OUTCOME_NAMES.toSorted());
  });
});

describe('free models', () => {
  const names: readonly [id: string, free: boolean][] = [
    ['gpt-5-mini:free', true],
    ['vendor/model-1:free', true],
    ['gpt-5-mini', false],
    ['gpt-5-mini:FREE', false],
    ['gpt-5-mini:free ', false],
    ['gpt-5-mini:free:paid', false],
    ['gpt-5-mini-free', false],
    ['free', false],
    ['', false],
  ];
  for (const [id, free] of names) {
    it(`"${id}" ${free ? 'never touches the balance' : 'is paid'}`, () => {
      assert.equal(isFreeModel(id), free);
    });
  }
});

describe('request transitions', () => {
  for (const state of REQUEST_STATES) {
    for (const event of EVENTS) {
      const what = event.type === 'settle' ? 'settle' : `${event.free ? 'free' : 'paid'} finish as ${event.outcome}`;
      it(`${state}, ${what}: as the table says for each recorded outcome`, () => {
        for (const outcome of RECORDED) {
          const verdict = verdictOf(transition({ state, outcome }, event));
          assert.equal(verdict, expectedVerdict(state, outcome, event), `recorded outcome ${outcome}`);
        }
      });
    }
  }

  it('a held request cannot finish as refused: it does not compile, and would not be charged', () => {
    // @ts-expect-error a refused request was never held
    const event: RequestEvent = { type: 'finish', outcome: 'refused', free: false };
    assert.deepEqual(transition({ state: 'held', outcome: null }, event), { kind: 'changed', state: 'finished' });
    const settled = transition({ state: 'finished', outcome: 'refused' }, { type: 'settle' });
    assert.deepEqual(settled, { kind: 'changed', state: 'released' });
  });

  it('in any order and repetition of events a request ends once, by its first outcome, and stays there', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...EVENTS), { maxLength: 12 }), (events) => {
        let current: { state: RequestState; outcome: Outcome | null } = { state: 'held', outcome: null };
        let first: Extract<RequestEvent, { type: 'finish' }> | null = null;
        let ends = 0;
        for (const event of events) {
          const result = transition(current, event);
          if (result.kind !== 'changed') continue;
          if (event.type === 'finish') {
            assert.equal(first, null, 'a second finish changed the row');
            first = event;
            current = { state: result.state, outcome: event.outcome };
          } else {
            current = { ...current, state: result.state };
          }
          if (result.state === 'charged' || result.state === 'released') ends += 1;
        }
        assert.ok(ends <= 1);
        const mayBeCharged = first !== null && !first.free && BILLED[first.outcome];
        if (current.state === 'charged') assert.ok(mayBeCharged);
        if (current.state === 'released') assert.ok(!mayBeCharged);
      }),
      { numRuns: 1_000 },
    );
  });
});
