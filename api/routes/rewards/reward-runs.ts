/**
 * What the interface asks of the workflows of rewards. Rows and stored events are the truth, so what cannot be reached now is
 * not lost: the sweep delivers events again, and every process can begin from its row.
 */
import { WithStartWorkflowOperation, WorkflowUpdateFailedError, type WorkflowStartOptions } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { BountyStep } from '../../../domain/bounty.ts';
import { Refusal } from '../../../domain/errors.ts';
import { formatId } from '../../../domain/ids.ts';
import type { Bounty } from '../../../db/bounties.ts';
import {
  BOUNTY_UPDATES,
  bountyWorkflowId,
  linkUpdate,
  rewardEventSignal,
  rewardRunOf,
  SEARCH_ATTRIBUTES,
  WORKFLOW_TYPES,
  type BountyInput,
  type BountyStatus,
  type LinkRequest,
  type LinkStatus,
  type RewardInput,
  type RewardRoute,
} from '../../../workflows/contract.ts';
import type { ManagementDeps } from '../deps.ts';
import { answeringIn } from '../temporal.ts';

/** Somebody looks at a browser that waits for the end of the link. */
const LINK_TIMEOUT_MS = 12_000;
const OPERATOR_TIMEOUT_MS = 15_000;
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

/** Links a Discord user, and waits for what came of it. `attemptId` names the attempt: a repeat is the same one. */
export async function linkDiscordUser(
  { temporal }: Deps,
  { discordUserId, attemptId, ...request }: LinkRequest & { discordUserId: string; attemptId: string },
): Promise<LinkStatus> {
  const { workflowId, summary } = rewardRunOf({ process: 'link', discordUserId });
  const client = temporal.processes;
  const message = 'Linking takes longer than usual. Look at your rewards in a minute.';
  return answeringIn(client, LINK_TIMEOUT_MS, message, () =>
    client.workflow.executeUpdateWithStart(linkUpdate, {
      args: [request],
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

function bountyStart(
  { temporal }: Deps,
  bounty: Bounty,
): WorkflowStartOptions<BountyWorkflow> & { readonly workflowIdConflictPolicy: 'USE_EXISTING' } {
  const bountyId = formatId('bounty', bounty.id);
  return {
    workflowId: bountyWorkflowId(bountyId),
    taskQueue: temporal.namespaces.processes,
    args: [{ bountyId }],
    typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.accountId, value: formatId('account', bounty.accountId) }],
    staticSummary: `bug report ${bountyId}`,
    workflowIdConflictPolicy: 'USE_EXISTING',
  };
}

/** Starts the process of a report; one that is running is the same one. */
export async function startBounty(deps: Deps, bounty: Bounty): Promise<void> {
  const client = deps.temporal.processes;
  await answeringIn(client, POKE_TIMEOUT_MS, undefined, () =>
    client.workflow.start<BountyWorkflow>(WORKFLOW_TYPES.bugBounty, bountyStart(deps, bounty)),
  );
}

/** Takes a step with a report and waits for what came of it. */
export async function stepBounty(
  deps: Deps,
  bounty: Bounty,
  { step, actionId }: { step: BountyStep; actionId: string },
): Promise<BountyStatus> {
  const client = deps.temporal.processes;
  const message = 'The step could not be confirmed. Repeat it: each is taken once.';
  try {
    return await answeringIn(client, OPERATOR_TIMEOUT_MS, message, () =>
      client.workflow.executeUpdateWithStart(BOUNTY_UPDATES[step.kind], {
        args: [step],
        updateId: actionId,
        startWorkflowOperation: new WithStartWorkflowOperation<BountyWorkflow>(
          WORKFLOW_TYPES.bugBounty,
          bountyStart(deps, bounty),
        ),
      }),
    );
  } catch (error) {
    if (error instanceof WorkflowUpdateFailedError) throw refusalOfUpdate(error);
    throw error;
  }
}

function refusalOfUpdate(error: WorkflowUpdateFailedError): Refusal {
  let cause: unknown = error.cause;
  while (cause instanceof Error) {
    if (cause instanceof ApplicationFailure && cause.type === 'second_person_needed') {
      return new Refusal('forbidden', { message: 'A second person must approve.' });
    }
    if (!(cause.cause instanceof Error)) return new Refusal('conflict', { message: cause.message });
    cause = cause.cause;
  }
  return new Refusal('conflict', { message: error.message });
}
