/**
 * Cost of processes, read from /proc: CPU and resident memory. Linux only; elsewhere every figure is null and the
 * report says "not measured". A process is one pid, except PostgreSQL, which is its postmaster with all its children.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

interface Stat {
  readonly parent: number;
  readonly cpuTicks: number;
  /** CPU of children that have ended and were waited for. */
  readonly endedChildrenTicks: number;
}

let millisecondsPerTick: number | null = null;

/** CPU of one process since it started, in milliseconds; null when it is gone or this is not Linux. */
export function cpuMs(pid: number): number | null {
  const stat = readStat(pid);
  return stat === null ? null : stat.cpuTicks * tickMs();
}

/** CPU of a process and all its direct children, living and ended, in milliseconds. */
export function cpuMsWithChildren(pid: number): number | null {
  const stat = readStat(pid);
  if (stat === null) return null;
  let ticks = stat.cpuTicks + stat.endedChildrenTicks;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const child = readStat(Number(entry));
    if (child?.parent === pid) ticks += child.cpuTicks + child.endedChildrenTicks;
  }
  return ticks * tickMs();
}

/**
 * CPU that the whole machine has spent since it started, in milliseconds of all cores together: by anybody, kernel and
 * stolen time included; null when this is not Linux.
 */
export function machineCpuMs(): number | null {
  const line = readProc('/proc/stat')?.split('\n', 1)[0];
  if (line === undefined) return null;
  const [user, nice, system, , , interrupts, softInterrupts, stolen] = line.trim().split(/\s+/).slice(1).map(Number);
  return (user! + nice! + system! + interrupts! + softInterrupts! + stolen!) * tickMs();
}

/** Resident memory in bytes; null when the process is gone or this is not Linux. */
export function residentBytes(pid: number): number | null {
  const status = readProc(`/proc/${pid}/status`);
  const kilobytes = status === null ? null : /^VmRSS:\s+(\d+) kB$/m.exec(status);
  return kilobytes === null ? null : Number(kilobytes[1]) * 1024;
}

function readStat(pid: number): Stat | null {
  const text = readProc(`/proc/${pid}/stat`);
  if (text === null) return null;
  // The command name is in parentheses and may itself hold spaces and parentheses: count from the last one.
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const [parent, user, system, childUser, childSystem] = [1, 11, 12, 13, 14].map((index) => fields[index] ?? 0);
  return { parent: parent!, cpuTicks: user! + system!, endedChildrenTicks: childUser! + childSystem! };
}

function readProc(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function tickMs(): number {
  millisecondsPerTick ??= 1000 / Number(spawnSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }).stdout || 100);
  return millisecondsPerTick;
}
