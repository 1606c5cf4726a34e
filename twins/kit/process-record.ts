/**
 * Which process a pid meant. Owns the record (`{pid, identity}`) that each started part leaves in the data dir, and
 * ending what such a record names. The identity (boot and start time) makes a pid that the system has given to
 * another process since then count as gone: a stranger is never signalled.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readJsonFile, writeFileAtomic } from './files.ts';

export interface ProcessRecord {
  readonly pid: number;
  /** Boot and start time of the process; unique per process on one machine. */
  readonly identity: string;
}

/** The record of a process that runs now; null when there is none with this pid (zombies count as gone). */
export function recordOf(pid: number): ProcessRecord | null {
  const identity = process.platform === 'linux' ? linuxIdentity(pid) : psIdentity(pid);
  return identity === null ? null : { pid, identity };
}

export function isRunning(record: ProcessRecord): boolean {
  return recordOf(record.pid)?.identity === record.identity;
}

/** Null when the file is missing or was not written by {@link writeRecord}. */
export function readRecord(file: string): ProcessRecord | null {
  const content = readJsonFile(file);
  if (typeof content !== 'object' || content === null) return null;
  const { pid, identity } = content as Partial<ProcessRecord>;
  return typeof pid === 'number' && typeof identity === 'string' ? { pid, identity } : null;
}

/** `owner`: who started the process, so that nobody else takes it for a leftover. */
export function writeRecord(file: string, record: ProcessRecord, owner: ProcessRecord | null = null): void {
  writeFileAtomic(file, JSON.stringify({ ...record, ...(owner !== null && { owner }) }));
}

/** Another process that still runs and has started the one of this record; null when there is none such. */
export function livingOwner(file: string): ProcessRecord | null {
  const content = readJsonFile(file) as { readonly owner?: Partial<ProcessRecord> } | null;
  const { pid, identity } = content?.owner ?? {};
  if (typeof pid !== 'number' || typeof identity !== 'string' || pid === process.pid) return null;
  const owner = { pid, identity };
  return isRunning(owner) ? owner : null;
}

/**
 * The Node program that has started a process and still runs; null where that is this one, or cannot be told (elsewhere
 * than on Linux). A process that outlives its starter is given to the first process of the machine, or to a service
 * manager, neither of which starts parts.
 */
export function livingStarter(pid: number): ProcessRecord | null {
  if (process.platform !== 'linux') return null;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    if (parent <= 1 || parent === process.pid) return null;
    return /\/node( |$)/.test(readlinkSync(`/proc/${parent}/exe`)) ? recordOf(parent) : null;
  } catch {
    return null;
  }
}

/**
 * Takes the lock that the file stands for, for this process. Returns null on success, else the living owner. A lock
 * whose owner is gone is taken over. The file appears with its content (hard link), so nobody reads half a lock.
 */
export async function acquireLock(file: string): Promise<ProcessRecord | null> {
  const self = recordOf(process.pid);
  if (self === null) throw new Error('cannot read the start time of this process');
  const taker = randomBytes(8).toString('hex');
  const draft = `${file}.${taker}`;
  writeFileAtomic(draft, JSON.stringify({ ...self, taker }));
  try {
    for (let tookOver = false; ; tookOver = true) {
      if (linkIfAbsent(draft, file)) {
        if (!tookOver) return null;
        // Two takers may both have found the dead owner, and the slower one may have removed the faster one's lock:
        // after a moment the file says who really has it.
        await sleep(50);
        if ((readJsonFile(file) as { taker?: string } | null)?.taker === taker) return null;
      }
      const owner = readRecord(file);
      if (owner !== null && isRunning(owner)) return owner;
      rmSync(file, { force: true });
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** The message for a second stack in the same folder. */
export function otherStack(dataDir: string, owner: ProcessRecord): string {
  return (
    `a stack already runs from ${dataDir} (process ${owner.pid}); ` +
    'stop that one, or set HOLDFAST_DATA_DIR to another folder for a second one'
  );
}

/** Sends `signal`, waits, then SIGKILL. Returns once the process is gone; throws when even that does not end it. */
export async function endProcess(
  record: ProcessRecord,
  options: { signal?: NodeJS.Signals; graceSeconds: number },
): Promise<void> {
  signalIfRunning(record, options.signal ?? 'SIGTERM');
  if (await gone(record, options.graceSeconds)) return;
  signalIfRunning(record, 'SIGKILL');
  if (!(await gone(record, 10))) throw new Error(`process ${record.pid} does not end`);
}

/** Sends the signal unless the process is gone. */
export function signalIfRunning(record: ProcessRecord, signal: NodeJS.Signals): void {
  if (!isRunning(record)) return;
  try {
    process.kill(record.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function gone(record: ProcessRecord, seconds: number): Promise<boolean> {
  const deadline = performance.now() + seconds * 1000;
  while (isRunning(record)) {
    if (performance.now() > deadline) return false;
    await sleep(25);
  }
  return true;
}

function linkIfAbsent(existing: string, file: string): boolean {
  try {
    linkSync(existing, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function linuxIdentity(pid: number): string | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // The command name is in parentheses and may itself hold spaces and parentheses: count from the last one.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (state === 'Z' || state === 'X') return null;
  const startTicks = fields[18];
  if (startTicks === undefined) return null;
  return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${startTicks}`;
}

function psIdentity(pid: number): string | null {
  const ps = spawnSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' });
  const [state, ...started] = ps.stdout.trim().split(/\s+/);
  if (ps.status !== 0 || state === undefined || state === '' || state.startsWith('Z')) return null;
  return started.join(' ');
}
