/**
 * Money moved by people: adjustments with a reason, above a threshold only with a second person. Charges are in
 * db/requests/requests.ts. Every movement is keyed by a business id of the caller's, so a repeat is the same movement.
 */
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import { limitsText, type ManualLimits } from './manual-limits.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { decideOnce, type SecondDecision } from './decisions.ts';

export type DecisionState = 'waiting' | 'posted' | 'rejected';

export interface Adjustment {
  readonly id: Uuid<'adjustment'>;
  readonly accountId: AccountUuid;
  /** Positive credits the customer, negative debits it. */
  readonly amount: PicoUsd;
  readonly reason: string;
  readonly state: DecisionState;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
  readonly postingId: Uuid<'posting'> | null;
}

interface AdjustmentRow {
  id: string;
  account_id: string;
  amount: string;
  reason: string;
  state: DecisionState;
  requested_by: string;
  requested_at: Date;
  decided_by: string | null;
  decided_at: Date | null;
  posting_id: string | null;
}

function toAdjustment(row: AdjustmentRow): Adjustment {
  return {
    id: uuidOf('adjustment', row.id),
    accountId: uuidOf('account', row.account_id),
    amount: usd(row.amount),
    reason: row.reason,
    state: row.state,
    requestedBy: row.requested_by,
    requestedAt: row.requested_at,
    decidedBy: row.decided_by,
    decidedAt: row.decided_at,
    postingId: row.posting_id === null ? null : uuidOf('posting', row.posting_id),
  };
}

/**
 * Credits or debits a customer by hand. Posted at once within `limits`, else it waits for `decideAdjustment`. Refuses:
 * `not_found`, `id_reused` (other content under the same id), `insufficient_quota` (a debit below balance − held).
 */
export async function requestAdjustment(
  session: Session,
  request: {
    id: Uuid<'adjustment'>;
    accountId: AccountUuid;
    amount: PicoUsd;
    reason: string;
    requestedBy: string;
    limits: ManualLimits | null;
  },
): Promise<Adjustment> {
  const row = await queryOne<AdjustmentRow>(session, {
    name: 'request_adjustment',
    text: 'select * from request_adjustment($1, $2, $3, $4, $5, $6)',
    values: [
      request.id,
      request.accountId,
      formatUsd(request.amount),
      request.reason,
      request.requestedBy,
      limitsText(request.limits),
    ],
  });
  return toAdjustment(row);
}

/**
 * A second person approves or rejects. A repeat returns the adjustment as it was decided; `decidedNow` tells the call
 * that decided from the repeats. Refuses `second_person_needed`, and `insufficient_quota` for a debit that can no
 * longer be paid.
 */
export async function decideAdjustment(
  session: Session,
  decision: SecondDecision<Uuid<'adjustment'>>,
): Promise<Adjustment & { readonly decidedNow: boolean }> {
  return decideOnce(session, 'decide_adjustment', [decision.id, decision.approve, decision.decidedBy], toAdjustment);
}

/** Null when there is no such adjustment. */
export async function findAdjustment(session: Session, id: Uuid<'adjustment'>): Promise<Adjustment | null> {
  const [row] = await query<AdjustmentRow>(session, {
    name: 'find_adjustment',
    text: 'select * from adjustment where id = $1',
    values: [id],
  });
  return row === undefined ? null : toAdjustment(row);
}

/** The adjustments of one account, newest first. */
export async function listAdjustments(
  session: Session,
  accountId: AccountUuid,
  page: PageRequest,
): Promise<Page<Adjustment>> {
  const rows = await query<AdjustmentRow>(session, {
    name: 'list_adjustments',
    text: `select * from adjustment where account_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3`,
    values: [accountId, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toAdjustment), page.limit, (adjustment) => adjustment.id);
}
