/** What waits for a second person: adjustments and refunds above their threshold, in one list. Reads only. */
import { uuidOf, type AccountUuid, type RequestUuid } from '../domain/ids.ts';
import { usd, type PicoUsd } from '../domain/money.ts';
import { pageOf, type Page, type PageRequest } from './page.ts';
import type { Reporter } from './reporter.ts';

interface Waiting {
  /** UUID of the adjustment or refund. */
  readonly id: string;
  readonly accountId: AccountUuid;
  /** Signed from the customer's side. */
  readonly amount: PicoUsd;
  readonly reason: string;
  readonly requestedBy: string;
  readonly requestedAt: Date;
}

export type Approval =
  | (Waiting & { readonly kind: 'adjustment' })
  | (Waiting & { readonly kind: 'refund'; readonly requestId: RequestUuid; readonly n: number });

/** Everything that waits, newest first. */
export async function listApprovals(reporter: Reporter, page: PageRequest): Promise<Page<Approval>> {
  const rows = await reporter<
    {
      id: string;
      account_id: string;
      amount: string;
      reason: string;
      requested_by: string;
      requested_at: Date;
      request_id: string | null;
      n: number | null;
    }[]
  >`
    select * from (
      select id, account_id, amount, reason, requested_by, requested_at, null::uuid as request_id, null::integer as n
      from adjustment where state = 'waiting'
      union all
      select id, account_id, amount, reason, requested_by, requested_at, request_id, n
      from request_refund where state = 'waiting'
    ) waiting
    where ${page.after}::uuid is null or id < ${page.after}
    order by id desc limit ${page.limit + 1}`;
  const approvals = rows.map((row): Approval => {
    const waiting: Waiting = {
      id: row.id,
      accountId: uuidOf('account', row.account_id),
      amount: usd(row.amount),
      reason: row.reason,
      requestedBy: row.requested_by,
      requestedAt: row.requested_at,
    };
    return row.request_id === null || row.n === null
      ? { kind: 'adjustment', ...waiting }
      : { kind: 'refund', ...waiting, requestId: uuidOf('request', row.request_id), n: row.n };
  });
  return pageOf(approvals, page.limit, (approval) => approval.id);
}
