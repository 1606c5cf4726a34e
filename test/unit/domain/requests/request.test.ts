/** Outcomes of a request and money ("failed requests are not billed"), and which models are free. */
import assert from 'node:assert/strict';
import { isBilled, isFreeModel, OUTCOMES, type Outcome } from '../../../../domain/requests/request.ts';

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

const OUTCOME_NAMES = Object.keys(BILLED) as Outcome[];

describe('request outcomes', () => {
  for (const outcome of OUTCOME_NAMES) {
    it(`${outcome} is ${BILLED[outcome] ? 'billed' : 'not billed'}`, () => {
      assert.equal(isBilled(outcome), BILLED[outcome]);
      assert.notEqual(OUTCOMES[outcome].meaning, '');
    });
  }

  it('every outcome of a request is named in the contract', () => {
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
