/** The queue alone, against a call that the test answers by hand: what is sent when, and who gets which answer. */
import assert from 'node:assert/strict';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { BatchQueue, BatchQueueFull, type BatchQueueOptions } from '../../../../db/shared/batch-queue.ts';

/** A call of the queue that waits for the test's answer. */
interface Sent {
  readonly items: readonly string[];
  answer(results?: readonly string[]): void;
  fail(error: Error): void;
}

class Fault extends Error {}

/** A queue of strings, each of which results in its upper-case form unless the test answers otherwise. */
function createQueue(options: Partial<BatchQueueOptions<string, string>> = {}) {
  const waiting: Sent[] = [];
  const arrivals: ((sent: Sent) => void)[] = [];
  const batches: (readonly string[])[] = [];
  const queue = new BatchQueue<string, string>({
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
  return { queue, nextCall, batches };
}

describe('queue', () => {
  describe('batching', () => {
    it('a queue sends a lone item in the turn in which it was submitted, without a timer', async () => {
      const { queue, batches } = createQueue();
      void queue.submit('a');
      await nextTurn();
      assert.deepEqual(batches, [['a']]);
    });

    it('a queue sends items of one turn together', async () => {
      const { queue, nextCall } = createQueue();
      const tickets = ['a', 'b', 'c'].map((item) => queue.submit(item));
      const sent = await nextCall();
      assert.deepEqual(sent.items, ['a', 'b', 'c']);
      sent.answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C']);
    });

    it('a queue has one call in flight at most, and sends everything that came meanwhile in the next', async () => {
      const { queue, nextCall, batches } = createQueue();
      const first = queue.submit('a');
      const sent = await nextCall();
      const later = ['b', 'c', 'd'].map((item) => queue.submit(item));
      await nextTurn();
      assert.equal(batches.length, 1);
      sent.answer();
      assert.equal(await first.result, 'A');
      const next = await nextCall();
      assert.deepEqual(next.items, ['b', 'c', 'd']);
      next.answer();
      assert.deepEqual(await Promise.all(later.map((ticket) => ticket.result)), ['B', 'C', 'D']);
    });

    it('a queue makes a second call beside a held-up call, and goes on beside it', async () => {
      const { queue, nextCall, batches } = createQueue({ heldUpAfterMs: 30 });
      const tickets = [queue.submit('a')];
      const heldUp = await nextCall();
      tickets.push(queue.submit('b'), queue.submit('c'));
      const second = await nextCall();
      tickets.push(queue.submit('d'));
      assert.equal(queue.depth, 4);
      second.answer();
      const third = await nextCall();
      assert.deepEqual([second.items, third.items], [['b', 'c'], ['d']]);
      third.answer();
      await tickets[3]!.result;
      let settled = false;
      const idle = queue.drained().then(() => (settled = true));
      await nextTurn();
      assert.deepEqual([settled, batches.length], [false, 3]);
      heldUp.answer();
      await idle;
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C', 'D']);
    });

    it('a queue has one call in flight again once the held-up call has its answer', async () => {
      const { queue, nextCall, batches } = createQueue({ heldUpAfterMs: 500 });
      const tickets = [queue.submit('a')];
      const heldUp = await nextCall();
      tickets.push(queue.submit('b'));
      const second = await nextCall();
      tickets.push(queue.submit('c'));
      heldUp.answer();
      await tickets[0]!.result;
      await delay(50);
      assert.deepEqual(batches, [['a'], ['b']]);
      second.answer();
      (await nextCall()).answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C']);
    });

    it('a queue makes no second call while the first is not held up', async () => {
      const { queue, nextCall, batches } = createQueue({ heldUpAfterMs: 60_000 });
      const tickets = [queue.submit('a')];
      const first = await nextCall();
      tickets.push(queue.submit('b'));
      await delay(50);
      assert.deepEqual(batches, [['a']]);
      first.answer();
      (await nextCall()).answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B']);
    });

    it('a queue makes no third call, however long two are held up', async () => {
      const { queue, nextCall, batches } = createQueue({ heldUpAfterMs: 5 });
      const tickets = [queue.submit('a')];
      const calls = [await nextCall()];
      tickets.push(queue.submit('b'));
      calls.push(await nextCall());
      tickets.push(queue.submit('c'));
      await delay(50);
      assert.deepEqual(batches, [['a'], ['b']]);
      for (const call of calls) call.answer();
      (await nextCall()).answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C']);
    });

    it('a queue sends no more than batchMax items at once, in the order of their arrival', async () => {
      const { queue, nextCall } = createQueue({ batchMax: 2 });
      const tickets = ['a', 'b', 'c', 'd', 'e'].map((item) => queue.submit(item));
      for (const expected of [['a', 'b'], ['c', 'd'], ['e']]) {
        const sent = await nextCall();
        assert.deepEqual(sent.items, expected);
        sent.answer();
      }
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C', 'D', 'E']);
    });

    it('each item gets its own result, also when results are equal or empty', async () => {
      const { queue, nextCall } = createQueue();
      const tickets = ['a', 'b', 'c'].map((item) => queue.submit(item));
      (await nextCall()).answer(['', 'x', 'x']);
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['', 'x', 'x']);
    });
  });

  describe('bounds', () => {
    it('a queue turns an item away when queueMax items wait, and takes items again once they are sent', async () => {
      const { queue, nextCall } = createQueue({ queueMax: 2 });
      const first = queue.submit('a');
      const sent = await nextCall();
      const waiting = [queue.submit('b'), queue.submit('c')];
      await assert.rejects(queue.submit('d').result, BatchQueueFull);
      sent.answer();
      const next = await nextCall();
      const again = queue.submit('e');
      next.answer();
      (await nextCall()).answer();
      const results = await Promise.all([first, ...waiting, again].map((ticket) => ticket.result));
      assert.deepEqual(results, ['A', 'B', 'C', 'E']);
    });

    it('the depth counts items that wait and items in flight', async () => {
      const { queue, nextCall } = createQueue();
      assert.equal(queue.depth, 0);
      const tickets = [queue.submit('a')];
      const sent = await nextCall();
      tickets.push(queue.submit('b'), queue.submit('c'));
      assert.equal(queue.depth, 3);
      sent.answer();
      const next = await nextCall();
      assert.equal(queue.depth, 2);
      next.answer();
      await Promise.all(tickets.map((ticket) => ticket.result));
      await queue.drained();
      assert.equal(queue.depth, 0);
    });

    it('the place of an abandoned item is free for another one', async () => {
      const { queue, nextCall } = createQueue({ queueMax: 1 });
      const first = queue.submit('a');
      const sent = await nextCall();
      assert.equal(queue.submit('b').abandon(), true);
      const second = queue.submit('c');
      sent.answer();
      const next = await nextCall();
      assert.deepEqual(next.items, ['c']);
      next.answer();
      assert.deepEqual([await first.result, await second.result], ['A', 'C']);
    });
  });

  describe('faults', () => {
    it('a call whose answer is unknown is repeated with the same items, and nothing else in between', async () => {
      const told: number[] = [];
      const { queue, nextCall, batches } = createQueue({ onFault: (_error, items) => told.push(items) });
      const tickets = [queue.submit('a'), queue.submit('b')];
      const sent = await nextCall();
      tickets.push(queue.submit('c'));
      sent.fail(new Fault('connection lost'));
      (await nextCall()).fail(new Fault('still lost'));
      (await nextCall()).answer();
      (await nextCall()).answer();
      assert.deepEqual(await Promise.all(tickets.map((ticket) => ticket.result)), ['A', 'B', 'C']);
      assert.deepEqual(batches, [['a', 'b'], ['a', 'b'], ['a', 'b'], ['c']]);
      assert.deepEqual(told, [2, 2]);
    });

    it('a bad item fails alone: the others of its batch get their results', async () => {
      const { queue, nextCall, batches } = createQueue();
      const tickets = ['a', 'bad', 'c'].map((item) => queue.submit(item));
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

    it('an item that meets a fault while a bad batch is narrowed down is repeated', async () => {
      const { queue, nextCall, batches } = createQueue();
      const tickets = ['a', 'bad'].map((item) => queue.submit(item));
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

    it('a queue goes on with the next batch after an item has failed', async () => {
      const { queue, nextCall } = createQueue();
      const bad = queue.submit('bad');
      const sent = await nextCall();
      const good = queue.submit('good');
      sent.fail(new Error('bad item'));
      await assert.rejects(bad.result, /bad item/);
      (await nextCall()).answer();
      assert.equal(await good.result, 'GOOD');
    });

    it('a queue hands out no result when their number is wrong, so that nobody gets the answer of another', async () => {
      const { queue, nextCall } = createQueue();
      const tickets = ['a', 'b'].map((item) => queue.submit(item));
      const results = Promise.allSettled(tickets.map((ticket) => ticket.result));
      (await nextCall()).answer(['only one']);
      (await nextCall()).answer([]);
      (await nextCall()).answer(['x', 'y']);
      for (const result of await results) {
        assert.ok(result.status === 'rejected' && /invariant broken: queue test got/.test(String(result.reason)));
      }
    });
  });

  describe('abandoning', () => {
    it('abandoning drops an item that was not sent, and says so', async () => {
      const { queue, nextCall, batches } = createQueue();
      const first = queue.submit('a');
      const sent = await nextCall();
      const dropped = queue.submit('b');
      const kept = queue.submit('c');
      assert.equal(dropped.abandon(), true);
      sent.answer();
      (await nextCall()).answer();
      assert.deepEqual([await first.result, await kept.result], ['A', 'C']);
      await queue.drained();
      assert.deepEqual(batches, [['a'], ['c']]);
    });

    it('a queue makes no call when everything that waited was abandoned', async () => {
      const { queue, nextCall, batches } = createQueue();
      void queue.submit('a');
      const sent = await nextCall();
      queue.submit('b').abandon();
      sent.answer();
      await queue.drained();
      assert.deepEqual(batches, [['a']]);
    });

    it('a queue makes no call for items abandoned after the last call had its answer', async () => {
      const { queue, nextCall, batches } = createQueue();
      const first = queue.submit('a');
      const sent = await nextCall();
      const second = queue.submit('b');
      sent.answer();
      await first.result;
      assert.equal(second.abandon(), true);
      await queue.drained();
      assert.deepEqual(batches, [['a']]);
    });

    it('an item that was sent cannot be dropped: it is repeated until its answer is known', async () => {
      const { queue, nextCall } = createQueue();
      const ticket = queue.submit('a');
      const sent = await nextCall();
      assert.equal(ticket.abandon(), false);
      sent.fail(new Fault('answer lost'));
      (await nextCall()).answer();
      assert.equal(await ticket.result, 'A');
      assert.equal(ticket.abandon(), false);
    });
  });

  describe('draining', () => {
    it('a queue is drained at once when nothing was submitted', () => createQueue().queue.drained());

    it('a queue is drained only when everything queued and in flight has its answer', async () => {
      const { queue, nextCall } = createQueue({ batchMax: 1 });
      void queue.submit('a');
      void queue.submit('b');
      let settled = false;
      const whenSettled = Promise.all([queue.drained(), queue.drained()]).then(() => (settled = true));
      (await nextCall()).answer();
      const last = await nextCall();
      await nextTurn();
      assert.equal(settled, false);
      last.answer();
      await whenSettled;
    });

    it('a queue measures how long an answer is owed, over all repeats of the call, and nothing when none is', async () => {
      const { queue, nextCall } = createQueue();
      assert.equal(queue.stalledMs, 0);
      const ticket = queue.submit('a');
      const begin = performance.now();
      const sent = await nextCall();
      sent.fail(new Fault('answer lost'));
      const repeated = await nextCall();
      const waited = performance.now() - begin;
      assert.ok(queue.stalledMs > 0 && queue.stalledMs >= waited - 5, `${queue.stalledMs} of ${waited} ms`);
      repeated.answer();
      await ticket.result;
      await queue.drained();
      assert.equal(queue.stalledMs, 0);
    });
  });
});
