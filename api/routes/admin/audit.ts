/** What proves the books to staff: postings, the invariants' breaches, what the platform paid itself. Reads only. */
import { z } from 'zod';
import { findPosting, listViolations, sumPlatformCosts, type PostingAccount } from '../../../db/audit.ts';
import { Refusal } from '../../../domain/errors.ts';
import { formatId, uuidOf, type IdKind } from '../../../domain/ids.ts';
import { addUsd, formatUsd } from '../../../domain/money.ts';
import { READERS, READERS_AND_SUPPORT } from '../authenticate.ts';
import type { ManagementDeps } from '../deps.ts';
import { invalidField } from '../errors.ts';
import { id, idText, time, timeText, usdText } from '../fields.ts';
import { ok, staffRoute, type Route } from '../route.ts';

/** More breaches than these say nothing new. */
const VIOLATIONS_SHOWN = 1000;
const PERIOD_DEFAULT_MS = 30 * 86_400_000;

/** Which kind of id a posting's business id is, by the posting's kind. Others are shown as they are. */
const BUSINESS_KINDS: Readonly<Record<string, IdKind>> = {
  charge: 'request',
  adjustment: 'adjustment',
  request_refund: 'refund',
};

const postingAccountView = z.object({
  kind: z.enum(['customer', 'system']),
  id: idText('account').nullable().meta({ description: 'null for system accounts, which go by name.' }),
  name: z.string(),
});

function renderPostingAccount({ kind, id: uuid, name }: PostingAccount): z.output<typeof postingAccountView> {
  return { kind, id: kind === 'customer' ? formatId('account', uuidOf('account', uuid)) : null, name };
}

function renderBusinessId(kind: string, businessId: string): string {
  const idKind = BUSINESS_KINDS[kind];
  return idKind === undefined ? businessId : formatId(idKind, uuidOf(idKind, businessId));
}

export function auditRoutes({ reporter }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'get',
      path: '/admin/postings/{id}',
      summary: 'One posting',
      roles: READERS_AND_SUPPORT,
      params: z.strictObject({ id: id('posting') }),
      response: z.object({
        id: idText('posting'),
        kind: z.string(),
        business_id: z.string().meta({ description: 'The request, adjustment or refund the money belongs to.' }),
        debit: postingAccountView,
        credit: postingAccountView,
        amount_usd: usdText(),
        memo: z.unknown(),
        created_at: timeText(),
      }),
      async handle({ params }) {
        const posting = await findPosting(reporter, params.id);
        if (posting === null) throw new Refusal('not_found');
        return ok({
          id: formatId('posting', posting.id),
          kind: posting.kind,
          business_id: renderBusinessId(posting.kind, posting.businessId),
          debit: renderPostingAccount(posting.debit),
          credit: renderPostingAccount(posting.credit),
          amount_usd: formatUsd(posting.amount),
          memo: posting.memo,
          created_at: posting.createdAt.toISOString(),
        });
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/violations',
      summary: "Breaches of the ledger's invariants; empty when healthy",
      roles: READERS,
      response: z.object({
        healthy: z.boolean(),
        data: z.array(
          z.object({
            rule: z.string(),
            subject: z.string(),
            stored: z.string().nullable(),
            expected: z.string().nullable(),
          }),
        ),
        next_cursor: z.null(),
      }),
      async handle() {
        const violations = await listViolations(reporter, VIOLATIONS_SHOWN);
        return ok({ healthy: violations.length === 0, data: violations, next_cursor: null });
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/platform-costs',
      summary: 'Usage that nobody paid, by reason',
      roles: READERS,
      query: z.strictObject({
        from: time().optional().meta({ description: 'Inclusive. Default: 30 days before `to`.' }),
        to: time().optional().meta({ description: 'Exclusive. Default: now.' }),
      }),
      response: z.object({
        from: timeText(),
        to: timeText(),
        data: z.array(z.object({ reason: z.string(), requests: z.number(), list_cost_usd: usdText() })),
        total_usd: usdText(),
      }),
      async handle({ query }) {
        const to = query.to ?? new Date();
        const from = query.from ?? new Date(to.getTime() - PERIOD_DEFAULT_MS);
        if (from >= to)
          throw invalidField(query.to === undefined ? 'from' : 'to', 'must leave time between from and to');
        const sums = await sumPlatformCosts(reporter, { from, to });
        return ok({
          from: from.toISOString(),
          to: to.toISOString(),
          data: sums.map(({ reason, requests, listCost }) => ({
            reason,
            requests,
            list_cost_usd: formatUsd(listCost),
          })),
          total_usd: formatUsd(addUsd(...sums.map((sum) => sum.listCost))),
        });
      },
    }),
  ];
}
