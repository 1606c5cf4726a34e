/**
 * `npm run bench:commissions`: a month with 100,000 accruals on a whole stack: how long a dry run, the run and a replay
 * of it take and what they cost in memory and CPU. The accruals come from top-ups that the ledger's own functions have
 * credited.
 */
import { parseArgs } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { createAccount } from '../db/accounts/accounts.ts';
import { ensureAffiliate } from '../db/commissions/affiliates.ts';
import type { AccountUuid } from '../domain/ids.ts';
import { runProgram, type Interruption } from './interrupt.ts';
import { cpuBetween, MemoryMeter, readCpu, type CpuByPart } from './meters.ts';
import { numberOption } from './options.ts';
import { describeMachine, figure, table, writeResult } from './report.ts';
import { describeDurability, Rig } from './rig.ts';

interface CommissionOptions {
  readonly accruals: number;
  readonly affiliates: number;
  readonly keep: boolean;
}

const USAGE = `npm run bench:commissions [-- options]

  --accruals N     accruals of the month (default 100000)
  --affiliates N   who earn them (default 500)
  --keep           keeps the stack's data dir
`;

const PERIOD = '2020-01';
const ROUNDS_PER_ACCOUNT = 100;

const begin = performance.now();

function say(line: string): void {
  console.log(`[${((performance.now() - begin) / 1000).toFixed(1).padStart(7)} s] ${line}`);
}

interface Step {
  readonly name: string;
  readonly seconds: number;
  readonly workerMegabytes: number | null;
  readonly apiMegabytes: number | null;
  readonly cpu: CpuByPart;
  readonly csvSha256: string;
}

interface CheckView {
  readonly n: number;
  readonly finished_at: string | null;
  readonly kind: string;
  readonly identical: boolean | null;
  readonly csv_sha256: string;
}

interface PeriodView {
  readonly run: { readonly state: string; readonly accruals: number; readonly csv_sha256: string } | null;
  readonly checks: readonly CheckView[];
}

/** False when a figure could not be trusted: a replay that differs, or a broken invariant. */
async function main(options: CommissionOptions, interruption: Interruption): Promise<boolean> {
  const machine = describeMachine();
  const rig = await Rig.open({ name: 'bench-commissions', say, keep: options.keep, signal: interruption.signal });
  try {
    say(describeDurability(rig.durability));
    await interruption.orInterrupted(prepare(rig, options));
    const steps = await interruption.orInterrupted(measure(rig));
    const violations = await rig.audit.query('select * from violations');
    console.log(
      table(
        `${options.accruals} accruals of ${options.affiliates} affiliates`,
        ['step', 's', 'accruals/s', 'worker max MB', 'api max MB', 'worker CPU s', 'PostgreSQL CPU s'],
        steps.map((step) => [
          step.name,
          figure(step.seconds),
          figure(options.accruals / step.seconds, 0),
          figure(step.workerMegabytes, 0),
          figure(step.apiMegabytes, 0),
          figure(step.cpu.worker === null ? null : step.cpu.worker / 1000),
          figure(step.cpu.postgres === null ? null : step.cpu.postgres / 1000),
        ]),
      ),
    );
    const isSame = new Set(steps.map(({ csvSha256 }) => csvSha256)).size === 1;
    console.log(`\nsame file by dry run, run and replay: ${isSame ? 'yes' : 'NO'} (SHA-256 ${steps[0]!.csvSha256})`);
    console.log(`violations of the ledger: ${violations.rows.length}`);
    const file = writeResult('commissions', {
      finished_at: new Date().toISOString(),
      machine,
      durability: rig.durability,
      options,
      steps,
      violations: violations.rows,
    });
    console.log(`\n${file}`);
    return isSame && violations.rows.length === 0;
  } finally {
    await rig.close();
  }
}

/** Referred accounts that top up until there are enough accruals, all of them matured in the month. */
async function prepare(rig: Rig, { accruals, affiliates }: CommissionOptions): Promise<void> {
  say(`preparing ${affiliates} affiliates`);
  const admin = new pg.Pool({ connectionString: rig.stack.databaseUrl, max: 2, options: '-c search_path=holdfast' });
  try {
    const accounts: AccountUuid[] = [];
    const wanted = Math.ceil(accruals / ROUNDS_PER_ACCOUNT);
    for (let n = 0; n < affiliates; n++) {
      const { id } = await createAccount(rig.management, { name: 'Affiliate', email: null });
      const { code } = await ensureAffiliate(rig.management, id);
      for (let m = n; m < wanted; m += affiliates) {
        const account = { name: 'Referred', email: null, referral: { code, clickedAt: null } };
        accounts.push((await createAccount(rig.management, account)).id);
      }
    }
    say(`crediting ${accruals} top-ups of ${accounts.length} accounts`);
    let made = 0;
    for (const account of accounts) {
      const count = Math.min(ROUNDS_PER_ACCOUNT, accruals - made);
      await admin.query(
        `select count(credit_payment((create_top_up(uuidv7(), $1, 'card', 'stripe', 10 + n * 0.01, 0, 'usd', false, 3600)).id,
          'pi_' || gen_random_uuid(), 10 + n * 0.01, 10 + n * 0.01, true, 'provider'))
          from generate_series(1, $2::integer) n`,
        [account, count],
      );
      made += count;
    }
    // Two months pass at once; the guard that freezes the day is a trigger.
    const client = await admin.connect();
    await client.query('set session_replication_role = replica');
    await client.query(`update commission_accrual set matures_at = '2020-01-15T00:00:00Z'`);
    client.release(true);
    await admin.query('analyze commission_accrual, payment, account');
  } finally {
    await admin.end();
  }
}

async function measure(rig: Rig): Promise<Step[]> {
  const { base_url, operator_token } = rig.stack.describe();
  const call = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await fetch(`${base_url}${path}`, {
      method,
      headers: { authorization: `Bearer ${operator_token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as T;
  };
  const page = (): Promise<PeriodView> => call('GET', `/admin/commission-runs/${PERIOD}`);
  const checked = async (kind: string, n: number): Promise<CheckView> => {
    for (;;) {
      const check = (await page()).checks.find((found) => found.kind === kind && found.n === n);
      if (check !== undefined && check.finished_at !== null) return check;
      await delay(100);
    }
  };

  const step = async (name: string, work: () => Promise<string>): Promise<Step> => {
    say(name);
    const meter = new MemoryMeter(rig.stack);
    const before = readCpu(rig.stack);
    const started = performance.now();
    const csvSha256 = await work();
    const seconds = (performance.now() - started) / 1000;
    const cpu = cpuBetween(before, readCpu(rig.stack));
    meter.stop();
    const [worker, api] = [meter.trend('worker'), meter.trend('api')];
    return {
      name,
      seconds,
      workerMegabytes: worker?.maxMegabytes ?? null,
      apiMegabytes: api?.maxMegabytes ?? null,
      cpu,
      csvSha256,
    };
  };

  return [
    await step('dry run', async () => {
      const { dry_run } = await call<{ dry_run: number }>('POST', '/admin/commission-runs', {
        period: PERIOD,
        dry_run: true,
      });
      return (await checked('dry_run', dry_run)).csv_sha256;
    }),
    await step('run', async () => {
      await call('POST', '/admin/commission-runs', { period: PERIOD });
      for (;;) {
        const { run } = await page();
        if (run?.state === 'done') return run.csv_sha256;
        await delay(100);
      }
    }),
    await step('replay', async () => {
      const { n } = await call<CheckView>('POST', `/admin/commission-runs/${PERIOD}/replay`);
      const { identical, csv_sha256 } = await checked('replay', n);
      if (identical !== true) throw new Error('the replay differs');
      return csv_sha256;
    }),
  ];
}

await runProgram(async (interruption) => {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean', default: false },
      accruals: { type: 'string' },
      affiliates: { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const options = {
    accruals: numberOption('accruals', values.accruals, 100_000),
    affiliates: numberOption('affiliates', values.affiliates, 500),
    keep: values.keep,
  };
  return main(options, interruption);
});
