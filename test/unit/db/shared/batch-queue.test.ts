/** The lane alone, against a call that the test answers by hand: what is sent when, and who gets which answer. */
import assert from 'node:assert/strict';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { BatchQueue, BatchQueueFull, type BatchQueueOptions } from '../../../../db/shared/batch-queue.ts';

/** A call of the lane that waits for the test's answer. */
interface Sent {
  readonly items: readonly string[];
  answer(results?: readonly string[]): void;
  fail(error: Error): void;
}

class Fault extends Error {}

/** A lane of strings, each of which results in its upper-case form unless the test answers otherwise. */
function createQueue(options: Partial<BatchQueueOptions<string, string>> = {}) {
  const waiting: Sent[] = [];
  const arrivals: ((sent: Sent) => void)[] = [];
  const batches: (readonly string[])[] = [];
  const lane = new BatchQueue<string, string>({
    name: 'test',
    batchMax: 100,
    queueMax: 100,
    isFault: (error) => error instanceof Fault,
    call: (items) => {
      batches.push(items);
      return new Promise((resolve, reject) => {
        const sent: Sent = {
          items,
          answer: (results = items.map((item) => item.toUpperCase())) => resolve(results),
          fail: reject,
        };
        const arrival = arrivals.shift();
        if (arrival === undefined) waiting.push(sent);
        else arrival(sent);
      });
    },
    ...options,
  });
  /** The next call that is sent, now or later. */
  const nextCall = (): Promise<Sent> => {
    const sent = waiting.shift();
    return sent === undefined ? new Promise((resolve) => arrivals.push(resolve)) : Promise.resolve(sent);
  };
  return { lane, nextCall, batches };
}

describe('lane', () => {
  describe('batching', () => {
    it('sends a lone item in the turn in which it was submitted, without a timer', async () => {
      const { lane, batches } = createQueue();
      void lane.submit('a');
      await nextTurn();
      assert.deepEqual(batches, [['a']]);
    });

    it('sends items of one turn together', async () => {
      const { lane, nextCall } = createQueue();
      const tickets = ['a', 'b', 'c'].map((item) => lane.submit(item));
      const sent = await nextCall();
      assert.deepEqual(sent.items, ['a', 'b', 'c']);
      sent.answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C']);
    });

    it('has one call in flight at most, and sends everything that came meanwhile in the next', async () => {
      const { lane, nextCall, batches } = createQueue();
      const first = lane.submit('a');
      const sent = await nextCall();
      const later = ['b', 'c', 'd'].map((item) => lane.submit(item));
      await nextTurn();
      assert.equal(batches.length, 1);
      sent.answer();
      assert.equal(await first.result, 'A');
      const next = await nextCall();
      assert.deepEqual(next.items, ['b', 'c', 'd']);
      next.answer();
      assert.deepEqual(await Promise.all(later.map((ticket) => ticket.result)), ['B', 'C', 'D']);
    });

    it('makes a second call beside one that is held up, and goes on beside it', async () => {
      const { lane, nextCall, batches } = createQueue({ heldUpAfterMs: 30 });
      const tickets = [lane.submit('a')];
      const heldUp = await nextCall();
      tickets.push(lane.submit('b'), lane.submit('c'));
      const second = await nextCall();
      tickets.push(lane.submit('d'));
      assert.equal(lane.depth, 4);
      second.answer();
      const third = await nextCall();
      assert.deepEqual([second.items, third.items], [['b', 'c'], ['d']]);
      third.answer();
      await tickets[3]!.result;
      let settled = false;
      const idle = lane.settled().then(() => (settled = true));
      await nextTurn();
      assert.deepEqual([settled, batches.length], [false, 3]);
      heldUp.answer();
      await idle;
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C', 'D']);
    });

    it('has one call in flight again once the one that was held up has its answer', async () => {
      const { lane, nextCall, batches } = createQueue({ heldUpAfterMs: 500 });
      const tickets = [lane.submit('a')];
      const heldUp = await nextCall();
      tickets.push(lane.submit('b'));
      const second = await nextCall();
      tickets.push(lane.submit('c'));
      heldUp.answer();
      await tickets[0]!.result;
      await delay(50);
      assert.deepEqual(batches, [['a'], ['b']]);
      second.answer();
      (await nextCall()).answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C']);
    });

    it('makes no second call while the first is not held up', async () => {
      const { lane, nextCall, batches } = createQueue({ heldUpAfterMs: 60_000 });
      const tickets = [lane.submit('a')];
      const first = await nextCall();
      tickets.push(lane.submit('b'));
      await delay(50);
      assert.deepEqual(batches, [['a']]);
      first.answer();
      (await nextCall()).answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B']);
    });

    it('makes no third call, however long two are held up', async () => {
      const { lane, nextCall, batches } = createQueue({ heldUpAfterMs: 5 });
      const tickets = [lane.submit('a')];
      const calls = [await nextCall()];
      tickets.push(lane.submit('b'));
      calls.push(await nextCall());
      tickets.push(lane.submit('c'));
      await delay(50);
      assert.deepEqual(batches, [['a'], ['b']]);
      for (const call of calls) call.answer();
      (await nextCall()).answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C']);
    });

    it('sends no more than batchMax items at once, in the order they came', async () => {
      const { lane, nextCall } = createQueue({ batchMax: 2 });
      const tickets = ['a', 'b', 'c', 'd', 'e'].map((item) => lane.submit(item));
      for (const expected of [['a', 'b'], ['c', 'd'], ['e']]) {
        const sent = await nextCall();
        assert.deepEqual(sent.items, expected);
        sent.answer();
      }
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C', 'D', 'E']);
    });

    it('gives each item its own result, also when results are equal or empty', async () => {
      const { lane, nextCall } = createQueue();
      const tickets = ['a', 'b', 'c'].map((item) => lane.submit(item));
      (await nextCall()).answer(['', 'x', 'x']);
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['', 'x', 'x']);
    });
  });

  describe('bounds', () => {
    it('turns an item away when queueMax items wait, and takes items again once they are sent', async () => {
      const { lane, nextCall } = createQueue({ queueMax: 2 });
      const first = lane.submit('a');
      const sent = await nextCall();
      const waiting = [lane.submit('b'), lane.submit('c')];
      await assert.rejects(lane.submit('d').result, BatchQueueFull);
      sent.answer();
      const next = await nextCall();
      const again = lane.submit('e');
      next.answer();
      (await nextCall()).answer();
      const results = await Promise.all([first, ...waiting, again].map((ticket) => ticket.result));
      assert.deepEqual(results, ['A', 'B', 'C', 'E']);
    });

    it('counts items that wait and items in flight as its depth', async () => {
      const { lane, nextCall } = createQueue();
      assert.equal(lane.depth, 0);
      const tickets = [lane.submit('a')];
      const sent = await nextCall();
      tickets.push(lane.submit('b'), lane.submit('c'));
      assert.equal(lane.depth, 3);
      sent.answer();
      const next = await nextCall();
      assert.equal(lane.depth, 2);
      next.answer();
      await Promise.all(tickets.map((ticket) => ticket.result));
      await lane.settled();
      assert.equal(lane.depth, 0);
    });

    it('gives the place of an abandoned item to another one', async () => {
      const { lane, nextCall } = createQueue({ queueMax: 1 });
      const first = lane.submit('a');
      const sent = await nextCall();
      assert.equal(lane.submit('b').abandon(), true);
      const second = lane.submit('c');
      sent.answer();
      const next = await nextCall();
      assert.deepEqual(next.items, ['c']);
      next.answer();
      assert.deepEqual([await first.result, await second.result], ['A', 'C']);
    });
  });

  describe('faults', () => {
    it('repeats a call whose answer is unknown with the same items, and nothing else in between', async () => {
      const told: number[] = [];
      const { lane, nextCall, batches } = createQueue({ onFault: (_error, items) => told.push(items) });
      const tickets = [lane.submit('a'), lane.submit('b')];
      const sent = await nextCall();
      tickets.push(lane.submit('c'));
      sent.fail(new Fault('connection lost'));
      (await nextCall()).fail(new Fault('still lost'));
      (await nextCall()).answer();
      (await nextCall()).answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C']);
      assert.deepEqual(batches, [['a', 'b'], ['a', 'b'], ['a', 'b'], ['c']]);
      assert.deepEqual(told, [2, 2]);
    });

    it('lets one bad item fail alone: the others of its batch get their results', async () => {
      const { lane, nextCall, batches } = createQueue();
      const tickets = ['a', 'bad', 'c'].map((item) => lane.submit(item));
      const results = Promise.allSettled(tickets.map((ticket) => ticket.result));
      (await nextCall()).fail(new Error('numeric field overflow'));
      (await nextCall()).answer();
      (await nextCall()).fail(new Error('numeric field overflow'));
      (await nextCall()).answer();
      assert.deepEqual(
        (await results).map((result) => (result.status === 'fulfilled' ? result.value : String(result.reason))),
        ['A', 'Error: numeric field overflow', 'C'],
      );
      assert.deepEqual(batches, [['a', 'bad', 'c'], ['a'], ['bad'], ['c']]);
    });

    it('repeats an item that meets a fault while a bad batch is narrowed down', async () => {
      const { lane, nextCall, batches } = createQueue();
      const tickets = ['a', 'bad'].map((item) => lane.submit(item));
      const results = Promise.allSettled(tickets.map((ticket) => ticket.result));
      (await nextCall()).fail(new Error('bad batch'));
      (await nextCall()).fail(new Fault('connection lost'));
      (await nextCall()).answer();
      (await nextCall()).fail(new Error('bad item'));
      assert.deepEqual(
        (await results).map(({ status }) => status),
        ['fulfilled', 'rejected'],
      );
      assert.deepEqual(batches, [['a', 'bad'], ['a'], ['a'], ['bad']]);
    });

    it('goes on with the next batch after an item has failed', async () => {
      const { lane, nextCall } = createQueue();
      const bad = lane.submit('bad');
      const sent = await nextCall();
      const good = lane.submit('good');
      sent.fail(new Error('bad item'));
      await assert.rejects(bad.result, /bad item/);
      (await nextCall()).answer();
      assert.equal(await good.result, 'GOOD');
    });

    it('hands out no result when their number is wrong, so that nobody gets the answer of another', async () => {
      const { lane, nextCall } = createQueue();
      const tickets = ['a', 'b'].map((item) => lane.submit(item));
      const results = Promise.allSettled(tickets.map((ticket) => ticket.result));
      (await nextCall()).answer(['only one']);
      (await nextCall()).answer([]);
      (await nextCall()).answer(['x', 'y']);
      for (const result of await results) {
        assert.ok(result.status === 'rejected' && /invariant broken: lane test got/.test(String(result.reason)));
      }
    });
  });

  describe('abandoning', () => {
    it('drops an item that was not sent, and says so', async () => {
      const { lane, nextCall, batches } = createQueue();
      const first = lane.submit('a');
      const sent = await nextCall();
      const dropped = lane.submit('b');
      const kept = lane.submit('c');
      assert.equal(dropped.abandon(), true);
      sent.answer();
      (await nextCall()).answer();
      assert.deepEqual([await first.result, await kept.result], ['A', 'C']);
      await lane.settled();
      assert.deepEqual(batches, [['a'], ['c']]);
    });

    it('makes no call when everything that waited was abandoned', async () => {
      const { lane, nextCall, batches } = createQueue();
      void lane.submit('a');
      const sent = await nextCall();
      lane.submit('b').abandon();
      sent.answer();
      await lane.settled();
      assert.deepEqual(batches, [['a']]);
    });

    it('makes no call either when it was abandoned after the last call had its answer', async () => {
      const { lane, nextCall, batches } = createQueue();
      const first = lane.submit('a');
      const sent = await nextCall();
      const second = lane.submit('b');
      sent.answer();
      await first.result;
      assert.equal(second.abandon(), true);
      await lane.settled();
      assert.deepEqual(batches, [['a']]);
    });

    it('cannot drop an item that was sent: it is repeated until its answer is known', async () => {
      const { lane, nextCall } = createQueue();
      const ticket = lane.submit('a');
      const sent = await nextCall();
      assert.equal(ticket.abandon(), false);
      sent.fail(new Fault('answer lost'));
      (await nextCall()).answer();
      assert.equal(await ticket.result, 'A');
      assert.equal(ticket.abandon(), false);
    });
  });

  describe('settling', () => {
    it('is settled at once when nothing was submitted', () => createQueue().lane.settled());

    it('is settled only when everything queued and in flight has its answer', async () => {
      const { lane, nextCall } = createQueue({ batchMax: 1 });
      void lane.submit('a');
      void lane.submit('b');
      let settled = false;
      const whenSettled = Promise.all([lane.settled(), lane.settled()]).then(() => (settled = true));
      (await nextCall()).answer();
      const last = await nextCall();
      await nextTurn();
      assert.equal(settled, false);
      last.answer();
      await whenSettled;
    });

    it('measures how long an answer is owed, over all repeats of the call, and nothing when none is', async () => {
      const { lane, nextCall } = createQueue();
      assert.equal(lane.stalledMs, 0);
      const ticket = lane.submit('a');
      const begin = performance.now();
      const sent = await nextCall();
      sent.fail(new Fault('answer lost'));
      const repeated = await nextCall();
      const waited = performance.now() - begin;
      assert.ok(lane.stalledMs > 0 && lane.stalledMs >= waited - 5, `${lane.stalledMs} of ${waited} ms`);
      repeated.answer();
      await ticket.result;
      await lane.settled();
      assert.equal(lane.stalledMs, 0);
    });
  });
});
