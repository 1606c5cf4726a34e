/**
 * The right to run a stack from a data dir: one process at a time, by a lock file. A file can be deleted manually while
 * its stack runs, so a start also looks at who has started the parts that it finds, and a running stack puts its lock
 * back, or stops when another one has it. Two stacks on one data dir would end each other's parts and restart them
 * without end.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  acquireLock,
  isRunning,
  livingOwner,
  otherStack,
  readRecord,
  type ProcessRecord,
} from '../twins/kit/process-record.ts';

/** How long a deleted lock may go unnoticed. */
const WATCH_MS = 1000;

export interface LockEvents {
  /** The file was gone, and is there again. */
  restored(): void;
  /** Another living process has the lock. Called once. */
  lost(owner: ProcessRecord): void;
}

export class StackLock {
  readonly #dataDir: string;
  readonly #file: string;
  #events: LockEvents | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isLost = false;
  #looking: Promise<boolean> | null = null;

  constructor(dataDir: string) {
    this.#dataDir = dataDir;
    this.#file = join(dataDir, 'run', 'supervisor.json');
  }

  /**
   * Takes the lock. Throws when another stack runs from this data dir: it has the lock, or has started one of `parts`,
   * or what `otherOwner` finds. Those come first, so that the lock of a running stack is never taken, not even for a
   * moment.
   */
  async take(parts: readonly string[], otherOwner: () => ProcessRecord | null = () => null): Promise<void> {
    const owners = parts.map((part) => livingOwner(join(this.#dataDir, 'run', `${part}.json`)));
    const owner = owners.find((found) => found !== null) ?? otherOwner() ?? (await acquireLock(this.#file));
    if (owner !== null) throw new Error(otherStack(this.#dataDir, owner));
  }

  /** Looks after the lock from now on, until it is released. */
  watch(events: LockEvents): void {
    this.#events = events;
    this.#timer = setInterval(() => void this.isHeld(), WATCH_MS);
    this.#timer.unref();
  }

  /** Whether the data dir is still this process's own; puts the lock back where it is missing. */
  isHeld(): Promise<boolean> {
    // A folder that cannot be read or written says nothing of another stack.
    this.#looking ??= this.#look()
      .catch(() => true)
      .finally(() => (this.#looking = null));
    return this.#looking;
  }

  release(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    if (!this.#isLost && this.#holder()?.pid === process.pid) rmSync(this.#file, { force: true });
  }

  async #look(): Promise<boolean> {
    if (this.#isLost) return false;
    const holder = this.#holder();
    if (holder?.pid === process.pid) return true;
    const owner = holder ?? (await acquireLock(this.#file));
    if (owner === null) {
      this.#events?.restored();
      return true;
    }
    this.#isLost = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#events?.lost(owner);
    return false;
  }

  /** The process that the file names, if it runs. */
  #holder(): ProcessRecord | null {
    let named: ProcessRecord | null;
    try {
      named = readRecord(this.#file);
    } catch {
      // Not JSON: nobody holds it.
      named = null;
    }
    return named !== null && isRunning(named) ? named : null;
  }
}
