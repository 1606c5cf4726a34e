/**
 * Pays the commissions of a period: takes what has matured, posts it in chunks, writes the result file. Where it stands is
 * in the run's row, so a run can begin again from any point, and ends with the same file wherever it was stopped. A step
 * that keeps failing is shown as stuck and tried again by itself.
 */
import {
  allHandlersFinished,
  ApplicationFailure,
  condition,
  continueAsNew,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { CommissionActivities } from '../../activities/commissions/commissions.ts';
import {
  commissionStatusQuery,
  retryCommissionUpdate,
  SEARCH_ATTRIBUTES,
  type CommissionProgress,
  type CommissionRunInput,
  type CommissionRunStatus,
  type Signature,
} from '../../contract/index.ts';
import { signedBy } from '../kit/signature.ts';

const { beginCommissionRun, postCommissions, writeCommissionFile } = proxyActivities<CommissionActivities>({
  startToCloseTimeout: '10m',
  heartbeatTimeout: '8s',
  // What has failed so often is not a hiccup: then the run says so, and goes on trying.
  retry: { initialInterval: '500ms', maximumInterval: '10s', maximumAttempts: 5 },
});

/** A step that fails for days must not fill the history with its own story. */
const STEPS_MAX = 200;

export async function commissionRun(input: CommissionRunInput): Promise<CommissionProgress> {
  const { period, rowsPerChunk, retrySeconds } = input;
  let progress: CommissionProgress | null = null;
  let failure: string | null = null;
  let isWanted = false;
  const steps: { at: string; what: string }[] = [];

  const note = (what: string): void => void steps.push({ at: now(), what });

  setHandler(commissionStatusQuery, () => ({ progress, failure, steps }));
  setHandler<CommissionRunStatus, [Signature], typeof retryCommissionUpdate>(
    retryCommissionUpdate,
    async (signature) => {
      note(`retried${signedBy(signature)}`);
      isWanted = true;
      await condition(() => !isWanted);
      return { progress, failure, steps };
    },
    {
      validator: () => {
        if (failure === null) throw ApplicationFailure.nonRetryable('nothing to retry: no step fails', 'not_stuck');
      },
    },
  );

  const begun = await take(() => beginCommissionRun({ period, at: now() }));
  note(`${begun.accruals} accruals, ${begun.posted} of them posted`);
  while (stateOf(progress) === 'posting') {
    await take(() => postCommissions({ period, limit: rowsPerChunk }));
    if (workflowInfo().continueAsNewSuggested && stateOf(progress) === 'posting') {
      await condition(allHandlersFinished);
      await continueAsNew<typeof commissionRun>(input);
    }
  }
  const done = await take(() => writeCommissionFile({ period, at: now() }));
  note('posted, file written');
  await condition(allHandlersFinished);
  return done;

  /** Takes a step until it succeeds. What is refused is not tried again: it ends the run. */
  async function take(step: () => Promise<CommissionProgress>): Promise<CommissionProgress> {
    for (;;) {
      try {
        progress = await step();
        failure = null;
        show();
        isWanted = false;
        return progress;
      } catch (error) {
        const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
        if (cause instanceof ApplicationFailure && cause.nonRetryable === true) throw error;
        failure = cause instanceof Error ? cause.message : String(cause);
        if (steps.length < STEPS_MAX) note(`failed: ${failure}`);
        show();
        isWanted = false;
        await condition(() => isWanted, retrySeconds * 1000);
      }
    }
  }

  function show(): void {
    setCurrentDetails(detailsOf(period, progress, failure));
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.stuck, value: failure === null ? null : 'commission_step_failing' },
    ]);
  }
}

/** Behind a function, so that the compiler does not take an assignment it cannot see for impossible. */
function stateOf(progress: CommissionProgress | null): CommissionProgress['state'] | null {
  return progress?.state ?? null;
}

function now(): string {
  return new Date().toISOString();
}

function detailsOf(period: string, progress: CommissionProgress | null, failure: string | null): string {
  const how =
    progress === null
      ? `Commissions of ${period}: nothing taken yet.`
      : `Commissions of ${period}: ${progress.posted} of ${progress.accruals} posted, together ${progress.totalUsd} USD.` +
        (progress.csvSha256 === null ? '' : ` File SHA-256 \`${progress.csvSha256}\`.`);
  if (failure === null) return how;
  return `${how}\n\n**Stuck: a step fails** (${failure}). It is tried again by itself; \`retryNow\` tries at once.`;
}
