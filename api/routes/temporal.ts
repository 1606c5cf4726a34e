/**
 * What the management interface asks of Temporal: start a refund, pass a decision on, look at workflows. Every call has
 * a deadline; when the server does not answer in it, the caller gets `temporal_unavailable`, never a hanging request.
 */
import {
  NamespaceNotFoundError,
  WithStartWorkflowOperation,
  WorkflowExecutionAlreadyStartedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type Client,
  type WorkflowStartOptions,
} from '@temporalio/client';
import type { Refund } from '../../db/refunds.ts';
import { Refusal } from '../../domain/errors.ts';
import { formatId } from '../../domain/ids.ts';
import { formatUsd } from '../../domain/money.ts';
import { isTemporalUnreachable } from '../../runtime/temporal.ts';
import {
  decideRefundUpdate,
  refundWorkflowId,
  SEARCH_ATTRIBUTES,
  WORKFLOW_TYPES,
  type RefundDecision,
  type RefundInput,
  type RefundStatus,
} from '../../workflows/contract.ts';
import type { ManagementTemporal } from './deps.ts';

/** Long enough for a server under load, short enough that a person does not give up first. */
const CALL_TIMEOUT_MS = 4000;
/** An update waits for a worker to take it. */
const UPDATE_TIMEOUT_MS = 8000;
/** Status is a courtesy on a page that has the ledger's answer already. */
const DESCRIBE_TIMEOUT_MS = 1000;

/** Refuses `temporal_unavailable` unless the server knows the namespace now: asked before anything is written. */
export async function requireTemporal(client: Client): Promise<void> {
  const { namespace } = client.options;
  await answeringIn(client, CALL_TIMEOUT_MS, undefined, () => client.workflowService.describeNamespace({ namespace }));
}

/** Runs calls of a client under a deadline; no answer in time, or no server, is `temporal_unavailable`. */
export async function answeringIn<T>(
  client: Client,
  timeoutMs: number,
  message: string | undefined,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await client.withDeadline(Date.now() + timeoutMs, work);
  } catch (error) {
    const isAway =
      error instanceof WorkflowUpdateRPCTimeoutOrCancelledError ||
      // No worker has registered it yet.
      error instanceof NamespaceNotFoundError ||
      isTemporalUnreachable(error);
    if (isAway) {
      throw new Refusal('temporal_unavailable', message === undefined ? {} : { message });
    }
    throw error;
  }
}

type RefundWorkflow = (input: RefundInput) => Promise<RefundStatus>;

function refundStart(
  { namespaces }: ManagementTemporal,
  refund: Refund,
  needsApproval: boolean,
): WorkflowStartOptions<RefundWorkflow> {
  const requestId = formatId('request', refund.requestId);
  const amountUsd = formatUsd(refund.amount);
  return {
    workflowId: refundWorkflowId(requestId, refund.n),
    taskQueue: namespaces.processes,
    workflowIdReusePolicy: 'REJECT_DUPLICATE',
    args: [
      { requestId, n: refund.n, amountUsd, reason: refund.reason, requestedBy: refund.requestedBy, needsApproval },
    ],
    typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.accountId, value: formatId('account', refund.accountId) }],
    staticSummary: `refund ${amountUsd} USD of ${requestId}`,
  };
}

/** Starts a refund's workflow; one that was started before is the same one. */
export async function startRefund(temporal: ManagementTemporal, refund: Refund, needsApproval: boolean): Promise<void> {
  const client = temporal.processes;
  const message =
    `Refund ${refund.n} is recorded and waits, but its workflow could not be started. ` +
    'Repeat the call with its Idempotency-Key, or approve or reject the refund.';
  await answeringIn(client, CALL_TIMEOUT_MS, message, async () => {
    try {
      await client.workflow.start<RefundWorkflow>(
        WORKFLOW_TYPES.refundRequest,
        refundStart(temporal, refund, needsApproval),
      );
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  });
}

/**
 * Passes a decision to a refund's workflow and waits for what came of it. A workflow that was never started, because
 * Temporal went away between row and start, is started with it. Null when the workflow has ended: its row says how.
 */
export async function sendRefundDecision(
  temporal: ManagementTemporal,
  refund: Refund,
  { needsApproval, ...decision }: RefundDecision & { needsApproval: boolean },
): Promise<RefundStatus | null> {
  const client = temporal.processes;
  const message = 'The decision could not be confirmed. Repeat it: a refund is decided once.';
  return answeringIn(client, UPDATE_TIMEOUT_MS, message, async () => {
    try {
      return await client.workflow.executeUpdateWithStart(decideRefundUpdate, {
        args: [decision],
        startWorkflowOperation: new WithStartWorkflowOperation<RefundWorkflow>(WORKFLOW_TYPES.refundRequest, {
          ...refundStart(temporal, refund, needsApproval),
          workflowIdConflictPolicy: 'USE_EXISTING',
        }),
      });
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError || error instanceof WorkflowNotFoundError) return null;
      if (error instanceof WorkflowUpdateFailedError) {
        throw new Refusal('conflict', { message: error.cause?.message ?? error.message });
      }
      throw error;
    }
  });
}

export const WORKFLOW_STATUSES = [
  'running',
  'completed',
  'failed',
  'cancelled',
  'terminated',
  'continued_as_new',
  'timed_out',
  'paused',
  /** Its history is gone: retention is over. */
  'not_found',
  /** Temporal did not answer. */
  'unknown',
] as const;
export type WorkflowLiveStatus = (typeof WORKFLOW_STATUSES)[number];

/** A workflow's status as Temporal tells it now. Never fails: without an answer it is `unknown`. */
export async function liveStatus(client: Client, workflowId: string): Promise<WorkflowLiveStatus> {
  try {
    const { status } = await client.withDeadline(Date.now() + DESCRIBE_TIMEOUT_MS, () =>
      client.workflow.getHandle(workflowId).describe(),
    );
    const name = status.name.toLowerCase();
    return WORKFLOW_STATUSES.find((known) => known === name) ?? 'unknown';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'not_found';
    if (error instanceof NamespaceNotFoundError || isTemporalUnreachable(error)) return 'unknown';
    throw error;
  }
}

/** The workflow's page in the Temporal web UI; null where there is no UI. */
export function workflowUrl(uiUrl: string | null, namespace: string, workflowId: string): string | null {
  if (uiUrl === null) return null;
  const base = uiUrl.replace(/\/+$/, '');
  return `${base}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}`;
}
