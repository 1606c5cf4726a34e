/**
 * One anvil process: where its program is, starting it with the chain of the last run, calling it, saving, ending it.
 * What is on the chain is `handle.ts`'s business.
 *
 * An anvil outlives its twin neither when the twin is closed nor when it is killed: a small shell waits for the end of
 * a pipe that only the twin holds open. What even that leaves behind, the next start with the same folder ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { type Child, endLeftover, startChild, waitUntilReady } from '../kit/child-process.ts';
import { freePort } from '../kit/ports.ts';
import { isObject } from '../kit/input.ts';

/**
 * A reorg can go back this far, but not behind the start of the node. Each step is a copy of all accounts and all block
 * hashes, in memory.
 */
export const REORG_DEPTH_MAX = 32;
/** Accounts with ETH from the first block on; each transfer comes from the next one. */
const FUNDED_ACCOUNTS = 40;
/** Another program may take a free port before anvil binds it. */
const START_ATTEMPTS = 3;
const STOP_SECONDS = 20;
const CALL_TIMEOUT_MS = 30_000;

export interface NodeOptions {
  readonly chainId: number;
  readonly slotsInAnEpoch: number;
  /** Kept across restarts; null: a temporary one. */
  readonly folder: string | null;
}

/** The node's error instead of a result, in JSON-RPC's terms. */
export class RpcError extends Error {
  readonly code: number;
  readonly data: unknown;

  constructor(code: number, message: string, data?: unknown) {
    super(message);
    this.name = 'RpcError';
    this.code = code;
    this.data = data;
  }
}

export interface ChainNode {
  readonly url: string;
  /** Resolves when the process has ended, for whatever reason. */
  readonly exited: Promise<unknown>;
  /** One JSON-RPC call. Throws {@link RpcError} when the node refuses it. */
  call(method: string, params?: readonly unknown[]): Promise<unknown>;
  /**
   * Writes the chain to the folder, if that is kept: all blocks, and the state after the last one. The states before it
   * could be written too, but anvil forgets their contracts when it reads them.
   */
  save(): Promise<void>;
  close(): Promise<void>;
}

export async function startNode(options: NodeOptions): Promise<ChainNode> {
  const temporary = options.folder === null ? mkdtempSync(join(tmpdir(), 'holdfast-chain-')) : null;
  const folder = temporary ?? join(options.folder ?? '', String(options.chainId));
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const recordFile = join(folder, 'anvil.pid.json');
  await endLeftover(recordFile, { graceSeconds: STOP_SECONDS });
  const savedFile = join(folder, 'state.json.gz');
  const { child, url } = await startOnFreePort(options, folder, { recordFile, stateFile: unpacked(savedFile, folder) });
  const guard = endWithTwin(child, temporary);
  return {
    url,
    exited: child.exited,
    call: (method, params = []) => call(url, method, params),
    save: async () => {
      if (temporary === null) writeWhole(savedFile, await call(url, 'anvil_dumpState', [false]));
    },
    close: async () => {
      await child.stop({ graceSeconds: STOP_SECONDS });
      guard.kill('SIGKILL');
      if (temporary !== null) rmSync(temporary, { recursive: true, force: true });
    },
  };
}

/**
 * The platform's own package is asked directly: anvil's JavaScript front would be one more process that can be left
 * behind.
 */
function anvilProgram(): string {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const name = `@foundry-rs/anvil-${process.platform === 'win32' ? 'win32' : process.platform}-${architecture}`;
  return join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'bin', 'anvil');
}

async function startOnFreePort(
  { chainId, slotsInAnEpoch }: NodeOptions,
  folder: string,
  { recordFile, stateFile }: { recordFile: string; stateFile: string | null },
): Promise<{ child: Child; url: string }> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const args = ['--host', '127.0.0.1', '--port', String(port), '--chain-id', String(chainId), '--quiet'];
    args.push('--no-mining', '--slots-in-an-epoch', String(slotsInAnEpoch), '--accounts', String(FUNDED_ACCOUNTS));
    args.push('--prune-history', String(REORG_DEPTH_MAX + 1), '--cache-path', join(folder, 'cache'));
    if (stateFile !== null) args.push('--load-state', stateFile);
    const logFile = join(folder, 'anvil.log');
    const command = anvilProgram();
    // Nothing of the twin's environment is its business.
    const env = { PATH: process.env['PATH'], HOME: folder };
    const child = await startChild({ name: 'anvil', command, args, env, logFile, recordFile });
    try {
      const expected = `0x${chainId.toString(16)}`;
      const ready = async (): Promise<boolean> => (await call(url, 'eth_chainId', [])) === expected;
      await waitUntilReady(child, ready, { timeoutSeconds: 60 });
      return { child, url };
    } catch (error) {
      await child.stop({ graceSeconds: 0 });
      if (attempt === START_ATTEMPTS) throw error;
    }
  }
}

/**
 * Ends anvil when the twin is gone, however it went: the pipe to this shell's input then closes. A temporary folder
 * goes too, once anvil has had the time to leave it.
 */
function endWithTwin(child: Child, temporary: string | null): ChildProcess {
  const script = 'read -r _; kill -TERM "$1"; if [ -n "$2" ]; then sleep 2; rm -rf "$2"; fi';
  const guard = spawn('sh', ['-c', script, 'sh', String(child.pid), temporary ?? ''], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guard.unref();
  // Without anvil, its pid may soon be another process's.
  void child.exited.then(() => guard.kill('SIGKILL'));
  return guard;
}

/** The chain of the last run, as the file that anvil reads; null: there was none. */
function unpacked(savedFile: string, folder: string): string | null {
  if (!existsSync(savedFile)) return null;
  const stateFile = join(folder, 'state.json');
  writeFileSync(stateFile, gunzipSync(readFileSync(savedFile)));
  return stateFile;
}

/** `dump` is gzip in hex. The file is there whole or as it was: a kill may come at any time. */
function writeWhole(file: string, dump: unknown): void {
  if (typeof dump !== 'string') throw new Error('anvil gave no state');
  writeFileSync(`${file}.new`, Buffer.from(dump.slice(2), 'hex'), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

async function call(url: string, method: string, params: readonly unknown[]): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
  });
  const answer: unknown = await response.json();
  if (!isObject(answer)) throw new Error(`anvil answered ${method} with no object`);
  const { error } = answer;
  if (isObject(error)) throw new RpcError(Number(error['code']), String(error['message']), error['data']);
  return answer['result'];
}
