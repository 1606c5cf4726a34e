/** Decisions of staff about commissions: top-ups that may be an affiliate's own, and manual corrections. */
import { z } from 'zod';
import {
  decideCommissionCorrection,
  decideCommissionReview,
  findCommissionReview,
  listCommissionCorrections,
  listCommissionReviews,
  requestCommissionCorrection,
  type CommissionCorrection,
  type CommissionReview,
} from '../../../../db/commissions/commission-decisions.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, uuidOf } from '../../../../domain/ids.ts';
import { formatUsd, PICO_PER_USD } from '../../../../domain/money.ts';
import { READERS, READERS_AND_SUPPORT } from '../../../http/access.ts';
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

/** Upper bound against typing errors. */
const CORRECTION_MAX_USD = 1_000_000n;

const reviewView = z.object({
  id: idText('review'),
  affiliate_id: idText('account'),
  account_id: idText('account').meta({ description: 'The referred account that paid.' }),
  payment_id: idText('payment'),
  signals: z.array(z.string()).meta({ description: 'The marks that the two accounts share.' }),
  amount_usd: usdText().meta({ description: 'The commission at stake.' }),
  state: z.enum(['waiting', 'approved', 'denied']),
  opened_at: timeText(),
  decided_by: z.string().nullable(),
  decided_at: timeText().nullable(),
  decision_reason: z.string().nullable(),
});

function renderReview(review: CommissionReview): z.output<typeof reviewView> {
  return {
    id: formatId('review', review.id),
    affiliate_id: formatId('account', review.affiliateId),
    account_id: formatId('account', review.accountId),
    payment_id: formatId('payment', review.paymentId),
    signals: [...review.signals],
    amount_usd: formatUsd(review.amount),
    state: review.state,
    opened_at: review.openedAt.toISOString(),
    decided_by: review.decidedBy,
    decided_at: renderTime(review.decidedAt),
    decision_reason: review.decisionReason,
  };
}

const correctionView = z.object({
  id: idText('correction').meta({ description: 'Its accrual has the same digits.' }),
  affiliate_id: idText('account'),
  amount_usd: usdText().meta({ description: 'Negative debits the affiliate.' }),
  reason: z.string(),
  state: z.enum(['waiting', 'accrued', 'rejected']),
  requested_by: z.string(),
  requested_at: timeText(),
  decided_by: z.string().nullable(),
  decided_at: timeText().nullable(),
});

function renderCorrection(correction: CommissionCorrection): z.output<typeof correctionView> {
  return {
    id: formatId('correction', correction.id),
    affiliate_id: formatId('account', correction.affiliateId),
    amount_usd: formatUsd(correction.amount),
    reason: correction.reason,
    state: correction.state,
    requested_by: correction.requestedBy,
    requested_at: correction.requestedAt.toISOString(),
    decided_by: correction.decidedBy,
    decided_at: renderTime(correction.decidedAt),
  };
}

const correctionAmount = () =>
  signedAmount()
    .refine((value) => value !== 0n, 'must not be zero')
    .refine((value) => value <= CORRECTION_MAX_USD * PICO_PER_USD && value >= -CORRECTION_MAX_USD * PICO_PER_USD, {
      error: `must lie between -${CORRECTION_MAX_USD} and ${CORRECTION_MAX_USD}`,
    });

const accountParams = z.strictObject({ id: id('account') });
const reviewParams = z.strictObject({ id: id('review') });
const correctionParams = z.strictObject({ id: id('correction') });

export function commissionDecisionRoutes({ management, settings }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'post',
      path: '/admin/affiliates/{id}/corrections',
      summary: 'Correct an affiliate’s earnings in the next run; above the threshold it waits for a second person',
      statuses: [201, 202],
      movesMoney: true,
      roles: ['operator', 'finance'],
      params: accountParams,
      body: z.strictObject({ amount_usd: correctionAmount(), reason: reason() }),
      response: correctionView,
      async handle(call) {
        const { reply } = await recordWriteOnce(management, call, async (client, subject) => {
          const correction = await requestCommissionCorrection(client, {
            id: uuidOf('correction', subject),
            affiliateId: call.params.id,
            amount: call.body.amount_usd,
            reason: call.body.reason,
            requestedBy: call.actor,
            limits: { ...settings.manualLimits, movement: settings.adjustmentApprovalThreshold },
          });
          const view = renderCorrection(correction);
          const { affiliate_id, amount_usd, state } = view;
          const details = { affiliate_id, amount_usd, reason: view.reason, state };
          const action = { action: 'commission_correction.request', subject: view.id, details };
          return { reply: view.state === 'waiting' ? accepted(view) : created(view), made: correction, action };
        });
        return reply;
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-corrections',
      summary: 'List corrections, newest first',
      roles: READERS,
      query: z.strictObject({ ...pageById, state: z.enum(['waiting', 'accrued', 'rejected']).optional() }),
      response: listOf(correctionView),
      handle: async ({ query }) =>
        ok(
          renderPage(
            await listCommissionCorrections(management, query.state ?? null, pageOfQuery(query)),
            renderCorrection,
          ),
        ),
    }),
    ...approvalPair(management, {
      path: '/admin/commission-corrections/{id}',
      params: correctionParams,
      response: correctionView,
      approve: {
        segment: 'approve',
        summary: 'Approve a waiting correction as second person',
        action: 'commission_correction.approve',
        state: 'accrued',
      },
      reject: {
        segment: 'reject',
        summary: 'Reject a waiting correction',
        action: 'commission_correction.reject',
        state: 'rejected',
      },
      conflict: (state) => `The correction is ${state} already.`,
      decide: (client, { params, actor }, { approve }) =>
        decideCommissionCorrection(client, { id: params.id, approve, decidedBy: actor }),
      record(correction) {
        const { id: subject, affiliate_id, amount_usd } = renderCorrection(correction);
        return { subject, details: { affiliate_id, amount_usd } };
      },
      render: (correction) => renderCorrection(correction),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-reviews',
      summary: 'List reviews of referred top-ups that may be the affiliate’s own, newest first',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject({ ...pageById, state: z.enum(['waiting', 'approved', 'denied']).optional() }),
      response: listOf(reviewView),
      handle: async ({ query }) =>
        ok(renderPage(await listCommissionReviews(management, query.state ?? null, pageOfQuery(query)), renderReview)),
    }),
    ...approvalPair(management, {
      path: '/admin/commission-reviews/{id}',
      params: reviewParams,
      response: reviewView,
      approve: {
        segment: 'approve',
        summary: 'Approve the commission; the shared marks open no further review of these two accounts',
        action: 'commission_review.approved',
        state: 'approved',
        takesReason: true,
      },
      reject: {
        segment: 'deny',
        summary: 'Deny the commission; the affiliate sees that it was denied',
        action: 'commission_review.denied',
        state: 'denied',
        takesReason: true,
      },
      mayTakeTwo: true,
      conflict: (state) => `The review is ${state} already.`,
      async decide(client, { params, actor }, { approve, reason: words }) {
        const decided = await decideCommissionReview(client, {
          id: params.id,
          state: approve ? 'approved' : 'denied',
          reason: words ?? '',
          by: actor,
          limits: { ...settings.manualLimits, movement: settings.adjustmentApprovalThreshold },
        });
        const review = await findCommissionReview(client, params.id);
        if (review === null) throw new Refusal('not_found');
        return { ...decided, view: renderReview(review) };
      },
      record: ({ view }, { reason: words, waits }) => ({
        subject: view.id,
        details: { payment_id: view.payment_id, amount_usd: view.amount_usd, reason: words, waits },
      }),
      render: ({ view }) => view,
    }),
  ];
}
