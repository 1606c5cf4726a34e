/**
 * The targets of Holdfast on two cores with everything on one machine, and whether a run met them. A report, not a
 * gate: the figures are printed whatever they are.
 */
import type { ClosedRow } from './closed-loop.ts';
import { added, errorCount, type Comparison } from './comparison.ts';
import type { MemoryResult } from './memory.ts';
import { sumOfParts, OWN_PARTS, type MemoryTrend } from './meters.ts';
import type { OpenRow } from './open-loop.ts';
import { figure, signed } from './report.ts';
import type { StreamRow } from './streams.ts';

export interface Verdict {
  readonly target: string;
  readonly measured: string;
  readonly met: boolean;
}

export interface Measured {
  readonly closed: readonly ClosedRow[];
  readonly open: readonly OpenRow[];
  readonly stream: readonly StreamRow[];
  readonly memory: MemoryResult | null;
}

const ADDED_P50_MS_MAX = 3;
/** Added p99 in milliseconds by requests per second, open loop, upstream 100 ms. */
const ADDED_P99_MS_MAX = new Map([
  [50, 10],
  [200, 15],
  [400, 20],
  [800, 30],
]);
const SETTLE_LAG_P99_MS_MAX = 400;
/** Requests per second by clients, closed loop, upstream 0 ms. */
const CLOSED_RATE_MIN = new Map([
  [1, 500],
  [4, 900],
  [16, 1300],
  [64, 1400],
]);
const HOT_SHARE_MIN = 0.5;
const BACKGROUND_CORES_MAX = 0.35;
const CPU_MS_PER_REQUEST_MAX = 2;
const RESIDENT_MB_MAX = { api: 250, worker: 500 } as const;
const FIRST_TOKEN_ADDED_P50_MS_MAX = 5;

/**
 * Medians of two halves that differ by less are the same: both scheduling and the 100 ms floor of the settle queue move
 * them.
 */
const LAG_GROWTH_MS_MIN = 25;
const LAG_GROWTH_FACTOR = 1.25;
/** A heap that grows by less than this between the second and the last fifth of five minutes is called flat. */
const FLAT_GROWTH_FACTOR = 1.1;

/** True when settlements fall behind while the load lasts. */
export function isLagGrowing({ settleLag: { firstHalfMs, secondHalfMs } }: Comparison): boolean {
  return secondHalfMs > firstHalfMs * LAG_GROWTH_FACTOR && secondHalfMs - firstHalfMs > LAG_GROWTH_MS_MIN;
}

/** A verdict for every target that the run has figures for. */
export function compareWithTargets(measured: Measured): Verdict[] {
  return [
    ...measured.open.flatMap(openLoopVerdicts),
    ...measured.closed.flatMap((row) => closedLoopVerdicts(row, measured.closed)),
    ...measured.stream.map(streamVerdict),
    ...(measured.memory === null ? [] : memoryVerdicts(measured.memory)),
  ];
}

function openLoopVerdicts({ distribution, ratePerSecond, comparison }: OpenRow): Verdict[] {
  const p99Max = ADDED_P99_MS_MAX.get(ratePerSecond);
  if (distribution !== 'uniform' || p99Max === undefined) return [];
  const at = `at ${ratePerSecond}/s`;
  const { settleLag, gateway, cpu } = comparison;
  const verdicts: Verdict[] = [
    atMost(`added p50 ${at}`, added(comparison, 'p50'), ADDED_P50_MS_MAX, 'ms'),
    atMost(`added p99 ${at}`, added(comparison, 'p99'), p99Max, 'ms'),
    atMost(`errors ${at}`, errorCount(gateway), 0, ''),
    atMost(`settle lag p99 ${at}`, settleLag.p99Ms, SETTLE_LAG_P99_MS_MAX, 'ms'),
    {
      target: `settle lag does not grow ${at}`,
      measured: `${figure(settleLag.firstHalfMs, 0)} → ${figure(settleLag.secondHalfMs, 0)} ms`,
      met: !isLagGrowing(comparison),
    },
  ];
  if (ratePerSecond === 50) {
    const background = sumOfParts(cpu, ['temporal', 'worker']);
    const cores = background === null ? NaN : background / 1000 / comparison.cpuSeconds;
    verdicts.push(atMost(`Temporal + worker ${at}`, cores, BACKGROUND_CORES_MAX, 'core', 2));
  }
  if (ratePerSecond === 400) {
    const total = sumOfParts(cpu, OWN_PARTS);
    const perRequest = total === null ? NaN : total / gateway.sent;
    verdicts.push(atMost(`total CPU per request ${at}`, perRequest, CPU_MS_PER_REQUEST_MAX, 'ms', 2));
  }
  return verdicts;
}

function closedLoopVerdicts(
  { distribution, upstreamMs, clients, comparison }: ClosedRow,
  all: readonly ClosedRow[],
): Verdict[] {
  if (upstreamMs !== 0) return [];
  const rate = comparison.gateway.requestsPerSecond;
  const least = CLOSED_RATE_MIN.get(clients);
  if (distribution === 'uniform') {
    return least === undefined ? [] : [atLeast(`closed loop, ${clients} clients`, rate, least, 'requests/s', 0)];
  }
  const uniform = all.find((row) => row.distribution === 'uniform' && row.upstreamMs === 0 && row.clients === clients);
  if (uniform === undefined) return [];
  const share = rate / uniform.comparison.gateway.requestsPerSecond;
  return [atLeast(`hot account against uniform, ${clients} clients`, share, HOT_SHARE_MIN, '×', 2)];
}

function streamVerdict({ ratePerSecond, comparison }: StreamRow): Verdict {
  const value = added(comparison, 'p50', 'firstToken');
  return atMost(
    `added time to first token p50, streams at ${ratePerSecond}/s`,
    value,
    FIRST_TOKEN_ADDED_P50_MS_MAX,
    'ms',
  );
}

function memoryVerdicts({ trends }: MemoryResult): Verdict[] {
  return (['api', 'worker'] as const).flatMap((part) => {
    const trend = trends[part];
    return [
      atMost(`${part} resident memory`, trend?.maxMegabytes ?? NaN, RESIDENT_MB_MAX[part], 'MB', 0),
      {
        target: `${part} resident memory is flat`,
        measured: trend === null ? '–' : describeTrend(trend),
        met: trend !== null && trend.lateMegabytes <= trend.earlyMegabytes * FLAT_GROWTH_FACTOR,
      },
    ];
  });
}

export function describeTrend({ earlyMegabytes, lateMegabytes, slopeMegabytesPerMinute }: MemoryTrend): string {
  return `${figure(earlyMegabytes, 0)} → ${figure(lateMegabytes, 0)} MB (${signed(slopeMegabytesPerMinute)} MB/min)`;
}

/** An unmeasured target is not met. */
function atMost(what: string, value: number, most: number, unit: string, decimals = 1): Verdict {
  return verdict(what, '≤', most, { value, unit, decimals }, value <= most);
}

function atLeast(what: string, value: number, least: number, unit: string, decimals = 1): Verdict {
  return verdict(what, '≥', least, { value, unit, decimals }, value >= least);
}

function verdict(
  what: string,
  sign: string,
  bound: number,
  { value, unit, decimals }: { value: number; unit: string; decimals: number },
  met: boolean,
): Verdict {
  return {
    target: `${what} ${sign} ${bound} ${unit}`.trimEnd(),
    measured: `${figure(value, decimals)} ${unit}`.trimEnd(),
    met,
  };
}
