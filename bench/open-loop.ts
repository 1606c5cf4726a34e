/**
 * The open loop: Poisson arrivals at fixed rates, independent of the answers. What does the gateway add, and what does
 * it cost?
 */
import { added, compare, errorCount, type Comparison } from './comparison.ts';
import type { Bench } from './bench.ts';
import { OWN_PARTS, sumOfParts, type CpuByPart, type Part } from './meters.ts';
import { figure, signed, table } from './report.ts';
import type { Distribution } from './workload.ts';

export interface OpenRow {
  readonly distribution: Distribution;
  readonly ratePerSecond: number;
  readonly comparison: Comparison;
}

/** Latency of the upstream, as in the figures of other gateways that ours are compared with. */
const UPSTREAM_MS = 100;

export async function runOpenLoops({ rig, generator, workload, options, say }: Bench): Promise<OpenRow[]> {
  await workload.steer({ latencyMs: UPSTREAM_MS, tokenIntervalMs: 0 });
  const rows: OpenRow[] = [];
  for (const distribution of ['uniform', 'hot'] as const) {
    for (const ratePerSecond of options.openRates) {
      say(`open loop: ${ratePerSecond} requests/s, upstream ${UPSTREAM_MS} ms, ${distribution}`);
      const comparison = await compare(rig, generator, {
        direct: workload.direct(false),
        gateway: workload.gateway(distribution, false),
        load: { kind: 'open', ratePerSecond, seconds: options.blockSeconds },
        rounds: options.rounds,
        warmUpSeconds: options.warmUpSeconds,
        seed: options.seed,
      });
      rows.push({ distribution, ratePerSecond, comparison });
    }
  }
  return rows;
}

export function openLoopTable(rows: readonly OpenRow[]): string {
  return table(
    `Open loop, Poisson, upstream ${UPSTREAM_MS} ms, latencies from the scheduled arrival (ms)`,
    [
      'accounts',
      'rate/s',
      'direct p50',
      'p99',
      'gateway p50',
      'p99',
      'added p50',
      'added p99',
      'lag p50',
      'lag p99',
      'lag 1st → 2nd half',
      'errors',
      'late p99',
    ],
    rows.map(({ distribution, ratePerSecond, comparison: { direct, gateway, settleLag }, comparison }) => [
      distribution,
      String(ratePerSecond),
      figure(direct.latency.p50),
      figure(direct.latency.p99),
      figure(gateway.latency.p50),
      figure(gateway.latency.p99),
      signed(added(comparison, 'p50')),
      signed(added(comparison, 'p99')),
      figure(settleLag.p50Ms, 0),
      figure(settleLag.p99Ms, 0),
      `${figure(settleLag.firstHalfMs, 0)} → ${figure(settleLag.secondHalfMs, 0)}`,
      String(errorCount(gateway)),
      figure(gateway.generatorLate?.p99 ?? null),
    ]),
  );
}

export function cpuTable(rows: readonly { readonly label: string; readonly comparison: Comparison }[]): string {
  const perRequest = (cpu: CpuByPart, parts: readonly Part[], requests: number): string => {
    const used = sumOfParts(cpu, parts);
    return figure(used === null ? null : used / requests, 2);
  };
  return table(
    'CPU ms per request (total without twin and generator)',
    [
      'load',
      'api',
      'worker',
      'temporal',
      'postgres',
      'total',
      'temporal + worker cores',
      'twin',
      'generator',
      'others, cores',
    ],
    rows.map(({ label, comparison: { cpu, cpuSeconds, gateway, generatorCpuMsPerRequest, otherCores } }) => {
      const background = sumOfParts(cpu, ['temporal', 'worker']);
      return [
        label,
        ...OWN_PARTS.map((part) => perRequest(cpu, [part], gateway.sent)),
        perRequest(cpu, OWN_PARTS, gateway.sent),
        figure(background === null ? null : background / 1000 / cpuSeconds, 2),
        perRequest(cpu, ['twin'], gateway.sent),
        figure(generatorCpuMsPerRequest, 2),
        figure(otherCores, 2),
      ];
    }),
  );
}
