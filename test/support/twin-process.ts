/**
 * A provider's stand-in as the sandbox runs it: a process of its own that is killed, started again, or does not start.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const TWINS = resolve(import.meta.dirname, '../../twins');

export type TwinName = 'upstream' | 'stripe' | 'creem' | 'discord' | 'chain';

type StartOptions = [environment: Readonly<Record<string, string>>, options?: { errors?: 'inherit' | 'ignore' }];

export class TwinProcess {
  readonly port: number;
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** Resolves when it listens. `errors: 'ignore'` keeps what it complains about off the test's output. */
  static async start(
    name: TwinName,
    ...[environment, { errors = 'inherit' } = {}]: StartOptions
  ): Promise<TwinProcess> {
    const child = spawn(process.execPath, [mainOf(name)], {
      env: environmentOf(environment),
      stdio: ['ignore', 'pipe', errors],
    });
    const gone = once(child, 'exit').then(([code, signal]: unknown[]) => {
      throw new Error(`the ${name} twin ended (${String(code ?? signal)}) before it listened`);
    });
    const [line] = (await Promise.race([once(createInterface(child.stdout), 'line'), gone])) as [string];
    return new TwinProcess(child, (JSON.parse(line) as { listening: number }).listening);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /**
   * Resolves with the exit code when it is gone, null after a signal that it does not handle; at once when it is gone
   * already.
   */
  async stop(signal: NodeJS.Signals): Promise<number | null> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return exitCode;
    const exited = once(this.#child, 'exit');
    this.#child.kill(signal);
    const [code] = (await exited) as [number | null];
    return code;
  }
}

/** Processes of one twin, one after the other on one folder, as a test starts and kills them. */
export class TwinProcesses {
  readonly folder: string;
  readonly #name: TwinName;
  readonly #started: TwinProcess[] = [];

  constructor(name: TwinName) {
    this.#name = name;
    this.folder = mkdtempSync(join(tmpdir(), `${name}-twin-test-`));
  }

  /** The one that was started last. */
  get latest(): TwinProcess {
    const twin = this.#started.at(-1);
    assert.ok(twin, 'a twin was started');
    return twin;
  }

  async start(...given: StartOptions): Promise<TwinProcess> {
    const twin = await TwinProcess.start(this.#name, ...given);
    this.#started.push(twin);
    return twin;
  }

  /** Ends those that still run and deletes the folder. */
  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    for (const twin of this.#started) await twin.stop(signal);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The message of a twin about an environment that it does not start with. */
export async function complaintOf(name: TwinName, environment: Readonly<Record<string, string>>): Promise<string> {
  const child = spawn(process.execPath, [mainOf(name)], {
    env: environmentOf(environment),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (part: Buffer) => (stderr += part.toString()));
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 1);
  return stderr;
}

function mainOf(name: TwinName): string {
  return resolve(TWINS, name, 'main.ts');
}

/** Nothing of the test's own environment but what a program needs to be found. */
function environmentOf(environment: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment };
}
