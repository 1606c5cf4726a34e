/** Exports take places: few for customers, and one that no customer can keep from staff. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { Exports, type Readership } from '../../../api/routes/exports.ts';
import { Refusal } from '../../../domain/errors.ts';

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

  it('customers that read slowly keep other customers waiting, not staff', async () => {
    const exports = new Exports();
    const { verdicts, end } = begin(exports, ['customer', 'customer', 'customer', 'staff', 'staff']);
    assert.deepEqual(await verdicts, ['runs', 'runs', REFUSED, 'runs', REFUSED]);
    end();
  });

  it('a place is free again once its export has ended', async () => {
    const exports = new Exports();
    const first = begin(exports, ['staff']);
    assert.deepEqual(await first.verdicts, ['runs']);
    first.end();
    await new Promise((resolve) => setImmediate(resolve));
    const second = begin(exports, ['staff']);
    assert.deepEqual(await second.verdicts, ['runs']);
    second.end();
  });
});
