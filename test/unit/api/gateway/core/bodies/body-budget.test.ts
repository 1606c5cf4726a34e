/** Who may hold how much memory with request bodies, whatever the others hold. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  BodyBudget,
  SMALL_BODY_BYTES,
  type BodyCharge,
} from '../../../../../../api/gateway/core/bodies/body-budget.ts';
import { Refusal, type ErrorCode } from '../../../../../../domain/errors.ts';
import type { AccountUuid } from '../../../../../../domain/ids.ts';

const MEBIBYTE = 1024 * 1024;
const OPTIONS = { smallBytes: 8 * MEBIBYTE, largeBytes: 64 * MEBIBYTE, largeBytesPerAccount: 24 * MEBIBYTE };
const account = (name: string): AccountUuid => name as AccountUuid;

function refusalCode(work: () => void): ErrorCode | null {
  try {
    work();
    return null;
  } catch (error) {
    if (error instanceof Refusal) return error.code;
    throw error;
  }
}

describe('body budget', () => {
  let budget: BodyBudget;
  let evicted: AccountUuid[];

  beforeEach(() => {
    budget = new BodyBudget(OPTIONS);
    evicted = [];
  });

  /** A body on its way in, which can still be refused. */
  function arriving(name: string, bytes: number): BodyCharge {
    const body = budget.open(account(name));
    body.setEvict(() => evicted.push(body.accountId));
    body.resize(bytes);
    return body;
  }

  /** Opens bodies of a size until the first refusal or eviction. */
  function fill(name: string, bytes: number): { held: number; code: ErrorCode | null } {
    for (let bodies = 0; ; bodies += 1) {
      const code = refusalCode(() => arriving(name, bytes));
      if (code !== null || evicted.length > 0) return { held: bodies * bytes, code };
    }
  }

  it('counts what is held and nothing else: an open body without bytes is free', () => {
    for (let n = 0; n < 10_000; n += 1) budget.open(account('a'));
    const body = budget.open(account('a'));
    body.resize(82);
    assert.deepEqual(budget.heldBytes, { small: 82, large: 0 });
    body.resize(SMALL_BODY_BYTES + 1);
    assert.deepEqual(budget.heldBytes, { small: 0, large: SMALL_BODY_BYTES + 1 });
    body.resize(10);
    assert.deepEqual(budget.heldBytes, { small: 10, large: 0 });
    body.release();
    body.release();
    assert.deepEqual(budget.heldBytes, { small: 0, large: 0 });
  });

  it('an account has its share, however much is free; its own bodies are named as the cause', () => {
    assert.deepEqual(fill('greedy', MEBIBYTE), { held: 24 * MEBIBYTE, code: 'body_budget_exceeded' });
    assert.deepEqual(evicted, []);
  });

  it('a refused body keeps what it held, and what is given back can be used again', () => {
    const first = arriving('greedy', 12 * MEBIBYTE);
    const last = arriving('greedy', 12 * MEBIBYTE);
    assert.equal(
      refusalCode(() => last.resize(13 * MEBIBYTE)),
      'body_budget_exceeded',
    );
    assert.equal(budget.heldBytes.large, 24 * MEBIBYTE);
    first.release();
    last.resize(13 * MEBIBYTE);
    assert.equal(budget.heldBytes.large, 13 * MEBIBYTE);
  });

  it('ten greedy accounts that were there first leave an eleventh its equal share, and lose theirs for it', () => {
    for (let n = 0; n < 10; n += 1) fill(`greedy ${n}`, MEBIBYTE);
    evicted = [];
    const bodies = Array.from({ length: 5 }, () => arriving('late', MEBIBYTE));
    assert.equal(bodies.length, 5);
    assert.ok(evicted.length > 0 && !evicted.includes(account('late')));
  });

  it('the largest body of the greediest account goes, and only as much as is needed', () => {
    arriving('modest', 20 * MEBIBYTE);
    arriving('greedy', 8 * MEBIBYTE);
    arriving('greedy', 14 * MEBIBYTE);
    arriving('third', 20 * MEBIBYTE);
    arriving('late', 4 * MEBIBYTE);
    assert.deepEqual(evicted, [account('greedy')]);
    assert.equal(budget.heldBytes.large, (20 + 8 + 20 + 4) * MEBIBYTE);
  });

  it('what is paid for is never taken away: then the newcomer is told that the process is full', () => {
    for (const name of ['a', 'b', 'c', 'd']) arriving(name, 16 * MEBIBYTE).setEvict(null);
    assert.equal(
      refusalCode(() => arriving('late', MEBIBYTE)),
      'overloaded',
    );
    assert.equal(
      refusalCode(() => arriving('a', MEBIBYTE)),
      'body_budget_exceeded',
    );
    assert.deepEqual(evicted, []);
  });

  it('an account cannot make room for itself at the cost of those that hold less than it', () => {
    for (const name of ['a', 'b', 'c', 'd']) arriving(name, 16 * MEBIBYTE);
    assert.equal(
      refusalCode(() => arriving('a', MEBIBYTE)),
      'body_budget_exceeded',
    );
    assert.deepEqual(evicted, []);
  });

  it('large bodies of any number of accounts refuse no small one', () => {
    for (let n = 0; n < 100; n += 1) arriving(`payer ${n}`, 600_000).setEvict(null);
    for (let n = 0; n < 100; n += 1) arriving(`late ${n}`, SMALL_BODY_BYTES);
  });

  it('small bodies are bounded as well; those of a hundred greedy accounts keep out nobody who asks for less', () => {
    for (let n = 0; n < 100; n += 1) fill(`greedy ${n}`, 1000);
    arriving('late', SMALL_BODY_BYTES);
    assert.ok(budget.heldBytes.small <= OPTIONS.smallBytes);
  });

  it('never holds more than its bounds and ends at nothing, whatever happens in whatever order', () => {
    const step = fc.record({
      account: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      body: fc.nat(9),
      bytes: fc.oneof(fc.nat(2 * SMALL_BODY_BYTES), fc.nat(30 * MEBIBYTE)),
      action: fc.constantFrom('resize', 'resize', 'resize', 'admit', 'release'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const pools = new BodyBudget(OPTIONS);
        const bodies = new Map<string, BodyCharge>();
        for (const { account: name, body, bytes, action } of steps) {
          const id = `${name} ${body}`;
          const charge = bodies.get(id) ?? pools.open(account(name));
          if (!bodies.has(id)) charge.setEvict(() => bodies.delete(id));
          bodies.set(id, charge);
          if (action === 'resize') refusalCode(() => charge.resize(bytes));
          if (action === 'admit') charge.setEvict(null);
          if (action === 'release') {
            charge.release();
            bodies.delete(id);
          }
          const held = [...bodies.values()].map((one) => one.bytes);
          const large = held.filter((one) => one > SMALL_BODY_BYTES).reduce((sum, one) => sum + one, 0);
          const small = held.filter((one) => one <= SMALL_BODY_BYTES).reduce((sum, one) => sum + one, 0);
          assert.deepEqual(pools.heldBytes, { small, large });
          assert.ok(large <= OPTIONS.largeBytes && small <= OPTIONS.smallBytes);
        }
        for (const charge of bodies.values()) charge.release();
        assert.deepEqual(pools.heldBytes, { small: 0, large: 0 });
      }),
    );
  });
});
