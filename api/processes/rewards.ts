/**
 * What the interface asks of the workflows of rewards. Rows and stored events are the truth, so what cannot be
 * reached now is not lost: the sweep delivers events again, and every process can begin from its row.
 */
import { WithStartWorkflowOperation } from '@temporalio/client';
import { formatId } from '../../domain/ids.ts';
import type { Bounty } from '../../db/rewards/bounties.ts';
import {
  bountyStart,
  linkUpdate,
  rewardEventSignal,
  rewardStart,
  wakeBy,
  WORKFLOW_TYPES,
  type BountyInput,
  type BountyStatus,
  type EventRef,
  type LinkStatus,
  type RewardRoute,
  type WakeReason,
} from '../../contract/index.ts';
import type { ManagementDeps } from '../http/deps.ts';
import { answeringIn, WAKE_TIMEOUT_MS } from './temporal.ts';

/** A person looks at a browser that waits for the end of the link. */
const LINK_TIMEOUT_MS = 12_000;

type Deps = Pick<ManagementDeps, 'temporal'>;

/** Signals a stored event to the process that it belongs to; starts the process where it does not run. */
export async function wakeForReward({ temporal }: Deps, route: RewardRoute): Promise<void> {
  const { event } = route;
  if (event === null) return;
  const { processes: client, namespaces } = temporal;
  const { workflowType, start } = rewardStart(route, namespaces.processes);
  const signal = { signal: rewardEventSignal, signalArgs: [event] as [EventRef] };
  await answeringIn(client, WAKE_TIMEOUT_MS, undefined, () =>
    client.workflow.signalWithStart(workflowType, { ...start, ...signal }),
  );
}

/** Links a proven attempt and waits for the outcome. A repeat of the same attempt is the same one. */
export async function linkDiscordUser(
  { temporal }: Deps,
  { discordUserId, attemptId }: { readonly discordUserId: string; readonly attemptId: string },
): Promise<LinkStatus> {
  const { processes: client, namespaces } = temporal;
  const { workflowType, start } = rewardStart({ process: 'link', discordUserId }, namespaces.processes);
  const message = 'Linking takes longer than usual. Look at your rewards in a minute.';
  return answeringIn(client, LINK_TIMEOUT_MS, message, () =>
    client.workflow.executeUpdateWithStart(linkUpdate, {
      args: [{ attemptId }],
      updateId: attemptId,
      startWorkflowOperation: new WithStartWorkflowOperation(workflowType, {
        ...start,
        workflowIdConflictPolicy: 'USE_EXISTING',
      }),
    }),
  );
}

type BountyWorkflow = (input: BountyInput) => Promise<BountyStatus>;

/** Wakes a report's run, whose row has changed; starts it where there is none. */
export async function wakeBounty({ temporal }: Deps, bounty: Bounty): Promise<void> {
  const { processes: client, namespaces } = temporal;
  const start = { bountyId: formatId('bounty', bounty.id), accountId: formatId('account', bounty.accountId) };
  await answeringIn(client, WAKE_TIMEOUT_MS, undefined, () =>
    client.workflow.signalWithStart<BountyWorkflow, [WakeReason]>(WORKFLOW_TYPES.bugBounty, {
      ...bountyStart(start, namespaces.processes),
      ...wakeBy(null),
    }),
  );
}
