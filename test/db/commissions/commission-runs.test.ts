/**
 * Runs of commissions against real parallel transactions: an accrual that commits while a run takes its list is in this
 * run or in the next, never in none or both; posting goes on wherever it was cut; and random histories add up to the
 * model.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type pg from 'pg';
import { isFault, ledgerRefusal } from '../../../db/shared/client.ts';
import {
  beginCommissionRun,
  commissionLines,
  postCommissions,
  type CommissionRun,
} from '../../../db/commissions/commission-runs.ts';
import type { Affiliate } from '../../../db/commissions/affiliates.ts';
import { commissionLost, commissionOn, periodEnd } from '../../../domain/commissions/commission.ts';
import { addUsd, formatUsd, picoUsd, usd, ZERO_USD, type PicoUsd } from '../../../domain/money.ts';
import {
  accrualsOf,
  balanceOf,
  createAffiliate,
  createReferred,
  matureAt,
  moveReversal,
  payTopUp,
  type PaidTopUp,
} from '../../support/commissions.ts';
import { brokenRules, createLedgerDatabase, type LedgerDatabase } from '../../support/ledger-database.ts';
import { until } from '../../support/until.ts';

const AT = new Date('2090-01-01T00:00:00Z');

describe('commission runs', () => {
  let ledger: LedgerDatabase;
  let affiliate: Affiliate;
  let runs = 0;

  before(async () => {
    ledger = await createLedgerDatabase('commission-runs', 12);
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    affiliate = await createAffiliate(ledger);
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  /** A month that no test has used, so far ahead that everything has matured. */
  const nextPeriod = (): string => `20${40 + Math.floor(runs / 12)}-${String((runs++ % 12) + 1).padStart(2, '0')}`;
  const begin = (period: string, at = AT): Promise<CommissionRun> => beginCommissionRun(ledger.worker, { period, at });

  async function postAll(period: string, limit = 7): Promise<CommissionRun> {
    for (;;) {
      const run = await postCommissions(ledger.worker, { period, limit });
      if (run.state !== 'posting') return run;
    }
  }

  const pay = async (period = nextPeriod()): Promise<string> => {
    await begin(period);
    await postAll(period);
    return period;
  };

  /** A statement in a transaction that stays open until it is told to end. */
  async function opened(text: string, values: readonly unknown[]): Promise<{ commit(): Promise<void> }> {
    const client = await ledger.admin.connect();
    await client.query('begin');
    await client.query(text, [...values]);
    return {
      async commit() {
        await client.query('commit');
        client.release();
      },
    };
  }

  const creditOf = ({ topUpId }: PaidTopUp, paymentId: string, amount: string): [string, unknown[]] => [
    'select id from credit_payment($1, $2, $3, $3, true, $4)',
    [topUpId, paymentId, amount, 'provider'],
  ];

  it('a period that has not ended is refused and leaves no trace', async () => {
    const period = nextPeriod();
    const before = new Date(periodEnd(period).getTime() - 1);
    await assert.rejects(begin(period, before), (error) => ledgerRefusal(error)?.code === 'period_not_ended');
    assert.equal((await begin(period, periodEnd(period))).state, 'posted');
  });

  it('a run takes accruals that have matured by the very end of the period, and nothing later', async () => {
    const account = await createReferred(ledger, affiliate);
    const period = nextPeriod();
    const end = periodEnd(period);
    await payTopUp(ledger, account, '10');
    await matureAt(ledger, end, affiliate.accountId);
    await payTopUp(ledger, account, '20');
    const later = await createAffiliate(ledger);
    await payTopUp(ledger, await createReferred(ledger, later), '30');
    await matureAt(ledger, new Date(end.getTime() + 1), later.accountId);
    await pay(period);
    assert.deepEqual(
      (await accrualsOf(ledger, affiliate.accountId)).map(({ run }) => run),
      [period, period],
    );
    assert.deepEqual(
      (await accrualsOf(ledger, later.accountId)).map(({ run }) => run),
      [null],
    );
    await pay();
  });

  it('begun by many at once is one run', async () => {
    const account = await createReferred(ledger, affiliate);
    await payTopUp(ledger, account, '10');
    const period = nextPeriod();
    const begun = await Promise.all(Array.from({ length: 8 }, () => begin(period)));
    assert.deepEqual(
      begun.map(({ accruals }) => accruals),
      begun.map(() => 1),
    );
    await postAll(period);
  });

  it('a run posted by many at once pays each accrual once, in the order of its list', async () => {
    const account = await createReferred(ledger, affiliate);
    for (let n = 0; n < 40; n++) await payTopUp(ledger, account, '10');
    const period = nextPeriod();
    await begin(period);
    const done = await Promise.all(Array.from({ length: 6 }, () => postAll(period, 3)));
    assert.ok(done.every(({ state, posted }) => state === 'posted' && posted === 40));
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd('40'));
    const lines = await commissionLines(ledger.worker, { period, after: 0, limit: 100 });
    assert.deepEqual(
      lines.map(({ n }) => n),
      lines.map((_, index) => index + 1),
    );
    assert.deepEqual(
      lines.map(({ accrual }) => accrual),
      lines.map(({ accrual }) => accrual).toSorted(),
    );
  });

  it('an accrual that is not committed when the run takes its list is in the next run', async () => {
    const account = await createReferred(ledger, affiliate);
    const order = await payTopUp(ledger, account, '10');
    const late = await opened(...creditOf(order, 'pi_late', '20'));
    const first = await pay();
    await late.commit();
    const second = await pay();
    assert.deepEqual(
      (await accrualsOf(ledger, affiliate.accountId)).map(({ amount, run }) => [amount, run]),
      [
        [usd('1'), first],
        [usd('2'), second],
      ],
    );
  });

  it('a refund that commits while the run waits for it: what was earned is in this run, what is taken back in the next', async () => {
    const account = await createReferred(ledger, affiliate);
    const payment = await payTopUp(ledger, account, '10');
    const refund = await opened(`select reverse_payment($1, 're_open', 'refund', 'out', 10, 0)`, [payment.id]);
    const period = nextPeriod();
    const running = pay(period);
    await untilWaiting(ledger.admin);
    await refund.commit();
    const first = await running;
    const second = await pay();
    assert.deepEqual(
      (await accrualsOf(ledger, affiliate.accountId)).map(({ kind, run }) => [kind, run]),
      [
        ['earned', first],
        ['reversed', second],
      ],
    );
    assert.equal(await balanceOf(ledger, affiliate.accountId), ZERO_USD);
  });

  it('a refund that waits for the run is in the next one, and is due at once', async () => {
    const account = await createReferred(ledger, affiliate);
    const payment = await payTopUp(ledger, account, '10');
    const period = nextPeriod();
    const taking = await opened('select * from begin_commission_run($1, $2)', [period, AT]);
    const refunding = moveReversal(ledger, payment, { direction: 'out', amount: '10' });
    await untilWaiting(ledger.admin);
    await taking.commit();
    await refunding;
    await postAll(period);
    const [, reversed] = await accrualsOf(ledger, affiliate.accountId);
    assert.equal(reversed!.run, null);
    assert.ok(reversed!.maturesAt!.getTime() <= Date.now() + 1000);
    await pay();
    assert.equal(await balanceOf(ledger, affiliate.accountId), ZERO_USD);
  });

  it('each accrual is in exactly one run and posted once, while many credits and refunds come between runs', async () => {
    const accounts = await Promise.all(Array.from({ length: 6 }, () => createReferred(ledger, affiliate)));
    let working = true;
    const payer = async (account: (typeof accounts)[number]): Promise<void> => {
      for (let n = 0; n < 8; n++) {
        const payment = await payTopUp(ledger, account, '10');
        if (n % 2 === 0) await moveReversal(ledger, payment, { direction: 'out', amount: '5' });
      }
    };
    const runner = async (): Promise<number> => {
      let count = 0;
      for (; working; count++) await pay();
      return count;
    };
    const paying = Promise.all(accounts.map(payer)).finally(() => (working = false));
    const [, count] = await Promise.all([paying, runner()]);
    await pay();
    assert.ok(count > 1, `${count} runs`);
    const rows = await accrualsOf(ledger, affiliate.accountId);
    assert.equal(rows.length, 6 * 8 + 6 * 4);
    assert.ok(rows.every(({ run }) => run !== null));
    assert.equal(await balanceOf(ledger, affiliate.accountId), addUsd(...rows.map(({ amount }) => amount)));
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd('36'));
  });

  it('a run whose connections are cut at random moments pays everything once, with the same list', async () => {
    const account = await createReferred(ledger, affiliate);
    for (let n = 0; n < 60; n++) await payTopUp(ledger, account, '10');
    const { rows: expected } = await ledger.admin.query<{ id: string }>(
      'select id from commission_accrual where run is null order by id',
    );
    const period = nextPeriod();
    let working = true;
    // The first posting waits for it, so that at least one call is met under way.
    const blocker = await ledger.admin.connect();
    await blocker.query('begin');
    await blocker.query('select 1 from account where id = $1 for update', [affiliate.accountId]);
    const killer = async (): Promise<number> => {
      let killed = 0;
      while (working && killed < 25) {
        const { rows } = await ledger.admin.query<{ killed: number }>(
          `select count(pg_terminate_backend(pid))::integer as killed from pg_stat_activity
            where datname = current_database() and application_name = 'holdfast_worker'
              and query like '%commission%' and state = 'active'`,
        );
        if (killed === 0 && rows[0]!.killed > 0) await blocker.query('rollback');
        killed += rows[0]!.killed;
      }
      return killed;
    };
    const untilAnswered = async <T>(work: () => Promise<T>): Promise<T> => {
      for (;;) {
        try {
          return await work();
        } catch (error) {
          // The connection was cut: whether the call has committed is unknown, so it is made again.
          if (!isFault(error)) throw error;
        }
      }
    };
    const running = (async () => {
      await untilAnswered(() => begin(period));
      for (;;) {
        const run = await untilAnswered(() => postCommissions(ledger.worker, { period, limit: 2 }));
        if (run.state !== 'posting') break;
      }
    })().finally(() => (working = false));
    const [killed] = await Promise.all([killer(), running]).finally(() => blocker.release(true));
    assert.ok(killed > 0, 'some call was cut');
    const lines = await commissionLines(ledger.worker, { period, after: 0, limit: 1000 });
    assert.deepEqual(
      lines.map(({ accrual }) => accrual),
      expected.map(({ id }) => id),
    );
    assert.ok(lines.every(({ amount, listed, posted }) => amount === listed && amount === posted));
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd('60'));
  });

  it('random credits, reversals, restorations and runs add up to the model, at every step', async function () {
    this.timeout(60_000);
    const step = fc.record({
      what: fc.constantFrom('credit', 'credit', 'out', 'out', 'in', 'run'),
      payment: fc.nat(),
      share: fc.integer({ min: 1, max: 1000 }),
      units: fc.bigInt({ min: 1n, max: 50_000_000_000_000n }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 14 }), async (steps) => {
        const earner = await createAffiliate(ledger);
        const account = await createReferred(ledger, earner);
        const payments: { row: PaidTopUp; gone: PicoUsd; steps: string[] }[] = [];
        const due = (): PicoUsd =>
          picoUsd(
            payments.reduce(
              (sum, { row, gone }) =>
                sum + commissionOn(row.credited, 100_000) - commissionLost(row.credited, 100_000, gone),
              0n,
            ),
          );
        for (const { what, payment, share, units } of steps) {
          const chosen = payments[payment % Math.max(payments.length, 1)];
          if (what === 'run') await pay();
          else if (what === 'credit') {
            const row = await payTopUp(ledger, account, formatUsd(picoUsd(units)), { fee: '0' });
            payments.push({ row, gone: ZERO_USD, steps: [] });
          } else if (chosen !== undefined) {
            const room = what === 'out' ? picoUsd(chosen.row.credited - chosen.gone) : chosen.gone;
            const amount = picoUsd(share === 1000 ? room : (room * BigInt(share)) / 1000n);
            await moveReversal(ledger, chosen.row, { direction: what, amount: formatUsd(amount) });
            chosen.gone = picoUsd(what === 'out' ? chosen.gone + amount : chosen.gone - amount);
          }
          const rows = await accrualsOf(ledger, earner.accountId);
          assert.equal(addUsd(...rows.map(({ amount }) => amount)), due());
          const paid = rows.filter(({ run }) => run !== null).map(({ amount }) => amount);
          assert.equal(await balanceOf(ledger, earner.accountId), addUsd(...paid));
        }
        await pay();
        assert.equal(await balanceOf(ledger, earner.accountId), due());
      }),
      { numRuns: 12 },
    );
  });
});

/** Waits until some statement waits for a lock that another transaction holds. */
async function untilWaiting(admin: pg.Pool): Promise<void> {
  await until('a statement that waits', async () => {
    const { rowCount } = await admin.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    return rowCount !== 0;
  });
}
