/** Daily upkeep by schedule: time partitions made ahead, so that no request ever meets a missing one. */
import { proxyActivities } from '@temporalio/workflow';
import type { MaintenanceActivities } from '../../activities/requests/maintenance.ts';

const { ensurePartitions } = proxyActivities<MaintenanceActivities>({
  startToCloseTimeout: '1m',
  retry: { initialInterval: '5s', maximumInterval: '10m' },
});

export async function maintainLedger(): Promise<{ partitionsMade: number }> {
  return { partitionsMade: await ensurePartitions() };
}
