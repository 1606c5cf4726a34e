/** The shared parts of every section of the bench. */
import type { Generator } from './generator.ts';
import type { BenchOptions } from './options.ts';
import type { Rig } from './rig.ts';
import type { Workload } from './workload.ts';

export interface Bench {
  readonly rig: Rig;
  readonly generator: Generator;
  readonly workload: Workload;
  readonly options: BenchOptions;
  /** Tells the person who waits what is being measured now. */
  readonly say: (line: string) => void;
}
