/** Notices to customers. They are rows that the account page shows; each is written once per occasion. */
import type pg from 'pg';
import type { Logger } from 'pino';
import { parseId } from '../../domain/ids.ts';
import { assert } from '../../domain/assert.ts';
import { noticeLowBalance } from '../../db/accounts/notices.ts';

export interface NoticeActivities {
  /** Says whether the notice was written now. */
  writeLowBalanceNotice(accountId: string): Promise<boolean>;
}

export function createNoticeActivities({ pool, logger }: { pool: pg.Pool; logger: Logger }): NoticeActivities {
  return {
    async writeLowBalanceNotice(accountId) {
      const id = parseId('account', accountId);
      assert(id !== null, `"${accountId}" is an account id`);
      const written = await noticeLowBalance(pool, id);
      if (written) logger.info({ account_id: accountId }, 'low-balance notice written');
      return written;
    },
  };
}
