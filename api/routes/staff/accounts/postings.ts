/** One posting and its source: explains a line of the ledger. */
import { z } from 'zod';
import {
  findPosting,
  POSTING_SOURCES,
  type PostingAccount,
  type PostingSource,
} from '../../../../db/accounts/postings.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, uuidOf } from '../../../../domain/ids.ts';
import { formatUsd, usd } from '../../../../domain/money.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { id, idText, timeText, usdText } from '../../../http/fields.ts';
import { ok, staffRoute, type Route } from '../../../http/route.ts';

const accountView = z.object({
  kind: z.enum(['customer', 'system']),
  id: idText('account').nullable().meta({ description: 'null for system accounts, which have a name.' }),
  name: z.string(),
});

const sourceView = z.object({
  type: z
    .string()
    .meta({ description: 'For example `request`, `payment`, `reversal`, `adjustment`, `refund`, `voucher`.' }),
  page: z.string().nullable().meta({ description: 'The path of the full object.' }),
  facts: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))
    .meta({ description: 'Its ids, amounts, times and people; the fields depend on the type.' }),
});

const postingView = z.object({
  id: idText('posting'),
  kind: z.string(),
  business_id: z.string().meta({ description: 'The business id; at most one posting of a kind exists for it.' }),
  debit: accountView.meta({ description: 'Who paid.' }),
  credit: accountView.meta({ description: 'The paid account.' }),
  amount_usd: usdText(),
  memo: z.unknown().meta({ description: 'The facts known at the time of the posting.' }),
  created_at: timeText(),
  source: sourceView.nullable().meta({ description: 'The source of the posting, as it is now.' }),
});

function renderAccount({ kind, id: uuid, name }: PostingAccount): z.output<typeof accountView> {
  return { kind, id: kind === 'customer' ? formatId('account', uuidOf('account', uuid)) : null, name };
}

type Fact = z.output<typeof sourceView>['facts'][string];

function renderSource({ type, ids, page, row }: PostingSource): z.output<typeof sourceView> {
  const facts: Record<string, Fact> = {};
  for (const [column, value] of Object.entries(row)) {
    const idKind = ids[column];
    if (typeof value !== 'string') facts[column] = value instanceof Date ? value.toISOString() : value;
    else if (idKind !== undefined) facts[column] = formatId(idKind, uuidOf(idKind, value));
    else facts[column] = column.endsWith('_usd') ? formatUsd(usd(value)) : value;
  }
  return { type, page: page?.replaceAll(/\{(\w+)\}/g, (_, column: string) => String(facts[column])) ?? null, facts };
}

/** As the id that it is where the kind of posting is known, else as the bare UUID. */
function renderBusinessId(kind: string, businessId: string): string {
  const source = POSTING_SOURCES[kind];
  return source === undefined ? businessId : formatId(source.business, uuidOf(source.business, businessId));
}

export function postingRoutes({ reporter }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'get',
      path: '/admin/postings/{id}',
      summary: 'Get a posting and its source',
      roles: READERS_AND_SUPPORT,
      params: z.strictObject({ id: id('posting') }),
      response: postingView,
      async handle({ params }) {
        const posting = await findPosting(reporter, params.id);
        if (posting === null) throw new Refusal('not_found');
        return ok({
          id: formatId('posting', posting.id),
          kind: posting.kind,
          business_id: renderBusinessId(posting.kind, posting.businessId),
          debit: renderAccount(posting.debit),
          credit: renderAccount(posting.credit),
          amount_usd: formatUsd(posting.amount),
          memo: posting.memo,
          created_at: posting.createdAt.toISOString(),
          source: posting.source === null ? null : renderSource(posting.source),
        });
      },
    }),
  ];
}
