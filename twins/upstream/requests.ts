/**
 * The real output of the twin, per request id: the evidence that tests, chaos runs and the product's orphan
 * lookup compare a bill with. Counts are what left the model, whatever usage a fault made the twin report.
 *
 * An id that arrives again is the same record with one more attempt, and its counts add up: a double call
 * shows as `attempts` 2 and as tokens nobody paid for. With a data file every start and end is one appended
 * JSON line, in the kernel before the answer's last byte leaves, so killing the twin forgets no finished
 * request; a request that was running then is found `aborted`, without the tokens of its last moments.
 */
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';

import { isObject } from '../kit/input.ts';
import {
  addTo,
  emptyTotals,
  type Entry,
  entryOf,
  newEntry,
  recordOf,
  type RecordStatus,
  type RequestRecord,
  type RequestTotals,
} from './records.ts';
import { addProduction, NO_TOKENS, type Production, type TokenCounts } from './token-counts.ts';

export interface RequestPage {
  readonly data: readonly RequestRecord[];
  /** Pass as `since_ordinal` for the next page; null on the last one. */
  readonly next_ordinal: number | null;
  /** Over everything since the last clear, also what is no longer kept. */
  readonly totals: RequestTotals;
}

/** The counts one answer starts with; output follows through `Attempt.produced`. */
export interface AcceptedWork {
  readonly model: string;
  readonly stream: boolean;
  /** Input: everything that is no output. */
  readonly counts: TokenCounts;
}

const COUNT_NAMES = Object.keys(NO_TOKENS) as (keyof TokenCounts)[];

/** One arrival of a request at the twin. */
export class Attempt {
  readonly #entry: Entry;
  readonly #save: (entry: Entry) => void;
  #ended = false;

  constructor(entry: Entry, save: (entry: Entry) => void) {
    this.#entry = entry;
    this.#save = save;
  }

  get requestId(): string {
    return this.#entry.requestId;
  }

  get ordinal(): number {
    return this.#entry.ordinal;
  }

  /** The body was understood. Work without a prompt is an answer that no model took part in. */
  accept(work: AcceptedWork): void {
    const entry = this.#entry;
    entry.model = work.model;
    entry.stream = work.stream;
    for (const name of COUNT_NAMES) entry.counts[name] += work.counts[name];
    this.#save(entry);
  }

  /** The id that the answer carries. */
  name(generationId: string | null): void {
    this.#entry.generationId = generationId;
  }

  produced(production: Production): void {
    if (!this.#ended) addProduction(this.#entry.counts, production);
  }

  /** The first end counts: a client that leaves after the last byte aborts nothing. */
  end(status: Exclude<RecordStatus, 'running'>): void {
    if (this.#ended) return;
    this.#ended = true;
    const entry = this.#entry;
    entry.running -= 1;
    entry.status = status;
    entry.endedAt = Date.now();
    this.#save(entry);
  }
}

export class RequestBook {
  readonly #entries = new Map<string, Entry>();
  readonly #maxRecords: number | null;
  #dropped = emptyTotals();
  #lastOrdinal = 0;
  #file: number | null = null;

  /** `maxRecords` null keeps all; above it the oldest ended records go. Reads and compacts the data file. */
  constructor(options: { maxRecords: number | null; dataFile: string | null }) {
    this.#maxRecords = options.maxRecords;
    if (options.dataFile !== null) this.#open(options.dataFile);
  }

  /** Notes an arrival. Without an id from the client the twin gives it one of its own. */
  begin(requestId: string | undefined): Attempt {
    const known = requestId === undefined ? undefined : this.#entries.get(requestId);
    const entry = known ?? this.#insert(requestId);
    entry.attempts += 1;
    entry.running += 1;
    return new Attempt(entry, this.#save);
  }

  get(requestId: string): RequestRecord | undefined {
    const entry = this.#entries.get(requestId);
    return entry === undefined ? undefined : recordOf(entry);
  }

  /** By the id of a request or of its last answer. */
  find(id: string): RequestRecord | undefined {
    const known = this.get(id);
    if (known !== undefined) return known;
    for (const entry of this.#entries.values()) if (entry.generationId === id) return recordOf(entry);
    return undefined;
  }

  /** Records with an ordinal above `sinceOrdinal`, in the order in which their ids were first seen. */
  list(options: { sinceOrdinal?: number; limit?: number } = {}): RequestPage {
    const { sinceOrdinal = 0, limit = 1_000 } = options;
    const data: RequestRecord[] = [];
    let more = false;
    for (const entry of this.#entries.values()) {
      if (entry.ordinal <= sinceOrdinal) continue;
      if (data.length === limit) {
        more = true;
        break;
      }
      data.push(recordOf(entry));
    }
    return { data, next_ordinal: more ? (data.at(-1)?.ordinal ?? sinceOrdinal) : null, totals: this.totals() };
  }

  totals(): RequestTotals {
    const totals = { ...this.#dropped };
    for (const entry of this.#entries.values()) addTo(totals, entry);
    return totals;
  }

  /** Forgets everything, in the file as well. Ordinals go on, so a reader's `since_ordinal` stays valid. */
  clear(): void {
    this.#entries.clear();
    this.#dropped = emptyTotals();
    if (this.#file !== null) ftruncateSync(this.#file);
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #insert(requestId: string | undefined): Entry {
    this.#lastOrdinal += 1;
    const ordinal = this.#lastOrdinal;
    const entry = newEntry(ordinal, requestId ?? `unnamed-${ordinal}`);
    this.#entries.set(entry.requestId, entry);
    this.#dropOldest();
    return entry;
  }

  // An eighth above the bound is dropped in one pass: a Map that loses its first key on every insert
  // walks over all the keys it lost before.
  #dropOldest(): void {
    const max = this.#maxRecords;
    if (max === null || this.#entries.size <= max + Math.floor(max / 8)) return;
    for (const entry of this.#entries.values()) {
      // Attempts 0 is the record being made right now.
      if (entry.running > 0 || entry.attempts === 0) continue;
      this.#entries.delete(entry.requestId);
      addTo(this.#dropped, entry);
      if (this.#entries.size <= max) return;
    }
  }

  // A synchronous append costs some microseconds and needs no ordering against the answer's own writes.
  readonly #save = (entry: Entry): void => {
    if (this.#file === null || this.#entries.get(entry.requestId) !== entry) return;
    writeSync(this.#file, `${JSON.stringify(recordOf(entry))}\n`);
  };

  #open(path: string): void {
    if (existsSync(path)) {
      for (const line of readFileSync(path, 'utf8').split('\n')) this.#load(line);
      const sorted = [...this.#entries.values()].sort((left, right) => left.ordinal - right.ordinal);
      this.#entries.clear();
      for (const entry of sorted) this.#entries.set(entry.requestId, entry);
      this.#dropOldest();
    }
    const lines = [...this.#entries.values()].map((entry) => `${JSON.stringify(recordOf(entry))}\n`);
    writeFileSync(`${path}.new`, lines.join(''));
    renameSync(`${path}.new`, path);
    this.#file = openSync(path, 'a');
  }

  /** The last line of an id wins. A line cut by a kill is skipped: its request is in the line before it. */
  #load(line: string): void {
    let parsed: unknown;
    try {
      parsed = JSON.parse(line);
    } catch {
      return;
    }
    if (!isObject(parsed)) return;
    const entry = entryOf(parsed);
    this.#lastOrdinal = Math.max(this.#lastOrdinal, entry.ordinal);
    this.#entries.set(entry.requestId, entry);
  }
}
