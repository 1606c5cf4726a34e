/**
 * What the interface asks of the workflows of top-ups. A poke starts the run where there is none; the row is the truth, so
 * what cannot be reached now is not lost: the sweep starts every open order that has no run.
 */
import { WithStartWorkflowOperation, WorkflowUpdateFailedError, type WorkflowStartOptions } from '@temporalio/client';
import type { UpdateDefinition } from '@temporalio/common';
import { Refusal } from '../../domain/errors.ts';
import { formatId } from '../../domain/ids.ts';
import { formatUsdShort } from '../../domain/money.ts';
import { summaryOfTopUp } from '../../domain/payments/top-up.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import {
  checkoutUpdate,
  pokeSignal,
  recheckUpdate,
  reversalWorkflowId,
  SEARCH_ATTRIBUTES,
  topUpWorkflowId,
  WORKFLOW_TYPES,
  type ReversalInput,
  type Signature,
  type TopUpInput,
  type TopUpSnapshot,
} from '../../contract/index.ts';
import type { ManagementDeps } from '../http/deps.ts';
import { answeringIn } from './temporal.ts';

/** A customer waits for the checkout's address; it comes by `GET /api/top-ups/{id}` where this is too short. */
const CHECKOUT_TIMEOUT_MS = 8000;
const OPERATOR_TIMEOUT_MS = 15_000;
/** A webhook is answered as soon as its event is stored; the poke only saves it the wait for the sweep. */
const POKE_TIMEOUT_MS = 3000;

type Deps = Pick<ManagementDeps, 'temporal' | 'settings'>;
type TopUpWorkflow = (input: TopUpInput) => Promise<TopUpSnapshot | null>;
type ReversalWorkflow = (input: ReversalInput) => Promise<TopUpSnapshot>;

function startOf({ temporal, settings }: Deps, order: TopUp): WorkflowStartOptions<TopUpWorkflow> {
  const topUpId = formatId('topUp', order.id);
  return {
    workflowId: topUpWorkflowId(topUpId),
    taskQueue: temporal.namespaces.processes,
    args: [{ topUpId, ...settings.payments.topUpRun }],
    typedSearchAttributes: [
      { key: SEARCH_ATTRIBUTES.accountId, value: formatId('account', order.accountId) },
      { key: SEARCH_ATTRIBUTES.provider, value: order.provider },
    ],
    staticSummary: summaryOfTopUp(order),
  };
}

/** Runs an update of an order's workflow, which is started for it where it has ended or never began. */
async function update(
  deps: Deps,
  order: TopUp,
  definition: UpdateDefinition<TopUpSnapshot | null, [Signature]>,
  { by, timeoutMs }: { readonly by: string; readonly timeoutMs: number },
): Promise<TopUpSnapshot | null> {
  const client = deps.temporal.processes;
  const startWorkflowOperation = new WithStartWorkflowOperation<TopUpWorkflow>(WORKFLOW_TYPES.topUp, {
    ...startOf(deps, order),
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  try {
    return await answeringIn(client, timeoutMs, undefined, () =>
      client.workflow.executeUpdateWithStart(definition, { args: [{ by }], startWorkflowOperation }),
    );
  } catch (error) {
    if (error instanceof WorkflowUpdateFailedError) {
      throw new Refusal('conflict', { message: error.cause?.message ?? error.message });
    }
    throw error;
  }
}

/** Waits until the checkout can be opened; null when that takes too long: the order goes on by itself. */
export async function openCheckout(deps: Deps, order: TopUp): Promise<TopUpSnapshot | null> {
  try {
    return await update(deps, order, checkoutUpdate, { by: 'the customer', timeoutMs: CHECKOUT_TIMEOUT_MS });
  } catch (error) {
    if (error instanceof Refusal && error.code === 'temporal_unavailable') return null;
    throw error;
  }
}

export const recheckTopUp = (deps: Deps, order: TopUp, by: string): Promise<TopUpSnapshot | null> =>
  update(deps, order, recheckUpdate, { by, timeoutMs: OPERATOR_TIMEOUT_MS });

/** Has an order's run look at it again, without waiting for what comes of it. */
export async function lookAgain(deps: Deps, order: TopUp): Promise<void> {
  await pokeForEvent(deps, order, { eventId: null, reversalId: null });
}

/** Tells the process that a stored event is about that there is news. */
export async function pokeForEvent(
  deps: Deps,
  order: TopUp,
  { eventId, reversalId }: { eventId: string | null; reversalId: string | null },
): Promise<void> {
  const client = deps.temporal.processes;
  const start = startOf(deps, order);
  const topUpId = formatId('topUp', order.id);
  const poke = { signal: pokeSignal, signalArgs: [{ eventId }] as [{ eventId: string | null }] };
  await answeringIn(client, POKE_TIMEOUT_MS, undefined, async () => {
    if (reversalId === null) {
      await client.workflow.signalWithStart<TopUpWorkflow, [{ eventId: string | null }]>(WORKFLOW_TYPES.topUp, {
        ...start,
        ...poke,
      });
      return;
    }
    await client.workflow.signalWithStart<ReversalWorkflow, [{ eventId: string | null }]>(WORKFLOW_TYPES.reverseTopUp, {
      ...start,
      ...poke,
      workflowId: reversalWorkflowId(order.provider, reversalId),
      args: [{ topUpId, provider: order.provider, objectId: reversalId, ...deps.settings.payments.topUpRun }],
      staticSummary: `${reversalId} of ${topUpId}, ${formatUsdShort(order.amount)} USD`,
    });
  });
}
