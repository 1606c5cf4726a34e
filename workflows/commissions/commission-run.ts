/**
 * Pays the commissions of a period: takes what has matured, posts it in chunks, writes the result file. Each check is
 * the next step, from where the run's row stands, so a run can begin again at any point and ends with the same file
 * wherever it was stopped. A step that keeps failing is shown as stuck and retried.
 */
import { ApplicationFailure, continueAsNew, proxyActivities, setHandler } from '@temporalio/workflow';
import type { CommissionActivities } from '../../activities/commissions/commissions.ts';
import { assert } from '../../domain/assert.ts';
import {
  commissionStatusQuery,
  retryCommissionUpdate,
  type CommissionProgress,
  type CommissionRunInput,
  type CommissionRunStatus,
  type Signature,
} from '../../contract/index.ts';
import { causeOf, rootCause } from '../kit/cause.ts';
import { CheckLoop, type NextCheck } from '../kit/check-loop.ts';
import { showStatus, stuckText } from '../kit/status.ts';
import { signedBy } from '../kit/signature.ts';

const { beginCommissionRun, postCommissions, writeCommissionFile } = proxyActivities<CommissionActivities>({
  startToCloseTimeout: '10m',
  heartbeatTimeout: '8s',
  // A step that has failed so often is shown as stuck; the next check retries it.
  retry: { initialInterval: '500ms', maximumInterval: '10s', maximumAttempts: 5 },
});

/** What this run has found. */
interface Found {
  /** Null until the run has taken its accruals. */
  readonly progress: CommissionProgress | null;
  /** Why the last step failed; null where it did not. */
  readonly failure: string | null;
}

export async function commissionRun(input: CommissionRunInput): Promise<CommissionProgress> {
  const { period, rowsPerChunk, retrySeconds } = input;
  const loop = new CheckLoop({ pollSeconds: retrySeconds });
  const { steps } = loop;
  let found: Found = { progress: null, failure: null };
  const status = (): CommissionRunStatus => ({ ...found, steps: steps.list });

  setHandler(commissionStatusQuery, status);
  setHandler<CommissionRunStatus, [Signature], typeof retryCommissionUpdate>(
    retryCommissionUpdate,
    async (signature) => {
      steps.note(`retried${signedBy(signature)}`);
      await loop.checkNow();
      return status();
    },
    {
      validator: () => {
        if (found.failure !== null) return;
        throw ApplicationFailure.nonRetryable('nothing to retry: no step fails', 'not_stuck');
      },
    },
  );

  await loop.run({
    check,
    failed(error) {
      const cause = rootCause(error);
      // A refusal does not pass: it ends the run.
      if (cause instanceof ApplicationFailure && cause.nonRetryable === true) throw error;
      found = { ...found, failure: causeOf(error) };
      steps.note(`failed: ${causeOf(error)}`);
      show();
    },
    continueAsNew: () => continueAsNew<typeof commissionRun>(input),
  });
  const { progress } = found;
  assert(progress !== null, 'a run ends with a step');
  return progress;

  async function check(): Promise<NextCheck> {
    const before = found.progress;
    const progress = await takeStep(before);
    found = { progress, failure: null };
    if (before === null) steps.note(`${progress.accruals} accruals, ${progress.posted} of them posted`);
    if (progress.state === 'done') steps.noteOnce('posted, file written');
    show();
    if (progress.state === 'done') return 'done';
    loop.wake();
    return 'poll';
  }

  async function takeStep(before: CommissionProgress | null): Promise<CommissionProgress> {
    const at = new Date().toISOString();
    switch (before?.state) {
      case undefined:
        return beginCommissionRun({ period, at });
      case 'posting':
        return postCommissions({ period, limit: rowsPerChunk });
      case 'posted':
        return writeCommissionFile({ period, at });
      case 'done':
        return before;
    }
  }

  function show(): void {
    const { failure } = found;
    showStatus(detailsOf(period, found), { stuck: failure === null ? null : 'commission_step_failing' });
  }
}

function detailsOf(period: string, { progress, failure }: Found): string {
  const done = `Commissions of ${period}: ${progressText(progress)}`;
  return failure === null ? done : `${done}\n\n${stuckText('a step fails', failure, 'retryNow')}`;
}

function progressText(progress: CommissionProgress | null): string {
  if (progress === null) return 'nothing taken yet.';
  const { posted, accruals, totalUsd, csvSha256 } = progress;
  const file = csvSha256 === null ? '' : ` File SHA-256 \`${csvSha256}\`.`;
  return `${posted} of ${accruals} posted, together ${totalUsd} USD.${file}`;
}
