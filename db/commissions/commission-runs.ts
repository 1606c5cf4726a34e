/**
 * Runs of commissions as the worker makes them: taking accruals, posting them in chunks, the list behind a result file,
 * the file's bytes. All state is in the rows, so every call can be repeated; all times are arguments.
 */
import type pg from 'pg';
import { formatId, uuidOf, type IdKind } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { AccrualKind, CommissionLine, CommissionRule } from '../../domain/commissions/commission.ts';
import { inTransaction, query, queryOne, type Session, type Statement } from '../shared/client.ts';

export type CommissionRunState = 'posting' | 'posted' | 'done';

export interface CommissionRun {
  readonly period: string;
  readonly state: CommissionRunState;
  readonly endsAt: Date;
  readonly begunBy: string;
  readonly beganAt: Date;
  readonly finishedAt: Date | null;
  readonly accruals: number;
  readonly posted: number;
  /** Sum of all accruals; what is taken back counts negative. */
  readonly total: PicoUsd;
  readonly csvSha256: string | null;
  readonly manifest: string | null;
}

export interface CommissionRunRow {
  period: string;
  state: CommissionRunState;
  ends_at: Date;
  begun_by: string;
  began_at: Date;
  finished_at: Date | null;
  accruals: number;
  posted: number;
  total: string;
  csv_sha256: string | null;
  manifest: string | null;
}

export function toCommissionRun(row: CommissionRunRow): CommissionRun {
  return {
    period: row.period,
    state: row.state,
    endsAt: row.ends_at,
    begunBy: row.begun_by,
    beganAt: row.began_at,
    finishedAt: row.finished_at,
    accruals: row.accruals,
    posted: row.posted,
    total: usd(row.total),
    csvSha256: row.csv_sha256,
    manifest: row.manifest,
  };
}

/**
 * Taking the accruals of a month is one statement over all of them; a worker's usual limit is that of a single request.
 */
const TAKING_TIMEOUT_MS = 300_000;
/** A chunk or a page takes some tenths of a second; on a machine that is busy it must not fail for that. */
const CHUNK_TIMEOUT_MS = 30_000;

/** Runs `work` in a transaction whose statements may take that long, by the server's clock and by ours. */
function withStatementTimeout<T>(
  pool: pg.Pool,
  timeoutMs: number,
  work: (query: <Row extends pg.QueryResultRow>(statement: Statement) => Promise<Row[]>) => Promise<T>,
): Promise<T> {
  return inTransaction(pool, async (client) => {
    await client.query(`set local statement_timeout = ${timeoutMs}`);
    return work((statement) => query(client, { ...statement, ...{ query_timeout: timeoutMs } }));
  });
}

/** The run that a statement returns. */
async function runOf(pool: pg.Pool, timeoutMs: number, statement: Statement): Promise<CommissionRun> {
  const [row] = await withStatementTimeout(pool, timeoutMs, (query) => query<CommissionRunRow>(statement));
  if (row === undefined) throw new Error(`invariant broken: ${statement.name} returned no run`);
  return toCommissionRun(row);
}

/** Begins the run of a period, once; a repeat returns it as it is. Refuses `period_not_ended`. */
export function beginCommissionRun(
  pool: pg.Pool,
  { period, at }: { readonly period: string; readonly at: Date },
): Promise<CommissionRun> {
  return runOf(pool, TAKING_TIMEOUT_MS, {
    name: 'begin_commission_run',
    text: 'select * from begin_commission_run($1, $2)',
    values: [period, at],
  });
}

/**
 * Lists and posts the next accruals of a run, at most `limit`, in one transaction. Goes on where the last call ended.
 */
export function postCommissions(
  pool: pg.Pool,
  { period, limit }: { readonly period: string; readonly limit: number },
): Promise<CommissionRun> {
  return runOf(pool, CHUNK_TIMEOUT_MS, {
    name: 'post_commissions',
    text: 'select * from post_commissions($1, $2)',
    values: [period, limit],
  });
}

/** Null when the period has no run. */
export async function commissionRunOf(pool: pg.Pool, period: string): Promise<CommissionRun | null> {
  const [row] = await query<CommissionRunRow>(pool, {
    name: 'commission_run_of',
    text: 'select * from commission_run_of($1)',
    values: [period],
  });
  return row === undefined ? null : toCommissionRun(row);
}

/** A line of the list, with what must agree with it. */
export interface ListedCommission extends CommissionLine {
  /** UUID, to continue after. */
  readonly accrual: string;
  /** The credit of the payment by its own row; null for a correction. */
  readonly paymentCredited: PicoUsd | null;
  /** The amounts of list and ledger; null where nothing is listed or posted yet. */
  readonly listed: PicoUsd | null;
  readonly posted: PicoUsd | null;
}

interface LineRow {
  accrual_id: string;
  kind: AccrualKind;
  affiliate_id: string;
  account_id: string | null;
  payment_id: string | null;
  top_up_id: string | null;
  base: string | null;
  rate_ppm: number | null;
  rule_version: number;
  reversed_from: string | null;
  reversed_to: string | null;
  amount: string;
  accrued_at: Date;
  matures_at: Date;
  payment_credited: string | null;
  listed_amount: string | null;
  posted_amount: string | null;
}

function toLine(row: LineRow, n: number): ListedCommission {
  const money = (text: string | null): PicoUsd | null => (text === null ? null : usd(text));
  const wireId = <K extends IdKind>(kind: K, uuid: string | null): string | null =>
    uuid === null ? null : formatId(kind, uuidOf(kind, uuid));
  return {
    n,
    accrual: row.accrual_id,
    accrualId: formatId('accrual', uuidOf('accrual', row.accrual_id)),
    kind: row.kind,
    affiliateId: formatId('account', uuidOf('account', row.affiliate_id)),
    accountId: wireId('account', row.account_id),
    paymentId: wireId('payment', row.payment_id),
    topUpId: wireId('topUp', row.top_up_id),
    base: money(row.base),
    ratePpm: row.rate_ppm,
    ruleVersion: row.rule_version,
    reversedFrom: money(row.reversed_from),
    reversedTo: money(row.reversed_to),
    amount: usd(row.amount),
    accruedAt: row.accrued_at,
    maturesAt: row.matures_at,
    paymentCredited: money(row.payment_credited),
    listed: money(row.listed_amount),
    posted: money(row.posted_amount),
  };
}

/** The list of a run after line `after`, in the order of its file. */
export async function commissionLines(
  pool: pg.Pool,
  { period, after, limit }: { readonly period: string; readonly after: number; readonly limit: number },
): Promise<ListedCommission[]> {
  const rows = await withStatementTimeout(pool, CHUNK_TIMEOUT_MS, (query) =>
    query<LineRow & { n: number }>({
      name: 'commission_lines',
      text: 'select * from commission_lines($1, $2, $3)',
      values: [period, after, limit],
    }),
  );
  return rows.map((row) => toLine(row, row.n));
}

/**
 * The accruals that the run of a period would take now, page by page from one statement, so that they are one snapshot.
 */
export function eachCommissionCandidate(
  pool: pg.Pool,
  { period, limit }: { readonly period: string; readonly limit: number },
  onPage: (lines: readonly ListedCommission[]) => Promise<void> | void,
): Promise<void> {
  return withStatementTimeout(pool, TAKING_TIMEOUT_MS, async (query) => {
    await query({
      name: 'declare_commission_candidates',
      text: 'declare candidates no scroll cursor for select * from commission_candidates($1)',
      values: [period],
    });
    for (let n = 0; ;) {
      const rows = await query<LineRow>({
        name: 'fetch_commission_candidates',
        text: `fetch forward ${limit} from candidates`,
        values: [],
      });
      await onPage(rows.map((row) => toLine(row, ++n)));
      if (rows.length < limit) return;
    }
  });
}

interface RuleRow {
  version: number;
  rate_ppm: number;
  hold_days: number;
  final_hold_days: number;
  dispute_days: number;
}

/** Every version of the rule. */
export async function commissionRules(pool: pg.Pool): Promise<CommissionRule[]> {
  const rows = await query<RuleRow>(pool, {
    name: 'commission_rules',
    text: 'select * from commission_rules()',
    values: [],
  });
  return rows.map((row) => ({
    version: row.version,
    ratePpm: row.rate_ppm,
    holdDays: row.hold_days,
    finalHoldDays: row.final_hold_days,
    disputeDays: row.dispute_days,
  }));
}

/** How many accruals a run took; its list must have as many. */
export async function countTakenCommissions(pool: pg.Pool, period: string): Promise<number> {
  const row = await queryOne<{ n: number }>(pool, {
    name: 'commission_taken',
    text: 'select commission_taken($1) as n',
    values: [period],
  });
  return row.n;
}

/** Which file: that of a period's run (`dryRun` 0) or that of one of its dry runs. */
export interface CommissionFile {
  readonly period: string;
  readonly dryRun: number;
}

export async function saveCommissionPart(
  pool: pg.Pool,
  { period, dryRun }: CommissionFile,
  part: number,
  content: Buffer,
): Promise<void> {
  await query(pool, {
    name: 'save_commission_part',
    text: 'select save_commission_part($1, $2, $3, $4)',
    values: [period, dryRun, part, content],
  });
}

/** Null after the last part. */
export async function commissionPart(
  session: Session,
  { period, dryRun }: CommissionFile,
  part: number,
): Promise<Buffer | null> {
  const row = await queryOne<{ content: Buffer | null }>(session, {
    name: 'commission_part',
    text: 'select commission_part($1, $2, $3) as content',
    values: [period, dryRun, part],
  });
  return row.content;
}

/** Closes a run whose accruals are posted and whose file is written. A repeat returns it as it is. */
export async function finishCommissionRun(
  pool: pg.Pool,
  end: { readonly period: string; readonly at: Date; readonly csvSha256: string; readonly manifest: string },
): Promise<CommissionRun> {
  const row = await queryOne<CommissionRunRow>(pool, {
    name: 'finish_commission_run',
    text: 'select * from finish_commission_run($1, $2, $3, $4)',
    values: [end.period, end.at, end.csvSha256, end.manifest],
  });
  return toCommissionRun(row);
}

/** Keeps what a dry run or a replay found; the first answer stands. */
export async function finishCommissionCheck(
  pool: pg.Pool,
  end: {
    readonly kind: 'dry_run' | 'replay';
    readonly period: string;
    readonly n: number;
    readonly at: Date;
    readonly result: unknown;
    readonly manifest: string | null;
  },
): Promise<void> {
  await query(pool, {
    name: 'finish_commission_check',
    text: 'select finish_commission_check($1, $2, $3, $4, $5, $6)',
    values: [end.kind, end.period, end.n, end.at, JSON.stringify(end.result), end.manifest],
  });
}
