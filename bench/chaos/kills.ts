/**
 * The disasters of a chaos run: kill -9 of one part after the other at seeded moments. The supervisor starts each
 * again; a part whose turn comes while it is still down is killed as soon as it is back.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Stack } from '../../sandbox/stack.ts';
import type { Random } from '../random.ts';

export const KILLED_PARTS = ['api', 'worker', 'temporal', 'postgres'] as const;
export type KilledPart = (typeof KILLED_PARTS)[number];

export interface PlannedKill {
  readonly part: KilledPart;
  /** Seconds after the first call. */
  readonly atSeconds: number;
}

export interface Kill extends PlannedKill {
  /** When it really happened. */
  readonly killedAtSeconds: number;
  /** Until the part was ready again; null when it did not come back in time. */
  readonly downSeconds: number | null;
}

/** No kill in the first and last twentieth, so that each has load before and after it. */
const MARGIN = 0.05;
const POLL_MS = 20;
/** Far above what a start takes: parts at a low CPU priority are slow on a machine that others use as well. */
const RETURN_TIMEOUT_MS = 180_000;

/** `count` kills over the run, as evenly among the parts as it divides, in random order at random moments. */
export function planKills({
  count,
  seconds,
  random,
}: {
  count: number;
  seconds: number;
  random: Random;
}): PlannedKill[] {
  const parts = Array.from({ length: count }, (_, n) => KILLED_PARTS[n % KILLED_PARTS.length]!);
  const shuffled = parts
    .map((part) => ({ part, order: random.next() }))
    .sort((left, right) => left.order - right.order);
  const moments = Array.from({ length: count }, () => (MARGIN + random.next() * (1 - 2 * MARGIN)) * seconds).sort(
    (left, right) => left - right,
  );
  return shuffled.map(({ part }, n) => ({ part, atSeconds: moments[n]! }));
}

/** Carries the plan out and resolves when every killed part is back or has had three minutes for it. */
export async function carryOut(
  stack: Stack,
  plan: readonly PlannedKill[],
  say: (line: string) => void,
): Promise<Kill[]> {
  const begin = performance.now();
  const secondsNow = (): number => (performance.now() - begin) / 1000;
  const returns: Promise<Kill>[] = [];
  for (const planned of plan) {
    await delay(Math.max(0, planned.atSeconds * 1000 - (performance.now() - begin)));
    const pid = await untilUp(stack, planned.part);
    if (pid === null) throw new Error(`${planned.part} is down for good`);
    process.kill(pid, 'SIGKILL');
    const killedAtSeconds = secondsNow();
    say(`kill -9 ${planned.part} (process ${pid}) after ${killedAtSeconds.toFixed(1)} s`);
    returns.push(
      untilUp(stack, planned.part, pid).then((back) => ({
        ...planned,
        killedAtSeconds,
        downSeconds: back === null ? null : secondsNow() - killedAtSeconds,
      })),
    );
  }
  return Promise.all(returns);
}

/** The pid of a part that is ready, once it is another one than `before`; null when it takes too long. */
async function untilUp(stack: Stack, part: KilledPart, before: number | null = null): Promise<number | null> {
  const deadline = performance.now() + RETURN_TIMEOUT_MS;
  for (;;) {
    const pid = stack.pid(part);
    if (pid !== null && pid !== before) return pid;
    if (performance.now() > deadline) return null;
    await delay(POLL_MS);
  }
}
