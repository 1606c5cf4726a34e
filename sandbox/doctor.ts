/**
 * The doctor (`doctor/main.ts`) over a stack of this sandbox: run as a program, with the variables of the parts. What
 * they were given is also kept beside the stack, so that `npm run doctor` in another terminal looks at the same.
 */
import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { writeFileAtomic } from '../twins/kit/files.ts';

const ROOT = resolve(import.meta.dirname, '..');
/** The doctor ends on its own long before. */
const TIMEOUT_MS = 60_000;

/** A line of the doctor's that is not ok. */
export interface Finding {
  readonly check: string;
  readonly state: 'warning' | 'fault';
  readonly message: string;
  readonly cure: string;
}

/** Where the doctor finds it. */
export function environmentFile(dataDir: string): string {
  return join(dataDir, 'environment.json');
}

/** Keeps what the parts have on top of the shell's own variables; with secrets, so only for its owner. */
export function writeEnvironment(dataDir: string, parts: NodeJS.ProcessEnv, shell: NodeJS.ProcessEnv): void {
  const own = Object.entries(parts).filter(([name, value]) => value !== shell[name] && name !== 'PATH');
  writeFileAtomic(environmentFile(dataDir), JSON.stringify(Object.fromEntries(own), null, 2));
}

/** The doctor's findings that are not ok. A doctor that does not end or says nothing is a finding of its own. */
export async function findingsOf(env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<Finding[]> {
  const child = spawn(process.execPath, [join(ROOT, 'doctor/main.ts'), '--json'], {
    cwd: ROOT,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
  });
  let said = '';
  let complaint = '';
  child.stdout.on('data', (chunk: Buffer) => void (said += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => void (complaint += chunk.toString()));
  await new Promise<void>((ended) => {
    child.once('error', () => ended());
    child.once('close', () => ended());
  });
  signal.throwIfAborted();
  try {
    const { lines } = JSON.parse(said) as { lines: readonly (Finding | { readonly state: 'ok' })[] };
    return lines.filter((line) => line.state !== 'ok');
  } catch {
    const message = `the doctor has come to no end: ${complaint.trim().split('\n').at(-1) ?? ''}`;
    return [{ check: 'doctor', state: 'fault', message, cure: 'run it by hand: npm run doctor' }];
  }
}
