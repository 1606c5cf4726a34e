/**
 * The closed loop: a few clients, each sending its next request when the last has ended. What is the highest
 * throughput?
 */
import { added, compare, errorCount, type Comparison } from './comparison.ts';
import type { Bench } from './bench.ts';
import { figure, signed, table } from './report.ts';
import type { Distribution } from './workload.ts';

export interface ClosedRow {
  readonly distribution: Distribution;
  readonly upstreamMs: number;
  readonly clients: number;
  readonly comparison: Comparison;
}

const CASES: readonly { readonly distribution: Distribution; readonly upstreamMs: number }[] = [
  { distribution: 'uniform', upstreamMs: 0 },
  { distribution: 'hot', upstreamMs: 0 },
  { distribution: 'uniform', upstreamMs: 20 },
];

export async function runClosedLoops({ rig, generator, workload, options, say }: Bench): Promise<ClosedRow[]> {
  const rows: ClosedRow[] = [];
  for (const { distribution, upstreamMs } of CASES) {
    await workload.steer({ latencyMs: upstreamMs, tokenIntervalMs: 0 });
    for (const clients of options.clientCounts) {
      say(`closed loop: ${clients} clients, upstream ${upstreamMs} ms, ${distribution}`);
      const comparison = await compare(rig, generator, {
        direct: workload.direct(false),
        gateway: workload.gateway(distribution, false),
        load: { kind: 'closed', clients, seconds: options.blockSeconds },
        rounds: options.rounds,
        warmUpSeconds: options.warmUpSeconds,
        seed: options.seed,
      });
      rows.push({ distribution, upstreamMs, clients, comparison });
    }
  }
  return rows;
}

export function closedLoopTable(rows: readonly ClosedRow[]): string {
  return table(
    'Closed loop (latencies in ms)',
    [
      'accounts, upstream',
      'clients',
      'direct/s',
      'gateway/s',
      'p50',
      'p99',
      'added p50',
      'added p99',
      'lag p99',
      'errors',
    ],
    rows.map(({ distribution, upstreamMs, clients, comparison }) => [
      `${distribution}, ${upstreamMs} ms`,
      String(clients),
      figure(comparison.direct.requestsPerSecond, 0),
      figure(comparison.gateway.requestsPerSecond, 0),
      figure(comparison.gateway.latency.p50),
      figure(comparison.gateway.latency.p99),
      signed(added(comparison, 'p50')),
      signed(added(comparison, 'p99')),
      figure(comparison.settleLag.p99Ms, 0),
      String(errorCount(comparison.gateway)),
    ]),
  );
}
