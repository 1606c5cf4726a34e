/**
 * Charges or gives back finished requests: one local activity, one transaction. At a normal load a run carries one
 * request (`meter/<request id>`), under pressure up to 256. Everything it needs is in PostgreSQL; a second run over the
 * same ids settles nothing twice and only completes what the first left: workflow ids and follow-ups.
 */
import { proxyLocalActivities, workflowInfo } from '@temporalio/workflow';
import type { SettlementActivities } from '../../activities/requests/settlement.ts';
import type { MeterInput, MeterResult } from '../../contract/index.ts';
import { startFollowUps } from './follow-ups.ts';

const { settleRequests } = proxyLocalActivities<SettlementActivities>({
  // The statement itself ends after 2 s; the rest is for halving a batch around a row that cannot be settled.
  startToCloseTimeout: '5s',
  retry: { initialInterval: '200ms', maximumInterval: '10s' },
});

export async function meterRequests({ requestIds }: MeterInput): Promise<MeterResult> {
  const { workflowId } = workflowInfo();
  const { settled, settleErrors, ...followUps } = await settleRequests({ requestIds, workflowId });
  await startFollowUps(followUps);
  return { settled, settleErrors };
}
