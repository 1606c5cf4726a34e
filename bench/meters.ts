/**
 * Consumption of a stack while it is measured: CPU by part over an interval, and resident memory sampled every second
 * from the beginning to the end of the run. The twin and the generator are counted apart: they stand for the world
 * outside.
 */
import type { Stack } from '../sandbox/stack.ts';
import { cpuMs, cpuMsWithChildren, residentBytes } from './processes.ts';
import { slope } from './statistics.ts';

/** The parts that a real installation runs; their sum is "total CPU". */
export const OWN_PARTS = ['api', 'worker', 'temporal', 'postgres'] as const;
export type OwnPart = (typeof OWN_PARTS)[number];
export type Part = OwnPart | 'twin';

/** CPU in milliseconds by part; null where it could not be read. */
export type CpuByPart = Readonly<Record<Part, number | null>>;

export function readCpu(stack: Stack): CpuByPart {
  return forEachPart((part) => {
    const pid = stack.pid(part);
    if (pid === null) return null;
    return part === 'postgres' ? cpuMsWithChildren(pid) : cpuMs(pid);
  });
}

/** The consumption between two readings. */
export function cpuBetween(before: CpuByPart, after: CpuByPart): CpuByPart {
  return forEachPart((part) => combine(after[part], before[part], (later, earlier) => later - earlier));
}

export function addCpu(left: CpuByPart, right: CpuByPart): CpuByPart {
  return forEachPart((part) => combine(left[part], right[part], (a, b) => a + b));
}

function forEachPart(read: (part: Part) => number | null): CpuByPart {
  return {
    api: read('api'),
    worker: read('worker'),
    temporal: read('temporal'),
    postgres: read('postgres'),
    twin: read('twin'),
  };
}

function combine(
  left: number | null,
  right: number | null,
  by: (left: number, right: number) => number,
): number | null {
  return left === null || right === null ? null : by(left, right);
}

/** Null when one of the parts could not be read. */
export function sumOfParts(cpu: CpuByPart, parts: readonly Part[]): number | null {
  return parts.reduce<number | null>((sum, part) => combine(sum, cpu[part], (a, b) => a + b), 0);
}

const SAMPLE_MS = 1000;
const MEGABYTE = 1024 * 1024;

export type WatchedPart = 'api' | 'worker' | 'temporal' | 'twin';
export const WATCHED_PARTS: readonly WatchedPart[] = ['api', 'worker', 'temporal', 'twin'];

export interface MemorySample {
  readonly seconds: number;
  readonly megabytes: number;
}

export interface MemoryTrend {
  readonly maxMegabytes: number;
  /** Means over the second and the last fifth of the samples: the first fifth is warm-up. */
  readonly earlyMegabytes: number;
  readonly lateMegabytes: number;
  readonly slopeMegabytesPerMinute: number;
}

/** Samples resident memory until it is stopped. */
export class MemoryMeter {
  readonly #samples = new Map<WatchedPart, MemorySample[]>(WATCHED_PARTS.map((part) => [part, []]));
  readonly #timer: NodeJS.Timeout;
  readonly #begin = performance.now();

  constructor(stack: Stack) {
    const sample = (): void => {
      const seconds = (performance.now() - this.#begin) / 1000;
      for (const [part, samples] of this.#samples) {
        const pid = stack.pid(part);
        const bytes = pid === null ? null : residentBytes(pid);
        if (bytes !== null) samples.push({ seconds, megabytes: bytes / MEGABYTE });
      }
    };
    sample();
    this.#timer = setInterval(sample, SAMPLE_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Null without samples. */
  trend(part: WatchedPart): MemoryTrend | null {
    return trendOf(this.#samples.get(part) ?? []);
  }

  samples(part: WatchedPart): readonly MemorySample[] {
    return this.#samples.get(part) ?? [];
  }
}

/** Null without samples. */
export function trendOf(samples: readonly MemorySample[]): MemoryTrend | null {
  if (samples.length === 0) return null;
  const fifth = Math.max(1, Math.floor(samples.length / 5));
  const steady = samples.length > fifth ? samples.slice(fifth) : samples;
  return {
    maxMegabytes: Math.max(...samples.map(({ megabytes }) => megabytes)),
    earlyMegabytes: mean(steady.slice(0, fifth)),
    lateMegabytes: mean(samples.slice(-fifth)),
    slopeMegabytesPerMinute: slope(steady.map(({ seconds, megabytes }) => ({ x: seconds / 60, y: megabytes }))),
  };
}

function mean(samples: readonly MemorySample[]): number {
  return samples.reduce((sum, { megabytes }) => sum + megabytes, 0) / samples.length;
}
