/**
 * `npm run bench`: what the gateway adds and costs, on a stack of its own with the upstream twin as a process. Prints
 * tables and a verdict per target, writes everything as JSON, and exits 0 whatever the figures are: a report, not a
 * gate.
 *
 * Temporal and worker run at nice 10 as in the sandbox; api, PostgreSQL, twin and generator at the caller's own level.
 */
import type { Bench } from './bench.ts';
import { closedLoopTable, runClosedLoops } from './closed-loop.ts';
import { Generator } from './generator.ts';
import { runProgram, type Interruption } from './interrupt.ts';
import { byPart, memoryTable, runMemory } from './memory.ts';
import { MemoryMeter } from './meters.ts';
import { cpuTable, openLoopTable, runOpenLoops } from './open-loop.ts';
import { parseBenchOptions, USAGE, type BenchOptions } from './options.ts';
import { describeMachine, table, writeResult } from './report.ts';
import { describeDurability, Rig } from './rig.ts';
import { runStreams, streamTable } from './streams.ts';
import { compareWithTargets, type Measured } from './targets.ts';
import { Workload } from './workload.ts';

const WARM_UP_CLIENTS = 8;
const WARM_UP_SETTLE_SECONDS = 120;

/**
 * The twin keeps its record in memory only. In a file it is 30 MB a second of the closed loop's direct blocks, and when
 * the system writes that back, each flush of PostgreSQL's log waits up to 80 ms behind it, in the gateway's blocks.
 */
const TWIN = { TWIN_DATA_FILE: '' };

const begin = performance.now();

function say(line: string): void {
  console.log(`[${((performance.now() - begin) / 1000).toFixed(1).padStart(7)} s] ${line}`);
}

async function main(options: BenchOptions, interruption: Interruption): Promise<void> {
  const machine = describeMachine();
  say(
    Object.entries(machine)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  );
  const rig = await Rig.open({ name: 'bench', say, keep: options.keep, signal: interruption.signal, env: TWIN });
  let generator: Generator | null = null;
  const meter = new MemoryMeter(rig.stack);
  try {
    say(describeDurability(rig.durability));
    generator = await Generator.start();
    say(`preparing ${options.accounts + 1} accounts`);
    const workload = await Workload.prepare(rig, options.accounts);
    const measured = await interruption.orInterrupted(measure({ rig, generator, workload, options, say }));
    const memory = byPart((part) => meter.trend(part));
    const violations = await rig.audit.query('select * from violations');
    const verdicts = compareWithTargets(measured);
    for (const text of tables(measured)) console.log(text);
    console.log(memoryTable('Resident memory over the whole run', memory));
    console.log(
      table(
        'Targets',
        ['target', 'measured', ''],
        verdicts.map(({ target, measured: value, met }) => [target, value, met ? 'met' : 'missed']),
      ),
    );
    console.log(`\nviolations of the ledger: ${violations.rows.length}`);
    const file = writeResult('bench', {
      finished_at: new Date().toISOString(),
      machine,
      durability: rig.durability,
      options,
      verdicts,
      ...measured,
      memory_of_whole_run: memory,
      violations: violations.rows,
    });
    console.log(`\n${file}`);
  } finally {
    meter.stop();
    await generator?.stop();
    await rig.close();
  }
}

/**
 * Brings every process to the state of a process that has been up for a while: code compiled, plans cached, connections
 * open. Without it the first figures would measure a start.
 */
async function warmUp({ rig, generator, workload, options, say }: Bench): Promise<void> {
  say(`warming up for ${options.firstWarmUpSeconds} s`);
  await workload.steer({ latencyMs: 0, tokenIntervalMs: 0 });
  const targets = [workload.direct(false), workload.gateway('uniform', false), workload.gateway('uniform', true)];
  for (const target of targets) {
    const load = {
      kind: 'closed',
      clients: WARM_UP_CLIENTS,
      seconds: options.firstWarmUpSeconds / targets.length,
    } as const;
    await generator.run({ target, load, seed: options.seed });
  }
  await rig.untilSettled(WARM_UP_SETTLE_SECONDS);
}

async function measure(bench: Bench): Promise<Measured> {
  await warmUp(bench);
  const wanted = (section: Bench['options']['sections'][number]): boolean => bench.options.sections.includes(section);
  return {
    closed: wanted('closed') ? await runClosedLoops(bench) : [],
    open: wanted('open') ? await runOpenLoops(bench) : [],
    stream: wanted('stream') ? await runStreams(bench) : [],
    memory: wanted('memory') ? await runMemory(bench) : null,
  };
}

function tables({ closed, open, stream, memory }: Measured): string[] {
  const loads = [
    ...open.map(({ distribution, ratePerSecond, comparison }) => ({
      label: `open ${ratePerSecond}/s, ${distribution}`,
      comparison,
    })),
    ...stream.map(({ ratePerSecond, comparison }) => ({ label: `streams ${ratePerSecond}/s`, comparison })),
    ...closed.map(({ distribution, upstreamMs, clients, comparison }) => ({
      label: `closed ${clients} clients, ${upstreamMs} ms, ${distribution}`,
      comparison,
    })),
  ];
  return [
    ...(closed.length > 0 ? [closedLoopTable(closed)] : []),
    ...(open.length > 0 ? [openLoopTable(open)] : []),
    ...(stream.length > 0 ? [streamTable(stream)] : []),
    ...(loads.length > 0 ? [cpuTable(loads)] : []),
    ...(memory === null
      ? []
      : [
          memoryTable(`Resident memory, ${memory.ratePerSecond} requests/s for ${memory.seconds} s`, memory.trends),
          `\nmemory run: ${memory.sent} requests, errors ${JSON.stringify(memory.errors)}`,
        ]),
  ];
}

await runProgram(async (interruption) => {
  const options = parseBenchOptions(process.argv.slice(2));
  if (options === 'help') console.log(USAGE);
  else await main(options, interruption);
});
