/** CSV as RFC 4180 has it, safe to open in a spreadsheet: no cell of ours can be taken for a formula. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';

/** Characters that begin a formula in spreadsheets, full-width forms included. */
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;

export type CsvValue = string | number | boolean | null;

/** One line with its CRLF. Text that would begin a formula gets an apostrophe before it. */
export function csvLine(values: readonly CsvValue[]): string {
  return `${values.map(csvCell).join(',')}\r\n`;
}

function csvCell(value: CsvValue): string {
  if (value === null) return '';
  if (typeof value !== 'string') return String(value);
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/**
 * Writes CSV as fast as its reader takes it. The header comes with the first lines, so that a failure before them can
 * still be answered otherwise. A reader that is gone, that needs longer than `batchTimeoutMs` for what one call wrote,
 * or has not taken everything when `deadline` comes, ends the output and the work behind it.
 */
export class CsvWriter {
  readonly #output: Writable;
  readonly #deadline: AbortSignal;
  readonly #batchTimeoutMs: number;
  #header: string;

  constructor(
    output: Writable,
    columns: readonly string[],
    { deadline, batchTimeoutMs }: { deadline: AbortSignal; batchTimeoutMs: number },
  ) {
    this.#output = output;
    this.#deadline = deadline;
    this.#batchTimeoutMs = batchTimeoutMs;
    this.#header = csvLine(columns);
  }

  async write(lines: readonly (readonly CsvValue[])[]): Promise<void> {
    const text = this.#header + lines.map(csvLine).join('');
    this.#header = '';
    if (this.#output.destroyed) throw new Error('the reader has closed the connection');
    if (!this.#output.write(text)) await this.#drained();
  }

  /** Writes the header where there were no lines. */
  async end(): Promise<void> {
    if (this.#header !== '') await this.write([]);
  }

  async #drained(): Promise<void> {
    const gone = new AbortController();
    const onClose = (): void => gone.abort();
    this.#output.once('close', onClose);
    try {
      const late = AbortSignal.timeout(this.#batchTimeoutMs);
      await once(this.#output, 'drain', { signal: AbortSignal.any([gone.signal, late, this.#deadline]) });
    } catch (error) {
      this.#output.destroy();
      throw error;
    } finally {
      this.#output.off('close', onClose);
    }
  }
}
