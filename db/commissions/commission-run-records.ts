/** Runs of commissions as staff read them: how each stands, its dry runs and replays, its files. */
import { query, queryOne, type Session } from '../shared/client.ts';
import { toCommissionRun, type CommissionFile, type CommissionRun, type CommissionRunRow } from './commission-runs.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';

export type CommissionCheckKind = 'dry_run' | 'replay';

/** A dry run or a replay: asked for, and what it found. */
export interface CommissionCheck {
  readonly kind: CommissionCheckKind;
  readonly period: string;
  readonly n: number;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly finishedAt: Date | null;
  /** As the worker wrote it; null until then. */
  readonly result: CommissionFindings | null;
  /** The manifest of a dry run's file. */
  readonly manifest: string | null;
}

export interface CommissionFindings {
  readonly accruals: number;
  readonly totalUsd: string;
  readonly csvSha256: string;
  readonly identical: boolean | null;
  readonly differences: readonly string[];
}

interface CheckRow {
  kind: CommissionCheckKind;
  period: string;
  n: number;
  requested_by: string;
  requested_at: Date;
  finished_at: Date | null;
  result: CommissionFindings | null;
  manifest: string | null;
}

function toCheck(row: CheckRow): CommissionCheck {
  return {
    kind: row.kind,
    period: row.period,
    n: row.n,
    requestedBy: row.requested_by,
    requestedAt: row.requested_at,
    finishedAt: row.finished_at,
    result: row.result,
    manifest: row.manifest,
  };
}

/** Records the person who has a period paid, once; its run names them. */
export async function orderCommissionRun(
  session: Session,
  { period, by }: { readonly period: string; readonly by: string },
): Promise<void> {
  await query(session, {
    name: 'order_commission_run',
    text: 'select order_commission_run($1, $2)',
    values: [period, by],
  });
}

/** Null when the period has no run. */
export async function findCommissionRun(session: Session, period: string): Promise<CommissionRun | null> {
  const [row] = await query<CommissionRunRow>(session, {
    name: 'find_commission_run',
    text: 'select * from commission_run where period = $1',
    values: [period],
  });
  return row === undefined ? null : toCommissionRun(row);
}

/** Runs, the latest period first. */
export async function listCommissionRuns(session: Session, page: PageRequest): Promise<Page<CommissionRun>> {
  const rows = await query<CommissionRunRow>(session, {
    name: 'list_commission_runs',
    text: `select * from commission_run where $1::text is null or period < $1 order by period desc limit $2`,
    values: [page.after, page.limit + 1],
  });
  return pageOf(rows.map(toCommissionRun), page.limit, ({ period }) => period);
}

/** Numbers a dry run or a replay of a period. Refuses `run_not_done` for the replay of what is not done. */
export async function requestCommissionCheck(
  session: Session,
  check: { readonly kind: CommissionCheckKind; readonly period: string; readonly by: string },
): Promise<CommissionCheck> {
  const row = await queryOne<CheckRow>(session, {
    name: 'request_commission_check',
    text: 'select * from request_commission_check($1, $2, $3)',
    values: [check.kind, check.period, check.by],
  });
  return toCheck(row);
}

/** Null when there is no such one. */
export async function findCommissionCheck(
  session: Session,
  { kind, period, n }: Pick<CommissionCheck, 'kind' | 'period' | 'n'>,
): Promise<CommissionCheck | null> {
  const [row] = await query<CheckRow>(session, {
    name: 'find_commission_check',
    text: 'select * from commission_check where kind = $1 and period = $2 and n = $3',
    values: [kind, period, n],
  });
  return row === undefined ? null : toCheck(row);
}

/** The latest dry runs and replays of a period, newest first. */
export async function listCommissionChecks(
  session: Session,
  period: string,
  limit: number,
): Promise<CommissionCheck[]> {
  const rows = await query<CheckRow>(session, {
    name: 'list_commission_checks',
    text: `select * from commission_check where period = $1 order by requested_at desc, kind, n desc limit $2`,
    values: [period, limit],
  });
  return rows.map(toCheck);
}

/** A part of a stored file; null after the last one. */
export async function readCommissionPart(
  session: Session,
  { period, dryRun }: CommissionFile,
  part: number,
): Promise<Buffer | null> {
  const [row] = await query<{ content: Buffer }>(session, {
    name: 'read_commission_part',
    text: 'select content from commission_file_part where period = $1 and dry_run = $2 and part = $3',
    values: [period, dryRun, part],
  });
  return row?.content ?? null;
}
