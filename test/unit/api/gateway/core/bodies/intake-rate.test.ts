/** How fast an account may send bodies, and who is slowed down by whom. */
import assert from 'node:assert/strict';
import { IntakeRate, type Sender } from '../../../../../../api/gateway/core/bodies/intake-rate.ts';
import type { AccountUuid, KeyUuid } from '../../../../../../domain/ids.ts';

const sender = (account: string, key = `key of ${account}`): Sender => ({
  accountId: account as AccountUuid,
  keyId: key as KeyUuid,
});

describe('intake rate', () => {
  let rate: IntakeRate;
  beforeEach(() => (rate = new IntakeRate({ burstBytes: 16_000, bytesPerSecond: 1000 })));

  it('lets a burst through and then as much as time has given back', () => {
    const a = sender('a');
    assert.equal(rate.take(a, 10_000, false, 0), 0);
    assert.equal(rate.take(a, 6000, false, 0), 0);
    assert.equal(rate.take(a, 1500, false, 0), 1500);
    assert.equal(rate.take(a, 0, false, 500), 1000);
    assert.equal(rate.take(a, 0, false, 1500), 0);
    assert.equal(rate.take(a, 2000, false, 2500), 1000);
  });

  it('never saves up more than the burst', () => {
    const a = sender('a');
    rate.take(a, 1, false, 0);
    assert.equal(rate.take(a, 17_000, false, 1_000_000), 1000);
  });

  it('a first body beyond the burst waits as well', () => {
    assert.equal(rate.take(sender('a'), 20_000, false, 0), 4000);
  });

  it('counts by account: another key of it shares the rate, another account does not', () => {
    rate.take(sender('a', 'first'), 20_000, false, 0);
    assert.equal(rate.take(sender('a', 'second'), 0, false, 0), 4000);
    assert.equal(rate.take(sender('b'), 16_000, false, 0), 0);
  });

  it('an account refused for lack of money has a smaller rate for a minute, and small bodies do not wait for its large ones', () => {
    const a = sender('a');
    rate.noteRefused(a.accountId, 0);
    assert.equal(rate.take(a, 8000, true, 0), 0);
    assert.equal(rate.take(a, 1000, true, 0), 16_000, 'a sixteenth of the rate');
    assert.equal(rate.take(a, 8000, false, 0), 0);
    assert.equal(rate.take(a, 1000, false, 0), 8000, 'an eighth of the rate');
    assert.equal(rate.take(a, 16_000, true, 60_000), 0, 'over');
  });

  it('a key refused for lack of money slows down none of the others', () => {
    const [first, second] = [sender('a', 'first'), sender('a', 'second')];
    rate.noteRefused(first.keyId, 0);
    assert.equal(rate.take(first, 9000, true, 0), 16_000);
    assert.equal(rate.take(second, 16_000, true, 0), 0);
  });

  it('remembers a bounded number of senders', () => {
    for (let n = 0; n < 50_000; n += 1) {
      rate.take(sender(`account ${n}`), 1, false, 0);
      rate.noteRefused(`account ${n}` as AccountUuid, 0);
    }
    assert.equal(rate.take(sender('account 49999'), 9000, true, 0), 16_000, 'the latest is known');
    assert.equal(rate.take(sender('account 0'), 16_000, true, 0), 0, 'the oldest is not');
  });
});
