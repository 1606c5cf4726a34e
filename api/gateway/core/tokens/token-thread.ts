/**
 * The thread of token-count.ts. It counts what it is sent, always what has least left and a few milliseconds of it at a
 * time, so that a large text never keeps a small one waiting.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';
import { countTokens, setMergeCacheSize } from 'gpt-tokenizer/encoding/o200k_base';
import { frameTokens, stringsOf } from '../../dialects/openai-chat/body-strings.ts';
import { endOfSlice } from './token-slices.ts';

/** What is to be counted: a text, or a request's body as JSON. */
export interface CountOrder {
  readonly id: number;
  readonly content: string | Uint8Array;
  /** Counting ends when this many tokens are found. */
  readonly most: number;
}

export interface CountAnswer {
  readonly id: number;
  readonly tokens: number;
}

const TURN_MS = 5;
/** The tokenizer remembers what it has merged, up to a slice each; its default of 100,000 would be much memory. */
const MERGES_REMEMBERED = 5_000;
/** Text like "<|endoftext|>" is text: by default the tokenizer throws on it. */
const AS_TEXT = { disallowedSpecial: new Set<string>() };

class Job {
  readonly id: number;
  readonly #content: CountOrder['content'];
  readonly #most: number;
  /** Null until the first slice: reading a body takes its time as well. */
  #texts: Iterator<string> | null = null;
  #text = '';
  #start = 0;
  #tokens = 0;
  /** About how many characters are left. */
  left: number;

  constructor({ id, content, most }: CountOrder) {
    this.id = id;
    this.#content = content;
    this.#most = most;
    this.left = content.length;
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
    const body = parse(new TextDecoder().decode(this.#content));
    this.#tokens = frameTokens(body);
    return stringsOf(body);
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

const jobs: Job[] = [];
let isWorking = false;

setMergeCacheSize(MERGES_REMEMBERED);
parentPort?.on('message', (order: CountOrder) => {
  jobs.push(new Job(order));
  if (!isWorking) void work();
});

async function work(): Promise<void> {
  isWorking = true;
  while (jobs.length > 0) {
    const job = jobs.reduce((smallest, other) => (other.left < smallest.left ? other : smallest));
    const endsAt = performance.now() + TURN_MS;
    let isDone = false;
    while (!isDone && performance.now() < endsAt) isDone = job.countSlice();
    if (isDone) {
      jobs.splice(jobs.indexOf(job), 1);
      const answer: CountAnswer = { id: job.id, tokens: job.tokens };
      parentPort?.postMessage(answer);
    }
    await nextTurn();
  }
  isWorking = false;
}
