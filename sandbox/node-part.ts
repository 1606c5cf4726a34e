/** Parts of the stack that are Node programs of ours: how they are run, and when they count as ready. */
import { join, resolve } from 'node:path';
import { answersOk, startChild, waitUntilReady, type Child } from '../twins/kit/child-process.ts';
import { portIsFree } from '../twins/kit/ports.ts';
import type { Part } from './supervisor.ts';
import { BACKGROUND_NICE } from './temporal-server.ts';

const ROOT = resolve(import.meta.dirname, '..');

/**
 * On a large machine V8 lets garbage wait: a young generation of up to 128 MB, and an old one of four times what lives.
 * A process of many short-lived small objects never gives that back. With these bounds a busy api stays near 235 MB
 * instead of 300 (400 requests/s, 5 minutes), at no measurable cost in CPU: what lives, and has to be marked, is 35 MB.
 *
 * One helper thread instead of four: where two cores carry every part, four that mark garbage at once keep PostgreSQL
 * and everybody else off the cores for 100 ms (added p99 at 800 requests/s 20-38 ms with four, 11-20 with one).
 */
const NODE_FLAGS = ['--max-semi-space-size=16', '--heap-growing-percent=30', '--v8-pool-size=1'];

export interface NodeProgram {
  readonly name: string;
  /** Below the project's folder. */
  readonly script: string;
  readonly env: NodeJS.ProcessEnv;
  /** Answers 2xx once the program is ready; its port is the program's own. */
  readonly readyUrl: string;
  readonly logFile: string;
  readonly recordFile: string;
}

/** A part that runs on the Node that runs this one. */
export function nodePart({ script, readyUrl, ...program }: NodeProgram): Omit<Part, 'stopSeconds'> {
  const { name } = program;
  const nice = name === 'worker' ? { nice: BACKGROUND_NICE } : {};
  const { hostname, port } = new URL(readyUrl);
  const start = async (signal: AbortSignal): Promise<Child> => {
    // Otherwise the answer of another process on the port would count as the part being ready.
    if (!(await portIsFree(Number(port), hostname.replaceAll(/[[\]]/g, ''))))
      throw new Error(`${name}: port ${port} is taken by another program`);
    const args = [...NODE_FLAGS, join(ROOT, script)];
    const child = await startChild({ ...program, command: process.execPath, args, cwd: ROOT, ...nice });
    await waitUntilReady(child, answersOk(readyUrl), { timeoutSeconds: 120, signal });
    return child;
  };
  return { name, start, stopSignal: 'SIGTERM', hurrySignal: 'SIGKILL' };
}
