/**
 * Refunds of single requests. The row is written first and is the money's key, the workflow second: it posts at once or
 * waits for a second person. Every step can be repeated; what a step could not reach is 503 and changes nothing more.
 */
import { z } from 'zod';
import { recordAction } from '../../../db/operator-actions.ts';
import { isSamePerson } from '../../../db/access-tokens.ts';
import { findRefund, requestNextRefund, type Refund } from '../../../db/refunds.ts';
import { inTransaction } from '../../../db/client.ts';
import { Refusal } from '../../../domain/errors.ts';
import { formatId, parseId } from '../../../domain/ids.ts';
import { formatUsd, type PicoUsd } from '../../../domain/money.ts';
import { refundWorkflowId } from '../../../workflows/contract.ts';
import type { ManagementDeps } from '../deps.ts';
import { amount, id, idText, reason, renderTime, timeText, usdText } from '../fields.ts';
import { accepted, ok, staffRoute, type JsonReply, type Route, type StaffCall } from '../route.ts';
import { requireTemporal, sendRefundDecision, startRefund } from '../temporal.ts';
import { recordWriteOnce } from '../writes.ts';

export const refundView = z.object({
  id: idText('refund'),
  request_id: idText('request'),
  n: z.number(),
  account_id: idText('account'),
  amount_usd: usdText(),
  reason: z.string(),
  state: z.enum(['waiting', 'posted', 'rejected']),
  requested_by: z.string(),
  requested_at: timeText(),
  decided_by: z.string().nullable(),
  decided_at: timeText().nullable(),
  posting_id: idText('posting').nullable(),
  workflow_id: z.string(),
});
type RefundView = z.output<typeof refundView>;

export function renderRefund(refund: Refund): RefundView {
  const requestId = formatId('request', refund.requestId);
  return {
    id: formatId('refund', refund.id),
    request_id: requestId,
    n: refund.n,
    account_id: formatId('account', refund.accountId),
    amount_usd: formatUsd(refund.amount),
    reason: refund.reason,
    state: refund.state,
    requested_by: refund.requestedBy,
    requested_at: refund.requestedAt.toISOString(),
    decided_by: refund.decidedBy,
    decided_at: renderTime(refund.decidedAt),
    posting_id: refund.postingId === null ? null : formatId('posting', refund.postingId),
    workflow_id: refundWorkflowId(requestId, refund.n),
  };
}

const newRefundView = refundView.extend({
  needs_approval: z.boolean().meta({ description: 'False: it is being posted. True: a second person must approve.' }),
});
type NewRefundView = z.output<typeof newRefundView>;

const requestParams = z.strictObject({ id: id('request') });
const refundParams = z.strictObject({
  id: id('request'),
  n: z
    .string()
    .regex(/^[1-9]\d{0,8}$/, 'must be the number of a refund')
    .transform(Number),
});

export function refundRoutes({ management, temporal, settings }: ManagementDeps): Route[] {
  const { refundApprovalThreshold: threshold } = settings;

  const decide = async (call: StaffCall<z.output<typeof refundParams>, unknown, unknown>, approve: boolean) => {
    const which = { requestId: call.params.id, n: call.params.n };
    const refund = await findRefund(management, which);
    if (refund === null) throw new Refusal('not_found');
    if (refund.state !== 'waiting') return ok(asDecided(refund, approve));
    const { needsApproval } = refund;
    // The posting asks again; asked here as well, so that what cannot be is neither recorded nor sent.
    if (approve && needsApproval && (await isSamePerson(management, refund.requestedBy, call.actor))) {
      throw new Refusal('forbidden', { message: 'A second person must approve; who asked may only reject.' });
    }
    await requireTemporal(temporal.processes);
    const action = approve ? 'refund.approve' : 'refund.reject';
    const subject = formatId('refund', refund.id);
    const details = {
      request_id: formatId('request', refund.requestId),
      n: refund.n,
      amount_usd: formatUsd(refund.amount),
    };
    // The order is on record before it is sent: the workflow's own transaction then records what came of it.
    await inTransaction(management, (client) => recordAction(client, { actor: call.actor, action, subject, details }));
    // A workflow that has to be started for a rejection must wait for it, also where it would have posted by itself.
    const needsApprovalAtStart = needsApproval || !approve;
    await sendRefundDecision(temporal, refund, { approve, decidedBy: call.actor, needsApproval: needsApprovalAtStart });
    const decided = await findRefund(management, which);
    if (decided === null) throw new Refusal('not_found');
    call.log.info({ action, subject, ...details, state: decided.state }, 'operator action');
    return ok(asDecided(decided, approve));
  };

  return [
    staffRoute({
      method: 'post',
      path: '/admin/requests/{id}/refund',
      summary: 'Give a charge back, in part or whole; above the threshold it waits for a second person',
      statuses: [202],
      movesMoney: true,
      roles: ['operator', 'support', 'finance'],
      params: requestParams,
      body: z.strictObject({
        amount_usd: amount()
          .refine((value) => value > 0n, 'must be above zero')
          .optional()
          .meta({ description: 'Default: all that is left of the charge.' }),
        reason: reason(),
      }),
      response: newRefundView,
      async handle(call) {
        await requireTemporal(temporal.processes);
        const reply = await recordWriteOnce<NewRefundView>(management, call, async (client) => {
          const refund = await requestNextRefund(client, {
            requestId: call.params.id,
            amount: call.body.amount_usd ?? null,
            reason: call.body.reason,
            requestedBy: call.actor,
            approvalAbove: threshold,
          });
          if (refund.needsApproval && call.role === 'support') throw aboveSupport(threshold);
          const view = { ...renderRefund(refund), needs_approval: refund.needsApproval };
          const { id: subject, request_id, n, amount_usd } = view;
          const details = { request_id, n, amount_usd, reason: view.reason, needs_approval: refund.needsApproval };
          return { result: accepted(view), action: { action: 'refund.request', subject, details } };
        });
        await startWorkflowOf(reply);
        return reply;
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/requests/{id}/refunds/{n}/approve',
      summary: 'Approve a waiting refund as a second person',
      roles: ['operator', 'finance'],
      params: refundParams,
      response: refundView,
      handle: (call) => decide(call, true),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/requests/{id}/refunds/{n}/reject',
      summary: 'Reject a waiting refund',
      roles: ['operator', 'finance'],
      params: refundParams,
      response: refundView,
      handle: (call) => decide(call, false),
    }),
  ];

  /** Starts the workflow of a refund that was asked for now or, by a repeat, before; a stored refusal has none. */
  async function startWorkflowOf({ status, body }: JsonReply<NewRefundView>): Promise<void> {
    if (status !== 202) return;
    const requestId = parseId('request', body.request_id);
    const refund = requestId === null ? null : await findRefund(management, { requestId, n: body.n });
    if (refund?.state === 'waiting') await startRefund(temporal, refund, body.needs_approval);
  }
}

function aboveSupport(threshold: PicoUsd): Refusal {
  return new Refusal('forbidden', {
    param: 'amount_usd',
    message: `Support may refund up to ${formatUsd(threshold)} USD of a request.`,
  });
}

/** A decided refund as the answer to whoever wanted it so; another decision came first otherwise. */
function asDecided(refund: Refund, approve: boolean): RefundView {
  if (refund.state !== (approve ? 'posted' : 'rejected')) {
    throw new Refusal('conflict', { message: `The refund is ${refund.state}.` });
  }
  return renderRefund(refund);
}
