/** Affiliates for staff: their rates, blocks, and what each has earned. */
import { z } from 'zod';
import {
  blockAffiliate,
  findAffiliate,
  listAffiliates,
  setAffiliateRate,
  unblockAffiliate,
  type Affiliate,
} from '../../../../db/commissions/affiliates.ts';
import { commissionSummary, listCommissionEntries } from '../../../../db/commissions/commissions.ts';
import type { Session } from '../../../../db/shared/client.ts';
import { periodEnd, periodOf } from '../../../../domain/commissions/commission.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, type AccountUuid } from '../../../../domain/ids.ts';
import {
  commissionEntryView,
  renderCommissionEntry,
  renderSummary,
  summaryFields,
} from '../../account/commissions/affiliate.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { changeView, makeOrAsk, type ChangeView } from '../accounts/changes.ts';
import { requireCommissionBounds } from './commission-bounds.ts';
import {
  id,
  idText,
  listOf,
  pageById,
  pageOfQuery,
  reason,
  renderPage,
  renderTime,
  timeText,
} from '../../../http/fields.ts';
import { ok, staffRoute, type JsonReply, type Route, type StaffCall } from '../../../http/route.ts';
import { recordWrite } from '../../../http/writes.ts';

export const ratePpm = () =>
  z
    .number()
    .int('must be a whole number')
    .min(0, 'must be from 0 to 1000000')
    .max(1_000_000, 'must be from 0 to 1000000')
    .meta({ description: 'Parts per million; 100000 is 10 %.' });

const affiliateFields = {
  account_id: idText('account'),
  code: z.string(),
  rate_ppm: z.number().nullable().meta({ description: 'null: the rule’s.' }),
  created_at: timeText(),
  blocked_at: timeText().nullable(),
  blocked_reason: z.string().nullable(),
};
const affiliateView = z.object(affiliateFields);
const wholeAffiliateView = z.object({ ...affiliateFields, ...summaryFields });

function renderAffiliate(affiliate: Affiliate): z.output<typeof affiliateView> {
  return {
    account_id: formatId('account', affiliate.accountId),
    code: affiliate.code,
    rate_ppm: affiliate.ratePpm,
    created_at: affiliate.createdAt.toISOString(),
    blocked_at: renderTime(affiliate.blockedAt),
    blocked_reason: affiliate.blockedReason,
  };
}

const accountParams = z.strictObject({ id: id('account') });

export function adminAffiliateRoutes({ management, settings }: ManagementDeps): Route[] {
  const required = async (session: Session, accountId: AccountUuid): Promise<Affiliate> => {
    const affiliate = await findAffiliate(session, accountId);
    if (affiliate === null) throw new Refusal('not_found');
    return affiliate;
  };

  const block = (
    call: StaffCall<z.output<typeof accountParams>, unknown, { reason: string }>,
    isBlock: boolean,
  ): Promise<z.output<typeof affiliateView>> =>
    recordWrite(management, call, async (client) => {
      await required(client, call.params.id);
      const changed = isBlock
        ? await blockAffiliate(client, call.params.id, call.body.reason)
        : await unblockAffiliate(client, call.params.id);
      if (changed === null) {
        throw new Refusal('conflict', {
          message: isBlock ? 'The affiliate is already blocked.' : 'The affiliate is not blocked.',
        });
      }
      const result = renderAffiliate(changed);
      const action = isBlock ? 'affiliate.block' : 'affiliate.unblock';
      return { result, action: { action, subject: result.account_id, details: { reason: call.body.reason } } };
    });

  return [
    staffRoute({
      method: 'get',
      path: '/admin/affiliates',
      summary: 'List affiliates, newest account first',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject(pageById),
      response: listOf(affiliateView),
      handle: async ({ query }) =>
        ok(renderPage(await listAffiliates(management, pageOfQuery(query)), renderAffiliate)),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/affiliates/{id}',
      summary: 'Get an affiliate with its figures',
      roles: READERS_AND_SUPPORT,
      params: accountParams,
      response: wholeAffiliateView,
      async handle({ params }) {
        const affiliate = await required(management, params.id);
        const at = new Date();
        const endsAt = periodEnd(periodOf(at));
        const summary = await commissionSummary(management, { accountId: params.id, at, endsAt });
        return ok({ ...renderAffiliate(affiliate), ...renderSummary(summary) });
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/affiliates/{id}/commissions',
      summary: 'List an affiliate’s earnings, newest first',
      roles: READERS_AND_SUPPORT,
      params: accountParams,
      query: z.strictObject(pageById),
      response: listOf(commissionEntryView),
      async handle({ params, query }) {
        await required(management, params.id);
        const affiliate = { accountId: params.id, at: new Date() };
        return ok(
          renderPage(await listCommissionEntries(management, affiliate, pageOfQuery(query)), renderCommissionEntry),
        );
      },
    }),
    staffRoute({
      method: 'patch',
      path: '/admin/affiliates/{id}',
      summary:
        'Set an affiliate’s own rate for credits from now on; null: the rule’s rate; a higher rate needs a second person',
      statuses: [200, 202],
      roles: ['operator', 'finance'],
      params: accountParams,
      body: z.strictObject({ rate_ppm: ratePpm().nullable(), reason: reason() }),
      response: z.union([affiliateView, changeView]),
      handle(call) {
        const { params, body } = call;
        requireCommissionBounds(settings.commissions, body);
        const wanted = {
          kind: 'affiliate_rate',
          subject: formatId('account', params.id),
          change: { rate_ppm: body.rate_ppm },
          cause: 'The rate is above the current one.',
          reason: body.reason,
        } as const;
        return recordWrite<JsonReply<z.output<typeof affiliateView> | ChangeView>>(management, call, async (client) => {
          const before = await required(client, params.id);
          return makeOrAsk(client, call, wanted, async () => {
            const changed = await setAffiliateRate(client, params.id, body.rate_ppm, { by: call.actor });
            const result = renderAffiliate(changed ?? before);
            const details = { from: before.ratePpm, to: body.rate_ppm, reason: body.reason };
            return { result: ok(result), action: { action: 'affiliate.rate', subject: result.account_id, details } };
          });
        });
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/affiliates/{id}/block',
      summary: 'Block an affiliate: its code refers nobody, its unpaid earnings wait',
      roles: ['operator', 'finance'],
      params: accountParams,
      body: z.strictObject({ reason: reason() }),
      response: affiliateView,
      handle: async (call) => ok(await block(call, true)),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/affiliates/{id}/unblock',
      summary: 'Unblock an affiliate: the next run pays its waiting earnings',
      roles: ['operator', 'finance'],
      params: accountParams,
      body: z.strictObject({ reason: reason() }),
      response: affiliateView,
      handle: async (call) => ok(await block(call, false)),
    }),
  ];
}
