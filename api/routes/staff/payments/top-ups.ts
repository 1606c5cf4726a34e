/** Top-ups for staff: which ones wait for a person and why, and what may be done about one, also after it has ended. */
import type pg from 'pg';
import { z } from 'zod';
import { searchTopUps } from '../../../../db/payments/top-up-records.ts';
import { abandonTopUp, findTopUp, type TopUp } from '../../../../db/payments/top-ups.ts';
import { manualCreditsOf } from '../../../../db/payments/manual-credits.ts';
import { listKnownPayments } from '../../../../db/payments/known-payments.ts';
import { recordAction } from '../../../../db/accounts/operator-actions.ts';
import { inTransaction } from '../../../../db/shared/client.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import { TOP_UP_STATES } from '../../../../domain/payments/top-up.ts';
import { topUpWorkflowId } from '../../../../contract/index.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import {
  amount,
  flag,
  id,
  listOf,
  pageById,
  pageOfQuery,
  reason,
  renderPage,
  text,
  time,
} from '../../../http/fields.ts';
import { ok, staffRoute, type Route, type StaffCall } from '../../../http/route.ts';
import { requireTemporal, workflowUrl } from '../../../processes/temporal.ts';
import { checkTopUp } from '../../../processes/top-ups.ts';
import {
  knownPaymentView,
  renderKnownPayment,
  renderTopUp,
  staffTopUpView,
} from '../../account/payments/top-up-view.ts';
import { manualCreditView, renderManualCredit } from './manual-credits.ts';

const params = z.strictObject({ id: id('topUp') });
const READERS = ['support', 'finance', 'operator', 'auditor'] as const;

export function adminTopUpRoutes(deps: ManagementDeps): Route[] {
  const { management, reporter, temporal, settings } = deps;

  const render = (order: TopUp): z.output<typeof staffTopUpView> => {
    const workflowId = topUpWorkflowId(formatId('topUp', order.id));
    return {
      ...renderTopUp(order),
      account_id: formatId('account', order.accountId),
      provider: order.provider,
      provider_id: order.providerId,
      stuck: order.stuck,
      workflow_id: workflowId,
      workflow_url: workflowUrl(settings.temporalUiUrl, temporal.namespaces.processes, workflowId),
    };
  };
  const required = async (topUpId: TopUp['id']): Promise<TopUp> => {
    const order = await findTopUp(management, topUpId, null);
    if (order === null) throw new Refusal('not_found');
    return order;
  };
  /** The decision is in the row before the run is notified: the run closes the checkout also where the notice fails. */
  const act = async (
    call: StaffCall<z.output<typeof params>, unknown, unknown>,
    action: string,
    details: Record<string, unknown>,
    write: (client: pg.PoolClient) => Promise<unknown>,
  ) => {
    const order = await required(call.params.id);
    await requireTemporal(temporal.processes);
    const subject = formatId('topUp', order.id);
    await inTransaction(management, async (client) => {
      await write(client);
      await recordAction(client, { actor: call.actor, action, subject, details });
    });
    await checkTopUp(deps, order, call.actor);
    const after = await required(order.id);
    call.log.info({ action, subject, ...details, state: after.state }, 'operator action');
    return ok(render(after));
  };

  return [
    staffRoute({
      method: 'get',
      path: '/admin/top-ups',
      summary: 'Search top-ups, newest first; stuck=true lists those that need staff',
      roles: READERS,
      query: z.strictObject({
        ...pageById,
        stuck: flag().optional(),
        account_id: id('account').optional(),
        state: z.enum(TOP_UP_STATES).optional(),
        provider: text(1, 40).optional(),
        q: text(1, 300).optional().meta({
          description: "A provider's full id of a checkout, payment, refund, dispute or chain transaction.",
        }),
        amount_usd: amount().optional().meta({ description: 'The ordered amount, with or without its fee.' }),
        from: time().optional().meta({ description: 'Ordered at or after this time.' }),
        to: time().optional().meta({ description: 'Ordered before.' }),
      }),
      response: listOf(staffTopUpView),
      async handle({ query }) {
        const filter = {
          accountId: query.account_id ?? null,
          state: query.state ?? null,
          provider: query.provider ?? null,
          stuck: query.stuck ?? false,
          amount: query.amount_usd ?? null,
          providerId: query.q ?? null,
          from: query.from ?? null,
          to: query.to ?? null,
        };
        return ok(renderPage(await searchTopUps(reporter, filter, pageOfQuery(query)), render));
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/top-ups/{id}',
      summary: 'Get a top-up with its workflow, payments and manual credits',
      roles: READERS,
      params,
      response: staffTopUpView.extend({
        payments: z.array(knownPaymentView),
        hand_credits: z.array(manualCreditView),
      }),
      async handle(call) {
        const order = await required(call.params.id);
        const payments = await listKnownPayments(management, order.id);
        const credits = await manualCreditsOf(management, order.id);
        return ok({
          ...render(order),
          payments: payments.map(renderKnownPayment),
          hand_credits: credits.map(renderManualCredit),
        });
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/top-ups/{id}/recheck',
      summary: 'Check the provider now and book the result',
      roles: ['support', 'finance', 'operator'],
      params,
      response: staffTopUpView,
      handle: (call) => act(call, 'top_up.recheck', {}, () => Promise.resolve()),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/top-ups/{id}/abandon',
      summary: 'Close the checkout and abandon the order; later payments are still credited',
      roles: ['finance', 'operator'],
      params,
      body: z.strictObject({ reason: reason() }),
      response: staffTopUpView,
      handle: (call) => {
        const { reason: words } = call.body;
        return act(call, 'top_up.abandon', { reason: words }, (client) =>
          abandonTopUp(client, { id: call.params.id, reason: words, by: call.actor }),
        );
      },
    }),
  ];
}
