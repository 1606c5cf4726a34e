/** The doctor as the program it is, over an environment. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import type { Line } from '../../doctor/check.ts';

const ROOT = resolve(import.meta.dirname, '../..');

export interface Examination {
  readonly code: number | null;
  readonly lines: readonly Line[];
  /** All that was printed. */
  readonly screen: string;
  /** The lines of a check that are not ok, as a person reads them. */
  wrong(check?: string): string[];
}

/** `env` replaces the shell's own variables. With `--json`, unless other arguments are given. */
export async function examine(env: Readonly<Record<string, string>>, args = ['--json']): Promise<Examination> {
  const { PATH, HOME } = process.env;
  const child = spawn(process.execPath, ['doctor/main.ts', ...args], {
    cwd: ROOT,
    env: { PATH, HOME, HOLDFAST_DATA_DIR: resolve(tmpdir(), 'no-sandbox-here'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let screen = '';
  let complaint = '';
  child.stdout.on('data', (chunk: Buffer) => void (screen += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => void (complaint += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (complaint !== '') throw new Error(`the doctor complains: ${complaint}`);
  const lines = args.includes('--json') ? (JSON.parse(screen) as { lines: Line[] }).lines : [];
  return {
    code,
    lines,
    screen,
    wrong: (check) =>
      lines
        .filter((line) => line.state !== 'ok' && (check === undefined || line.check === check))
        .map((line) => `${line.state} ${line.check}: ${line.message} -> ${line.cure ?? ''}`),
  };
}
