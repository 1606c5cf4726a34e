/** Streams: how much later does the first token come through the gateway, and the last? */
import { added, compare, errorCount, type Comparison } from './comparison.ts';
import type { Bench } from './bench.ts';
import { figure, signed, table } from './report.ts';
import { OUTPUT_TOKENS } from './workload.ts';

export interface StreamRow {
  readonly ratePerSecond: number;
  readonly comparison: Comparison;
}

const UPSTREAM_MS = 100;
/** A fast model writes about 50 tokens a second. */
const TOKEN_INTERVAL_MS = 20;

export async function runStreams({ rig, generator, workload, options, say }: Bench): Promise<StreamRow[]> {
  await workload.steer({ latencyMs: UPSTREAM_MS, tokenIntervalMs: TOKEN_INTERVAL_MS });
  const rows: StreamRow[] = [];
  for (const ratePerSecond of options.streamRates) {
    say(`streams: ${ratePerSecond}/s, ${OUTPUT_TOKENS} tokens, one each ${TOKEN_INTERVAL_MS} ms`);
    const comparison = await compare(rig, generator, {
      direct: workload.direct(true),
      gateway: workload.gateway('uniform', true),
      load: { kind: 'open', ratePerSecond, seconds: options.blockSeconds },
      rounds: options.rounds,
      warmUpSeconds: options.warmUpSeconds,
      seed: options.seed,
    });
    rows.push({ ratePerSecond, comparison });
  }
  return rows;
}

export function streamTable(rows: readonly StreamRow[]): string {
  return table(
    `Streams, Poisson, upstream ${UPSTREAM_MS} ms to the first of ${OUTPUT_TOKENS} tokens, ${TOKEN_INTERVAL_MS} ms between two (ms)`,
    [
      'rate/s',
      'direct first token p50',
      'p99',
      'gateway p50',
      'p99',
      'added p50',
      'added p99',
      'whole stream added p50',
      'p99',
      'errors',
    ],
    rows.map(({ ratePerSecond, comparison: { direct, gateway }, comparison }) => [
      String(ratePerSecond),
      figure(direct.firstToken?.p50 ?? null),
      figure(direct.firstToken?.p99 ?? null),
      figure(gateway.firstToken?.p50 ?? null),
      figure(gateway.firstToken?.p99 ?? null),
      signed(added(comparison, 'p50', 'firstToken')),
      signed(added(comparison, 'p99', 'firstToken')),
      signed(added(comparison, 'p50')),
      signed(added(comparison, 'p99')),
      String(errorCount(gateway)),
    ]),
  );
}
