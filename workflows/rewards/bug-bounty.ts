/**
 * The story of one bug report, from its receipt to its end: says what it waits for, and ends when it is paid or
 * closed. It decides nothing: every step is taken by the interface, for a person who is authenticated, in the row.
 */
import { continueAsNew, proxyActivities } from '@temporalio/workflow';
import type { RewardActivities } from '../../activities/rewards/rewards.ts';
import { isOpenBounty } from '../../domain/rewards/bounty.ts';
import {
  BOUNTY_UPDATES,
  bountyStatusQuery,
  checkBountyUpdate,
  type BountyInput,
  type BountyStatus,
} from '../../contract/index.ts';
import { followRow } from '../kit/follow-row.ts';
import { showStatus } from '../kit/status.ts';
import { refuseDecision } from '../kit/refuse-decision.ts';

const { readBounty } = proxyActivities<RewardActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

export async function bugBounty(input: BountyInput): Promise<BountyStatus> {
  const { bountyId } = input;
  for (const [step, update] of Object.entries(BOUNTY_UPDATES)) {
    refuseDecision(update, () => `POST /admin/bounties/${bountyId}/${step === 'accept' ? 'severity' : step}`);
  }
  return followRow<BountyStatus>(input, {
    statusQuery: bountyStatusQuery,
    checkUpdate: checkBountyUpdate,
    read: () => readBounty(bountyId),
    show: (status) =>
      showStatus(detailsOf(status), {
        stuck: status.state === 'accepted' ? 'approval' : null,
        accountId: status.accountId,
      }),
    isOpen: ({ state }) => isOpenBounty(state),
    continueAsNew: () => continueAsNew<typeof bugBounty>(input),
  });
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
