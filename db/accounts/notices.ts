/** Notices to customers, written in the transaction that marks them as told. */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { type Session, query, queryOne } from '../shared/client.ts';

export interface Notice {
  readonly id: Uuid<'notice'>;
  readonly kind: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly createdAt: Date;
  readonly readAt: Date | null;
}

interface NoticeRow {
  id: string;
  kind: string;
  details: Record<string, unknown>;
  created_at: Date;
  read_at: Date | null;
}

function toNotice(row: NoticeRow): Notice {
  return {
    id: uuidOf('notice', row.id),
    kind: row.kind,
    details: row.details,
    createdAt: row.created_at,
    readAt: row.read_at,
  };
}

/**
 * Writes the low-balance notice unless it was written before or the balance has recovered; says whether it was written.
 */
export async function noticeLowBalance(pool: pg.Pool, accountId: AccountUuid): Promise<boolean> {
  const row = await queryOne<{ written: boolean }>(pool, {
    name: 'notice_low_balance',
    text: 'select notice_low_balance($1) as written',
    values: [accountId],
  });
  return row.written;
}

/** Tells a customer of something that staff did with their account; in the transaction that does it. */
export async function tellAccount(
  session: Session,
  accountId: AccountUuid,
  notice: Pick<Notice, 'kind' | 'details'>,
): Promise<void> {
  await query(session, {
    name: 'tell_account',
    text: 'select tell_account($1, $2, $3)',
    values: [accountId, notice.kind, JSON.stringify(notice.details)],
  });
}

/** The newest unread notices of an account, at most `limit`. */
export async function listUnreadNotices(session: Session, accountId: AccountUuid, limit: number): Promise<Notice[]> {
  const rows = await query<NoticeRow>(session, {
    name: 'list_unread_notices',
    text: `select id, kind, details, created_at, read_at from notice
      where account_id = $1 and read_at is null order by id desc limit $2`,
    values: [accountId, limit],
  });
  return rows.map(toNotice);
}

/** Marks a notice as read; a repeat keeps the first moment. Null when the account has no such notice. */
export async function markNoticeRead(
  session: Session,
  which: { id: Uuid<'notice'>; accountId: AccountUuid },
): Promise<Notice | null> {
  const [row] = await query<NoticeRow>(session, {
    name: 'mark_notice_read',
    text: `update notice set read_at = coalesce(read_at, now()) where id = $1 and account_id = $2
      returning id, kind, details, created_at, read_at`,
    values: [which.id, which.accountId],
  });
  return row === undefined ? null : toNotice(row);
}
