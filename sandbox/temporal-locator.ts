/**
 * Finding a `temporal` program for the dev server. Four ways, in order: `TEMPORAL_ADDRESS` (then nothing is looked for;
 * see main.ts) · a program on PATH or in the user's cache folder · the SDK's own download · a build from source
 * with Go, once, kept in the cache folder. Owns that order and the cache; running the server is temporal-server.ts.
 *
 * Invariant: the cached file appears whole (rename), and one process at a time makes it (lock file).
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { acquireLock } from '../twins/kit/process-record.ts';

/** The newest release that `go install` accepts: later ones carry a `replace`, which it refuses. */
const GO_PACKAGE = 'github.com/temporalio/cli/cmd/temporal@v1.5.1';
/** The server inside that release. An older program on PATH is passed over: nothing here was tried with it. */
const SERVER_MINOR_MIN = 29;
/** 60 MB over a slow line take minutes; a host that never answers must not hold up the build for longer. */
const DOWNLOAD_SECONDS_MAX = 240;
const DOWNLOADED = /^temporal-sdk-typescript-/;

export type Way = 'path' | 'cache' | 'download' | 'build';

export interface TemporalProgram {
  readonly path: string;
  readonly way: Way;
  /** As the program itself says, `1.29.1`. */
  readonly serverVersion: string;
}

export interface LocatorOptions {
  /** Told what is being done, every few seconds while it takes long. */
  readonly progress?: (message: string) => void;
  readonly env?: NodeJS.ProcessEnv;
  /** Puts a program named `temporal-sdk-typescript-…` into the folder, or rejects. Default: the SDK's download. */
  readonly download?: (folder: string, signal: AbortSignal | undefined) => Promise<void>;
  /** Ends a download, a build or the waiting for another one early. */
  readonly signal?: AbortSignal | undefined;
}

/** Finds or makes the program. Rejects with one message that names all four ways and why each failed. */
export async function locateTemporal(options: LocatorOptions = {}): Promise<TemporalProgram> {
  const { progress = () => undefined, env = process.env, download = downloadBySdk, signal } = options;
  const folder = cacheFolder(env);
  const cached = join(folder, 'temporal');
  const failures: string[] = [];

  for (const path of (env['PATH'] ?? '').split(delimiter).map((directory) => join(directory, 'temporal'))) {
    if (!existsSync(path)) continue;
    const version = await serverVersion(path);
    if (isUsable(version)) return { path, way: 'path', serverVersion: version };
    failures.push(`${path} ${version === null ? 'does not run' : `is older than server 1.${SERVER_MINOR_MIN}`}`);
  }
  if (failures.length === 0) failures.push('no program named temporal on PATH');

  mkdirSync(folder, { recursive: true });
  const release = await lockFolder(folder, progress, signal);
  try {
    const version = existsSync(cached) ? await serverVersion(cached) : null;
    if (isUsable(version)) return { path: cached, way: 'cache', serverVersion: version };
    failures[0] += `, and none in ${folder}`;

    const makers: [Way, (folder: string) => Promise<string>][] = [
      ['download', (draft) => makeByDownload(draft, (target) => download(target, signal), progress)],
      ['build', (draft) => makeByGo(draft, { env, progress, signal })],
    ];
    for (const [way, make] of makers) {
      const draft = mkdtempSync(join(folder, `${way}-`));
      try {
        const made = await make(draft);
        const madeVersion = await serverVersion(made);
        if (!isUsable(madeVersion)) throw new Error(`${way}: the program it gave does not run here`);
        renameSync(made, cached);
        return { path: cached, way, serverVersion: madeVersion };
      } catch (error) {
        signal?.throwIfAborted();
        failures.push(error instanceof Error ? error.message : String(error));
      } finally {
        rmSync(draft, { recursive: true, force: true });
      }
    }
  } finally {
    release();
  }
  throw new Error(explain(failures));
}

/** The folder of programs that are kept over clones and runs. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  const base = env['XDG_CACHE_HOME'] ?? '';
  return join(base === '' ? join(env['HOME'] ?? homedir(), '.cache') : base, 'holdfast', 'bin');
}

function explain(failures: readonly string[]): string {
  return [
    'There is no Temporal dev server. Any one of these gives one:',
    '  1. TEMPORAL_ADDRESS=<host:port> of a Temporal server that already runs;',
    `  2. a program "temporal" (the Temporal CLI with server 1.${SERVER_MINOR_MIN} or newer) on PATH or in the cache folder;`,
    "  3. network access to the SDK's download host, temporal.download;",
    `  4. Go on PATH and a Go module proxy, for: go install ${GO_PACKAGE}`,
    'What was tried:',
    ...failures.map((failure) => `  - ${failure}`),
  ].join('\n');
}

/** The version by `temporal --version`; null when it does not run or is another program of that name. */
async function serverVersion(path: string): Promise<string | null> {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: 20_000 });
    return /Server (\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? null;
  } catch {
    return null;
  }
}

function isUsable(version: string | null): version is string {
  if (version === null) return false;
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 1 || (major === 1 && minor >= SERVER_MINOR_MIN);
}

/** One maker at a time; a waiting process finds the finished program in the cache. */
async function lockFolder(
  folder: string,
  progress: (message: string) => void,
  signal: AbortSignal | undefined,
): Promise<() => void> {
  const file = join(folder, 'temporal.lock');
  for (let waited = 0; ; waited += 1) {
    const owner = await acquireLock(file);
    if (owner === null) return () => rmSync(file, { force: true });
    if (waited % 10 === 0) progress(`waiting for process ${owner.pid}, which is making it`);
    await sleep(1000, undefined, { signal });
  }
}

async function makeByDownload(
  draft: string,
  download: (folder: string) => Promise<void>,
  progress: (message: string) => void,
): Promise<string> {
  progress("trying the SDK's download");
  await download(draft).catch((cause: unknown) => {
    throw new Error(`the SDK's download failed: ${cause instanceof Error ? cause.message : String(cause)}`);
  });
  const program = readdirSync(draft).find((name) => DOWNLOADED.test(name));
  if (program === undefined) throw new Error("the SDK's download gave no program");
  return join(draft, program);
}

/** In a process of its own: the SDK can only download and start in one, through its native runtime. */
async function downloadBySdk(folder: string, signal: AbortSignal | undefined): Promise<void> {
  const script = join(import.meta.dirname, 'temporal-download.ts');
  await promisify(execFile)(process.execPath, [script, folder], { timeout: DOWNLOAD_SECONDS_MAX * 1000, signal }).catch(
    (cause: Error & { stderr?: string; killed?: boolean }) => {
      if (cause.killed === true) throw new Error(`no answer within ${DOWNLOAD_SECONDS_MAX} s`);
      throw new Error(cause.stderr?.trim().split('\n').at(-1) ?? cause.message);
    },
  );
}

/** Rejects at once when there is no Go. */
function makeByGo(
  draft: string,
  { env, progress, signal }: Required<Pick<LocatorOptions, 'env' | 'progress'>> & Pick<LocatorOptions, 'signal'>,
): Promise<string> {
  progress('building it with Go (once; 3 to 4 minutes on 2 cores)');
  return new Promise((resolve, reject) => {
    const go = spawn('go', ['install', '-v', '-ldflags=-s -w', GO_PACKAGE], {
      env: { ...env, GOBIN: draft, CGO_ENABLED: '0' },
      stdio: ['ignore', 'ignore', 'pipe'],
      signal,
    });
    let compiled = 0;
    const lines: string[] = [];
    createInterface({ input: go.stderr }).on('line', (line) => {
      if (!line.startsWith('go: ')) compiled += 1;
      lines.push(line);
      if (lines.length > 5) lines.shift();
    });
    const report = setInterval(() => {
      progress(
        compiled === 0
          ? 'building it with Go: downloading modules'
          : `building it with Go: ${compiled} packages compiled`,
      );
    }, 5000);
    go.once('error', (error: NodeJS.ErrnoException) => {
      clearInterval(report);
      reject(new Error(error.code === 'ENOENT' ? 'there is no Go on PATH' : `go: ${error.message}`));
    });
    go.once('close', (code, signal) => {
      clearInterval(report);
      if (code === 0) resolve(join(draft, 'temporal'));
      else reject(new Error(`go install failed (${signal ?? `code ${code}`}): ${lines.join(' / ')}`));
    });
  });
}
