/** Refunds of single requests: asked for, decided once, posted in the transaction that decides. */
import type pg from 'pg';
import { uuidOf, type AccountUuid, type RequestUuid, type Uuid } from '../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../domain/money.ts';
import { type Session, run, runOne } from './client.ts';
import type { DecisionState } from './ledger.ts';

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
 * Records that a refund is asked for; `amount` null means all that is left. Once the request's refunds together exceed
 * `approvalAbove`, so that splitting one does not pass it, a second person must approve; not given, always. A repeat of
 * (request, n) returns the row that is there. Refuses `request_ended` (unknown), `request_not_charged`, `refund_too_large`.
 */
export async function requestRefund(
  session: Session,
  refund: {
    requestId: RequestUuid;
    n: number;
    amount: PicoUsd | null;
    reason: string;
    requestedBy: string;
    approvalAbove?: PicoUsd;
  },
): Promise<Refund> {
  const row = await runOne<RefundRow>(session, {
    name: 'request_refund',
    text: 'select * from request_refund($1, $2, $3, $4, $5, $6)',
    values: [
      refund.requestId,
      refund.n,
      refund.amount === null ? null : formatUsd(refund.amount),
      refund.reason,
      refund.requestedBy,
      refund.approvalAbove === undefined ? null : formatUsd(refund.approvalAbove),
    ],
  });
  return toRefund(row);
}

/**
 * Posts the refund or closes it without money; a repeat returns what was decided first. Refuses `second_person_needed`.
 */
export async function decideRefund(
  pool: pg.Pool,
  decision: { requestId: RequestUuid; n: number; approve: boolean; decidedBy: string },
): Promise<Refund> {
  const row = await runOne<RefundRow>(pool, {
    name: 'decide_refund',
    text: 'select * from decide_refund($1, $2, $3, $4)',
    values: [decision.requestId, decision.n, decision.approve, decision.decidedBy],
  });
  return toRefund(row);
}

/**
 * `requestRefund` under the request's next free number. The number is taken under the lock that `request_refund` itself
 * takes, so two people who ask at once get two refunds and never each other's. Not repeatable by itself: the caller's
 * transaction also keeps what makes a repeat recognisable.
 */
export async function requestNextRefund(
  client: pg.PoolClient,
  refund: {
    requestId: RequestUuid;
    amount: PicoUsd | null;
    reason: string;
    requestedBy: string;
    approvalAbove: PicoUsd;
  },
): Promise<Refund> {
  await run(client, {
    name: 'lock_refunds',
    text: 'select pg_advisory_xact_lock(hashtextextended($1::uuid::text, 1))',
    values: [refund.requestId],
  });
  const { n } = await runOne<{ n: number }>(client, {
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
  const [row] = await run<RefundRow>(session, {
    name: 'find_refund',
    text: 'select * from request_refund where request_id = $1 and n = $2',
    values: [which.requestId, which.n],
  });
  return row === undefined ? null : toRefund(row);
}
