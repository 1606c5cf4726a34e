/**
 * The story of one bug report, from its receipt to its end: says what it waits for, and ends when it is paid or closed. It decides
 * nothing: every step is taken by the interface, for a person who is authenticated, in the row.
 */
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import type { RewardActivities } from '../../activities/rewards/rewards.ts';
import { isOpenBounty } from '../../domain/rewards/bounty.ts';
import {
  BOUNTY_UPDATES,
  bountyStatusQuery,
  pokeSignal,
  recheckBountyUpdate,
  SEARCH_ATTRIBUTES,
  type BountyInput,
  type BountyStatus,
} from '../../contract/index.ts';
import { refuseDecision } from '../kit/refuse-decision.ts';

const { readBounty } = proxyActivities<RewardActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

/** A report may wait for weeks, and code that a run began with stays in use as long as it runs. */
const RUN_SECONDS = 86_400;
/** A step tells the run. One that could not, because Temporal was away, is found by this. */
const POLL_SECONDS = 900;

export async function bugBounty(input: BountyInput): Promise<BountyStatus> {
  const { bountyId, runSeconds = RUN_SECONDS, pollSeconds = POLL_SECONDS } = input;
  const runEnds = Date.now() + runSeconds * 1000;
  let status: BountyStatus | null = null;
  /** Looks that have begun, and that have ended: they come one after the other. */
  let begun = 0;
  let ended = 0;
  let isWanted = false;

  setHandler(bountyStatusQuery, () => status);
  setHandler(pokeSignal, () => void (isWanted = true));
  setHandler(recheckBountyUpdate, async () => {
    // One that is under way may have read the row before it was decided.
    const wanted = begun + 1;
    isWanted = true;
    await condition(() => ended >= wanted);
    return status;
  });
  for (const [step, update] of Object.entries(BOUNTY_UPDATES)) {
    refuseDecision(update, () => `POST /admin/bounties/${bountyId}/${step === 'accept' ? 'severity' : step}`);
  }

  for (;;) {
    isWanted = false;
    begun++;
    status = await readBounty(bountyId);
    show(status);
    ended++;
    await condition(() => isWanted || allHandlersFinished());
    if (isWanted) continue;
    if (!isOpenBounty(status.state)) return status;
    const restMs = runEnds - Date.now();
    if (restMs <= 0) await continueAsNew<typeof bugBounty>(input);
    await condition(() => isWanted, Math.min(pollSeconds * 1000, Math.max(restMs, 1)));
  }

  function show(now: BountyStatus): void {
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
      return `**${title}**: waits for a severity, or to be closed as a duplicate or rejected.`;
    case 'accepted':
      return `**${title}**: ${worth}, set by ${severityBy ?? '?'}; waits for a second person to approve or reject it.`;
    case 'rewarded':
      return `**${title}**: ${worth}, paid; decided by ${decidedBy ?? '?'}.`;
    case 'duplicate':
    case 'rejected':
      return `**${title}**: ${state} by ${decidedBy ?? '?'}: ${reason ?? ''}`;
  }
}
