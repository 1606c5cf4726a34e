/**
 * What the interface asks of the workflows of rewards. Rows and stored events are the truth, so what cannot be reached now is
 * not lost: the sweep delivers events again, and every process can begin from its row.
 */
import { WithStartWorkflowOperation } from '@temporalio/client';
import { formatId } from '../../domain/ids.ts';
import type { Bounty } from '../../db/rewards/bounties.ts';
import {
  bountyWorkflowId,
  linkUpdate,
  pokeSignal,
  rewardEventSignal,
  rewardRunOf,
  SEARCH_ATTRIBUTES,
  WORKFLOW_TYPES,
  type BountyInput,
  type BountyStatus,
  type LinkStatus,
  type RewardInput,
  type RewardRoute,
} from '../../contract/index.ts';
import type { ManagementDeps } from '../http/deps.ts';
import { answeringIn } from './temporal.ts';

/** Somebody looks at a browser that waits for the end of the link. */
const LINK_TIMEOUT_MS = 12_000;
/** A webhook is answered as soon as its event is stored; the poke only saves it the wait for the sweep. */
const POKE_TIMEOUT_MS = 3000;

type Deps = Pick<ManagementDeps, 'temporal'>;

/** Tells the process that a stored event belongs to that there is news; starts it where there is none. */
export async function pokeForReward({ temporal }: Deps, route: RewardRoute): Promise<void> {
  const { workflowType, workflowId, input, summary } = rewardRunOf(route);
  const { event } = route;
  if (event === null) return;
  const client = temporal.processes;
  await answeringIn(client, POKE_TIMEOUT_MS, undefined, () =>
    client.workflow.signalWithStart(workflowType, {
      workflowId,
      taskQueue: temporal.namespaces.processes,
      args: [input],
      signal: rewardEventSignal,
      signalArgs: [event],
      staticSummary: summary,
    }),
  );
}

type LinkWorkflow = (input: RewardInput) => Promise<LinkStatus>;

/** Has a proven attempt linked, and waits for what came of it. A repeat of the same attempt is the same one. */
export async function linkDiscordUser(
  { temporal }: Deps,
  { discordUserId, attemptId }: { readonly discordUserId: string; readonly attemptId: string },
): Promise<LinkStatus> {
  const { workflowId, summary } = rewardRunOf({ process: 'link', discordUserId });
  const client = temporal.processes;
  const message = 'Linking takes longer than usual. Look at your rewards in a minute.';
  return answeringIn(client, LINK_TIMEOUT_MS, message, () =>
    client.workflow.executeUpdateWithStart(linkUpdate, {
      args: [{ attemptId }],
      updateId: attemptId,
      startWorkflowOperation: new WithStartWorkflowOperation<LinkWorkflow>(WORKFLOW_TYPES.discordLink, {
        workflowId,
        taskQueue: temporal.namespaces.processes,
        args: [{ discordUserId }],
        staticSummary: summary,
        workflowIdConflictPolicy: 'USE_EXISTING',
      }),
    }),
  );
}

type BountyWorkflow = (input: BountyInput) => Promise<BountyStatus>;

/** Tells a report's run that its row has changed; starts it where there is none. */
export async function tellBounty({ temporal }: Deps, bounty: Bounty): Promise<void> {
  const client = temporal.processes;
  const bountyId = formatId('bounty', bounty.id);
  await answeringIn(client, POKE_TIMEOUT_MS, undefined, () =>
    client.workflow.signalWithStart<BountyWorkflow, [{ readonly eventId: string | null }]>(WORKFLOW_TYPES.bugBounty, {
      workflowId: bountyWorkflowId(bountyId),
      taskQueue: temporal.namespaces.processes,
      args: [{ bountyId }],
      signal: pokeSignal,
      signalArgs: [{ eventId: null }],
      typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.accountId, value: formatId('account', bounty.accountId) }],
      staticSummary: `bug report ${bountyId}`,
    }),
  );
}
