/**
 * What is seen of an account where it pays: two accounts with one mark may be one person
 * (db/functions/commissions/marks.sql).
 */
import type pg from 'pg';
import type { AccountUuid } from '../../domain/ids.ts';
import type { PayerMark } from '../../domain/payments/top-up.ts';
import { query } from '../shared/client.ts';

/** Keeps a mark of an account; a repeat changes nothing. */
export async function noteAccountMark(
  pool: pg.Pool,
  accountId: AccountUuid,
  { kind, value }: PayerMark,
): Promise<void> {
  await query(pool, {
    name: 'note_account_mark',
    text: 'select note_account_mark($1, $2, $3)',
    values: [accountId, kind, value],
  });
}
