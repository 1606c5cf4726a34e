/**
 * `npm run bench:ledger`: how many hold + finish + settle cycles a second the ledger carries, alone on an embedded
 * PostgreSQL, called as the gateway and the worker call it: through queues (db/shared/batch-queue.ts) and the batch
 * functions, each role on its own pool. A caller does the three steps one after the other and then the next cycle;
 * every step is durable when it returns. Ends with the ledger's own check, `violations`.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { uuidv7 } from 'uuidv7';
import { createAccount } from '../db/accounts/accounts.ts';
import { createApiKey } from '../db/accounts/api-keys.ts';
import { createPool, isFault } from '../db/shared/client.ts';
import { BatchQueue } from '../db/shared/batch-queue.ts';
import { migrate } from '../db/migrate.ts';
import {
  finishRequests,
  placeHold,
  placeHolds,
  type FinishRecord,
  type FinishVerdict,
  type HoldRequest,
} from '../db/requests/requests.ts';
import { settleRequests } from '../db/requests/settlement.ts';
import { uuidOf, type AccountUuid, type KeyUuid, type RequestUuid } from '../domain/ids.ts';
import { usd, type PicoUsd } from '../domain/money.ts';
import { NO_USAGE } from '../domain/usage/usage.ts';
import { createFunders, fund } from '../sandbox/funding.ts';
import { freePort } from '../twins/kit/ports.ts';
import { ensureDatabase, startPostgres, type PostgresServer } from '../sandbox/postgres.ts';
import { runProgram, type Interruption } from './interrupt.ts';
import { numberOption } from './options.ts';
import { cpuMsWithChildren } from './processes.ts';
import { seededRandom } from './random.ts';
import { describeMachine, figure, table, writeResult } from './report.ts';
import { describeDurability, requireDurability } from './rig.ts';
import { summarize, type Summary } from './statistics.ts';

interface LedgerOptions {
  readonly callerCounts: readonly number[];
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly accounts: number;
  readonly seed: number;
  readonly keep: boolean;
}

const USAGE = `npm run bench:ledger [-- options]

  --quick          2 seconds per figure: shows that the bench works, not how fast the ledger is
  --seconds N      length of each figure (default 15)
  --callers N,N    callers at once (default 1,8,32,128)
  --seed N         of the accounts' order (default 1)
  --keep           keeps the cluster
`;

/** As in api/gateway: most items per call, far more room than callers. */
const BATCH_MAX = 256;
const QUEUE_MAX = 100_000;
/** As in the sandbox's stack. */
const SHARED_BUFFERS = '512MB';

const BALANCE = usd('1000000');
/** A typical hold is several times what the request then costs. */
const HOLD = usd('0.003');
const COST = usd('0.000123');

interface Payer {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

type Distribution = 'uniform' | 'hot';

interface LedgerRow {
  readonly distribution: Distribution;
  readonly callers: number;
  readonly cyclesPerSecond: number;
  readonly holdMs: Summary;
  readonly finishMs: Summary;
  readonly settleMs: Summary;
  /** Items per call of each queue. */
  readonly batch: { readonly hold: number; readonly finish: number; readonly settle: number };
  readonly postgresCpuMsPerCycle: number | null;
  readonly callerCpuMsPerCycle: number;
}

const begin = performance.now();

function say(line: string): void {
  console.log(`[${((performance.now() - begin) / 1000).toFixed(1).padStart(7)} s] ${line}`);
}

/** False when the ledger broke an invariant. */
async function main(options: LedgerOptions, interruption: Interruption): Promise<boolean> {
  const machine = describeMachine();
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-bench-ledger-'));
  const server = await startPostgres({
    dataDir,
    port: await freePort(),
    logFile: join(dataDir, 'postgres.log'),
    recordFile: join(dataDir, 'postgres.json'),
    sharedBuffers: SHARED_BUFFERS,
    signal: interruption.signal,
  });
  const admin = new pg.Pool({ connectionString: server.url('holdfast'), max: 1, options: '-c search_path=holdfast' });
  try {
    await ensureDatabase(server.url('postgres'), 'holdfast');
    await migrate(server.url('holdfast'));
    const durability = await requireDurability(admin);
    say(describeDurability(durability));
    say(`preparing ${options.accounts} accounts`);
    const payers = await createPayers(server.url('holdfast'), options.accounts);
    const rows = await interruption.orInterrupted(measureAll(server, payers, options));
    const violations = await admin.query('select * from violations');
    console.log(ledgerTable(rows));
    console.log(`\nviolations of the ledger: ${violations.rows.length}`);
    const file = writeResult('ledger', {
      finished_at: new Date().toISOString(),
      machine,
      durability,
      options,
      rows,
      violations: violations.rows,
    });
    console.log(`\n${file}`);
    return violations.rows.length === 0;
  } finally {
    await admin.end();
    await server.stop();
    if (!options.keep) {
      server.remove();
      rmSync(dataDir, { recursive: true, force: true });
    }
  }
}

async function createPayers(url: string, count: number): Promise<Payer[]> {
  const management = createPool({ url, role: 'management', max: 1 });
  try {
    const payers: Payer[] = [];
    const funders = await createFunders(management);
    for (let n = 0; n < count; n += 1) {
      const { id } = await createAccount(management, { name: 'Bench', email: null });
      await fund(management, funders, { accountId: id, amount: BALANCE, reason: 'money for a bench run' });
      const { key } = await createApiKey(management, {
        accountId: id,
        name: 'bench',
        expiresAt: null,
        limit: null,
        limitReset: 'none',
        models: null,
        ipAllowlist: null,
      });
      payers.push({ accountId: id, keyId: key.id });
    }
    return payers;
  } finally {
    await management.end();
  }
}

async function measureAll(
  server: PostgresServer,
  payers: readonly Payer[],
  options: LedgerOptions,
): Promise<LedgerRow[]> {
  const rows: LedgerRow[] = [];
  for (const distribution of ['uniform', 'hot'] as const) {
    for (const callers of options.callerCounts) {
      say(`${callers} callers, ${distribution}`);
      const chosen = distribution === 'uniform' ? payers : payers.slice(0, 1);
      await measure(server, chosen, { ...options, callers, seconds: options.warmUpSeconds });
      rows.push({ distribution, ...(await measure(server, chosen, { ...options, callers })) });
    }
  }
  return rows;
}

async function measure(
  server: PostgresServer,
  payers: readonly Payer[],
  { callers, seconds, seed }: { callers: number; seconds: number; seed: number },
): Promise<Omit<LedgerRow, 'distribution'>> {
  const queues = new Queues(server.url('holdfast'));
  const times = { hold: [] as number[], finish: [] as number[], settle: [] as number[] };
  const random = seededRandom(seed);
  const timed = async (step: keyof typeof times, work: () => Promise<unknown>): Promise<void> => {
    const from = performance.now();
    await work();
    times[step].push(performance.now() - from);
  };
  const cpuBefore = { postgres: cpuMsWithChildren(server.child.pid), callers: process.cpuUsage() };
  const from = performance.now();
  const deadline = from + seconds * 1000;
  const caller = async (): Promise<void> => {
    while (performance.now() < deadline) {
      const requestId = uuidOf('request', uuidv7());
      const payer = random.pick(payers);
      await timed('hold', () => queues.hold(requestId, payer));
      await timed('finish', () => queues.finish(requestId));
      await timed('settle', () => queues.settle(requestId));
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const elapsedSeconds = (performance.now() - from) / 1000;
  const postgres = cpuMsWithChildren(server.child.pid);
  const own = process.cpuUsage(cpuBefore.callers);
  await queues.close();
  const cycles = times.settle.length;
  return {
    callers,
    cyclesPerSecond: cycles / elapsedSeconds,
    holdMs: summarize(times.hold),
    finishMs: summarize(times.finish),
    settleMs: summarize(times.settle),
    batch: queues.meanBatch(),
    postgresCpuMsPerCycle:
      postgres === null || cpuBefore.postgres === null ? null : (postgres - cpuBefore.postgres) / cycles,
    callerCpuMsPerCycle: (own.user + own.system) / 1000 / cycles,
  };
}

/** The three queues of a gateway and its worker. */
class Queues {
  readonly #gateway: pg.Pool;
  readonly #worker: pg.Pool;
  readonly #gatewayId = uuidv7();
  readonly #counts = { hold: new BatchCount(), finish: new BatchCount(), settle: new BatchCount() };
  readonly #holds: BatchQueue<HoldRequest, PicoUsd>;
  readonly #finishes: BatchQueue<FinishRecord, FinishVerdict>;
  readonly #settlements: BatchQueue<RequestUuid, null>;

  constructor(url: string) {
    this.#gateway = createPool({ url, role: 'gateway', max: 8 });
    this.#worker = createPool({ url, role: 'worker', max: 8 });
    const shared = { batchMax: BATCH_MAX, queueMax: QUEUE_MAX, isFault };
    this.#holds = new BatchQueue({ ...shared, name: 'hold', call: (holds) => this.#placeHolds(holds) });
    this.#finishes = new BatchQueue({
      ...shared,
      name: 'finish',
      call: (records) => {
        this.#counts.finish.add(records.length);
        return finishRequests(this.#gateway, records);
      },
    });
    this.#settlements = new BatchQueue({
      ...shared,
      name: 'settle',
      call: async (ids) => {
        this.#counts.settle.add(ids.length);
        await settleRequests(this.#worker, ids, `meter/${ids[0]}`);
        return ids.map(() => null);
      },
    });
  }

  async #placeHolds(holds: readonly HoldRequest[]): Promise<PicoUsd[]> {
    this.#counts.hold.add(holds.length);
    if (holds.length === 1) return [await placeHold(this.#gateway, holds[0]!)];
    const granted = await placeHolds(this.#gateway, holds);
    return granted.map((amount) => {
      if (amount === null) throw new Error('a hold was refused although the account has plenty');
      return amount;
    });
  }

  async hold(requestId: RequestUuid, { accountId, keyId }: Payer): Promise<void> {
    await this.#holds.submit({
      requestId,
      accountId,
      keyId,
      modelId: 'bench',
      wanted: HOLD,
      least: HOLD,
      priceVersion: 1,
      stream: false,
      gatewayId: this.#gatewayId,
      ttlSeconds: 660,
    }).result;
  }

  async finish(requestId: RequestUuid): Promise<void> {
    const verdict = await this.#finishes.submit({
      requestId,
      outcome: 'completed',
      listCost: COST,
      usage: { ...NO_USAGE, inputTokens: 420, outputTokens: 100 },
      estimated: false,
      rawUsage: null,
      latencyMs: 100,
      firstTokenMs: null,
      upstream: null,
    }).result;
    if (verdict !== 'finished') throw new Error(`a finish was answered "${verdict}"`);
  }

  async settle(requestId: RequestUuid): Promise<void> {
    await this.#settlements.submit(requestId).result;
  }

  meanBatch(): LedgerRow['batch'] {
    const { hold, finish, settle } = this.#counts;
    return { hold: hold.mean, finish: finish.mean, settle: settle.mean };
  }

  async close(): Promise<void> {
    await Promise.all([this.#gateway.end(), this.#worker.end()]);
  }
}

class BatchCount {
  #calls = 0;
  #items = 0;

  add(items: number): void {
    this.#calls += 1;
    this.#items += items;
  }

  get mean(): number {
    return this.#items / this.#calls;
  }
}

function ledgerTable(rows: readonly LedgerRow[]): string {
  const times = ({ p50, p99 }: Summary): string => `${figure(p50)} / ${figure(p99)}`;
  return table(
    'Ledger: hold + finish + settle, one after the other per caller (ms: p50 / p99)',
    [
      'accounts',
      'callers',
      'cycles/s',
      'hold',
      'finish',
      'settle',
      'batch hold, finish, settle',
      'PostgreSQL CPU ms',
      'callers CPU ms',
    ],
    rows.map((row) => [
      row.distribution,
      String(row.callers),
      figure(row.cyclesPerSecond, 0),
      times(row.holdMs),
      times(row.finishMs),
      times(row.settleMs),
      [row.batch.hold, row.batch.finish, row.batch.settle].map((mean) => figure(mean)).join(', '),
      figure(row.postgresCpuMsPerCycle, 2),
      figure(row.callerCpuMsPerCycle, 2),
    ]),
  );
}

function parseLedgerOptions(args: readonly string[]): LedgerOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      seconds: { type: 'string' },
      callers: { type: 'string' },
      seed: { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  return {
    callerCounts: (values.callers ?? '1,8,32,128').split(',').map((count) => numberOption('callers', count, 1)),
    seconds: numberOption('seconds', values.seconds, values.quick ? 2 : 15),
    warmUpSeconds: values.quick ? 1 : 3,
    accounts: values.quick ? 100 : 1000,
    seed: numberOption('seed', values.seed, 1),
    keep: values.keep,
  };
}

await runProgram(async (interruption) => {
  const options = parseLedgerOptions(process.argv.slice(2));
  if (options !== 'help') return main(options, interruption);
  console.log(USAGE);
});
