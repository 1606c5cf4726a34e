/**
 * Money moved by hand, with a reason. Above the threshold, or beyond what one person may move in a day or a month, an
 * adjustment waits for the approval of somebody else than its requester.
 */
import { z } from 'zod';
import { findAccount } from '../../../../db/accounts/accounts.ts';
import {
  decideAdjustment,
  findAdjustment,
  listAdjustments,
  requestAdjustment,
  type Adjustment,
} from '../../../../db/accounts/adjustments.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, uuidOf } from '../../../../domain/ids.ts';
import { formatUsd, PICO_PER_USD } from '../../../../domain/money.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import {
  id,
  idText,
  listOf,
  pageById,
  pageOfQuery,
  reason,
  renderPage,
  renderTime,
  signedAmount,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { accepted, created, ok, staffRoute, type Route } from '../../../http/route.ts';
import { recordWriteOnce } from '../../../http/writes.ts';
import { approvalPair } from '../approval-pair.ts';

/** Upper bound against typing errors; it also keeps every balance far inside the range of SQL. */
const ADJUSTMENT_MAX_USD = 1_000_000_000n;

const adjustmentView = z.object({
  id: idText('adjustment'),
  account_id: idText('account'),
  amount_usd: usdText().meta({ description: 'Positive credits the customer.' }),
  reason: z.string(),
  state: z.enum(['waiting', 'posted', 'rejected']),
  requested_by: z.string(),
  requested_at: timeText(),
  decided_by: z.string().nullable(),
  decided_at: timeText().nullable(),
  posting_id: idText('posting').nullable(),
});

function renderAdjustment(adjustment: Adjustment): z.output<typeof adjustmentView> {
  return {
    id: formatId('adjustment', adjustment.id),
    account_id: formatId('account', adjustment.accountId),
    amount_usd: formatUsd(adjustment.amount),
    reason: adjustment.reason,
    state: adjustment.state,
    requested_by: adjustment.requestedBy,
    requested_at: adjustment.requestedAt.toISOString(),
    decided_by: adjustment.decidedBy,
    decided_at: renderTime(adjustment.decidedAt),
    posting_id: adjustment.postingId === null ? null : formatId('posting', adjustment.postingId),
  };
}

const adjustmentAmount = () =>
  signedAmount()
    .refine((value) => value !== 0n, 'must not be zero')
    .refine((value) => value <= ADJUSTMENT_MAX_USD * PICO_PER_USD && value >= -ADJUSTMENT_MAX_USD * PICO_PER_USD, {
      error: `must lie between -${ADJUSTMENT_MAX_USD} and ${ADJUSTMENT_MAX_USD}`,
    })
    .meta({ description: 'Positive credits the customer, negative debits.' });

const accountParams = z.strictObject({ id: id('account') });
const adjustmentParams = z.strictObject({ id: id('adjustment') });

export function adjustmentRoutes({ management, settings }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'post',
      path: '/admin/accounts/{id}/adjustments',
      summary: 'Credit or debit a customer; above the threshold it waits for a second person',
      statuses: [201, 202],
      movesMoney: true,
      roles: ['operator', 'finance'],
      params: accountParams,
      body: z.strictObject({ amount_usd: adjustmentAmount(), reason: reason() }),
      response: adjustmentView,
      async handle(call) {
        const { reply } = await recordWriteOnce(management, call, async (client, subject) => {
          const adjustment = await requestAdjustment(client, {
            id: uuidOf('adjustment', subject),
            accountId: call.params.id,
            amount: call.body.amount_usd,
            reason: call.body.reason,
            requestedBy: call.actor,
            limits: { ...settings.manualLimits, movement: settings.adjustmentApprovalThreshold },
          });
          const view = renderAdjustment(adjustment);
          const action = {
            action: 'adjustment.request',
            subject: view.id,
            details: {
              account_id: view.account_id,
              amount_usd: view.amount_usd,
              reason: view.reason,
              state: view.state,
            },
          };
          return { reply: view.state === 'waiting' ? accepted(view) : created(view), made: adjustment, action };
        });
        return reply;
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/accounts/{id}/adjustments',
      summary: 'List adjustments of an account, newest first',
      roles: READERS_AND_SUPPORT,
      params: accountParams,
      query: z.strictObject(pageById),
      response: listOf(adjustmentView),
      async handle({ params, query }) {
        if ((await findAccount(management, params.id)) === null) throw new Refusal('not_found');
        return ok(renderPage(await listAdjustments(management, params.id, pageOfQuery(query)), renderAdjustment));
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/adjustments/{id}',
      summary: 'Get an adjustment',
      roles: READERS_AND_SUPPORT,
      params: adjustmentParams,
      response: adjustmentView,
      async handle({ params }) {
        const adjustment = await findAdjustment(management, params.id);
        if (adjustment === null) throw new Refusal('not_found');
        return ok(renderAdjustment(adjustment));
      },
    }),
    ...approvalPair(management, {
      path: '/admin/adjustments/{id}',
      params: adjustmentParams,
      response: adjustmentView,
      approve: {
        segment: 'approve',
        summary: 'Approve a waiting adjustment as second person',
        action: 'adjustment.approve',
        state: 'posted',
      },
      reject: {
        segment: 'reject',
        summary: 'Reject a waiting adjustment',
        action: 'adjustment.reject',
        state: 'rejected',
      },
      conflict: (state) => `The adjustment is ${state} already.`,
      decide: (client, { params, actor }, { approve }) =>
        decideAdjustment(client, { id: params.id, approve, decidedBy: actor }),
      record: ({ id: adjustmentId, accountId, amount }) => ({
        subject: formatId('adjustment', adjustmentId),
        details: { account_id: formatId('account', accountId), amount_usd: formatUsd(amount) },
      }),
      render: (adjustment) => renderAdjustment(adjustment),
    }),
  ];
}
