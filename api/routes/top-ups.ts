/**
 * Top-ups of a customer: which methods there are, an order, and how it stands. The order's row is written first; its
 * workflow then opens the provider's checkout, whose address is in the answer unless the provider is slow.
 */
import { z } from 'zod';
import { createTopUp, findTopUp, listTopUps } from '../../db/top-ups.ts';
import { Refusal } from '../../domain/errors.ts';
import { formatId, parseId, uuidOf } from '../../domain/ids.ts';
import { formatUsd, formatUsdShort } from '../../domain/money.ts';
import { centsOf, feeOf } from '../../domain/top-up.ts';
import type { TopUpMethod } from '../../runtime/payments.ts';
import type { ManagementDeps } from './deps.ts';
import { invalidField } from './errors.ts';
import { amount, id, listOf, pageById, pageOfQuery, renderPage, usdText } from './fields.ts';
import { accountRoute, created, ok, type Route } from './route.ts';
import { openCheckout } from './top-up-runs.ts';
import { renderTopUp, topUpView } from './top-up-view.ts';
import { recordWriteOnce } from './writes.ts';

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
});

const renderMethod = (method: TopUpMethod): z.output<typeof methodView> => ({
  method: method.method,
  min_usd: formatUsd(method.min),
  max_usd: formatUsd(method.max),
  presets_usd: method.presets.map(formatUsd),
  fee: { ppm: method.fee.ppm, fixed_usd: formatUsd(method.fee.fixed) },
  currencies: [...method.currencies],
});

export function topUpRoutes(deps: ManagementDeps): Route[] {
  const { management, settings } = deps;
  const { methods, expirySeconds } = settings.payments;

  return [
    accountRoute({
      method: 'get',
      path: '/api/top-ups/methods',
      summary: 'Ways to top up, with limits and fees',
      response: listOf(methodView),
      handle: () => Promise.resolve(ok({ data: methods.map(renderMethod), next_cursor: null })),
    }),
    accountRoute({
      method: 'post',
      path: '/api/top-ups',
      summary: 'Order credit; pay at `checkout_url`',
      statuses: [201],
      movesMoney: true,
      body: z.strictObject({
        method: z.string().max(40),
        amount_usd: amount().meta({ description: 'What is credited; the fee comes on top.' }),
      }),
      response: topUpView,
      async handle(call) {
        const method = methodOf(methods, call.body.method);
        const { amount_usd: wanted } = call.body;
        if (wanted < method.min) throw invalidField('amount_usd', `must be at least ${formatUsdShort(method.min)}`);
        if (wanted > method.max) throw invalidField('amount_usd', `must be at most ${formatUsdShort(method.max)}`);
        if (centsOf(wanted) === null) throw invalidField('amount_usd', 'must be whole cents');
        const reply = await recordWriteOnce(management, call, async (client, subject) => {
          const order = await createTopUp(client, {
            id: uuidOf('topUp', subject),
            accountId: call.accountId,
            method: method.method,
            provider: method.provider,
            amount: wanted,
            fee: feeOf(wanted, method.fee),
            currency: method.currencies[0]!,
            live: method.live,
            expiresInSeconds: expirySeconds,
          });
          return { result: created(renderTopUp(order)), action: null };
        });
        if (reply.status !== 201) return reply;
        // Also for a repeat: the order may have waited for a workflow service that was away.
        const orderId = parseId('topUp', reply.body.id);
        const order = orderId === null ? null : await findTopUp(management, orderId, call.accountId);
        if (order === null) throw new Refusal('not_found');
        if (order.state === 'created') await openCheckout(deps, order);
        const now = (await findTopUp(management, order.id, call.accountId)) ?? order;
        call.log.info({ top_up_id: formatId('topUp', now.id), state: now.state }, 'top-up ordered');
        return { ...reply, body: renderTopUp(now) };
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/top-ups',
      summary: 'Top-ups, newest first',
      query: z.strictObject(pageById),
      response: listOf(topUpView),
      async handle({ accountId, query }) {
        const page = await listTopUps(management, { accountId, stuck: false }, pageOfQuery(query));
        return ok(renderPage(page, renderTopUp));
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/top-ups/{id}',
      summary: 'One top-up',
      params: z.strictObject({ id: id('topUp') }),
      response: topUpView,
      async handle({ accountId, params }) {
        const order = await findTopUp(management, params.id, accountId);
        if (order === null) throw new Refusal('not_found');
        return ok(renderTopUp(order));
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
