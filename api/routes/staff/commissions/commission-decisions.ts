/** What staff decide of commissions: top-ups that may be an affiliate's own, and corrections by hand. */
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
import { accepted, created, ok, staffRoute, type Route, type StaffCall } from '../../../http/route.ts';
import { recordWrite, recordWriteOnce } from '../../../http/writes.ts';

/** A slip of the hand by more than this is no correction. */
const CORRECTION_MAX_USD = 1_000_000n;

const reviewView = z.object({
  id: idText('review'),
  affiliate_id: idText('account'),
  account_id: idText('account').meta({ description: 'Who was referred and paid.' }),
  payment_id: idText('payment'),
  signals: z.array(z.string()).meta({ description: 'What the two accounts have in common.' }),
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
  id: idText('correction').meta({ description: 'The accrual of it has the same digits.' }),
  affiliate_id: idText('account'),
  amount_usd: usdText().meta({ description: 'Negative takes back.' }),
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
  const decideReview = (
    call: StaffCall<z.output<typeof reviewParams>, unknown, { reason: string }>,
    state: 'approved' | 'denied',
  ): Promise<z.output<typeof reviewView>> =>
    recordWrite(management, call, async (client) => {
      const decision = await decideCommissionReview(client, {
        id: call.params.id,
        state,
        reason: call.body.reason,
        by: call.actor,
        limits: { ...settings.handMoney, movement: settings.adjustmentApprovalThreshold },
      });
      const waits = state === 'approved' && decision.state === 'waiting';
      if (decision.state !== state && !waits) {
        throw new Refusal('conflict', { message: `The review is ${decision.state} already.` });
      }
      const review = await findCommissionReview(client, call.params.id);
      if (review === null) throw new Refusal('not_found');
      const result = renderReview(review);
      const details = { payment_id: result.payment_id, amount_usd: result.amount_usd, reason: call.body.reason, waits };
      const action = { action: `commission_review.${state}`, subject: result.id, details };
      return { result, action: decision.decidedNow || waits ? action : null };
    });

  const decideCorrection = (
    call: StaffCall<z.output<typeof correctionParams>, unknown, unknown>,
    approve: boolean,
  ): Promise<z.output<typeof correctionView>> =>
    recordWrite(management, call, async (client) => {
      const decided = await decideCommissionCorrection(client, {
        id: call.params.id,
        approve,
        decidedBy: call.actor,
      });
      if (decided.state !== (approve ? 'accrued' : 'rejected')) {
        throw new Refusal('conflict', { message: `The correction is ${decided.state} already.` });
      }
      const result = renderCorrection(decided);
      const action = {
        action: approve ? 'commission_correction.approve' : 'commission_correction.reject',
        subject: result.id,
        details: { affiliate_id: result.affiliate_id, amount_usd: result.amount_usd },
      };
      return { result, action: decided.decidedNow ? action : null };
    });

  return [
    staffRoute({
      method: 'post',
      path: '/admin/affiliates/{id}/corrections',
      summary: 'Correct what an affiliate earned, in the next run; above the threshold it waits for a second person',
      statuses: [201, 202],
      movesMoney: true,
      roles: ['operator', 'finance'],
      params: accountParams,
      body: z.strictObject({ amount_usd: correctionAmount(), reason: reason() }),
      response: correctionView,
      handle: (call) =>
        recordWriteOnce(management, call, async (client, subject) => {
          const correction = await requestCommissionCorrection(client, {
            id: uuidOf('correction', subject),
            affiliateId: call.params.id,
            amount: call.body.amount_usd,
            reason: call.body.reason,
            requestedBy: call.actor,
            limits: { ...settings.handMoney, movement: settings.adjustmentApprovalThreshold },
          });
          const view = renderCorrection(correction);
          const { affiliate_id, amount_usd, state } = view;
          const details = { affiliate_id, amount_usd, reason: view.reason, state };
          const action = { action: 'commission_correction.request', subject: view.id, details };
          return { result: view.state === 'waiting' ? accepted(view) : created(view), action };
        }),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-corrections',
      summary: 'Corrections, newest first',
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
    staffRoute({
      method: 'post',
      path: '/admin/commission-corrections/{id}/approve',
      summary: 'Approve a waiting correction as a second person',
      roles: ['operator', 'finance'],
      params: correctionParams,
      response: correctionView,
      handle: async (call) => ok(await decideCorrection(call, true)),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/commission-corrections/{id}/reject',
      summary: 'Reject a waiting correction',
      roles: ['operator', 'finance'],
      params: correctionParams,
      response: correctionView,
      handle: async (call) => ok(await decideCorrection(call, false)),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-reviews',
      summary: 'Referred top-ups that may be their affiliate’s own, newest first',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject({ ...pageById, state: z.enum(['waiting', 'approved', 'denied']).optional() }),
      response: listOf(reviewView),
      handle: async ({ query }) =>
        ok(renderPage(await listCommissionReviews(management, query.state ?? null, pageOfQuery(query)), renderReview)),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/commission-reviews/{id}/approve',
      summary: 'The commission is earned; what the two have in common opens no review of theirs again',
      statuses: [200, 202],
      roles: ['operator', 'finance'],
      params: reviewParams,
      body: z.strictObject({ reason: reason() }),
      response: reviewView,
      async handle(call) {
        const review = await decideReview(call, 'approved');
        return review.state === 'waiting' ? accepted(review) : ok(review);
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/commission-reviews/{id}/deny',
      summary: 'The commission is not paid; the affiliate reads that it was denied',
      roles: ['operator', 'finance'],
      params: reviewParams,
      body: z.strictObject({ reason: reason() }),
      response: reviewView,
      handle: async (call) => ok(await decideReview(call, 'denied')),
    }),
  ];
}
