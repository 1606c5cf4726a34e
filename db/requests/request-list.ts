/**
 * Requests of all accounts for staff, newest first, with what went wrong at their providers. There is no index on what
 * they are filtered by, which every request would pay for: a page looks at a bounded number of requests in the order of
 * their ids and may end with few rows, or none, and a place to go on from. Reads only.
 */
import { uuidOf, type AccountUuid } from '../../domain/ids.ts';
import type { Outcome } from '../../domain/requests/request.ts';
import type { UpstreamEvidence, UpstreamKind } from '../../domain/requests/upstream-evidence.ts';
import { createdBetween, logColumns, toLogRow, type LogColumns, type LogRow } from './logs.ts';
import type { Page, PageRequest } from '../shared/page.ts';
import type { Reporter, ReporterSession } from '../shared/reporter.ts';

export interface ListedRequest extends LogRow {
  readonly accountId: AccountUuid;
  readonly upstream: UpstreamEvidence | null;
}

/** Which requests; null filters nothing. */
export interface RequestFilter {
  readonly accountId: AccountUuid | null;
  readonly model: string | null;
  readonly outcome: Outcome | null;
  readonly upstreamKind: UpstreamKind | null;
  readonly upstreamStatus: number | null;
  /** Inclusive. */
  readonly from: Date | null;
  /** Exclusive. */
  readonly to: Date | null;
}

/** Rows that one page looks at: some tens of milliseconds for the database. */
export const SCANNED_MAX = 20_000;

export interface EvidenceColumns {
  upstream_name: string | null;
  upstream_kind: UpstreamKind | null;
  upstream_status: number | null;
  upstream_code: string | null;
  upstream_message: string | null;
}

/** The columns of the evidence, from `request r`. */
export function evidenceColumns(reporter: ReporterSession) {
  return reporter`r.upstream_name, r.upstream_kind, r.upstream_status, r.upstream_code, r.upstream_message`;
}

export function toEvidence(row: EvidenceColumns): UpstreamEvidence | null {
  if (row.upstream_name === null || row.upstream_kind === null) return null;
  return {
    name: row.upstream_name,
    kind: row.upstream_kind,
    status: row.upstream_status,
    code: row.upstream_code,
    message: row.upstream_message,
  };
}

/**
 * A page of requests. `next` is set as long as there may be more: the last row's id where the page is full, else that
 * of the last one looked at.
 */
export async function listRequests(
  reporter: Reporter,
  filter: RequestFilter,
  page: PageRequest,
  scannedMax: number = SCANNED_MAX,
): Promise<Page<ListedRequest>> {
  const { accountId, model, outcome, upstreamKind, upstreamStatus, from, to } = filter;
  const [found] = await reporter<{ ids: string[] | null; last_scanned: string | null; scanned: number }[]>`
    with scanned as materialized (
      select r.id, r.model_id, r.outcome, r.upstream_kind, r.upstream_status
      from request r
      where true
        ${accountId === null ? reporter`` : reporter`and r.account_id = ${accountId}`}
        ${createdBetween(reporter, from, to)}
        ${page.after === null ? reporter`` : reporter`and r.id < ${page.after}`}
      order by r.id desc limit ${scannedMax}
    ), matching as (
      select s.id from scanned s
      where true
        ${model === null ? reporter`` : reporter`and s.model_id = ${model}`}
        ${outcome === null ? reporter`` : reporter`and s.outcome = ${outcome}`}
        ${upstreamKind === null ? reporter`` : reporter`and s.upstream_kind = ${upstreamKind}`}
        ${upstreamStatus === null ? reporter`` : reporter`and s.upstream_status = ${upstreamStatus}`}
      order by s.id desc limit ${page.limit + 1}
    )
    select (select json_agg(id order by id desc) from matching) as ids, (select count(*)::int from scanned) as scanned,
      (select id from scanned order by id limit 1) as last_scanned`;
  const ids = found?.ids ?? [];
  const shown = ids.slice(0, page.limit);
  const isFull = ids.length > page.limit;
  const isCutShort = found !== undefined && found.scanned === scannedMax;
  const next = isFull ? shown.at(-1)! : isCutShort ? found.last_scanned : null;
  if (shown.length === 0) return { rows: [], next };
  const rows = await reporter<(LogColumns & EvidenceColumns & { account_id: string })[]>`
    select ${logColumns(reporter)}, ${evidenceColumns(reporter)}, r.account_id
    from request r join api_key k on k.id = r.key_id
    where r.id in ${reporter(shown)} order by r.id desc`;
  return {
    rows: rows.map((row) => ({
      ...toLogRow(row),
      accountId: uuidOf('account', row.account_id),
      upstream: toEvidence(row),
    })),
    next,
  };
}
