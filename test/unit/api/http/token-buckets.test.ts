/** Token buckets: a burst, then a steady rate, each holder for itself. */
import assert from 'node:assert/strict';
import { TokenBuckets } from '../../../../api/http/token-buckets.ts';
import { until } from '../../../support/until.ts';

/** So slow that nothing comes back while a test runs. */
const SLOW = 1 / 3600;

describe('token buckets', () => {
  it('a bucket gives a burst and then says how long to wait, to each holder alone', () => {
    const buckets = new TokenBuckets({ perSecond: SLOW, burst: 3 });
    assert.deepEqual([buckets.take('a'), buckets.take('a'), buckets.take('a')], [0, 0, 0]);
    const wait = buckets.take('a');
    assert.ok(wait > 3599 && wait <= 3600, `${wait} s`);
    assert.deepEqual([buckets.isEmpty('a'), buckets.isEmpty('b'), buckets.take('b')], [true, false, 0]);
  });

  it('an empty bucket loses nothing: waiting does not become longer by asking', () => {
    const buckets = new TokenBuckets({ perSecond: SLOW, burst: 1 });
    buckets.take('a');
    for (let n = 0; n < 100; n++) assert.ok(buckets.take('a') <= 3600);
  });

  it('lend, and say how long it takes until the debt is paid', () => {
    const buckets = new TokenBuckets({ perSecond: 1000, burst: 10 });
    assert.deepEqual([buckets.owe('a', 10, 0), buckets.owe('a', 5, 0), buckets.owe('a', 0, 3)], [0, 5, 2]);
    assert.equal(buckets.owe('b', 30, 0), 20, 'a first one beyond the burst as well');
    assert.equal(buckets.owe('b', 11, 1_000_000), 1, 'nothing beyond the burst is saved up');
  });

  it('fill up again, to the burst and no further', async () => {
    const buckets = new TokenBuckets({ perSecond: 50, burst: 2 });
    while (buckets.take('a') === 0);
    await until('a token', () => buckets.take('a') === 0);
    const slow = new TokenBuckets({ perSecond: 1000, burst: 1 });
    slow.take('a');
    await until('the bucket to be full', () => !slow.isEmpty('a'));
    assert.equal(slow.take('a'), 0);
  });

  it('forget who has not been seen for longest, so that their number is bounded', () => {
    const buckets = new TokenBuckets({ perSecond: SLOW, burst: 1 });
    buckets.take('first');
    for (let n = 0; n < 19_999; n++) buckets.take(`holder ${n}`);
    assert.equal(buckets.isEmpty('first'), true);
    buckets.take('one more');
    assert.equal(buckets.isEmpty('first'), false);
    assert.equal(buckets.isEmpty('holder 0'), true);
  });
});
