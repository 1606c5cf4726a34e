/**
 * What the interface asks of the workflows of top-ups. A signal starts the run where there is none; the row is the
 * truth, so what cannot be reached now is not lost: the sweep starts every open order that has no run.
 */
import { WithStartWorkflowOperation, WorkflowUpdateFailedError } from '@temporalio/client';
import type { UpdateDefinition } from '@temporalio/common';
import { Refusal } from '../../domain/errors.ts';
import { formatId } from '../../domain/ids.ts';
import { formatUsdShort } from '../../domain/money.ts';
import { summaryOfTopUp } from '../../domain/payments/top-up.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import {
  checkoutUpdate,
  checkTopUpUpdate,
  reversalStart,
  topUpStart,
  wakeBy,
  WORKFLOW_TYPES,
  type ReversalInput,
  type Signature,
  type TopUpInput,
  type TopUpSnapshot,
  type TopUpStart,
  type WakeReason,
} from '../../contract/index.ts';
import type { ManagementDeps } from '../http/deps.ts';
import { answeringIn, WAKE_TIMEOUT_MS } from './temporal.ts';

/** A customer waits for the checkout's address; it comes by `GET /api/top-ups/{id}` where this is too short. */
const CHECKOUT_TIMEOUT_MS = 8000;
const OPERATOR_TIMEOUT_MS = 15_000;

type Deps = Pick<ManagementDeps, 'temporal' | 'settings'>;
type TopUpWorkflow = (input: TopUpInput) => Promise<TopUpSnapshot | null>;
type ReversalWorkflow = (input: ReversalInput) => Promise<TopUpSnapshot>;

function startOf(order: TopUp): TopUpStart {
  return {
    topUpId: formatId('topUp', order.id),
    found: { accountId: formatId('account', order.accountId), provider: order.provider },
    summary: summaryOfTopUp(order),
  };
}

/** Runs an update of an order's workflow, which is started for it where it has ended or never began. */
async function update(
  { temporal, settings }: Deps,
  order: TopUp,
  definition: UpdateDefinition<TopUpSnapshot | null, [Signature]>,
  { by, timeoutMs }: { readonly by: string; readonly timeoutMs: number },
): Promise<TopUpSnapshot | null> {
  const client = temporal.processes;
  const startWorkflowOperation = new WithStartWorkflowOperation<TopUpWorkflow>(WORKFLOW_TYPES.topUp, {
    ...topUpStart(startOf(order), temporal.namespaces.processes, settings.payments.topUpRun),
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

/** Waits until the checkout can be opened; null when that takes too long: the order goes on without its caller. */
export async function openCheckout(deps: Deps, order: TopUp): Promise<TopUpSnapshot | null> {
  try {
    return await update(deps, order, checkoutUpdate, { by: 'the customer', timeoutMs: CHECKOUT_TIMEOUT_MS });
  } catch (error) {
    if (error instanceof Refusal && error.code === 'temporal_unavailable') return null;
    throw error;
  }
}

/** Has an order's provider checked now and waits for the result; null where the provider has not answered yet. */
export const checkTopUp = (deps: Deps, order: TopUp, by: string): Promise<TopUpSnapshot | null> =>
  update(deps, order, checkTopUpUpdate, { by, timeoutMs: OPERATOR_TIMEOUT_MS });

/** Has an order's provider checked without waiting for the result. */
export async function wakeTopUp(deps: Deps, order: TopUp): Promise<void> {
  await wakeForEvent(deps, order, { eventId: null, reversalId: null });
}

/** Wakes the process that a stored event is about; starts it where it does not run. */
export async function wakeForEvent(
  { temporal, settings }: Deps,
  order: TopUp,
  { eventId, reversalId: objectId }: { eventId: string | null; reversalId: string | null },
): Promise<void> {
  const { processes: client, namespaces } = temporal;
  const { topUpRun } = settings.payments;
  const start = startOf(order);
  await answeringIn(client, WAKE_TIMEOUT_MS, undefined, async () => {
    if (objectId === null) {
      await client.workflow.signalWithStart<TopUpWorkflow, [WakeReason]>(WORKFLOW_TYPES.topUp, {
        ...topUpStart(start, namespaces.processes, topUpRun),
        ...wakeBy(eventId),
      });
      return;
    }
    const summary = `${objectId} of ${start.topUpId}, ${formatUsdShort(order.amount)} USD`;
    const reversal = { ...start, provider: order.provider, objectId, summary };
    await client.workflow.signalWithStart<ReversalWorkflow, [WakeReason]>(WORKFLOW_TYPES.reverseTopUp, {
      ...reversalStart(reversal, namespaces.processes, topUpRun),
      ...wakeBy(eventId),
    });
  });
}
