/**
 * Top-ups of a customer: which methods there are, an order, and how it stands. The order's row is written first; its
 * workflow then opens the provider's checkout, whose address is in the answer unless the provider is slow.
 */
import { z } from 'zod';
import type { Session } from '../../../../db/shared/client.ts';
import { createTopUp, findTopUp, listTopUps, type TopUp } from '../../../../db/payments/top-ups.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, uuidOf, type AccountUuid } from '../../../../domain/ids.ts';
import { formatUsd, formatUsdShort } from '../../../../domain/money.ts';
import { centsOf, feeOf } from '../../../../domain/payments/top-up.ts';
import type { TopUpMethod } from '../../../../providers/payment-settings.ts';
import { depositPartOf, NO_DEPOSIT, offeredChains } from './deposit-view.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import { amount, id, listOf, pageById, pageOfQuery, renderPage, usdText } from '../../../http/fields.ts';
import { accountRoute, created, ok, type Route } from '../../../http/route.ts';
import { openCheckout } from '../../../processes/top-ups.ts';
import { renderTopUp, topUpDetailView, topUpView } from './top-up-view.ts';
import { recordWriteOnce } from '../../../http/writes.ts';

const methodView = z.object({
  method: z.string(),
  min_usd: usdText(),
  max_usd: usdText(),
  presets_usd: z.array(usdText()),
  fee: z.object({
    ppm: z.number().meta({ description: 'Parts per million of the amount.' }),
    fixed_usd: usdText(),
  }),
  currencies: z.array(z.string()),
  available: z.boolean().meta({ description: 'False while this method takes no orders; an order gets 503.' }),
});

const renderMethod = (method: TopUpMethod, isAvailable: boolean): z.output<typeof methodView> => ({
  method: method.method,
  min_usd: formatUsd(method.min),
  max_usd: formatUsd(method.max),
  presets_usd: method.presets.map(formatUsd),
  fee: { ppm: method.fee.ppm, fixed_usd: formatUsd(method.fee.fixed) },
  currencies: [...method.currencies],
  available: isAvailable,
});

export function topUpRoutes(deps: ManagementDeps): Route[] {
  const { management, settings } = deps;
  const { methods, expirySeconds, openMax, crypto } = settings.payments;

  /** Tokens that are not worth a dollar are not taken as one; with none left there is nothing to offer. */
  const isAvailable = async (session: Session, { provider }: TopUpMethod): Promise<boolean> =>
    provider !== 'crypto' || (crypto !== null && (await offeredChains(session, crypto)).length > 0);
  const required = async (orderId: TopUp['id'], accountId: AccountUuid): Promise<TopUp> => {
    const order = await findTopUp(management, orderId, accountId);
    if (order === null) throw new Refusal('not_found');
    return order;
  };
  /** The order once its provider's checkout is open, or as it is when that takes too long. */
  const withCheckout = async (order: TopUp): Promise<TopUp> => {
    await openCheckout(deps, order);
    return required(order.id, order.accountId);
  };
  const detail = async (order: TopUp): Promise<z.output<typeof topUpDetailView>> => ({
    ...renderTopUp(order),
    ...(await depositPartOf(management, crypto, order)),
  });

  return [
    accountRoute({
      method: 'get',
      path: '/api/top-ups/methods',
      scope: 'read',
      summary: 'List top-up methods, with limits and fees',
      response: listOf(methodView),
      async handle() {
        const data = await Promise.all(
          methods.map(async (method) => renderMethod(method, await isAvailable(management, method))),
        );
        return ok({ data, next_cursor: null });
      },
    }),
    accountRoute({
      method: 'post',
      path: '/api/top-ups',
      scope: 'money',
      summary: 'Order a top-up; pay at `checkout_url` or send tokens to `deposit`',
      statuses: [201],
      movesMoney: true,
      body: z.strictObject({
        method: z.string().max(40),
        amount_usd: amount().meta({ description: 'The credited amount; the fee is added.' }),
        save_card: z
          .boolean()
          .optional()
          .meta({ description: 'Save the card for automatic top-ups; method card only.' }),
      }),
      response: topUpDetailView,
      async handle(call) {
        const method = methodOf(methods, call.body.method);
        const { amount_usd: wanted, save_card: saveCard = false } = call.body;
        if (saveCard && method.provider !== 'stripe')
          throw invalidField('save_card', 'is possible with method card only');
        if (wanted < method.min) throw invalidField('amount_usd', `must be at least ${formatUsdShort(method.min)}`);
        if (wanted > method.max) throw invalidField('amount_usd', `must be at most ${formatUsdShort(method.max)}`);
        if (centsOf(wanted) === null) throw invalidField('amount_usd', 'must be whole cents');
        const { reply, subject, made } = await recordWriteOnce(management, call, async (client, orderId) => {
          if (!(await isAvailable(client, method))) throw new Refusal('top_up_unavailable');
          const order = await createTopUp(client, {
            id: uuidOf('topUp', orderId),
            accountId: call.accountId,
            method: method.method,
            provider: method.provider,
            amount: wanted,
            fee: feeOf(wanted, method.fee),
            currency: method.currencies[0]!,
            live: method.live,
            expiresInSeconds: expirySeconds,
            saveCard,
            openMax,
          });
          return { reply: created({ ...renderTopUp(order), ...NO_DEPOSIT }), made: order, action: null };
        });
        if (reply.status !== 201) return reply;
        // Also for a repeat: the order may have waited for a workflow service that was away.
        const order = made ?? (await required(uuidOf('topUp', subject), call.accountId));
        const now = order.state === 'created' ? await withCheckout(order) : order;
        call.log.info({ top_up_id: formatId('topUp', now.id), state: now.state }, 'top-up ordered');
        return { ...reply, body: await detail(now) };
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/top-ups',
      scope: 'read',
      summary: 'List top-ups, newest first',
      query: z.strictObject(pageById),
      response: listOf(topUpView),
      async handle({ accountId, query }) {
        const page = await listTopUps(management, accountId, pageOfQuery(query));
        return ok(renderPage(page, renderTopUp));
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/top-ups/{id}',
      scope: 'read',
      summary: 'Get a top-up',
      params: z.strictObject({ id: id('topUp') }),
      response: topUpDetailView,
      async handle({ accountId, params }) {
        return ok(await detail(await required(params.id, accountId)));
      },
    }),
  ];
}

function methodOf(methods: readonly TopUpMethod[], name: string): TopUpMethod {
  const method = methods.find((known) => known.method === name);
  if (method !== undefined) return method;
  const names = methods.map((known) => known.method).join(', ');
  throw invalidField('method', names === '' ? 'no method is configured here' : `must be one of: ${names}`);
}
