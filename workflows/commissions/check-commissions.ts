/** A dry run or a replay of a period's commissions: computes, keeps what it found, changes nothing else. */
import { proxyActivities, setCurrentDetails, setHandler } from '@temporalio/workflow';
import type { CommissionActivities } from '../../activities/commissions/commissions.ts';
import { commissionCheckQuery, type CommissionCheckInput, type CommissionCheckResult } from '../../contract/index.ts';

const { dryRunCommissions, replayCommissions } = proxyActivities<CommissionActivities>({
  startToCloseTimeout: '10m',
  heartbeatTimeout: '8s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

export async function checkCommissions(input: CommissionCheckInput): Promise<CommissionCheckResult> {
  const { kind, period, n } = input;
  let result: CommissionCheckResult | null = null;
  setHandler(commissionCheckQuery, () => result);
  const at = new Date().toISOString();
  result = await (kind === 'dry_run' ? dryRunCommissions({ period, n, at }) : replayCommissions({ period, n, at }));
  setCurrentDetails(detailsOf(result));
  return result;
}

function detailsOf({ period, accruals, totalUsd, identical, differences }: CommissionCheckResult): string {
  const list = `${accruals} accruals, together ${totalUsd} USD`;
  if (identical === null) return `A run of ${period} would take ${list} now.`;
  if (identical) return `Replay of ${period}: identical. ${list}.`;
  return `**Replay of ${period}: not identical.**\n\n${differences.map((difference) => `- ${difference}`).join('\n')}`;
}
