/**
 * Refunds of single requests. A refund within the limits is posted at once, else it waits for a second person;
 * request, decision and posting are this interface's own transactions. The refund's run is told and tells its story;
 * the money does not wait for it.
 */
import { z } from 'zod';
import {
  decideRefund,
  findRefund,
  requestNextRefund,
  sumRefunds,
  type Refund,
} from '../../../../db/requests/refunds.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import { formatUsd, type PicoUsd } from '../../../../domain/money.ts';
import { refundWorkflowId } from '../../../../contract/index.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { amount, id, idText, reason, renderTime, timeText, usdText } from '../../../http/fields.ts';
import { accepted, staffRoute, type Route, type StaffCall } from '../../../http/route.ts';
import { wakeRefund } from '../../../processes/temporal.ts';
import { recordWriteOnce } from '../../../http/writes.ts';
import { approvalPair } from '../approval-pair.ts';

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
  needs_approval: z.boolean().meta({ description: 'False: the refund is posted. True: a second person must approve.' }),
});

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

  const wakeRun = async (call: Pick<StaffCall<unknown, unknown, unknown>, 'log'>, refund: Refund): Promise<void> => {
    await wakeRefund(temporal, refund).catch((error: unknown) => {
      call.log.warn({ refund_id: formatId('refund', refund.id), error: String(error) }, 'the run was not woken');
    });
  };

  return [
    staffRoute({
      method: 'post',
      path: '/admin/requests/{id}/refund',
      summary: 'Refund a charge, in part or in full; above the threshold it waits for a second person',
      statuses: [202],
      movesMoney: true,
      roles: ['operator', 'support', 'finance'],
      params: requestParams,
      body: z.strictObject({
        amount_usd: amount()
          .refine((value) => value > 0n, 'must be above zero')
          .optional()
          .meta({ description: 'Default: the rest of the charge.' }),
        reason: reason(),
      }),
      response: newRefundView,
      async handle(call) {
        const { reply, made } = await recordWriteOnce(management, call, async (client) => {
          const refund = await requestNextRefund(client, {
            requestId: call.params.id,
            amount: call.body.amount_usd ?? null,
            reason: call.body.reason,
            requestedBy: call.actor,
            limits: { ...settings.manualLimits, movement: threshold },
          });
          if (call.role === 'support' && (await sumRefunds(client, refund.requestId)) > threshold) {
            throw aboveSupport(threshold);
          }
          const view = { ...renderRefund(refund), needs_approval: refund.needsApproval };
          const { id: subject, request_id, n, amount_usd } = view;
          const details = { request_id, n, amount_usd, reason: view.reason, needs_approval: refund.needsApproval };
          return { reply: accepted(view), made: refund, action: { action: 'refund.request', subject, details } };
        });
        if (reply.status !== 202) return reply;
        // Also for a repeat: the first call may have ended before the run was started.
        const refund = made ?? (await findRefund(management, { requestId: call.params.id, n: reply.body.n }));
        if (refund !== null) await wakeRun(call, refund);
        return reply;
      },
    }),
    ...approvalPair(management, {
      path: '/admin/requests/{id}/refunds/{n}',
      params: refundParams,
      response: refundView,
      approve: {
        segment: 'approve',
        summary: 'Approve a waiting refund as second person',
        action: 'refund.approve',
        state: 'posted',
      },
      reject: { segment: 'reject', summary: 'Reject a waiting refund', action: 'refund.reject', state: 'rejected' },
      conflict: (state) => `The refund is ${state}.`,
      decide: (client, { params, actor }, { approve }) =>
        decideRefund(client, { requestId: params.id, n: params.n, approve, decidedBy: actor }),
      record(refund) {
        const { id: subject, request_id, n, amount_usd } = renderRefund(refund);
        return { subject, details: { request_id, n, amount_usd } };
      },
      async render(refund, call) {
        await wakeRun(call, refund);
        return renderRefund(refund);
      },
    }),
  ];
}

function aboveSupport(threshold: PicoUsd): Refusal {
  return new Refusal('forbidden', {
    param: 'amount_usd',
    message: `Support may refund up to ${formatUsd(threshold)} USD of a request.`,
  });
}
