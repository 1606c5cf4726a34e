/**
 * Commission runs end to end: api, worker, PostgreSQL and Temporal as they run. A run that is killed at random points
 * ends with the file that it would have had, a replay makes the same bytes, and what was tampered with has a name.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Client, Connection } from '@temporalio/client';
import type pg from 'pg';
import { createAccount } from '../../db/accounts/accounts.ts';
import { ensureAffiliate, type Affiliate } from '../../db/commissions/affiliates.ts';
import { createPool, isFault } from '../../db/shared/client.ts';
import { creditPayment } from '../../db/payments/payments.ts';
import { createTopUp, type TopUp } from '../../db/payments/top-ups.ts';
import { uuidOf, type AccountUuid } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import { COMMISSION_SCHEDULE_ID, commissionRunWorkflowId } from '../../contract/index.ts';
import { accrualsOf, balanceOf, createReferred, matureAt, moveReversal, payTopUp } from '../support/commissions.ts';
import { behindTheGuards, brokenRules, uuidAt, type LedgerPools } from '../support/ledger-database.ts';
import { People, type Staff } from '../support/people.ts';
import { testServices } from '../support/services.ts';
import { startTestStack, type TestStack } from '../support/stack.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const STACK_START_MS = 60_000;

interface RunView {
  readonly state: string;
  readonly accruals: number;
  readonly posted: number;
  readonly total_usd: string;
  readonly csv_sha256: string | null;
}
interface CheckView {
  readonly kind: string;
  readonly n: number;
  readonly finished_at: string | null;
  readonly accruals: number;
  readonly identical: boolean | null;
  readonly differences: string[];
  readonly csv_sha256: string;
  readonly manifest_url: string | null;
  readonly file_url: string | null;
}

describe('commission runs end to end', function () {
  this.timeout(STACK_START_MS);
  let stack: TestStack;
  let ledger: LedgerPools;
  let proxy: TcpProxy;
  let connection: Connection;
  let finance: Staff;
  let affiliate: Affiliate;
  let referred: AccountUuid;

  before(async () => {
    stack = await startTestStack({
      name: 'commission-run',
      databaseUrl: async (url) => {
        proxy = await startTcpProxyFor(url);
        return proxy.through(url);
      },
    });
    const management = stack.database.pool('management', { max: 4 });
    const worker = stack.database.pool('worker', { max: 4 });
    ledger = { gateway: worker, worker, management, admin: stack.admin };
    finance = await new People(stack).staff('finance', 'finance');
    connection = await Connection.connect({ address: testServices().temporalAddress });
  });
  after(async () => {
    await connection.close();
    await stack.stop();
    await proxy.close();
  });
  beforeEach(async () => {
    const { id } = await createAccount(ledger.management, { name: 'Affiliate', email: null });
    affiliate = await ensureAffiliate(ledger.management, id);
    referred = await createReferred(ledger, affiliate);
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(stack.admin), []);
  });

  async function download(path: string): Promise<string> {
    const response = await fetch(`${stack.baseUrl}${path}`, { headers: { authorization: `Bearer ${finance.token}` } });
    assert.equal(response.status, 200, path);
    return response.text();
  }

  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
  const page = async (period: string) =>
    (await finance.call<{ run: RunView | null; checks: CheckView[] }>('GET', `/admin/commission-runs/${period}`)).body;

  async function run(period: string): Promise<RunView> {
    const { status, body } = await finance.call('POST', '/admin/commission-runs', { period });
    assert.equal(status, 202, JSON.stringify(body));
    return done(period);
  }

  const done = (period: string): Promise<RunView> =>
    until(`the run of ${period}`, async () => {
      const { run: view } = await page(period);
      return view?.state === 'done' && view;
    });

  async function replay(period: string): Promise<CheckView> {
    const { status, body } = await finance.call<CheckView>('POST', `/admin/commission-runs/${period}/replay`);
    assert.ok(status === 200 || status === 202, JSON.stringify(body));
    return until('the replay', async () => {
      const check = (await page(period)).checks.find(({ kind, n }) => kind === 'replay' && n === body.n);
      return check?.finished_at != null && check;
    });
  }

  /** Top-ups whose commission has matured in the month `period`. */
  async function matured(period: string, amounts: readonly string[]): Promise<void> {
    for (const amount of amounts) await payTopUp(ledger, referred, amount);
    await matureAt(ledger, new Date(`${period}-15T00:00:00Z`), affiliate.accountId);
  }

  it('pays a month, keeps its file and manifest, and a replay makes the same bytes', async () => {
    await matured('2024-01', ['10', '20.000000000009', '5']);
    const view = await run('2024-01');
    assert.deepEqual([view.accruals, view.posted, view.total_usd], [3, 3, '3.500000000000']);
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd('3.5'));
    const csv = await download('/admin/commission-runs/2024-01/file.csv');
    const manifest = await download('/admin/commission-runs/2024-01/manifest.json');
    assert.equal(sha256(csv), view.csv_sha256);
    const said = JSON.parse(manifest) as { csv: { sha256: string; bytes: number }; list: { accruals: number } };
    assert.deepEqual(said.csv, { sha256: sha256(csv), bytes: Buffer.byteLength(csv) });
    assert.equal(said.list.accruals, 3);
    assert.equal(csv.split('\r\n').length, 1 + 3 + 1);
    for (const n of [1, 2]) {
      const { identical, csv_sha256, differences } = await replay('2024-01');
      assert.deepEqual([identical, csv_sha256, differences], [true, view.csv_sha256, []], `replay ${n}`);
    }
  });

  it('refuses a second run of the month, a month that has not ended, and nonsense', async () => {
    await run('2024-02');
    assert.equal((await finance.call('POST', '/admin/commission-runs', { period: '2024-02' })).status, 409);
    assert.equal((await finance.call('POST', '/admin/commission-runs', { period: '2099-01' })).status, 422);
    assert.equal((await finance.call('POST', '/admin/commission-runs', { period: '2024-13' })).status, 422);
    assert.equal((await finance.call('GET', '/admin/commission-runs/2031-01')).status, 404);
    assert.equal((await finance.call('POST', '/admin/commission-runs/2031-01/replay')).status, 404);
    assert.equal((await finance.call('GET', '/admin/commission-runs/2031-01/file.csv')).status, 404);
  });

  it('a dry run says what a run would pay and changes nothing else; the run then pays just that', async () => {
    await matured('2024-03', ['10', '30']);
    const before = await countedRows();
    const { body } = await finance.call<{ dry_run: number }>('POST', '/admin/commission-runs', {
      period: '2024-03',
      dry_run: true,
    });
    const tried = await until('the dry run', async () => {
      const check = (await page('2024-03')).checks.find(({ n }) => n === body.dry_run);
      return check?.finished_at != null && check;
    });
    assert.equal(tried.accruals, 2);
    assert.deepEqual(await countedRows(), before);
    const csv = await download(tried.file_url!);
    assert.equal(sha256(csv), tried.csv_sha256);
    const view = await run('2024-03');
    assert.equal(view.csv_sha256, tried.csv_sha256);
    assert.equal(await download('/admin/commission-runs/2024-03/file.csv'), csv);
  });

  async function countedRows(): Promise<unknown> {
    const { rows } = await stack.admin.query(
      `select (select count(*) from posting) as postings, (select count(*) from commission_item) as items,
        (select count(*) from commission_accrual where run is not null) as taken, (select count(*) from commission_run) as runs,
        (select sum(balance) from account) as balance`,
    );
    return rows[0];
  }

  it('killed at random points, worker and connections, it ends with the same file', async function () {
    this.timeout(3 * STACK_START_MS);
    const count = 1800;
    const accounts = [referred, await createReferred(ledger, affiliate)];
    await bulk(accounts, count, '2024-04');
    const dry = await finance.call<{ dry_run: number }>('POST', '/admin/commission-runs', {
      period: '2024-04',
      dry_run: true,
    });
    const expected = await until('the dry run', async () => {
      const check = (await page('2024-04')).checks.find(({ n }) => n === dry.body.dry_run);
      return check?.finished_at != null && check;
    });
    await finance.call('POST', '/admin/commission-runs', { period: '2024-04' });
    for (const threshold of [1, 500, 1000]) {
      await until('progress', async () => ((await page('2024-04')).run?.posted ?? 0) >= threshold || null);
      stack.worker.signal('SIGKILL');
      await stack.worker.exited;
      proxy.cut();
      await stack.startWorker();
    }
    const view = await done('2024-04');
    assert.deepEqual([view.accruals, view.posted], [count, count]);
    assert.equal(view.csv_sha256, expected.csv_sha256);
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd(String(count)));
    assert.equal((await replay('2024-04')).identical, true);
  });

  /**
   * Many accruals of one size at once; each with its top-up, payment and posting, as the product would have made them.
   */
  async function bulk(accounts: readonly AccountUuid[], count: number, period: string): Promise<void> {
    for (const account of accounts) {
      await stack.admin.query(
        `select count(credit_payment((create_top_up(uuidv7(), $1, 'card', 'stripe', 10, 0, 'usd', false, 3600)).id, 'pi_' || gen_random_uuid(),
          10, 10, true, 'provider')) from generate_series(1, $2)`,
        [account, count / accounts.length],
      );
    }
    await matureAt(ledger, new Date(`${period}-15T00:00:00Z`), affiliate.accountId);
  }

  it('S37: a refund after the run is one negative accrual of the next run, and the past one still replays', async () => {
    await matured('2024-05', []);
    const payment = await payTopUp(ledger, referred, '10');
    await matureAt(ledger, new Date('2024-05-15T00:00:00Z'), affiliate.accountId);
    const first = await run('2024-05');
    await moveReversal(ledger, payment, { direction: 'out', amount: '10' });
    await matureAt(ledger, new Date('2024-06-15T00:00:00Z'), affiliate.accountId);
    const second = await run('2024-06');
    assert.deepEqual([second.accruals, second.total_usd], [1, '-1.000000000000']);
    assert.equal(await balanceOf(ledger, affiliate.accountId), 0n as PicoUsd);
    const replayed = await replay('2024-05');
    assert.deepEqual([replayed.identical, replayed.csv_sha256], [true, first.csv_sha256]);
  });

  describe('what was tampered with after a run', () => {
    let period: string;
    let months = 6;
    beforeEach(async () => {
      period = `2024-${String(++months).padStart(2, '0')}`;
      await matured(period, ['10', '20']);
      await run(period);
      assert.equal((await replay(period)).identical, true);
    });

    const accrual = `(select accrual_id from commission_item where run = '{period}' and n = 2)`;
    for (const [what, damage, repair, difference] of [
      [
        'an amount',
        `update commission_accrual set amount = amount + 1 where id = ${accrual}`,
        `update commission_accrual set amount = amount - 1 where id = ${accrual}`,
        /^line 2, acr_[0-9a-f]{32}: the accrual says 3\.000000000000, by its rate it is 2\.000000000000$/,
      ],
      [
        'a rate',
        `update commission_accrual set rate_ppm = 200000 where id = ${accrual}`,
        `update commission_accrual set rate_ppm = 100000 where id = ${accrual}`,
        /^line 2, acr_[0-9a-f]{32}: the accrual says 2\.0+, by its rate it is 4\.0+$/,
      ],
      [
        'a day',
        `update commission_accrual set matures_at = matures_at + interval '1 day' where id = ${accrual}`,
        `update commission_accrual set matures_at = matures_at - interval '1 day' where id = ${accrual}`,
        /^file, part 1, line 3: stored is "2,acr_.*T.*, recomputed is "2,acr_/,
      ],
      [
        'the stored file',
        `update commission_file_part set content = content || '\\x2c'::bytea where period = '{period}' and dry_run = 0`,
        `update commission_file_part set content = substring(content from 1 for length(content) - 1)
          where period = '{period}' and dry_run = 0`,
        /^file, part 1, line 4: stored is ",", recomputed is ""$/,
      ],
      [
        'the manifest',
        `update commission_run set manifest = replace(manifest, '3.0', '4.0') where period = '{period}'`,
        `update commission_run set manifest = replace(manifest, '4.0', '3.0') where period = '{period}'`,
        /^manifest, line \d+: stored is ".*4\.0+",?", recomputed is ".*3\.0+",?"$/,
      ],
    ] as const) {
      it(`${what} is named by the replay`, async () => {
        const within = (statement: string): string => statement.replaceAll('{period}', period);
        await behindTheGuards(stack.admin, (client) => client.query(within(damage)));
        const { identical, differences } = await replay(period);
        await behindTheGuards(stack.admin, (client) => client.query(within(repair)));
        assert.equal(identical, false);
        assert.match(differences[0] ?? '', difference);
        assert.equal((await replay(period)).identical, true);
      });
    }
  });

  it('the month’s schedule starts the run as a child, and a backfill those of past months', async () => {
    const processes = new Client({ connection, namespace: stack.namespaces.processes });
    const schedule = processes.schedule.getHandle(COMMISSION_SCHEDULE_ID);
    await schedule.backfill({
      start: new Date('2025-02-28T00:00:00Z'),
      end: new Date('2025-04-02T00:00:00Z'),
      overlap: 'ALLOW_ALL',
    });
    for (const period of ['2025-02', '2025-03']) {
      assert.equal((await done(period)).accruals, 0);
      const { parentExecution, searchAttributes } = await processes.workflow
        .getHandle(commissionRunWorkflowId(period))
        .describe();
      assert.match(parentExecution?.workflowId ?? '', /^commission-month/);
      assert.deepEqual(searchAttributes['RunPeriod'], [period]);
    }
  });

  for (const [what, statement] of [
    ['a credit', 'credit_payment'],
    ['a refund', 'reverse_payment'],
  ] as const) {
    it(`S36: ${what} whose answer is lost and that is repeated has one commission, in the same transaction`, async () => {
      const pool = createPool({ url: proxy.through(stack.database.url), role: 'worker', max: 2 });
      try {
        const through = { ...ledger, worker: pool };
        const payment = statement === 'reverse_payment' ? await payTopUp(ledger, referred, '10') : null;
        const act = (): Promise<unknown> =>
          payment === null
            ? creditOnce(pool)
            : moveReversal(through, payment, { direction: 'out', amount: '10', objectId: `re_${payment.id}` });
        const before = (await accrualsOf(ledger, affiliate.accountId)).length;
        const lost = proxy.loseAnswerTo(statement);
        await assert.rejects(act(), (error) => isFault(error));
        await lost;
        assert.equal((await accrualsOf(ledger, affiliate.accountId)).length, before + 1, 'it took effect whole');
        await act().catch((error: unknown) => assert.ok(isFault(error)));
        await act();
        assert.equal((await accrualsOf(ledger, affiliate.accountId)).length, before + 1);
      } finally {
        await pool.end();
      }
    });
  }

  it('S36: a credit whose connection is cut before its answer is there with its commission, or neither is', async () => {
    const pool = createPool({ url: proxy.through(stack.database.url), role: 'worker', max: 4 });
    try {
      const credits = Promise.allSettled(
        Array.from({ length: 60 }, () => payTopUp({ ...ledger, worker: pool }, referred, '10')),
      );
      for (let n = 0; n < 5; n++) {
        await stack.admin.query('select');
        proxy.cut();
      }
      await credits;
    } finally {
      await pool.end();
    }
    const { rows } = await stack.admin.query<{ payments: number; balance: string }>(
      `select (select count(*)::integer from payment where account_id = $1) as payments, balance from account where id = $1`,
      [referred],
    );
    const accruals = await accrualsOf(ledger, affiliate.accountId);
    assert.equal(accruals.length, rows[0]!.payments);
    assert.equal(usd(rows[0]!.balance), usd(String(10 * accruals.length)));
  });

  const orders = new Map<pg.Pool, Promise<TopUp>>();
  /** The same credit at each call with one pool. */
  async function creditOnce(pool: pg.Pool): Promise<void> {
    const order =
      orders.get(pool) ??
      createTopUp(ledger.management, {
        id: uuidOf('topUp', uuidAt(Date.now())),
        accountId: referred,
        method: 'card',
        provider: 'stripe',
        amount: usd('10'),
        fee: usd('0'),
        currency: 'usd',
        live: false,
        expiresInSeconds: 3600,
      });
    orders.set(pool, order);
    const { id } = await order;
    const amount = usd('10');
    await creditPayment(pool, {
      topUpId: id,
      paymentId: `pi_${id}`,
      received: amount,
      credit: amount,
      isFinal: true,
      creditedBy: 'provider',
    });
  }
});
