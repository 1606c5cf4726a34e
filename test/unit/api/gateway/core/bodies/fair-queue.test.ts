/** Whose body is parsed next: nobody waits for the backlog of another. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { FairQueue } from '../../../../../../api/gateway/core/bodies/fair-queue.ts';

const LIMITS = { perAccount: 100, total: 1000 };

function drain(queue: FairQueue<string>): string[] {
  const jobs: string[] = [];
  for (let job = queue.shift(); job !== undefined; job = queue.shift()) jobs.push(job);
  return jobs;
}

describe('fair queue', () => {
  it('serves one account in its order', () => {
    const queue = new FairQueue<string>(LIMITS);
    for (const job of ['1', '2', '3']) queue.push('a', 10, job);
    assert.deepEqual(drain(queue), ['1', '2', '3']);
    assert.equal(queue.shift(), undefined);
  });

  it('a newcomer is served next, behind whatever backlog of however many accounts', () => {
    const queue = new FairQueue<string>(LIMITS);
    for (let n = 0; n < 10; n += 1) {
      for (let job = 0; job < 20; job += 1) queue.push(`hostile ${n}`, 10_000, 'hostile');
    }
    for (let served = 0; served < 35; served += 1) queue.shift();
    queue.push('payer', 300, 'payer');
    assert.ok(drain(queue).indexOf('payer') <= 10, 'after at most one job of each of the others');
  });

  it('takes turns by cost: who sends small bodies gets many of them through for one large one', () => {
    const queue = new FairQueue<string>(LIMITS);
    for (let job = 0; job < 3; job += 1) queue.push('large', 1000, 'L');
    for (let job = 0; job < 20; job += 1) queue.push('small', 100, 's');
    assert.equal(drain(queue).join(''), 'LssssssssssLssssssssssL');
  });

  it('counts what a job turned out to cost, also against those of the account that wait already', () => {
    const queue = new FairQueue<string>(LIMITS);
    for (let job = 0; job < 3; job += 1) queue.push('bombs', 10, 'B');
    for (let job = 0; job < 6; job += 1) queue.push('plain', 100, 'p');
    assert.equal(queue.shift(), 'B');
    queue.charge('bombs', 300);
    assert.equal(drain(queue).join(''), 'ppppBBpp');
    queue.charge('nobody', 5);
  });

  it('is bounded for each account and in all, and says which bound was met', () => {
    const queue = new FairQueue<string>({ perAccount: 2, total: 3 });
    assert.deepEqual(
      [queue.push('a', 1, '1'), queue.push('a', 1, '2'), queue.push('a', 1, '3')],
      [null, null, 'account'],
    );
    assert.deepEqual([queue.push('b', 1, '1'), queue.push('c', 1, '1')], [null, 'total']);
    assert.equal(queue.size, 3);
    drain(queue);
    assert.equal(queue.push('c', 1, '1'), null);
  });

  it('remembers a bounded number of accounts that have nothing waiting', () => {
    const queue = new FairQueue<string>({ perAccount: 2, total: 3 });
    for (let n = 0; n < 100; n += 1) {
      queue.push(`account ${n}`, 1000, 'job');
      queue.shift();
    }
    assert.equal(queue.push('another', 1, 'job'), null);
    assert.equal(queue.shift(), 'job');
  });

  it('loses nothing and repeats nothing, in any order of calls', () => {
    const call = fc.oneof(
      fc.record({ account: fc.constantFrom('a', 'b', 'c'), cost: fc.integer({ min: 1, max: 1000 }) }),
      fc.constant(null),
    );
    fc.assert(
      fc.property(fc.array(call, { maxLength: 200 }), (calls) => {
        const queue = new FairQueue<number>(LIMITS);
        const [pushed, shifted] = [new Set<number>(), new Set<number>()];
        calls.forEach((one, id) => {
          if (one === null) {
            const job = queue.shift();
            if (job !== undefined) shifted.add(job);
          } else if (queue.push(one.account, one.cost, id) === null) {
            pushed.add(id);
          }
        });
        for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
          assert.ok(!shifted.has(job));
          shifted.add(job);
        }
        assert.deepEqual([...shifted].toSorted(), [...pushed].toSorted());
      }),
    );
  });
});
