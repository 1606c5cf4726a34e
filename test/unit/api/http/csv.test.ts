/** CSV that spreadsheets read as what it is, written no faster than it is read. */
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import fc from 'fast-check';
import { csvLine, CsvWriter } from '../../../../api/http/csv.ts';

/** An RFC 4180 reader, for one line. */
function readLine(line: string): string[] {
  const cells: string[] = [];
  let rest = line.slice(0, -2);
  for (;;) {
    const quoted = /^"((?:[^"]|"")*)"(?:,|$)/.exec(rest);
    const [whole, cell = ''] = quoted ?? /^([^",\r\n]*)(?:,|$)/.exec(rest) ?? assert.fail(`unreadable: ${rest}`);
    cells.push(quoted === null ? cell : cell.replaceAll('""', '"'));
    if (whole.length === rest.length && !whole.endsWith(',')) return cells;
    if (whole.length === rest.length) return [...cells, ''];
    rest = rest.slice(whole.length);
  }
}

describe('CSV', () => {
  it('quotes what needs quotes and ends lines with CRLF', () => {
    assert.equal(
      csvLine(['a', 'b,c', 'say "hi"', 'two\nlines', 1.5, true, null]),
      'a,"b,c","say ""hi""","two\nlines",1.5,true,\r\n',
    );
  });

  it('a CSV has no cell that a spreadsheet would calculate', () => {
    for (const text of ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', '＝1', '=cmd|" /C calc"!A0']) {
      const [cell] = readLine(csvLine([text]));
      assert.equal(cell, `'${text}`);
    }
  });

  it('a CSV can be read back, for any text', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' }), { minLength: 1 }), (texts) => {
        const read = readLine(csvLine(texts));
        assert.deepEqual(
          read.map((cell) => cell.replace(/^'(?=[=+\-@\t\r\n＝＋－＠])/, '')),
          texts,
        );
      }),
    );
  });

  /** An output that takes one chunk and reads on only when told. */
  function slowOutput(): { output: Writable; taken: string[]; readOn: () => void } {
    const taken: string[] = [];
    let next: (() => void) | undefined;
    const output = new Writable({
      highWaterMark: 1,
      write(chunk: Buffer, _, done) {
        taken.push(chunk.toString());
        next = done;
      },
    });
    return { output, taken, readOn: () => next?.() };
  }

  it('an export waits for a slow reader', async () => {
    const { output, readOn, taken } = slowOutput();
    const csv = new CsvWriter(output, ['n'], { deadline: AbortSignal.timeout(60_000), batchTimeoutMs: 60_000 });
    let written = false;
    const writing = csv.write([[1], [2]]).then(() => (written = true));
    await new Promise(setImmediate);
    assert.equal(written, false);
    readOn();
    await writing;
    assert.deepEqual(taken, ['n\r\n1\r\n2\r\n']);
  });

  it('an export abandons a reader that stalls until the deadline, and its output does not look whole', async () => {
    const { output } = slowOutput();
    const csv = new CsvWriter(output, ['n'], { deadline: AbortSignal.timeout(20), batchTimeoutMs: 60_000 });
    await assert.rejects(csv.write([[1]]));
    assert.equal(output.destroyed, true);
    await assert.rejects(csv.write([[2]]));
  });

  it('an export abandons a reader that takes too long for one batch, long before the deadline', async () => {
    const { output } = slowOutput();
    const csv = new CsvWriter(output, ['n'], { deadline: AbortSignal.timeout(60_000), batchTimeoutMs: 20 });
    await assert.rejects(csv.write([[1]]));
    assert.equal(output.destroyed, true);
  });

  it('an export stops when its reader goes away', async () => {
    const { output } = slowOutput();
    const csv = new CsvWriter(output, ['n'], { deadline: AbortSignal.timeout(60_000), batchTimeoutMs: 60_000 });
    const writing = csv.write([[1]]);
    output.destroy();
    await assert.rejects(writing);
  });

  it('a CSV without lines has its header, once', async () => {
    const chunks: string[] = [];
    const output = new Writable({ write: (chunk: Buffer, _, done) => (chunks.push(chunk.toString()), done()) });
    const csv = new CsvWriter(output, ['a', 'b'], { deadline: AbortSignal.timeout(60_000), batchTimeoutMs: 60_000 });
    await csv.end();
    await csv.end();
    assert.deepEqual(chunks, ['a,b\r\n']);
  });
});
