/** Exports take places: few for each customer and in all, and one reserved for staff. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { Exports, type Readership } from '../../../../api/http/exports.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { uuidOf, type AccountUuid } from '../../../../domain/ids.ts';

const customer = (n: number): AccountUuid => uuidOf('account', `01980000-0000-7000-8000-00000000000${n}`);

describe('exports', () => {
  /** Begins exports that end when told, and says which of them were let in. */
  function begin(exports: Exports, readers: readonly Readership[]): { verdicts: Promise<string[]>; end: () => void } {
    let end!: () => void;
    const told = new Promise<void>((resolve) => (end = resolve));
    const verdicts = readers.map(async (readership) => {
      let verdict!: (word: string) => void;
      const judged = new Promise<string>((resolve) => (verdict = resolve));
      const { write } = exports.reply({
        readership,
        fileName: 'rows.csv',
        columns: ['n'],
        async produce() {
          verdict('runs');
          await told;
        },
      });
      write(new PassThrough().resume()).catch((error: unknown) => {
        verdict(error instanceof Refusal ? `${error.code}, again in ${error.retryAfterSeconds} s` : String(error));
      });
      return judged;
    });
    return { verdicts: Promise.all(verdicts), end };
  }

  const REFUSED = 'rate_limit_exceeded, again in 10 s';
  const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('a customer that reads slowly keeps two places, others have theirs, and staff one of their own', async () => {
    const exports = new Exports();
    const readers = [...[1, 1, 1, 2, 3, 4, 5].map(customer), 'staff', 'staff'] as const;
    const { verdicts, end } = begin(exports, readers);
    const expected = ['runs', 'runs', REFUSED, 'runs', 'runs', 'runs', REFUSED, 'runs', REFUSED];
    assert.deepEqual(await verdicts, expected);
    end();
  });

  it('the last places are for customers that have none', async () => {
    const exports = new Exports();
    const { verdicts, end } = begin(exports, [1, 1, 2, 2, 2, 3, 4].map(customer));
    assert.deepEqual(await verdicts, ['runs', 'runs', 'runs', REFUSED, REFUSED, 'runs', 'runs']);
    end();
  });

  for (const reader of [customer(1), 'staff'] as const) {
    it(`a place is free again once its export has ended: ${reader === 'staff' ? 'staff' : 'a customer'}`, async () => {
      const exports = new Exports();
      const first = begin(exports, [reader]);
      assert.deepEqual(await first.verdicts, ['runs']);
      first.end();
      await nextTurn();
      const second = begin(exports, [reader]);
      assert.deepEqual(await second.verdicts, ['runs']);
      second.end();
    });
  }

  it('a place is free again once its reader has gone in the middle', async () => {
    const exports = new Exports();
    const output = new PassThrough({ highWaterMark: 1 });
    const reply = exports.reply({
      readership: customer(1),
      fileName: 'rows.csv',
      columns: ['n'],
      async produce(write) {
        for (;;) await write([[1]]);
      },
    });
    const writing = reply.write(output);
    await nextTurn();
    output.destroy();
    await assert.rejects(writing);
    const second = begin(exports, [customer(1)]);
    assert.deepEqual(await second.verdicts, ['runs']);
    second.end();
  });
});
