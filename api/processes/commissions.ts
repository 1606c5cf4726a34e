/** What the interface asks of the workflows of commissions. A run that is under way is not started twice. */
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { Refusal } from '../../domain/errors.ts';
import {
  commissionCheckStart,
  commissionRunStart,
  WORKFLOW_TYPES,
  type CommissionCheckInput,
  type CommissionCheckResult,
  type CommissionProgress,
  type CommissionRunInput,
} from '../../contract/index.ts';
import type { ManagementDeps } from '../http/deps.ts';
import { answeringIn } from './temporal.ts';

const START_TIMEOUT_MS = 4000;
/** A check of a few thousand accruals is done within it; for more its caller reads the result later. */
const CHECK_RESULT_TIMEOUT_MS = 6000;
/** As many as one transaction posts in well under a second. */
export const ROWS_PER_CHUNK = 500;
export const RETRY_SECONDS = 60;

type Deps = Pick<ManagementDeps, 'temporal'>;
type RunWorkflow = (input: CommissionRunInput) => Promise<CommissionProgress>;
type CheckWorkflow = (input: CommissionCheckInput) => Promise<CommissionCheckResult>;

export async function startCommissionRun({ temporal }: Deps, period: string): Promise<void> {
  const client = temporal.processes;
  await answeringIn(client, START_TIMEOUT_MS, undefined, () =>
    client.workflow.start<RunWorkflow>(WORKFLOW_TYPES.commissionRun, {
      ...commissionRunStart(
        { period, rowsPerChunk: ROWS_PER_CHUNK, retrySeconds: RETRY_SECONDS },
        temporal.namespaces.processes,
      ),
      workflowIdConflictPolicy: 'USE_EXISTING',
    }),
  );
}

/** Starts a dry run or a replay and waits a while for what it finds; what takes longer is in its row later. */
export async function startCommissionCheck({ temporal }: Deps, check: CommissionCheckInput): Promise<void> {
  const client = temporal.processes;
  const start = commissionCheckStart(check, temporal.namespaces.processes);
  const handle = await answeringIn(client, START_TIMEOUT_MS, undefined, async () => {
    try {
      return await client.workflow.start<CheckWorkflow>(WORKFLOW_TYPES.checkCommissions, start);
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) return client.workflow.getHandle(start.workflowId);
      throw error;
    }
  });
  try {
    await answeringIn(client, CHECK_RESULT_TIMEOUT_MS, undefined, () => handle.result());
  } catch (error) {
    if (!(error instanceof Refusal && error.code === 'temporal_unavailable')) throw error;
  }
}
