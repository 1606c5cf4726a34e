/**
 * Memory of a twin, as tables of JSON rows in order of creation, and the file that keeps them: every changed row is
 * appended as one line before the call that changed it is answered, so that not even kill -9 loses what a client was
 * told. The last line of a row wins; the file is rewritten, one line a row, at the start.
 */
import { appendFileSync, closeSync, existsSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

export interface Row {
  readonly id: string;
}

export class Table<T extends Row> {
  readonly #rows = new Map<string, T>();
  readonly #changed = new Set<string>();

  get(id: string): T | undefined {
    return this.#rows.get(id);
  }

  /** Adds a row, or notes that it was changed in place. */
  put(row: T): T {
    this.#rows.set(row.id, row);
    this.#changed.add(row.id);
    return row;
  }

  delete(id: string): void {
    if (this.#rows.delete(id)) this.#changed.add(id);
  }

  oldestFirst(): T[] {
    return [...this.#rows.values()];
  }

  newestFirst(): T[] {
    return this.oldestFirst().reverse();
  }

  find(matches: (row: T) => boolean): T | undefined {
    return this.oldestFirst().find(matches);
  }

  takeChanged(): string[] {
    const ids = [...this.#changed];
    this.#changed.clear();
    return ids;
  }
}

export type Tables = Readonly<Record<string, Table<Row>>>;

export class TableFile {
  readonly #tables: Tables;
  #file: number | null = null;

  /** Fills the tables from the file; without one nothing is kept. */
  constructor(tables: Tables, dataFile: string | null) {
    this.#tables = tables;
    if (dataFile === null) return;
    if (existsSync(dataFile)) this.#read(readFileSync(dataFile, 'utf8'));
    const rows = Object.entries(tables).flatMap(([name, table]) =>
      table.oldestFirst().map((row) => JSON.stringify([name, row.id, row]) + '\n'),
    );
    writeFileSync(`${dataFile}.new`, rows.join(''));
    renameSync(`${dataFile}.new`, dataFile);
    this.#file = openSync(dataFile, 'a');
  }

  /** Writes the changes; called before any client learns of them. */
  flush(): void {
    let lines = '';
    for (const [name, table] of Object.entries(this.#tables)) {
      for (const id of table.takeChanged()) lines += JSON.stringify([name, id, table.get(id) ?? null]) + '\n';
    }
    if (this.#file !== null && lines !== '') appendFileSync(this.#file, lines);
  }

  close(): void {
    this.flush();
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #read(text: string): void {
    // A process killed while it wrote leaves half a line behind, which no client has seen.
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    for (const line of whole.split('\n')) {
      if (line === '') continue;
      const [name, id, row] = JSON.parse(line) as [string, string, Row | null];
      const table = this.#tables[name];
      if (table === undefined) throw new Error(`The data file has rows of an unknown table '${name}'.`);
      if (row === null) table.delete(id);
      else table.put(row);
    }
    for (const table of Object.values(this.#tables)) table.takeChanged();
  }
}
