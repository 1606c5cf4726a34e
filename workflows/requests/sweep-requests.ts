/**
 * Sees to it that no request stays behind: what finished and was not settled is handed to meter runs, holds whose
 * gateway is gone or that are past their time are released at once, and orphans get a resolver that looks for evidence.
 * Runs by schedule, one at a time; a run that cannot finish its share leaves the rest to the next.
 *
 * A released hold is not found again, so its resolver must be certain by then: both leave in one workflow task, after
 * the history has recorded what was found. A run that ends before has released nothing, and the next one finds it all.
 */
import { ParentClosePolicy, proxyActivities, setCurrentDetails, startChild, workflowInfo } from '@temporalio/workflow';
import type { OrphanedHold, SweepActivities } from '../../activities/requests/sweep.ts';
import { orphanWorkflowId, sweepMeterWorkflowId, type SweepInput, type SweepResult } from '../../contract/index.ts';
import { meterRequests } from './meter-requests.ts';
import { resolveOrphan } from './resolve-orphan.ts';
import { startUnlessRunning } from '../kit/start-unless-running.ts';

const { findWork, releaseOrphans } = proxyActivities<SweepActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '5s' },
});

export async function sweepRequests(input: SweepInput): Promise<SweepResult> {
  const { runId, taskQueue } = workflowInfo();
  const { unsettled, orphans } = await findWork(input);

  const cut = orphans.filter((orphan) => !orphan.clientLeft).map((orphan) => orphan.requestId);
  const release = cut.length > 0 ? [releaseOrphans({ requestIds: cut })] : [];
  await Promise.all([...orphans.map(startResolver), ...release]);

  const toSettle = [...cut, ...unsettled];
  for (let n = 0; n * input.rowsPerMeter < toSettle.length; n++) {
    const requestIds = toSettle.slice(n * input.rowsPerMeter, (n + 1) * input.rowsPerMeter);
    await startUnlessRunning(() =>
      startChild(meterRequests, {
        workflowId: sweepMeterWorkflowId(runId, n),
        taskQueue,
        args: [{ requestIds }],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        staticSummary: `${requestIds.length} requests found by the sweep`,
      }),
    );
  }
  const result = { settledLate: unsettled.length, released: cut.length, resolving: orphans.length };
  setCurrentDetails(
    `Late settlements ${result.settledLate}, holds released ${result.released}, orphans ${result.resolving}.`,
  );
  return result;

  function startResolver(orphan: OrphanedHold): Promise<boolean> {
    return startUnlessRunning(() =>
      startChild(resolveOrphan, {
        workflowId: orphanWorkflowId(orphan.requestId),
        taskQueue,
        args: [{ ...orphan, evidenceSeconds: input.evidenceSeconds }],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        staticSummary: orphan.clientLeft
          ? `${orphan.requestId}: client had left, what was produced is billed`
          : `${orphan.requestId}: released, looking for platform cost`,
      }),
    );
  }
}
