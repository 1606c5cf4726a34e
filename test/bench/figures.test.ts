/** The bench's arithmetic: percentiles, trends, seeded randomness, kill plans, verdicts and what /proc says. */
import assert from 'node:assert/strict';
import { planCalls } from '../../bench/chaos/clients.ts';
import { KILLED_PARTS, planKills } from '../../bench/chaos/kills.ts';
import type { Comparison, Side } from '../../bench/comparison.ts';
import { trendOf } from '../../bench/meters.ts';
import { parseBenchOptions } from '../../bench/options.ts';
import { cpuMs, cpuMsWithChildren, residentBytes } from '../../bench/processes.ts';
import { seededRandom } from '../../bench/random.ts';
import { table } from '../../bench/report.ts';
import { quantile, slope, summarize } from '../../bench/statistics.ts';
import { compareWithTargets } from '../../bench/targets.ts';

describe('bench figures', () => {
  it('takes percentiles that were really measured', () => {
    const hundred = Array.from({ length: 100 }, (_, n) => 100 - n);
    assert.deepEqual(summarize(hundred), { count: 100, p50: 50, p90: 90, p99: 99, max: 100 });
    assert.equal(quantile([7], 0.99), 7);
    assert.ok(Number.isNaN(quantile([], 0.5)), 'nothing measured is not zero');
  });

  it('tells a memory that grows from one that does not', () => {
    const samples = (perSecond: number) =>
      Array.from({ length: 100 }, (_, seconds) => ({ seconds, megabytes: 100 + perSecond * seconds }));
    assert.equal(trendOf(samples(0))?.slopeMegabytesPerMinute, 0);
    const growing = trendOf(samples(0.5));
    assert.ok(growing !== null && Math.abs(growing.slopeMegabytesPerMinute - 30) < 1e-6);
    assert.ok(growing.lateMegabytes > growing.earlyMegabytes);
    assert.equal(growing.maxMegabytes, 149.5);
    assert.equal(trendOf([]), null);
    assert.equal(slope([{ x: 1, y: 1 }]), 0);
  });

  it('repeats a sequence by its seed and spreads exponential gaps around their mean', () => {
    const draw = (seed: number) => {
      const random = seededRandom(seed);
      return Array.from({ length: 5 }, () => random.next());
    };
    assert.deepEqual(draw(1), draw(1));
    assert.notDeepEqual(draw(1), draw(2));
    const random = seededRandom(3);
    const gaps = Array.from({ length: 20_000 }, () => random.exponential(5));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    assert.ok(Math.abs(mean - 5) < 0.2, `mean ${mean}`);
  });

  it('plans kills of every part inside the run, and calls of which half are streamed', () => {
    const kills = planKills({ count: 8, seconds: 100, random: seededRandom(1) });
    for (const part of KILLED_PARTS) assert.equal(kills.filter((kill) => kill.part === part).length, 2);
    assert.ok(kills.every(({ atSeconds }) => atSeconds >= 5 && atSeconds <= 95));
    assert.deepEqual(kills, planKills({ count: 8, seconds: 100, random: seededRandom(1) }));
    const calls = planCalls({
      count: 100,
      secrets: ['a'],
      models: [
        { id: 'one', share: 3 },
        { id: 'two', share: 1 },
      ],
      random: seededRandom(1),
    });
    assert.equal(calls.filter(({ stream }) => stream).length, 50);
    assert.ok(calls.some(({ leavesAfterMs }) => leavesAfterMs !== null));
    assert.deepEqual(new Set(calls.map(({ model }) => model)), new Set(['one', 'two']));
  });

  it('calls a target missed when its figure is above the bound or was not measured', () => {
    const side = (p50: number, p99: number): Side => ({
      latency: { count: 10, p50, p90: p50, p99, max: p99 },
      firstToken: null,
      requestsPerSecond: 50,
      errors: {},
      generatorLate: null,
      sent: 10,
    });
    const comparison: Comparison = {
      direct: side(100, 110),
      gateway: side(102, 125),
      settleLag: { p50Ms: 70, p99Ms: 150, firstHalfMs: 70, secondHalfMs: 120 },
      cpu: { api: 10, worker: 10, temporal: null, postgres: 10, twin: 10 },
      cpuSeconds: 1,
      generatorCpuMsPerRequest: 0.1,
      otherCores: 0,
    };
    const verdicts = compareWithTargets({
      open: [{ distribution: 'uniform', ratePerSecond: 50, comparison }],
      closed: [],
      stream: [],
      memory: null,
    });
    assert.deepEqual(
      verdicts.map(({ target, met }) => [target, met]),
      [
        ['added p50 at 50/s ≤ 3 ms', true],
        ['added p99 at 50/s ≤ 10 ms', false],
        ['errors at 50/s ≤ 0', true],
        ['settle lag p99 at 50/s ≤ 400 ms', true],
        ['settle lag does not grow at 50/s', false],
        ['Temporal + worker at 50/s ≤ 0.35 core', false],
      ],
    );
  });

  it('refuses options that mean nothing', () => {
    assert.throws(() => parseBenchOptions(['--only', 'fast']), /no section "fast"/);
    assert.throws(() => parseBenchOptions(['--seconds', '0']), /--seconds/);
    assert.throws(() => parseBenchOptions(['--rates', '50,x']), /--rates/);
    assert.equal(parseBenchOptions(['--help']), 'help');
  });

  it('aligns numbers to the right and words to the left', () => {
    assert.equal(
      table(
        'T',
        ['name', 'ms'],
        [
          ['a', '1.0'],
          ['long name', '12.0'],
        ],
      ),
      '\nT\n\nname         ms\n---------  ----\na           1.0\nlong name  12.0',
    );
  });

  it('reads the CPU and memory of a process, and nothing of one that is gone', function () {
    if (process.platform !== 'linux') this.skip();
    const before = cpuMs(process.pid);
    const until = performance.now() + 100;
    while (performance.now() < until);
    const after = cpuMs(process.pid);
    assert.ok(before !== null && after !== null && after - before >= 50, `${before} → ${after} ms`);
    assert.ok((cpuMsWithChildren(process.pid) ?? 0) >= after);
    assert.ok((residentBytes(process.pid) ?? 0) > 10_000_000);
    const noProcess = 4_194_305; // above the largest pid that Linux gives
    assert.equal(cpuMs(noProcess), null);
    assert.equal(residentBytes(noProcess), null);
  });
});
