/** Cases: what waits for a person, with its evidence. At most one open case per kind and subject. */
import type pg from 'pg';
import { uuidOf, type RequestUuid, type Uuid } from '../../domain/ids.ts';
import { type Session, query } from '../shared/client.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';

export interface Case {
  readonly id: Uuid<'case'>;
  readonly kind: string;
  readonly subject: string;
  readonly evidence: Readonly<Record<string, unknown>>;
  readonly openedAt: Date;
  readonly closedAt: Date | null;
  readonly closedBy: string | null;
  readonly resolution: string | null;
}

interface CaseRow {
  id: string;
  kind: string;
  subject: string;
  evidence: Record<string, unknown>;
  opened_at: Date;
  closed_at: Date | null;
  closed_by: string | null;
  resolution: string | null;
}

function toCase(row: CaseRow): Case {
  return {
    id: uuidOf('case', row.id),
    kind: row.kind,
    subject: row.subject,
    evidence: row.evidence,
    openedAt: row.opened_at,
    closedAt: row.closed_at,
    closedBy: row.closed_by,
    resolution: row.resolution,
  };
}

/** Opens a case; does nothing while one of the same kind and subject is open. */
export async function openCase(
  pool: pg.Pool,
  opened: { kind: string; subject: string; evidence: Record<string, unknown> },
): Promise<void> {
  await query(pool, {
    name: 'open_case',
    text: 'select open_case($1, $2, $3)',
    values: [opened.kind, opened.subject, JSON.stringify(opened.evidence)],
  });
}

/** Cases, newest first; `open` null lists both kinds. */
export async function listCases(session: Session, open: boolean | null, page: PageRequest): Promise<Page<Case>> {
  const rows = await query<CaseRow>(session, {
    name: 'list_cases',
    text: `select * from review_case
      where ($1::boolean is null or (closed_at is null) = $1) and ($2::uuid is null or id < $2) order by id desc limit $3`,
    values: [open, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toCase), page.limit, (row) => row.id);
}

/** Null when there is no such case. */
export async function findCase(session: Session, id: Uuid<'case'>): Promise<Case | null> {
  const [row] = await query<CaseRow>(session, {
    name: 'find_case',
    text: 'select * from review_case where id = $1',
    values: [id],
  });
  return row === undefined ? null : toCase(row);
}

/** Closes an open case with what was found or done. Null when it is unknown or closed already. */
export async function closeCase(
  session: Session,
  closed: { id: Uuid<'case'>; by: string; resolution: string },
): Promise<Case | null> {
  const [row] = await query<CaseRow>(session, {
    name: 'close_case',
    text: `update review_case set closed_at = now(), closed_by = $2, resolution = $3
      where id = $1 and closed_at is null returning *`,
    values: [closed.id, closed.by, closed.resolution],
  });
  return row === undefined ? null : toCase(row);
}

/**
 * Sends a request that could not be settled back to settlement: the sweep takes it up again. False when it is unknown,
 * settled, or was not set aside.
 */
export async function retrySettlement(session: Session, requestId: RequestUuid): Promise<boolean> {
  const rows = await query(session, {
    name: 'retry_settlement',
    text: `update request set settle_error = null
      where id = $1 and state = 'finished' and settle_error is not null returning id`,
    values: [requestId],
  });
  return rows.length === 1;
}
