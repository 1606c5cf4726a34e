/** A broken invariant stops what it is found in, and says which one it was. */
import assert from 'node:assert/strict';
import { assert as invariant, assertNever } from '../../../domain/assert.ts';

describe('invariants', () => {
  it('a condition that holds says nothing', () => {
    assert.doesNotThrow(() => invariant(1 < 2, 'never seen'));
  });

  for (const broken of [false, 0, '', null, undefined, NaN, 0n]) {
    it(`${String(broken)} (${typeof broken}) breaks an invariant and names it`, () => {
      assert.throws(() => invariant(broken, 'entries sum to zero'), new Error('invariant broken: entries sum to zero'));
    });
  }

  it('a member that the switch does not know is named with its kind', () => {
    assert.throws(
      () => assertNever('paused' as never, 'request state'),
      new Error('invariant broken: unexpected request state "paused"'),
    );
  });
});
