/** The memory section: five minutes of one steady load. Does any process grow? */
import type { Bench } from './bench.ts';
import { MemoryMeter, WATCHED_PARTS, type MemorySample, type MemoryTrend, type WatchedPart } from './meters.ts';
import { figure, signed, table } from './report.ts';

export interface MemoryResult {
  readonly ratePerSecond: number;
  readonly seconds: number;
  readonly sent: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly trends: Readonly<Record<WatchedPart, MemoryTrend | null>>;
  readonly samples: Readonly<Record<WatchedPart, readonly MemorySample[]>>;
}

const RATE_PER_SECOND = 400;
const UPSTREAM_MS = 100;
const SETTLE_TIMEOUT_SECONDS = 120;

export async function runMemory({ rig, generator, workload, options, say }: Bench): Promise<MemoryResult> {
  const seconds = options.memorySeconds;
  say(`memory: ${RATE_PER_SECOND} requests/s for ${seconds} s`);
  await workload.steer({ latencyMs: UPSTREAM_MS, tokenIntervalMs: 0 });
  const meter = new MemoryMeter(rig.stack);
  const { sent, errors } = await generator.run({
    target: workload.gateway('uniform', false),
    load: { kind: 'open', ratePerSecond: RATE_PER_SECOND, seconds },
    seed: options.seed,
  });
  meter.stop();
  await rig.untilSettled(SETTLE_TIMEOUT_SECONDS);
  await rig.twin('DELETE', 'requests');
  return {
    ratePerSecond: RATE_PER_SECOND,
    seconds,
    sent,
    errors,
    trends: byPart((part) => meter.trend(part)),
    samples: byPart((part) => meter.samples(part)),
  };
}

export function byPart<T>(read: (part: WatchedPart) => T): Record<WatchedPart, T> {
  return { api: read('api'), worker: read('worker'), temporal: read('temporal'), twin: read('twin') };
}

export function memoryTable(title: string, trends: Readonly<Record<WatchedPart, MemoryTrend | null>>): string {
  return table(
    title,
    ['process', 'max MB', 'second fifth MB', 'last fifth MB', 'slope MB/min'],
    WATCHED_PARTS.map((part) => {
      const trend = trends[part];
      if (trend === null) return [part, '–', '–', '–', '–'];
      const { maxMegabytes, earlyMegabytes, lateMegabytes, slopeMegabytesPerMinute } = trend;
      return [
        part,
        figure(maxMegabytes, 0),
        figure(earlyMegabytes, 0),
        figure(lateMegabytes, 0),
        signed(slopeMegabytesPerMinute),
      ];
    }),
  );
}
