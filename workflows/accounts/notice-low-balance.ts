/**
 * Tells a customer once that the balance has fallen below their threshold. The notice and its mark are one
 * transaction; the mark is taken away when a credit lifts the balance above the threshold again.
 */
import { proxyActivities, setCurrentDetails } from '@temporalio/workflow';
import type { NoticeActivities } from '../../activities/accounts/notices.ts';
import type { LowBalanceInput } from '../../contract/index.ts';

const { writeLowBalanceNotice } = proxyActivities<NoticeActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '1s', maximumInterval: '1m' },
});

export async function noticeLowBalance({ accountId }: LowBalanceInput): Promise<{ written: boolean }> {
  const written = await writeLowBalanceNotice(accountId);
  setCurrentDetails(
    written ? 'The notice is on the account.' : 'Nothing to do: the balance recovered or the notice was there.',
  );
  return { written };
}
