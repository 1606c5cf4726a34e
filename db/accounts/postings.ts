/**
 * Postings that explain themselves: who paid whom, how much, and what the money came from. `POSTING_SOURCES` is the one
 * table of that: a kind of posting that is not in it is shown without its source. Reads only.
 */
import { uuidOf, type IdKind, type Uuid } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { Reporter } from '../shared/reporter.ts';

/** One end of a posting. A customer's id is what matters, a system account's name is. */
export interface PostingAccount {
  readonly id: string;
  readonly kind: 'customer' | 'system';
  readonly name: string;
}

export interface Posting {
  readonly id: Uuid<'posting'>;
  readonly kind: string;
  /** UUID of what the money belongs to; what kind of thing that is, the source says. */
  readonly businessId: string;
  readonly debit: PostingAccount;
  readonly credit: PostingAccount;
  readonly amount: PicoUsd;
  readonly memo: unknown;
  readonly createdAt: Date;
}

/** A row that a source is read as: columns that `ids` names are UUIDs, those that end in `_usd` amounts. */
type SourceRow = Readonly<Record<string, string | number | boolean | Date | null>>;

interface SourceOf {
  /** The type of the source, as a word. */
  readonly type: string;
  /** The kind of object that the posting's business id names. */
  readonly business: IdKind;
  /** Columns of the row that are ids. */
  readonly ids: Readonly<Record<string, IdKind>>;
  /** The path of the full object for staff, with columns of the row in braces; null where there is no such page. */
  readonly page: string | null;
  /** The row behind a business id. */
  readonly find: (reporter: Reporter, businessId: string) => Promise<readonly SourceRow[]>;
}

const topUpReversal: SourceOf = {
  type: 'reversal',
  business: 'reversal',
  ids: { reversal_id: 'reversal', payment_id: 'payment', top_up_id: 'topUp', account_id: 'account' },
  page: '/admin/top-ups/{top_up_id}',
  find: (reporter, id) => reporter<SourceRow[]>`
    select r.id as reversal_id, r.kind, r.direction, r.provider, r.object_id as provider_object_id, r.created_at as reversed_at,
      p.id as payment_id, p.payment_id as provider_payment_id, p.credited as credited_usd, p.reversed as reversed_in_all_usd,
      p.top_up_id, p.account_id
    from payment_reversal r join payment p on p.id = r.payment where r.id = ${id}`,
};

const reward: SourceOf = {
  type: 'reward',
  business: 'reward',
  ids: { reward_id: 'reward', account_id: 'account' },
  page: '/admin/rewards/{reward_id}',
  find: (reporter, id) => reporter<SourceRow[]>`
    select r.id as reward_id, r.kind, r.source_event, r.discord_user_id, r.account_id, r.amount as amount_usd, r.earned_at,
      r.rule_version, r.requested_by, r.decided_by, r.decided_at
    from reward r where r.id = ${id}`,
};

/** Kind of posting → what it came from. Every kind that SQL posts has its entry (test/db/accounts/postings.test.ts). */
export const POSTING_SOURCES: Readonly<Record<string, SourceOf>> = {
  charge: {
    type: 'request',
    business: 'request',
    ids: { request_id: 'request', account_id: 'account', key_id: 'key' },
    page: '/admin/requests/{request_id}',
    find: (reporter, id) => reporter<SourceRow[]>`
      select r.id as request_id, r.account_id, r.key_id, r.model_id as model, r.outcome, r.list_cost as list_cost_usd,
        r.cost as cost_usd, r.price_version, r.settled_at, r.workflow_id
      from request r where r.id = ${id}`,
  },
  request_refund: {
    type: 'refund',
    business: 'refund',
    ids: { refund_id: 'refund', request_id: 'request', account_id: 'account' },
    page: '/admin/requests/{request_id}',
    find: (reporter, id) => reporter<SourceRow[]>`
      select f.id as refund_id, f.request_id, f.n, f.account_id, f.reason, f.requested_by, f.requested_at, f.decided_by, f.decided_at
      from request_refund f where f.id = ${id}`,
  },
  adjustment: {
    type: 'adjustment',
    business: 'adjustment',
    ids: { adjustment_id: 'adjustment', account_id: 'account' },
    page: '/admin/adjustments/{adjustment_id}',
    find: (reporter, id) => reporter<SourceRow[]>`
      select x.id as adjustment_id, x.account_id, x.amount as amount_usd, x.reason, x.requested_by, x.requested_at, x.decided_by,
        x.decided_at
      from adjustment x where x.id = ${id}`,
  },
  top_up: {
    type: 'payment',
    business: 'payment',
    ids: { payment_id: 'payment', top_up_id: 'topUp', account_id: 'account' },
    page: '/admin/top-ups/{top_up_id}',
    find: (reporter, id) => reporter<SourceRow[]>`
      select p.id as payment_id, p.top_up_id, p.account_id, t.method, p.provider, t.provider_id as provider_checkout_id,
        p.payment_id as provider_payment_id, t.amount as ordered_usd, t.fee as fee_usd,
        case when h.id is null then p.received end as received_usd, trim_scale(h.shown)::text as paid_amount,
        h.shown_currency as paid_currency, p.credited as credited_usd, p.reversed as reversed_in_all_usd, p.credited_by, p.credited_at
      from payment p join top_up t on t.id = p.top_up_id left join hand_credit h
        on h.top_up_id = p.top_up_id and h.payment = p.id and h.shown_currency <> t.currency
      where p.id = ${id}`,
  },
  top_up_reversal: topUpReversal,
  top_up_reversal_undone: topUpReversal,
  voucher: {
    type: 'voucher',
    business: 'voucher',
    ids: { voucher_id: 'voucher', batch_id: 'voucherBatch', account_id: 'account' },
    page: '/admin/voucher-batches/{batch_id}',
    find: (reporter, id) => reporter<SourceRow[]>`
      select v.id as voucher_id, v.batch_id, v.redeemed_by as account_id, v.redeemed_at, b.name as batch_name, b.amount as amount_usd,
        b.reason, b.requested_by, b.requested_at, b.decided_by, b.decided_at
      from voucher v join voucher_batch b on b.id = v.batch_id where v.id = ${id}`,
  },
  commission: {
    type: 'commission',
    business: 'accrual',
    ids: {
      accrual_id: 'accrual',
      affiliate_id: 'account',
      account_id: 'account',
      payment_id: 'payment',
      top_up_id: 'topUp',
    },
    page: '/admin/affiliates/{affiliate_id}',
    find: (reporter, id) => reporter<SourceRow[]>`
      select c.id as accrual_id, c.affiliate_id, c.kind, c.amount as amount_usd, c.account_id, c.payment_id, p.top_up_id, c.base as base_usd,
        c.rate_ppm, c.rule_version, c.reversed_from as reversed_from_usd, c.reversed_to as reversed_to_usd, c.accrued_at, c.matures_at,
        c.run as period
      from commission_accrual c left join payment p on p.id = c.payment_id where c.id = ${id}`,
  },
  reward_discord_link: reward,
  reward_vote: reward,
  reward_boost: reward,
  reward_bounty: reward,
};

export interface PostingSource extends Omit<SourceOf, 'find'> {
  readonly row: SourceRow;
}

/** Null when there is no such posting. Its source is null when its kind has none or the row behind it is missing. */
export async function findPosting(
  reporter: Reporter,
  id: Uuid<'posting'>,
): Promise<(Posting & { readonly source: PostingSource | null }) | null> {
  const [row] = await reporter<
    {
      id: string;
      kind: string;
      business_id: string;
      amount: string;
      memo: unknown;
      created_at: Date;
      debit: string;
      debit_kind: PostingAccount['kind'];
      debit_name: string;
      credit: string;
      credit_kind: PostingAccount['kind'];
      credit_name: string;
    }[]
  >`
    select p.id, p.kind, p.business_id, p.amount, p.memo, p.created_at,
      d.id as debit, d.kind as debit_kind, d.name as debit_name, c.id as credit, c.kind as credit_kind, c.name as credit_name
    from posting p join account d on d.id = p.debit join account c on c.id = p.credit
    where p.id = ${id}`;
  if (row === undefined) return null;
  return {
    id: uuidOf('posting', row.id),
    kind: row.kind,
    businessId: row.business_id,
    debit: { id: row.debit, kind: row.debit_kind, name: row.debit_name },
    credit: { id: row.credit, kind: row.credit_kind, name: row.credit_name },
    amount: usd(row.amount),
    memo: row.memo,
    createdAt: row.created_at,
    source: await sourceOf(reporter, row.kind, row.business_id),
  };
}

async function sourceOf(reporter: Reporter, kind: string, businessId: string): Promise<PostingSource | null> {
  const source = POSTING_SOURCES[kind];
  if (source === undefined) return null;
  const [row] = await source.find(reporter, businessId);
  const { type, business, ids, page } = source;
  return row === undefined ? null : { type, business, ids, page, row };
}
