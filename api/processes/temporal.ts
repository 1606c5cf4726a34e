/**
 * What the management interface asks of Temporal: wake a run whose row has changed, read the status of workflows.
 * Every call has a deadline; when the server does not answer in it, the caller gets `temporal_unavailable`, never a
 * hanging request.
 */
import {
  NamespaceNotFoundError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowNotFoundError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type Client,
} from '@temporalio/client';
import type { Refund } from '../../db/requests/refunds.ts';
import { Refusal } from '../../domain/errors.ts';
import { formatId } from '../../domain/ids.ts';
import { formatUsd } from '../../domain/money.ts';
import { isTemporalUnreachable } from '../../runtime/temporal.ts';
import {
  refundStart,
  wakeBy,
  WORKFLOW_TYPES,
  type RefundInput,
  type RefundStatus,
  type WakeReason,
} from '../../contract/index.ts';
import type { ManagementTemporal } from '../http/deps.ts';

/** Long enough for a server under load, short enough that a person does not give up first. */
const CALL_TIMEOUT_MS = 4000;
/** Everything that is woken also polls, so nobody waits longer for it; a webhook is answered before. */
export const WAKE_TIMEOUT_MS = 3000;
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

/**
 * Wakes a refund's run, whose row was written or decided; starts it where there is none. The money does not wait for
 * the run: where Temporal cannot be reached, the run finds the decision by polling.
 */
export async function wakeRefund({ processes: client, namespaces }: ManagementTemporal, refund: Refund): Promise<void> {
  const start = {
    requestId: formatId('request', refund.requestId),
    n: refund.n,
    accountId: formatId('account', refund.accountId),
    amountUsd: formatUsd(refund.amount),
  };
  await answeringIn(client, WAKE_TIMEOUT_MS, undefined, async () => {
    try {
      await client.workflow.signalWithStart<RefundWorkflow, [WakeReason]>(WORKFLOW_TYPES.refundRequest, {
        ...refundStart(start, namespaces.processes),
        ...wakeBy(null),
      });
    } catch (error) {
      // Its story is over: it has told how the refund ended.
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
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
