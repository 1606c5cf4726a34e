/**
 * One bug report from its receipt to its end: triage, severity, a second person where the amount or the budget asks for one,
 * payment, or a closing with a reason. The row is the state; this run is the wait and its story.
 */
import { ApplicationFailure } from '@temporalio/common';
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import type { RewardActivities } from '../activities/rewards.ts';
import { isOpenBounty, refusalOfStep, type BountyStep } from '../domain/bounty.ts';
import {
  BOUNTY_UPDATES,
  bountyStatusQuery,
  SEARCH_ATTRIBUTES,
  type BountyInput,
  type BountyStatus,
} from './contract.ts';

const { readBounty, takeBountyStep } = proxyActivities<RewardActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

/** A report may wait for weeks, and code that a run began with stays in use as long as it runs. */
const RUN_SECONDS = 86_400;

export async function bugBounty(input: BountyInput): Promise<BountyStatus> {
  const { bountyId, runSeconds = RUN_SECONDS } = input;
  let status: BountyStatus | null = null;

  const take = async (step: BountyStep): Promise<BountyStatus> => {
    await condition(() => status !== null);
    const refusal = refusalOfStep(status!.state, step);
    if (refusal !== null) throw ApplicationFailure.nonRetryable(refusal, 'conflict');
    show(await takeBountyStep({ bountyId, step, at: new Date().toISOString() }));
    return status!;
  };
  const validator = (step: BountyStep): void => {
    const refusal = status === null ? null : refusalOfStep(status.state, step);
    if (refusal !== null) throw ApplicationFailure.nonRetryable(refusal, 'conflict');
  };
  setHandler(bountyStatusQuery, () => status);
  for (const update of Object.values(BOUNTY_UPDATES)) setHandler(update, take, { validator });

  const read = await readBounty(bountyId);
  show(read);
  const isOver = await condition(() => !isOpenBounty(status!.state), runSeconds * 1000);
  await condition(allHandlersFinished);
  if (!isOver && isOpenBounty(status!.state)) await continueAsNew<typeof bugBounty>(input);
  return status!;

  function show(now: BountyStatus): void {
    status = now;
    setCurrentDetails(detailsOf(now));
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.stuck, value: now.state === 'accepted' ? 'approval' : null },
      { key: SEARCH_ATTRIBUTES.accountId, value: now.accountId },
    ]);
  }
}

function detailsOf({ title, state, severity, amountUsd, reason, severityBy, decidedBy }: BountyStatus): string {
  const worth = `${severity ?? '?'}, ${amountUsd ?? '?'} USD`;
  switch (state) {
    case 'submitted':
      return `**${title}**: waits for triage.`;
    case 'triaged':
      return `**${title}**: waits for a severity (\`accept\`), \`duplicate\` or \`reject\`.`;
    case 'accepted':
      return `**${title}**: ${worth}, set by ${severityBy ?? '?'}; waits for a second person to \`approve\` or \`reject\`.`;
    case 'rewarded':
      return `**${title}**: ${worth}, paid; decided by ${decidedBy ?? '?'}.`;
    case 'duplicate':
    case 'rejected':
      return `**${title}**: ${state} by ${decidedBy ?? '?'}: ${reason ?? ''}`;
  }
}
