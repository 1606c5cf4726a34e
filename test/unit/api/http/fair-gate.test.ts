/** The gate before scarce things: turns go by holder, and what waits is bounded. */
import assert from 'node:assert/strict';
import { FairGate, type FairGateOptions } from '../../../../api/http/fair-gate.ts';
import { Refusal } from '../../../../domain/errors.ts';

const ROOMY: FairGateOptions = {
  what: 'things',
  atOnce: 1,
  atOncePerHolder: 1,
  waiting: 100,
  waitingPerHolder: 100,
  retryAfterSeconds: 7,
};

describe('fair gate', () => {
  /** Work that ends when told; `begun` lists what was let in, `refused` what was not, in order. */
  class Works {
    readonly begun: string[] = [];
    readonly refused: string[] = [];
    readonly #gate: FairGate;
    readonly #ends: (() => void)[] = [];

    constructor(options: Partial<FairGateOptions>) {
      this.#gate = new FairGate({ ...ROOMY, ...options });
    }

    async begin(...names: string[]): Promise<void> {
      for (const name of names) {
        this.#gate
          .run(name[0]!, () => {
            this.begun.push(name);
            return new Promise<void>((resolve) => this.#ends.push(resolve));
          })
          .catch((error: unknown) => {
            assert.ok(error instanceof Refusal && error.code === 'rate_limit_exceeded');
            assert.deepEqual([error.message, error.retryAfterSeconds], ['Too many things at once.', 7]);
            this.refused.push(name);
          });
      }
      await nextTurn();
    }

    /** Ends the oldest that runs. */
    async end(times = 1): Promise<void> {
      for (let n = 0; n < times; n++) {
        this.#ends.shift()!();
        await nextTurn();
      }
    }
  }

  const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('somebody who sends one call waits for one place, whatever another has waiting', async () => {
    const works = new Works({});
    await works.begin('a1', 'a2', 'a3', 'a4', 'b1', 'c1', 'b2');
    await works.end(6);
    assert.deepEqual(works.begun, ['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
  });

  it('nobody has more than their share at once, and a place that only they could take stays free for others', async () => {
    const works = new Works({ atOnce: 3, atOncePerHolder: 2 });
    await works.begin('a1', 'a2', 'a3', 'a4');
    assert.deepEqual(works.begun, ['a1', 'a2']);
    await works.begin('b1', 'b2');
    assert.deepEqual(works.begun, ['a1', 'a2', 'b1']);
    await works.end(1);
    assert.deepEqual(works.begun.slice(3), ['a3']);
    await works.end(1);
    assert.deepEqual(works.begun.slice(4), ['b2']);
  });

  it('too many calls of one holder are refused, calls of others are not', async () => {
    const works = new Works({ waitingPerHolder: 2 });
    await works.begin('a1', 'a2', 'a3', 'a4', 'b1');
    assert.deepEqual(works.refused, ['a4']);
    await works.end(3);
    assert.deepEqual(works.begun, ['a1', 'a2', 'b1', 'a3']);
  });

  it('when everything is full, the latest call of the holder with most waiting makes room', async () => {
    const works = new Works({ waiting: 4 });
    await works.begin('a1', 'a2', 'a3', 'a4', 'a5');
    await works.begin('b1');
    assert.deepEqual(works.refused, ['a5']);
    await works.begin('c1', 'd1');
    assert.deepEqual(works.refused, ['a5', 'a4', 'a3']);
    // Each has one waiting by now: who comes next is refused.
    await works.begin('e1', 'a6');
    assert.deepEqual(works.refused, ['a5', 'a4', 'a3', 'e1', 'a6']);
    await works.end(4);
    assert.deepEqual(works.begun, ['a1', 'a2', 'b1', 'c1', 'd1']);
  });

  it('work that fails gives its place back and fails as it did', async () => {
    const gate = new FairGate(ROOMY);
    const failure = new Error('broken');
    await assert.rejects(
      gate.run('a', () => Promise.reject(failure)),
      failure,
    );
    assert.equal(await gate.run('a', async () => 'next'), 'next');
  });
});
