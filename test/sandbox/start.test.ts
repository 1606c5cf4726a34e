/**
 * `npm start` as a person meets it: the program in a process of its own, an empty data dir, kill -9, a second start, a
 * second stack beside it. Everything here goes through the screen, stack.json and HTTP.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { portIsFree } from '../../twins/kit/ports.ts';
import { isRunning, recordOf, type ProcessRecord } from '../../twins/kit/process-record.ts';
import type { StackFile } from '../../sandbox/stack-file.ts';
import { XPUB } from '../support/crypto-stack.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const PARTS = ['api', 'worker', 'temporal', 'postgres'] as const;

/** A gateway's death is noticed in seconds instead of half a minute. */
const FAST_RECOVERY = { SWEEP_INTERVAL_SECONDS: '2', GATEWAY_GONE_SECONDS: '4', HEARTBEAT_SECONDS: '0.5' };

/** One run of `npm start`'s program. */
class Run {
  readonly dataDir: string;
  readonly program: ChildProcess;
  screen = '';

  constructor(dataDir: string, env: NodeJS.ProcessEnv = {}, args: readonly string[] = []) {
    this.dataDir = dataDir;
    const standIns = { HOLDFAST_PORT: '', DATABASE_URL: '', TEMPORAL_ADDRESS: '' };
    this.program = spawn(process.execPath, ['sandbox/main.ts', ...args], {
      cwd: ROOT,
      env: { ...process.env, ...standIns, HOLDFAST_DATA_DIR: dataDir, ...FAST_RECOVERY, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const keep = (chunk: Buffer): void => void (this.screen += chunk.toString());
    this.program.stdout?.on('data', keep);
    this.program.stderr?.on('data', keep);
  }

  get file(): string {
    return join(this.dataDir, 'stack.json');
  }

  stack(): StackFile {
    return JSON.parse(readFileSync(this.file, 'utf8')) as StackFile;
  }

  async ready(): Promise<StackFile> {
    await until('the stack is ready', 90, () => {
      assert.equal(this.program.exitCode, null, this.screen);
      return this.screen.includes('Ctrl-C stops');
    });
    return this.stack();
  }

  /** The exit code, after a signal or without one. */
  async ended(signal?: NodeJS.Signals): Promise<number | null> {
    if (signal !== undefined) this.program.kill(signal);
    await until('the program ends', 60, () => this.program.exitCode !== null || this.program.signalCode !== null);
    return this.program.exitCode;
  }
}

async function until(what: string, seconds: number, probe: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + seconds * 1000; !(await probe()); await sleep(50)) {
    assert.ok(performance.now() < deadline, `${what}: not within ${seconds} s`);
  }
}

function records(stack: StackFile): ProcessRecord[] {
  return PARTS.map((part) => {
    const record = recordOf(stack.processes[part] ?? 0);
    assert.ok(record, `${part} runs`);
    return record;
  });
}

interface Answer {
  readonly choices: readonly { readonly message: { readonly content: string } }[];
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

async function chat(stack: StackFile): Promise<Response> {
  return fetch(`${stack.base_url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.demo.api_key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: stack.demo.model, messages: [{ role: 'user', content: 'Hello' }] }),
    signal: AbortSignal.timeout(10_000),
  });
}

async function answers(stack: StackFile): Promise<boolean> {
  return chat(stack).then(
    async (response) => (await response.text()) !== '' && response.ok,
    () => false,
  );
}

async function account(stack: StackFile): Promise<{ balance_usd: string; held_usd: string }> {
  const response = await fetch(`${stack.base_url}/api/account`, {
    headers: { authorization: `Bearer ${stack.demo.management_token}` },
  });
  assert.equal(response.status, 200);
  return (await response.json()) as { balance_usd: string; held_usd: string };
}

function isZero(amount: string): boolean {
  return /^0\.0*$/.test(amount);
}

async function asAuditor<T>(stack: StackFile, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: stack.database_url ?? '' });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

describe('npm start', function () {
  this.timeout(150_000);
  const folders: string[] = [];
  const runs: Run[] = [];
  let run: Run;
  let stack: StackFile;
  /** A second stack, whose chain is dead. */
  let beside: Run;

  function start(dataDir: string, env: NodeJS.ProcessEnv = {}): Run {
    const started = new Run(dataDir, env);
    runs.push(started);
    return started;
  }

  function emptyFolder(): string {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-start-'));
    folders.push(folder);
    return folder;
  }

  before(async () => {
    run = start(emptyFolder());
    stack = await run.ready();
  });

  after(async () => {
    for (const started of runs) await started.ended('SIGTERM');
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  it('ends in a curl that works as printed', () => {
    const printed = /curl [\s\S]*?Hello"}]}'/.exec(run.screen)?.[0];
    assert.ok(printed, run.screen);
    const curl = spawnSync('sh', ['-c', printed], { encoding: 'utf8' });
    assert.equal(curl.status, 0, curl.stderr);
    const answer = JSON.parse(curl.stdout) as Answer;
    assert.ok((answer.choices[0]?.message.content ?? '').length > 0);
    assert.ok(answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens > 0);
  });

  it('writes a stack.json that only its owner can read, with every part that runs', async () => {
    assert.equal(statSync(run.file).mode & 0o777, 0o600);
    records(stack);
    assert.equal(stack.console_url, null);
    assert.equal((await fetch(stack.temporal_ui_url ?? '')).status, 200);
    assert.equal((await fetch(`${stack.twins.upstream_url}/_twin/config`)).status, 200);
    for (const secret of [
      stack.demo.api_key,
      stack.operator_token,
      stack.second_operator_token,
      stack.demo.management_token,
    ]) {
      assert.match(secret, /^(sk-hf|hft)-[0-9a-f]{48}$/);
    }
  });

  it('gives the auditor a login that reads the ledger and changes nothing', async () => {
    await asAuditor(stack, async (client) => {
      const { rows } = await client.query('select name from account where kind = $1', ['customer']);
      assert.deepEqual(rows, [{ name: 'Demo' }]);
      await assert.rejects(client.query("update account set name = 'x'"), /permission denied/);
    });
  });

  it('gives Temporal and the worker less CPU than gateway and PostgreSQL', function () {
    if (process.platform !== 'linux') this.skip();
    const nice = (pid: number | null): number => {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
    };
    const own = nice(process.pid);
    assert.deepEqual(
      PARTS.map((part) => nice(stack.processes[part]) - own),
      [0, 10, 10, 0],
    );
  });

  it('refuses a second start from the same data dir and leaves the first alone', async () => {
    const second = start(run.dataDir);
    assert.equal(await second.ended(), 1);
    assert.match(second.screen, /already runs/);
    assert.ok(await answers(stack));
  });

  it('puts a lock back that was deleted, and goes on', async () => {
    const lock = join(run.dataDir, 'run', 'supervisor.json');
    rmSync(lock);
    await until('the lock is there again', 10, () => existsSync(lock));
    await until('that to be said', 10, () => /the lock of .* was gone; it is there again/.test(run.screen));
    assert.ok(await answers(stack));
  });

  it('is not disturbed by a second start after everything that names it was deleted', async () => {
    const before = records(run.stack());
    // In one moment: the lock itself would be put back.
    rmSync(join(run.dataDir, 'run'), { recursive: true });
    const second = start(run.dataDir);
    assert.equal(await second.ended(), 1, second.screen);
    assert.match(second.screen, /already runs from .* \(process \d+\)/);
    assert.ok(
      before.every((record) => isRunning(record)),
      'every part of the first stack still runs',
    );
    assert.ok(await answers(stack));
    await until('what runs to be on record again', 10, () =>
      [...PARTS, 'twin', 'stripe', 'creem', 'discord'].every((part) =>
        existsSync(join(run.dataDir, 'run', `${part}.json`)),
      ),
    );
  });

  it('runs beside a stack with another data dir, whose port is the next free one', async () => {
    const vendors = { CHAIN_8453_RPC_URLS: 'http://127.0.0.1:1,http://localhost:2', CRYPTO_LIVE: 'false' };
    beside = start(emptyFolder(), { ...vendors, CRYPTO_XPUB: XPUB });
    const other = await beside.ready();
    assert.notEqual(other.base_url, stack.base_url);
    assert.notEqual(other.demo.api_key, stack.demo.api_key);
    assert.deepEqual([(await chat(other)).status, (await chat(stack)).status], [200, 200]);
    assert.equal(await beside.ended('SIGTERM'), 0);
    assert.ok(await answers(stack));
  });

  it('does not say that it is ready over a dead chain, but which vendors do not answer and what to do', () => {
    assert.match(run.screen, /^Holdfast is ready\.$/m);
    assert.doesNotMatch(beside.screen, /is ready\./);
    assert.match(beside.screen, /^Holdfast runs, but not all of it works:$/m);
    assert.match(beside.screen, /fault: chain 8453: 127\.0\.0\.1: no answer .* Cure: .* CHAIN_8453_RPC_URLS$/m);
    assert.match(beside.screen, /fault: chain 8453: 0 of 2 vendors of Base can be used/);
    assert.match(beside.screen, /^ {2}base URL +http/m);
  });

  it('starts each part again that dies, under the same address, and says so in stack.json', async () => {
    for (const part of PARTS) {
      const pid = run.stack().processes[part];
      assert.ok(pid);
      process.kill(pid, 'SIGKILL');
      await until(`${part} runs again`, 60, () => ![pid, null].includes(run.stack().processes[part]));
      await until(`requests work after ${part} died`, 30, () => answers(stack));
    }
    assert.deepEqual({ ...run.stack(), processes: null }, { ...stack, processes: null });
  });

  it('recovers from kill -9 of everything: same key, same data, what was open is settled', async () => {
    assert.ok(await answers(stack));
    await fetch(`${stack.twins.upstream_url}/_twin/config`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ latency_ms: 60_000 }),
    });
    const cut = chat(stack).catch(() => null);
    await until('the slow request is held', 10, async () => !isZero((await account(stack)).held_usd));
    const killed = records(run.stack());
    run.program.kill('SIGKILL');
    for (const { pid } of killed) process.kill(pid, 'SIGKILL');
    await run.ended();
    assert.equal(await cut, null);

    run = start(run.dataDir);
    const again = await run.ready();
    assert.equal(again.base_url, stack.base_url);
    assert.equal(again.demo.api_key, stack.demo.api_key);
    assert.equal(again.demo.account_id, stack.demo.account_id);
    assert.ok(await answers(again));
    await until('nothing is held any more', 60, async () => isZero((await account(again)).held_usd));
    const spent = await asAuditor(again, async (client) => {
      assert.deepEqual((await client.query('select * from violations')).rows, []);
      const { rows } = await client.query<{ rest: string }>(
        'select (5 - sum(cost))::numeric(20, 12)::text as rest from request',
      );
      return rows[0]?.rest;
    });
    assert.equal((await account(again)).balance_usd, spent, 'the demo balance was credited once');
  });

  it('takes over from a crashed start whose parts still run', async () => {
    const orphaned = records(run.stack());
    run.program.kill('SIGKILL');
    await run.ended();
    run = start(run.dataDir);
    const again = await run.ready();
    assert.equal(again.base_url, stack.base_url);
    assert.ok(orphaned.every((record) => !isRunning(record)));
    assert.ok(await answers(again));
  });

  it('stops everything in order on SIGTERM and leaves no process behind', async () => {
    const running = records(run.stack());
    assert.equal(await run.ended('SIGTERM'), 0, run.screen);
    assert.ok(running.every((record) => !isRunning(record)));
    assert.equal(existsSync(run.file), false);
    const order = [...run.screen.matchAll(/stopping (api|worker|temporal|twin|postgres)/g)].map(([, part]) => part);
    assert.deepEqual(order, ['api', 'worker', 'temporal', 'twin', 'postgres']);
  });

  it('fails with the reason on the screen when the port that is asked for is taken', async () => {
    const taken = new URL(stack.twins.upstream_url).port;
    const holder = spawn(process.execPath, ['-e', `require('net').createServer().listen(${taken}, '127.0.0.1')`]);
    try {
      await until('the port is taken', 10, async () => !(await portIsFree(Number(taken))));
      const refused = start(emptyFolder(), { HOLDFAST_PORT: taken });
      assert.equal(await refused.ended(), 1);
      assert.match(refused.screen, new RegExp(`port ${taken} \\(HOLDFAST_PORT\\) is taken`));
    } finally {
      holder.kill();
    }
  });
});

describe('npm run dev and npm run sandbox:reset', function () {
  this.timeout(150_000);
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-dev-'));
  // Below a folder that only its owner may enter: PostgreSQL of a stack that runs as root then lives elsewhere.
  const dataDir = join(folder, 'data');
  let run: Run;
  let stack: StackFile;

  function reset(): { code: number | null; said: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['sandbox/reset.ts'], {
      cwd: ROOT,
      env: { ...process.env, HOLDFAST_DATA_DIR: dataDir },
      encoding: 'utf8',
    });
    return { code: status, said: stdout + stderr };
  }

  function starts(part: 'api' | 'worker'): number {
    return readFileSync(join(dataDir, 'logs', `${part}.log`), 'utf8').split(`${part} listens`).length - 1;
  }

  before(async () => {
    run = new Run(dataDir, {}, ['--watch']);
    stack = await run.ready();
  });

  after(async () => {
    await run.ended('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  });

  it('a changed source file starts the api again, which then answers as before', async () => {
    assert.equal(starts('api'), 1);
    const now = new Date();
    utimesSync(join(ROOT, 'api/http/csv.ts'), now, now);
    await until('the api starts again', 30, () => starts('api') === 2);
    await until('the gateway answers', 30, () => answers(stack));
  });

  it('a running sandbox is not reset', () => {
    const { code, said } = reset();
    assert.equal(code, 1, said);
    assert.match(said, /Stop it first/);
    assert.ok(existsSync(run.file));
  });

  it('a reset sandbox begins from nothing, with the same address and key', async () => {
    const demoCredit = /^5(\.0+)?$/;
    assert.doesNotMatch((await account(stack)).balance_usd, demoCredit);
    assert.equal(await run.ended('SIGTERM'), 0, run.screen);
    const { code, said } = reset();
    assert.equal(code, 0, said);
    run = new Run(dataDir);
    const again = await run.ready();
    assert.equal(again.base_url, stack.base_url);
    assert.equal(again.demo.api_key, stack.demo.api_key);
    assert.match((await account(again)).balance_usd, demoCredit);
    assert.ok(await answers(again));
  });
});
