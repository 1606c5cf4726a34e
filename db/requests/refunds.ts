/** Refunds of single requests: asked for, decided once, posted in the transaction that decides. */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type RequestUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { decideOnce } from '../accounts/decisions.ts';
import { limitsText, type ManualLimits } from '../accounts/manual-limits.ts';
import type { DecisionState } from '../accounts/adjustments.ts';

export interface Refund {
  readonly requestId: RequestUuid;
  readonly n: number;
  readonly id: Uuid<'refund'>;
  readonly accountId: AccountUuid;
  readonly amount: PicoUsd;
  readonly reason: string;
  readonly state: DecisionState;
  /** True where a second person must approve. */
  readonly needsApproval: boolean;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
  readonly postingId: Uuid<'posting'> | null;
}

export interface RefundRow {
  request_id: string;
  n: number;
  id: string;
  account_id: string;
  amount: string;
  reason: string;
  state: DecisionState;
  needs_approval: boolean;
  requested_by: string;
  requested_at: Date;
  decided_by: string | null;
  decided_at: Date | null;
  posting_id: string | null;
}

export function toRefund(row: RefundRow): Refund {
  return {
    requestId: uuidOf('request', row.request_id),
    n: row.n,
    id: uuidOf('refund', row.id),
    accountId: uuidOf('account', row.account_id),
    amount: usd(row.amount),
    reason: row.reason,
    state: row.state,
    needsApproval: row.needs_approval,
    requestedBy: row.requested_by,
    requestedAt: row.requested_at,
    decidedBy: row.decided_by,
    decidedAt: row.decided_at,
    postingId: row.posting_id === null ? null : uuidOf('posting', row.posting_id),
  };
}

/**
 * Asks for a refund; `amount` null means all that is left. Posted at once while the request's refunds together are
 * within `limits.movement`, so that splitting one does not pass it, and the sums within the others; else a second
 * person must approve. Not given: always. A repeat of (request, n) returns the row that is there. Refuses
 * `request_ended` (unknown), `request_not_charged`, `refund_too_large`.
 */
export async function requestRefund(
  session: Session,
  refund: {
    requestId: RequestUuid;
    n: number;
    amount: PicoUsd | null;
    reason: string;
    requestedBy: string;
    limits?: ManualLimits;
  },
): Promise<Refund> {
  const row = await queryOne<RefundRow>(session, {
    name: 'request_refund',
    text: 'select * from request_refund($1, $2, $3, $4, $5, $6)',
    values: [
      refund.requestId,
      refund.n,
      refund.amount === null ? null : formatUsd(refund.amount),
      refund.reason,
      refund.requestedBy,
      limitsText(refund.limits ?? null),
    ],
  });
  return toRefund(row);
}

/**
 * A second person posts the refund or closes it without money. A repeat returns what was decided first; `decidedNow`
 * tells the call that decided from the repeats. Refuses `second_person_needed`.
 */
export async function decideRefund(
  session: Session,
  decision: { requestId: RequestUuid; n: number; approve: boolean; decidedBy: string },
): Promise<Refund & { readonly decidedNow: boolean }> {
  return decideOnce(
    session,
    'decide_refund',
    [decision.requestId, decision.n, decision.approve, decision.decidedBy],
    toRefund,
  );
}

/** As `findRefund`, for roles that may not read tables. */
export async function refundOf(session: Session, which: { requestId: RequestUuid; n: number }): Promise<Refund | null> {
  const [row] = await query<RefundRow>(session, {
    name: 'refund_of',
    text: 'select * from refund_of($1, $2)',
    values: [which.requestId, which.n],
  });
  return row === undefined ? null : toRefund(row);
}

/** The sum of a request's refunds, posted and waiting. */
export async function sumRefunds(session: Session, requestId: RequestUuid): Promise<PicoUsd> {
  const { total } = await queryOne<{ total: string }>(session, {
    name: 'sum_refunds',
    text: `select coalesce(sum(amount), 0) as total from request_refund where request_id = $1 and state <> 'rejected'`,
    values: [requestId],
  });
  return usd(total);
}

/**
 * `requestRefund` under the request's next free number. The number is taken under the lock that `request_refund` itself
 * takes, so two requests at once are two refunds and never each other's. Not repeatable on its own: the caller's
 * transaction also keeps what makes a repeat recognisable.
 */
export async function requestNextRefund(
  client: pg.PoolClient,
  refund: {
    requestId: RequestUuid;
    amount: PicoUsd | null;
    reason: string;
    requestedBy: string;
    limits: ManualLimits;
  },
): Promise<Refund> {
  await query(client, {
    name: 'lock_refunds',
    text: 'select pg_advisory_xact_lock(hashtextextended($1::uuid::text, 1))',
    values: [refund.requestId],
  });
  const { n } = await queryOne<{ n: number }>(client, {
    name: 'next_refund_number',
    text: 'select coalesce(max(n), 0) + 1 as n from request_refund where request_id = $1',
    values: [refund.requestId],
  });
  return requestRefund(client, { ...refund, n });
}

/** Null when there is no such refund. */
export async function findRefund(
  session: Session,
  which: { requestId: RequestUuid; n: number },
): Promise<Refund | null> {
  const [row] = await query<RefundRow>(session, {
    name: 'find_refund',
    text: 'select * from request_refund where request_id = $1 and n = $2',
    values: [which.requestId, which.n],
  });
  return row === undefined ? null : toRefund(row);
}
