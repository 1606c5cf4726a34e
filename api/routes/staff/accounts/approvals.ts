/** Everything that waits for a second person, in one list, with the sums that a decision needs to know of. */
import { z } from 'zod';
import { listApprovals, type Approval } from '../../../../db/accounts/approvals.ts';
import { CHANGE_KINDS } from '../../../../db/accounts/changes.ts';
import type { MovedAlone } from '../../../../db/accounts/manual-limits.ts';
import { formatId, uuidOf } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import { reasonWords } from '../../../../domain/rewards/reward.ts';
import { READERS } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { idText, listOf, pageById, pageOfQuery, renderPage, timeText, usdText } from '../../../http/fields.ts';
import { renderSource } from '../../account/rewards/rewards.ts';
import { ok, staffRoute, type Route } from '../../../http/route.ts';
import { amountView, renderAmount } from '../../account/payments/top-up-view.ts';

const movedAloneView = z.object({ day_usd: usdText(), month_usd: usdText() });
const renderMoved = (moved: MovedAlone | null): z.output<typeof movedAloneView> | null =>
  moved === null ? null : { day_usd: formatUsd(moved.day), month_usd: formatUsd(moved.month) };

const askedFields = {
  reason: z.string(),
  requested_by: z.string().nullable().meta({ description: 'null: requested in Temporal; two persons must approve.' }),
  requested_at: timeText(),
  approved_by: z.array(z.string()).meta({ description: 'Persons who have approved it so far.' }),
};
const waitingFields = {
  amount_usd: usdText(),
  ...askedFields,
  requester_alone: movedAloneView.nullable().meta({
    description: 'The sum its requester has moved without a second person, in the last day and the last 30 days.',
  }),
  account_alone: movedAloneView.nullable().meta({ description: 'The part of it that went to this account.' }),
};
const approvalView = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('adjustment'),
    id: idText('adjustment'),
    account_id: idText('account'),
    ...waitingFields,
  }),
  z.object({
    kind: z.literal('refund'),
    id: idText('refund'),
    account_id: idText('account'),
    request_id: idText('request'),
    n: z.number(),
    ...waitingFields,
  }),
  z.object({
    kind: z.literal('hand_credit'),
    id: idText('manualCredit'),
    account_id: idText('account'),
    top_up_id: idText('topUp'),
    payment_id: z.string(),
    shown: amountView.nullable().meta({
      description:
        'The amount the provider showed; null: the money came outside the provider. Other currencies have no rate.',
    }),
    ...waitingFields,
  }),
  z.object({
    kind: z.literal('commission_correction'),
    id: idText('correction'),
    account_id: idText('account').meta({ description: 'The affiliate.' }),
    ...waitingFields,
  }),
  z.object({
    kind: z.literal('commission_review'),
    id: idText('review'),
    account_id: idText('account').meta({ description: 'The affiliate.' }),
    ...waitingFields,
  }),
  z.object({
    kind: z.literal('reward'),
    id: idText('reward'),
    account_id: idText('account'),
    paid_for: z.string().meta({ description: 'The kind of reward, and the event that earned it.' }),
    ...waitingFields,
  }),
  z.object({
    kind: z.literal('voucher_batch'),
    id: idText('voucherBatch'),
    name: z.string(),
    count: z.number(),
    ...waitingFields,
  }),
  z.object({
    kind: z.literal('change'),
    id: idText('change'),
    change_kind: z.enum(CHANGE_KINDS),
    subject: z.string(),
    ...askedFields,
  }),
]);

function renderApproval(approval: Approval): z.output<typeof approvalView> {
  const asked = {
    reason: approval.reason,
    requested_by: approval.requestedBy,
    requested_at: approval.requestedAt.toISOString(),
    approved_by: [...approval.approvedBy],
  };
  if (approval.kind === 'change') {
    const { kind, change, subject } = approval;
    return { kind, id: formatId('change', uuidOf('change', approval.id)), change_kind: change, subject, ...asked };
  }
  const waiting = {
    ...asked,
    amount_usd: formatUsd(approval.amount),
    requester_alone: renderMoved(approval.requesterAlone),
    account_alone: renderMoved(approval.accountAlone),
  };
  switch (approval.kind) {
    case 'adjustment':
      return {
        kind: 'adjustment',
        id: formatId('adjustment', uuidOf('adjustment', approval.id)),
        account_id: formatId('account', approval.accountId),
        ...waiting,
      };
    case 'refund':
      return {
        kind: 'refund',
        id: formatId('refund', uuidOf('refund', approval.id)),
        account_id: formatId('account', approval.accountId),
        request_id: formatId('request', approval.requestId),
        n: approval.n,
        ...waiting,
      };
    case 'hand_credit':
      return {
        kind: 'hand_credit',
        id: formatId('manualCredit', uuidOf('manualCredit', approval.id)),
        account_id: formatId('account', approval.accountId),
        top_up_id: formatId('topUp', approval.topUpId),
        payment_id: approval.paymentId,
        shown: approval.shown === null ? null : renderAmount(approval.shown),
        ...waiting,
      };
    case 'commission_correction':
      return {
        kind: 'commission_correction',
        id: formatId('correction', uuidOf('correction', approval.id)),
        account_id: formatId('account', approval.accountId),
        ...waiting,
      };
    case 'commission_review':
      return {
        kind: 'commission_review',
        id: formatId('review', uuidOf('review', approval.id)),
        account_id: formatId('account', approval.accountId),
        ...waiting,
      };
    case 'reward':
      return {
        kind: 'reward',
        id: formatId('reward', uuidOf('reward', approval.id)),
        account_id: formatId('account', approval.accountId),
        paid_for: `${approval.reward} ${renderSource(approval.reward, approval.sourceEvent)}`,
        ...waiting,
        reason: reasonWords(approval.reason),
      };
    case 'voucher_batch':
      return {
        kind: 'voucher_batch',
        id: formatId('voucherBatch', uuidOf('voucherBatch', approval.id)),
        name: approval.name,
        count: approval.count,
        ...waiting,
      };
  }
}

export function approvalRoutes({ reporter }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'get',
      path: '/admin/approvals',
      summary: 'List everything that waits for a second person, newest first',
      roles: READERS,
      query: z.strictObject(pageById),
      response: listOf(approvalView),
      async handle({ query }) {
        return ok(renderPage(await listApprovals(reporter, pageOfQuery(query)), renderApproval));
      },
    }),
  ];
}
