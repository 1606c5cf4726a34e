/** The command line of `npm run bench`: which sections run, for how long, at which rates. */
import { parseArgs } from 'node:util';

export const SECTIONS = ['closed', 'open', 'stream', 'memory'] as const;
export type Section = (typeof SECTIONS)[number];

export interface BenchOptions {
  readonly sections: readonly Section[];
  /** Length of one block through the gateway; the direct blocks around it are half as long. */
  readonly blockSeconds: number;
  readonly rounds: number;
  /** Before each comparison, at its own load. */
  readonly warmUpSeconds: number;
  /** Once, before the first comparison: a process that has just started runs code that is not compiled yet. */
  readonly firstWarmUpSeconds: number;
  readonly openRates: readonly number[];
  readonly streamRates: readonly number[];
  readonly clientCounts: readonly number[];
  readonly memorySeconds: number;
  readonly accounts: number;
  readonly seed: number;
  /** Leaves the data dir of the stack for a look afterwards. */
  readonly keep: boolean;
  readonly quick: boolean;
}

export const USAGE = `npm run bench [-- options]

  --quick           blocks of 3 seconds, one round, memory for 20 seconds: shows that the bench works, not how fast we are
  --only NAMES      sections to run, comma-separated: ${SECTIONS.join(', ')}
  --seconds N       length of each block through the gateway (default 10; direct blocks are half as long)
  --rounds N        blocks through the gateway per figure (default 2)
  --rates N,N       requests per second of the open loop (default 50,100,200,400,600,800)
  --memory-seconds N   length of the memory section at 400 requests/s (default 300)
  --seed N          of arrivals and accounts (default 1)
  --keep            keeps the stack's data dir
`;

/** Throws an Error that says what is wrong with which option. */
export function parseBenchOptions(args: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      rates: { type: 'string' },
      'memory-seconds': { type: 'string' },
      seed: { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const { quick } = values;
  return {
    sections: values.only === undefined ? SECTIONS : values.only.split(',').map(parseSection),
    blockSeconds: numberOption('seconds', values.seconds, quick ? 3 : 10),
    rounds: numberOption('rounds', values.rounds, quick ? 1 : 2),
    warmUpSeconds: quick ? 1 : 3,
    firstWarmUpSeconds: quick ? 5 : 20,
    openRates:
      values.rates === undefined
        ? [50, 100, 200, 400, 600, 800]
        : values.rates.split(',').map((rate) => numberOption('rates', rate, 0)),
    streamRates: [50, 200],
    clientCounts: [1, 4, 16, 64],
    memorySeconds: numberOption('memory-seconds', values['memory-seconds'], quick ? 20 : 300),
    accounts: 200,
    seed: numberOption('seed', values.seed, 1),
    keep: values.keep,
    quick,
  };
}

function parseSection(name: string): Section {
  const section = SECTIONS.find((known) => known === name.trim());
  if (section === undefined) throw new Error(`--only: there is no section "${name}" (${SECTIONS.join(', ')})`);
  return section;
}

/** A positive number; `fallback` when the option was not given. */
export function numberOption(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new Error(`--${name} must be a number above 0, not "${text}"`);
  return value;
}
