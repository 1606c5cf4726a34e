/**
 * Manual credit: a payment that was not credited automatically, with requester and reason. Keyed by the payment's own
 * id as the automatic credit is, so it happens once whichever comes first; any other id of it is resolved or refused. A
 * second person approves above the threshold, above what was received, and wherever the provider does not show the
 * payment as paid in the order's currency and mode. Also here: what a dispute, a full refund or a fraud warning has
 * frozen.
 */
import { z } from 'zod';
import { autoTopUpOf, unfreezeAutoTopUp } from '../../../../db/payments/auto-top-ups.ts';
import { findAccount } from '../../../../db/accounts/accounts.ts';
import {
  decideManualCredit,
  findManualCredit,
  MANUAL_CREDIT_STATES,
  requestManualCredit,
  type ManualCredit,
} from '../../../../db/payments/manual-credits.ts';
import { findPayment } from '../../../../db/payments/known-payments.ts';
import { findTopUp, type TopUp } from '../../../../db/payments/top-ups.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import { startAutoTopUp } from '../../../processes/auto-top-ups.ts';
import { autoTopUpView, renderAutoTopUp } from '../../account/payments/auto-top-up.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { amount, id, idText, reason, renderTime, text, timeText, usdText } from '../../../http/fields.ts';
import { accepted, created, ok, staffRoute, type Route, type StaffCall } from '../../../http/route.ts';
import { amountView, renderAmount } from '../../account/payments/top-up-view.ts';
import { wakeTopUp } from '../../../processes/top-ups.ts';
import { recordWrite, recordWriteOnce } from '../../../http/writes.ts';
import { approvalPair } from '../approval-pair.ts';

export const manualCreditView = z.object({
  id: idText('manualCredit'),
  top_up_id: idText('topUp'),
  account_id: idText('account'),
  provider: z.string(),
  payment_id: z.string().meta({
    description:
      "The payment's own key at its provider, or `outside/<reference>` for money that came outside the provider.",
  }),
  amount_usd: usdText(),
  shown: amountView.nullable().meta({
    description:
      'The amount the provider showed at the time of the request. Other currencies have no rate: the requester states the amount. null: the money came outside the provider.',
  }),
  reason: z.string(),
  state: z
    .enum(MANUAL_CREDIT_STATES)
    .meta({ description: '`superseded`: the payment was credited automatically while this waited.' }),
  known_to_provider: z.boolean().meta({
    description:
      "Whether the provider showed the payment as paid, in the order's currency and mode, at the time of the request.",
  }),
  requested_by: z.string().nullable().meta({ description: 'null: requested in Temporal; two persons decide.' }),
  requested_at: timeText(),
  decided_by: z.string().nullable(),
  decided_at: timeText().nullable(),
});

export function renderManualCredit(credit: ManualCredit): z.output<typeof manualCreditView> {
  return {
    id: formatId('manualCredit', credit.id),
    top_up_id: formatId('topUp', credit.topUpId),
    account_id: formatId('account', credit.accountId),
    provider: credit.provider,
    payment_id: credit.paymentId,
    amount_usd: formatUsd(credit.amount),
    shown: credit.shown === null ? null : renderAmount(credit.shown),
    reason: credit.reason,
    state: credit.state,
    known_to_provider: credit.isKnown,
    requested_by: credit.requestedBy,
    requested_at: credit.requestedAt.toISOString(),
    decided_by: credit.decidedBy,
    decided_at: renderTime(credit.decidedAt),
  };
}

const topUpParams = z.strictObject({ id: id('topUp') });
const creditParams = z.strictObject({ id: id('manualCredit') });
const accountParams = z.strictObject({ id: id('account') });

/** Longest text in which a payment is looked for: a link to a checkout page is some hundred characters long. */
const PAYMENT_TEXT_MAX = 2000;

export function manualCreditRoutes(deps: ManagementDeps): Route[] {
  const { management, settings } = deps;

  /** The run tells the story; the money does not wait for it. */
  const wakeRun = async (call: Pick<StaffCall<unknown, unknown, unknown>, 'log'>, order: TopUp | null) => {
    if (order === null) return;
    await wakeTopUp(deps, order).catch((error: unknown) => {
      call.log.warn({ top_up_id: formatId('topUp', order.id), error: String(error) }, 'the run was not woken');
    });
  };

  return [
    staffRoute({
      method: 'post',
      path: '/admin/top-ups/{id}/credit',
      summary: 'Credit a payment that was not credited automatically; above the limits it waits for a second person',
      statuses: [201, 202],
      movesMoney: true,
      roles: ['operator', 'finance'],
      params: topUpParams,
      body: z.strictObject({
        payment_id: text(1, PAYMENT_TEXT_MAX).meta({
          description:
            "One of the order's `payments`, by its key; another id of it (charge, checkout, transaction, event, hash, link) leads to the key or is refused. `outside/<reference>`: money that came outside the provider.",
        }),
        amount_usd: amount().refine((value) => value > 0n, 'must be above zero'),
        reason: reason(),
      }),
      response: manualCreditView,
      async handle(call) {
        const { reply, made } = await recordWriteOnce(management, call, async (client, subject) => {
          const order = await findTopUp(client, call.params.id, null);
          if (order === null) throw new Refusal('not_found');
          const payment = await findPayment(client, order, call.body.payment_id);
          if (payment.verdict === 'refused') {
            const message = `payment_id: ${payment.words}`;
            throw new Refusal(payment.isAnotherOrders ? 'conflict' : 'invalid_field', { param: 'payment_id', message });
          }
          const credit = await requestManualCredit(client, {
            action: subject,
            topUpId: order.id,
            paymentId: payment.paymentId,
            amount: call.body.amount_usd,
            reason: call.body.reason,
            requestedBy: call.actor,
            limits: { ...settings.manualLimits, movement: settings.adjustmentApprovalThreshold },
          });
          const view = renderManualCredit(credit);
          const { top_up_id, payment_id, amount_usd, state } = view;
          const details = { top_up_id, payment_id, amount_usd, reason: view.reason, state };
          const action = { action: 'hand_credit.request', subject: view.id, details };
          return { reply: state === 'waiting' ? accepted(view) : created(view), made: order, action };
        });
        if (reply.status < 400) await wakeRun(call, made ?? (await findTopUp(management, call.params.id, null)));
        return reply;
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/hand-credits/{id}',
      summary: 'Get a manual credit',
      roles: READERS_AND_SUPPORT,
      params: creditParams,
      response: manualCreditView,
      async handle({ params }) {
        const credit = await findManualCredit(management, params.id);
        if (credit === null) throw new Refusal('not_found');
        return ok(renderManualCredit(credit));
      },
    }),
    ...approvalPair(management, {
      path: '/admin/hand-credits/{id}',
      params: creditParams,
      response: manualCreditView,
      approve: {
        segment: 'approve',
        summary: 'Approve a waiting manual credit as second person; a request from Temporal needs two persons',
        action: 'hand_credit.approve',
        state: 'posted',
      },
      reject: {
        segment: 'reject',
        summary: 'Reject a waiting manual credit',
        action: 'hand_credit.reject',
        state: 'rejected',
      },
      mayTakeTwo: true,
      conflict: (state) => `The manual credit is ${state}.`,
      decide: (client, { params, actor }, { approve }) =>
        decideManualCredit(client, { id: params.id, approve, decidedBy: actor }),
      record(credit, { waits }) {
        const { top_up_id, payment_id, amount_usd, id: subject } = renderManualCredit(credit);
        return { subject, details: { top_up_id, payment_id, amount_usd, waits } };
      },
      async render(credit, call) {
        await wakeRun(call, await findTopUp(management, credit.topUpId, null));
        return renderManualCredit(credit);
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/accounts/{id}/auto-top-up',
      summary: 'Get the automatic top-up of an account',
      roles: READERS_AND_SUPPORT,
      params: accountParams,
      response: autoTopUpView,
      async handle({ params }) {
        const rule = await autoTopUpOf(management, params.id, new Date());
        if (rule === null) throw new Refusal('not_found');
        return ok(renderAutoTopUp(rule));
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/accounts/{id}/auto-top-up/unfreeze',
      summary: 'Resume automatic top-ups after a dispute, a full refund or a fraud warning',
      roles: ['operator', 'finance'],
      params: accountParams,
      body: z.strictObject({ reason: reason() }),
      response: autoTopUpView,
      async handle(call) {
        const { id: accountId } = call.params;
        const subject = formatId('account', accountId);
        await recordWrite(management, call, async (client) => {
          if ((await findAccount(client, accountId)) === null) throw new Refusal('not_found');
          const isChanged = await unfreezeAutoTopUp(client, accountId, call.actor);
          const details = { reason: call.body.reason };
          return {
            result: null,
            action: isChanged ? { action: 'auto_top_up.unfreeze', subject, details } : null,
          };
        });
        await startAutoTopUp(deps, accountId).catch((error: unknown) => {
          call.log.warn({ account_id: subject, error: String(error) }, 'not started; the next charge will');
        });
        const rule = await autoTopUpOf(management, accountId, new Date());
        if (rule === null) throw new Refusal('not_found');
        return ok(renderAutoTopUp(rule));
      },
    }),
  ];
}
