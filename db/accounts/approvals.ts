/**
 * Everything that waits for a second person, in one list, with the facts for a decision: who has approved already, and
 * what its requester and its account have had moved by one person alone. Reads only.
 */
import { uuidOf, type AccountUuid, type RequestUuid, type Uuid } from '../../domain/ids.ts';
import { picoAmount, usd, type PicoUsd } from '../../domain/money.ts';
import type { RewardKind } from '../../domain/rewards/reward.ts';
import type { ChangeKind } from './changes.ts';
import { movedAlone, type MovedAlone } from './manual-limits.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import type { Reporter } from '../shared/reporter.ts';
import type { ForeignAmount } from '../payments/top-ups.ts';

interface Asked {
  /** UUID of the adjustment, refund, batch, change, … */
  readonly id: string;
  readonly reason: string;
  /** Null: it was asked for in Temporal, and takes two persons. */
  readonly requestedBy: string | null;
  readonly requestedAt: Date;
  /** The persons who have approved it so far; not enough yet. */
  readonly approvedBy: readonly string[];
}

interface Waiting extends Asked {
  /** Signed from the customer's side. */
  readonly amount: PicoUsd;
  /** The sums its requester has moved without a second person; null where no person requested it. */
  readonly requesterAlone: MovedAlone | null;
  /** The sums moved so to its account; null where it has none. */
  readonly accountAlone: MovedAlone | null;
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
      /** The amount the provider showed at the time of the request; null for money that came outside the provider. */
      readonly shown: ForeignAmount | null;
    })
  /** The account is the affiliate. */
  | (Waiting & { readonly kind: 'commission_correction'; readonly accountId: AccountUuid })
  /** A commission under review that one person has approved. The account is the affiliate. */
  | (Waiting & { readonly kind: 'commission_review'; readonly accountId: AccountUuid })
  /** A reward above a cap, or a bounty that needs a second person. */
  | (Waiting & {
      readonly kind: 'reward';
      readonly accountId: AccountUuid;
      readonly reward: RewardKind;
      readonly sourceEvent: string;
    })
  /** The amount is that of all vouchers together. */
  | (Waiting & { readonly kind: 'voucher_batch'; readonly name: string; readonly count: number })
  /** A change of the rules of money; the change itself moves no money. */
  | (Asked & { readonly kind: 'change'; readonly change: ChangeKind; readonly subject: string });

/** Everything that waits, newest first. */
export async function listApprovals(reporter: Reporter, page: PageRequest): Promise<Page<Approval>> {
  const rows = await reporter<
    {
      kind: Approval['kind'];
      id: string;
      account_id: string | null;
      amount: string | null;
      reason: string;
      requested_by: string | null;
      requested_at: Date;
      request_id: string | null;
      n: number | null;
      name: string | null;
      top_up_id: string | null;
      shown: string | null;
      shown_currency: string | null;
    }[]
  >`
    select waiting.*, h.shown::text as shown, h.shown_currency from (
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
      union all
      select 'commission_review', v.id, v.affiliate_id, commission_review_worth(v), 'self_referral', null, v.opened_at, null, null, null,
        null
      from commission_review v
      where v.state = 'waiting' and exists (select from approval a where a.kind = 'commission_review' and a.subject = v.id)
      union all
      select 'change', id, null, null, cause, requested_by, requested_at, null, null, kind || ' ' || subject, null
      from change_request where state = 'waiting'
    ) waiting left join hand_credit h on waiting.kind = 'hand_credit' and h.id = waiting.id
    where ${page.after}::uuid is null or waiting.id < ${page.after}
    order by waiting.id desc limit ${page.limit + 1}`;
  const given = await reporter<{ subject: string; actor: string }[]>`
    select subject, actor from approval
    where subject in (select value::uuid from json_array_elements_text(${JSON.stringify(rows.map(({ id }) => id))}::text::json))
    order by given_at`;
  const { byActor, byAccount } = await movedAlone(reporter, {
    actors: rows.flatMap(({ requested_by }) => (requested_by === null ? [] : [requested_by])),
    accounts: rows.flatMap(({ account_id }) => (account_id === null ? [] : [uuidOf('account', account_id)])),
  });
  const approvals = rows.map((row): Approval => {
    const asked: Asked = {
      id: row.id,
      reason: row.reason,
      requestedBy: row.requested_by,
      requestedAt: row.requested_at,
      approvedBy: given.filter(({ subject }) => subject === row.id).map(({ actor }) => actor),
    };
    if (row.kind === 'change') {
      const [change, subject] = split(row.name!);
      return { kind: 'change', ...asked, change: change as ChangeKind, subject };
    }
    const waiting: Waiting = {
      ...asked,
      amount: usd(row.amount!),
      requesterAlone: isPerson(row.requested_by) ? (byActor.get(row.requested_by) ?? null) : null,
      accountAlone: row.account_id === null ? null : (byAccount.get(uuidOf('account', row.account_id)) ?? null),
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
          shown:
            row.shown === null || row.shown_currency === null
              ? null
              : { currency: row.shown_currency, amount: picoAmount(row.shown) },
        };
      case 'commission_correction':
      case 'commission_review':
        return { kind: row.kind, ...waiting, accountId: uuidOf('account', row.account_id!) };
      case 'reward':
        return { kind: 'reward', ...waiting, accountId: uuidOf('account', row.account_id!), ...rewardOf(row.name!) };
      case 'voucher_batch':
        return { kind: 'voucher_batch', ...waiting, name: row.name!, count: row.n! };
    }
  });
  return pageOf(approvals, page.limit, (approval) => approval.id);
}

/** Rewards that follow from the rules were asked for by nobody. */
function isPerson(requestedBy: string | null): requestedBy is string {
  return requestedBy !== null && requestedBy !== 'rules';
}

/** `<kind> <source event>`, as the list names a reward. */
function rewardOf(name: string): { reward: RewardKind; sourceEvent: string } {
  const [reward, sourceEvent] = split(name);
  return { reward: reward as RewardKind, sourceEvent };
}

/** A name at its first blank. */
function split(name: string): readonly [string, string] {
  const blank = name.indexOf(' ');
  return [name.slice(0, blank), name.slice(blank + 1)];
}
