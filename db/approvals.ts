/** What waits for a second person, in one list: whatever is above its threshold. Reads only. */
import { uuidOf, type AccountUuid, type RequestUuid, type Uuid } from '../domain/ids.ts';
import { usd, type PicoUsd } from '../domain/money.ts';
import type { RewardKind } from '../domain/reward.ts';
import { pageOf, type Page, type PageRequest } from './page.ts';
import type { Reporter } from './reporter.ts';

interface Waiting {
  /** UUID of the adjustment, refund or batch. */
  readonly id: string;
  /** Signed from the customer's side. */
  readonly amount: PicoUsd;
  readonly reason: string;
  readonly requestedBy: string;
  readonly requestedAt: Date;
}

export type Approval =
  | (Waiting & { readonly kind: 'adjustment'; readonly accountId: AccountUuid })
  | (Waiting & {
      readonly kind: 'refund';
      readonly accountId: AccountUuid;
      readonly requestId: RequestUuid;
      readonly n: number;
    })
  | (Waiting & {
      readonly kind: 'hand_credit';
      readonly accountId: AccountUuid;
      readonly topUpId: Uuid<'topUp'>;
      readonly paymentId: string;
    })
  /** The account is the affiliate. */
  | (Waiting & { readonly kind: 'commission_correction'; readonly accountId: AccountUuid })
  /** A reward above a cap, or a bounty that needs a second person. */
  | (Waiting & {
      readonly kind: 'reward';
      readonly accountId: AccountUuid;
      readonly reward: RewardKind;
      readonly sourceEvent: string;
    })
  /** The amount is that of all vouchers together. */
  | (Waiting & { readonly kind: 'voucher_batch'; readonly name: string; readonly count: number });

/** Everything that waits, newest first. */
export async function listApprovals(reporter: Reporter, page: PageRequest): Promise<Page<Approval>> {
  const rows = await reporter<
    {
      kind: Approval['kind'];
      id: string;
      account_id: string | null;
      amount: string;
      reason: string;
      requested_by: string;
      requested_at: Date;
      request_id: string | null;
      n: number | null;
      name: string | null;
      top_up_id: string | null;
    }[]
  >`
    select * from (
      select 'adjustment' as kind, id, account_id, amount, reason, requested_by, requested_at, null::uuid as request_id,
        null::integer as n, null::text as name, null::uuid as top_up_id
      from adjustment where state = 'waiting'
      union all
      select 'refund', id, account_id, amount, reason, requested_by, requested_at, request_id, n, null, null
      from request_refund where state = 'waiting'
      union all
      select 'voucher_batch', id, null, amount * count, reason, requested_by, requested_at, null, count, name, null
      from voucher_batch where state = 'waiting'
      union all
      select 'hand_credit', id, account_id, amount, reason, requested_by, requested_at, null, null, payment_id, top_up_id
      from hand_credit where state = 'waiting'
      union all
      select 'reward', id, account_id, amount, reason, requested_by, earned_at, null, null, kind || ' ' || source_event, null
      from reward where state = 'waiting'
      union all
      select 'commission_correction', id, affiliate_id, amount, reason, requested_by, requested_at, null, null, null, null
      from commission_correction where state = 'waiting'
    ) waiting
    where ${page.after}::uuid is null or id < ${page.after}
    order by id desc limit ${page.limit + 1}`;
  const approvals = rows.map((row): Approval => {
    const waiting: Waiting = {
      id: row.id,
      amount: usd(row.amount),
      reason: row.reason,
      requestedBy: row.requested_by,
      requestedAt: row.requested_at,
    };
    switch (row.kind) {
      case 'adjustment':
        return { kind: 'adjustment', ...waiting, accountId: uuidOf('account', row.account_id!) };
      case 'refund':
        return {
          kind: 'refund',
          ...waiting,
          accountId: uuidOf('account', row.account_id!),
          requestId: uuidOf('request', row.request_id!),
          n: row.n!,
        };
      case 'hand_credit':
        return {
          kind: 'hand_credit',
          ...waiting,
          accountId: uuidOf('account', row.account_id!),
          topUpId: uuidOf('topUp', row.top_up_id!),
          paymentId: row.name!,
        };
      case 'commission_correction':
        return { kind: 'commission_correction', ...waiting, accountId: uuidOf('account', row.account_id!) };
      case 'reward':
        return { kind: 'reward', ...waiting, accountId: uuidOf('account', row.account_id!), ...rewardOf(row.name!) };
      case 'voucher_batch':
        return { kind: 'voucher_batch', ...waiting, name: row.name!, count: row.n! };
    }
  });
  return pageOf(approvals, page.limit, (approval) => approval.id);
}

/** `<kind> <source event>`, as the list names a reward. */
function rewardOf(name: string): { reward: RewardKind; sourceEvent: string } {
  const split = name.indexOf(' ');
  return { reward: name.slice(0, split) as RewardKind, sourceEvent: name.slice(split + 1) };
}
