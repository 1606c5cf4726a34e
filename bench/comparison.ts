/**
 * One comparison: the same load against the upstream twin directly and through the gateway, in alternating blocks of
 * one run from one generator process, so that a machine that gets slower in between slows both. "Added" is the
 * difference of the same percentile of both sides.
 *
 * While direct blocks run the gateway is idle. The added figures therefore contain everything that the gateway, worker,
 * Temporal and PostgreSQL do to the machine they share with twin and generator; nothing is subtracted but the twin.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Generator, Job, JobResult, Load, Target } from './generator.ts';
import { addCpu, cpuBetween, OWN_PARTS, readCpu, sumOfParts, type CpuByPart } from './meters.ts';
import { machineCpuMs } from './processes.ts';
import type { Rig } from './rig.ts';
import { quantile, summarize, type Summary } from './statistics.ts';

export interface ComparisonOptions {
  readonly direct: Target;
  readonly gateway: Target;
  /** The load of a gateway block, with its length; direct blocks are half as long. */
  readonly load: Load;
  /** Gateway blocks; a direct block comes before each and one after the last. */
  readonly rounds: number;
  readonly warmUpSeconds: number;
  readonly seed: number;
}

export interface SettleLag {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Medians of the first and the second half of the blocks, averaged over the blocks: do settlements fall behind? */
  readonly firstHalfMs: number;
  readonly secondHalfMs: number;
}

export interface Side {
  readonly latency: Summary;
  /** Null where answers are not streamed. */
  readonly firstToken: Summary | null;
  readonly requestsPerSecond: number;
  readonly errors: Readonly<Record<string, number>>;
  /** How late the generator sent; null in a closed loop. */
  readonly generatorLate: Summary | null;
  readonly sent: number;
}

export interface Comparison {
  readonly direct: Side;
  readonly gateway: Side;
  readonly settleLag: SettleLag;
  /** CPU of the gateway blocks, from the first arrival until everything is settled; with the wall time it lasted. */
  readonly cpu: CpuByPart;
  readonly cpuSeconds: number;
  readonly generatorCpuMsPerRequest: number;
  /** Cores that neither the stack nor the bench used meanwhile: noise of a shared machine. Null where unknown. */
  readonly otherCores: number | null;
}

const SETTLE_TIMEOUT_SECONDS = 120;
/** Lets sockets and garbage collectors come to rest between blocks. */
const PAUSE_MS = 200;

export async function compare(rig: Rig, generator: Generator, options: ComparisonOptions): Promise<Comparison> {
  const { load, rounds, seed } = options;
  const directLoad = { ...load, seconds: load.seconds / 2 };
  const direct: JobResult[] = [];
  const gateway: JobResult[] = [];
  const lags: Float64Array[] = [];
  let cpu: CpuByPart | null = null;
  let cpuSeconds = 0;
  let otherMs: number | null = 0;

  const runDirect = async (round: number): Promise<void> => {
    direct.push(await generator.run({ target: options.direct, load: directLoad, seed: seed + round }));
    await delay(PAUSE_MS);
  };
  await warmUp(rig, generator, options);
  for (let round = 0; round < rounds; round += 1) {
    await runDirect(round);
    const before = readCpu(rig.stack);
    const machineBefore = machineCpuMs();
    const ownBefore = process.cpuUsage();
    const begin = performance.now();
    const result = await generator.run({ target: options.gateway, load, seed: seed + round });
    await rig.untilSettled(SETTLE_TIMEOUT_SECONDS);
    const used = cpuBetween(before, readCpu(rig.stack));
    cpuSeconds += (performance.now() - begin) / 1000;
    const own = process.cpuUsage(ownBefore);
    const known = sumOfParts(used, [...OWN_PARTS, 'twin']);
    const machine = machineCpuMs();
    otherMs =
      otherMs === null || known === null || machine === null || machineBefore === null
        ? null
        : otherMs + machine - machineBefore - known - result.cpuMs - (own.user + own.system) / 1000;
    cpu = cpu === null ? used : addCpu(cpu, used);
    gateway.push(result);
    lags.push(await settleLags(rig, result));
    await delay(PAUSE_MS);
  }
  await runDirect(rounds);
  // The twin keeps a record of each request; a bench does not compare them, and they must not fill its memory.
  await rig.twin('DELETE', 'requests');
  if (cpu === null) throw new Error('a comparison needs at least one round');
  return {
    direct: sideOf(direct),
    gateway: sideOf(gateway),
    settleLag: lagOf(lags),
    cpu,
    cpuSeconds,
    generatorCpuMsPerRequest: sum(gateway.map((result) => result.cpuMs)) / sum(gateway.map((result) => result.sent)),
    otherCores: otherMs === null ? null : Math.max(0, otherMs) / 1000 / cpuSeconds,
  };
}

/** Opens connections and has both programs compiled; its samples count nowhere. */
async function warmUp(rig: Rig, generator: Generator, options: ComparisonOptions): Promise<void> {
  const load = { ...options.load, seconds: options.warmUpSeconds };
  for (const target of [options.direct, options.gateway]) {
    const job: Job = { target, load, seed: options.seed - 1 };
    const { errors, sent } = await generator.run(job);
    const failed = sum(Object.values(errors));
    if (failed === sent && sent > 0)
      throw new Error(`every request to ${target.origin} failed: ${JSON.stringify(errors)}`);
  }
  await rig.untilSettled(SETTLE_TIMEOUT_SECONDS);
}

/** From the durable end of each request to its charge, in order of arrival, by the database's own clock. */
async function settleLags(rig: Rig, { startedAt, endedAt }: JobResult): Promise<Float64Array> {
  const { rows } = await rig.audit.query<{ lag: number }>(
    `select (extract(epoch from settled_at - finished_at) * 1000)::float8 as lag from request
     where id >= v7_floor(to_timestamp($1::float8 / 1000)) and id < v7_floor(to_timestamp($2::float8 / 1000))
       and state in ('charged', 'released') and outcome <> 'refused'
     order by id`,
    [startedAt, endedAt + 1],
  );
  return Float64Array.from(rows, ({ lag }) => lag);
}

function lagOf(blocks: readonly Float64Array[]): SettleLag {
  const all = blocks.flatMap((block) => [...block]);
  const median = (part: 'first' | 'second') => (block: Float64Array) => {
    const middle = Math.floor(block.length / 2);
    return quantile(part === 'first' ? block.subarray(0, middle) : block.subarray(middle), 0.5);
  };
  return {
    p50Ms: quantile(all, 0.5),
    p99Ms: quantile(all, 0.99),
    firstHalfMs: sum(blocks.map(median('first'))) / blocks.length,
    secondHalfMs: sum(blocks.map(median('second'))) / blocks.length,
  };
}

function sideOf(results: readonly JobResult[]): Side {
  const errors: Record<string, number> = {};
  for (const result of results) {
    for (const [error, count] of Object.entries(result.errors)) errors[error] = (errors[error] ?? 0) + count;
  }
  const samples = (of: (result: JobResult) => Float64Array): number[] => results.flatMap((result) => [...of(result)]);
  const firstTokens = samples(({ firstTokenMs }) => firstTokenMs);
  const late = samples(({ lateMs }) => lateMs);
  const latencies = samples(({ latencyMs }) => latencyMs);
  return {
    latency: summarize(latencies),
    firstToken: firstTokens.length === 0 ? null : summarize(firstTokens),
    requestsPerSecond: latencies.length / sum(results.map(({ elapsedSeconds }) => elapsedSeconds)),
    errors,
    generatorLate: late.length === 0 ? null : summarize(late),
    sent: sum(results.map(({ sent }) => sent)),
  };
}

/** The gateway's percentile minus the direct one's. */
export function added(
  { direct, gateway }: Comparison,
  percentile: 'p50' | 'p90' | 'p99',
  of: 'latency' | 'firstToken' = 'latency',
): number {
  return (gateway[of]?.[percentile] ?? NaN) - (direct[of]?.[percentile] ?? NaN);
}

export function errorCount({ errors }: Side): number {
  return sum(Object.values(errors));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
