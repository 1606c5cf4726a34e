/**
 * What the thread of token-count.ts does: it counts what it is sent, always what has least left and a few milliseconds
 * of it at a time, so that a large text never keeps a small one waiting. The program of the thread brings what reads
 * bodies.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';
import { countTokens, setMergeCacheSize } from 'gpt-tokenizer/encoding/o200k_base';
import type { PromptReader } from '../dialect.ts';
import { sizeOf, type CountAnswer, type CountOrder } from './token-order.ts';
import { endOfSlice } from './token-slices.ts';

const TURN_MS = 5;
/** The tokenizer remembers what it has merged, up to a slice each; its default of 100,000 would be much memory. */
const MERGES_REMEMBERED = 5_000;
/** Text like "<|endoftext|>" is text: by default the tokenizer throws on it. */
const AS_TEXT = { disallowedSpecial: new Set<string>() };

export type PromptReaders = Readonly<Record<string, PromptReader>>;

class Job {
  readonly id: number;
  readonly #content: CountOrder['content'];
  readonly #readers: PromptReaders;
  readonly #most: number;
  /** Null until the first slice: reading a body takes its time as well. */
  #texts: Iterator<string> | null = null;
  #text = '';
  #start = 0;
  #tokens = 0;
  /** About how many characters are left. */
  left: number;

  constructor({ id, content, most }: CountOrder, readers: PromptReaders) {
    this.id = id;
    this.#content = content;
    this.#readers = readers;
    this.#most = most;
    this.left = sizeOf(content);
  }

  get tokens(): number {
    return Math.min(this.#tokens, this.#most);
  }

  /** Counts one slice more; true when none is left, or enough is counted. */
  countSlice(): boolean {
    this.#texts ??= this.#open();
    if (this.#start >= this.#text.length) {
      const next = this.#texts.next();
      if (next.done === true) return true;
      this.#text = next.value;
      this.#start = 0;
    }
    const end = endOfSlice(this.#text, this.#start);
    this.#tokens += countTokens(this.#text.slice(this.#start, end), AS_TEXT);
    this.left -= end - this.#start;
    this.#start = end;
    return this.#tokens >= this.#most;
  }

  #open(): Iterator<string> {
    if (typeof this.#content === 'string') return [this.#content].values();
    const reader = this.#readers[this.#content.dialect];
    if (reader === undefined) throw new Error(`the thread has no reader of ${this.#content.dialect}`);
    const body = parse(new TextDecoder().decode(this.#content.body));
    this.#tokens = reader.frameTokens(body);
    return reader.stringsOf(body)[Symbol.iterator]();
  }
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    // What cannot be read is counted as the text that it is.
    return json;
  }
}

/** Counts until the thread ends; `readers` by the name of their dialect. To be called once, in a thread of its own. */
export function countInThread(readers: PromptReaders): void {
  const jobs: Job[] = [];
  let isWorking = false;
  const work = async (): Promise<void> => {
    isWorking = true;
    while (jobs.length > 0) {
      const job = jobs.reduce((smallest, other) => (other.left < smallest.left ? other : smallest));
      const endsAt = performance.now() + TURN_MS;
      let isDone = false;
      while (!isDone && performance.now() < endsAt) isDone = job.countSlice();
      if (isDone) {
        jobs.splice(jobs.indexOf(job), 1);
        const answer: CountAnswer = { id: job.id, tokens: job.tokens };
        parentPort!.postMessage(answer);
      }
      await nextTurn();
    }
    isWorking = false;
  };
  setMergeCacheSize(MERGES_REMEMBERED);
  parentPort!.on('message', (order: CountOrder) => {
    jobs.push(new Job(order, readers));
    if (!isWorking) void work();
  });
}
