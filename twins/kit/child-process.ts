/**
 * Starting one part of a stack as a child process: own log file, own process group, CPU priority, record in the
 * data dir, ready probe, orderly end. Which parts there are, and their order, is the supervisor's business.
 *
 * Children write straight into their log file and lead their own process group: they outlive neither Ctrl-C's
 * order of stopping (the terminal signals only the supervisor's group) nor block when the supervisor is gone.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { endProcess, isRunning, readRecord, recordOf, signalIfRunning, writeRecord } from './process-record.ts';

/** A log that grew past this is kept once as `<name>.log.1`, at the next start of its part. */
const LOG_BYTES_MAX = 16 * 1024 * 1024;
const LOG_LINES_SHOWN = 20;

export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly logFile: string;
  /** Where {@link ProcessRecord} of the child is written while it runs. */
  readonly recordFile: string;
  readonly cwd?: string;
  /** Added to this process's nice level, 0 … 19. */
  readonly nice?: number;
  readonly uid?: number;
  readonly gid?: number;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Child {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  readonly exited: Promise<Exit>;
  readonly running: boolean;
  /** Writes the record of the running process, again where somebody has deleted it. */
  keepRecord(): void;
  /** Sends a signal if the process still runs. */
  signal(signal: NodeJS.Signals): void;
  /** Sends `signal` (default SIGTERM), waits `graceSeconds`, then kills. Returns once the process is gone. */
  stop(options: { signal?: NodeJS.Signals; graceSeconds: number }): Promise<void>;
}

/** Spawns the process; rejects when the command cannot be executed. It is not yet ready: see {@link waitUntilReady}. */
export async function startChild(options: ChildOptions): Promise<Child> {
  mkdirSync(dirname(options.logFile), { recursive: true });
  rotateLog(options.logFile);
  const log = openSync(options.logFile, 'a', 0o600);
  // `nice` and not `os.setPriority`: on Linux a priority belongs to a thread, and a child that already runs has
  // started threads that a later call does not reach.
  const niced = options.nice !== undefined && options.nice > 0;
  const command = niced ? 'nice' : options.command;
  const args = niced ? ['-n', String(options.nice), options.command, ...options.args] : [...options.args];
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env,
    uid: options.uid,
    gid: options.gid,
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);

  let running = true;
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      running = false;
      rmSync(options.recordFile, { force: true });
      resolve({ code, signal });
    });
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => reject(new Error(`cannot start ${options.name} (${options.command})`, { cause })));
  });
  const pid = child.pid;
  if (pid === undefined) throw new Error(`${options.name} was started without a pid`);
  const record = recordOf(pid);
  const keepRecord = (): void => {
    if (record !== null && running) writeRecord(options.recordFile, record, recordOf(process.pid));
  };
  keepRecord();
  if (options.nice !== undefined && options.nice > 0) niceSession(pid, options.nice);

  return {
    name: options.name,
    pid,
    logFile: options.logFile,
    exited,
    get running() {
      return running;
    },
    keepRecord,
    signal(signal) {
      if (record !== null) signalIfRunning(record, signal);
    },
    async stop(stopOptions) {
      if (record === null || !running) return;
      await endProcess(record, stopOptions);
      await exited;
    },
  };
}

/**
 * Where Linux schedules by session (`sched_autogroup_enabled`, the usual setting outside containers), nice levels weigh
 * only inside a session, and every child leads one of its own: without this, nice 10 changes nothing between two parts.
 */
function niceSession(pid: number, nice: number): void {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice));
  } catch {
    // No such kernel feature here: then the process's own nice level counts.
  }
}

export interface ReadyOptions {
  readonly timeoutSeconds: number;
  /** Ends the waiting early, for a start that is called off. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Polls until the probe says yes. Throws when the child exits first, the time is up or the start is called off, with
 * the end of the child's log, so that the reason is on the screen and not only in a file; the child is stopped then. A
 * probe that throws counts as "not yet".
 */
export async function waitUntilReady(
  child: Child,
  probe: () => Promise<boolean>,
  { timeoutSeconds, signal }: ReadyOptions,
): Promise<void> {
  const deadline = performance.now() + timeoutSeconds * 1000;
  for (;;) {
    if (!child.running) {
      const { code, signal: killedBy } = await child.exited;
      throw new Error(`${child.name} ended while starting (${killedBy ?? `code ${code}`}).\n${logTail(child)}`);
    }
    if (signal?.aborted !== true && (await probe().catch(() => false))) return;
    if (signal?.aborted === true || performance.now() > deadline) {
      await child.stop({ graceSeconds: 10 });
      signal?.throwIfAborted();
      throw new Error(`${child.name} was not ready after ${timeoutSeconds} s.\n${logTail(child)}`);
    }
    await sleep(50);
  }
}

/** A probe: the URL answers 2xx within a second. */
export function answersOk(url: string): () => Promise<boolean> {
  return async () => {
    const response = await fetch(url, { signal: AbortSignal.timeout(1000) });
    await response.body?.cancel();
    return response.ok;
  };
}

/** The last lines of a part's log, each with the part's name before it. */
export function logTail(part: { name: string; logFile: string }): string {
  let text = '';
  try {
    text = readFileSync(part.logFile, 'utf8');
  } catch {
    return `(no log at ${part.logFile})`;
  }
  const lines = text.trimEnd().split('\n').slice(-LOG_LINES_SHOWN);
  return [...lines.map((line) => `  ${part.name} | ${line}`), `  whole log: ${part.logFile}`].join('\n');
}

/** Ends the process that a crashed earlier run left under this record, if it is still the same one. */
export async function endLeftover(
  recordFile: string,
  options: { signal?: NodeJS.Signals; graceSeconds: number },
): Promise<boolean> {
  const leftover = readRecord(recordFile);
  const found = leftover !== null && isRunning(leftover);
  if (found) await endProcess(leftover, options);
  rmSync(recordFile, { force: true });
  return found;
}

function rotateLog(logFile: string): void {
  const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LOG_BYTES_MAX) renameSync(logFile, `${logFile}.1`);
}
