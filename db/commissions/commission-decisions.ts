/** Decisions about commissions: top-ups that may be an affiliate's own, and corrections of the next run. */
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { decideOnce, type SecondDecision } from '../accounts/decisions.ts';
import { limitsText, type ManualLimits } from '../accounts/manual-limits.ts';

export type ReviewState = 'waiting' | 'approved' | 'denied';

/** A referred top-up whose affiliate and payer may be one person. */
export interface CommissionReview {
  readonly id: Uuid<'review'>;
  readonly paymentId: Uuid<'payment'>;
  readonly affiliateId: AccountUuid;
  readonly accountId: AccountUuid;
  /** The marks that the two accounts share, and the meaning of each. */
  readonly signals: readonly string[];
  /** Net of all accruals of the payment. */
  readonly amount: PicoUsd;
  readonly state: ReviewState;
  readonly openedAt: Date;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
  readonly decisionReason: string | null;
}

interface ReviewRow {
  id: string;
  payment_id: string;
  affiliate_id: string;
  account_id: string;
  signals: string[];
  amount: string;
  state: ReviewState;
  opened_at: Date;
  decided_by: string | null;
  decided_at: Date | null;
  decision_reason: string | null;
}

const REVIEW_COLUMNS = `r.id, r.payment_id, r.affiliate_id, r.account_id,
  array(select s.description from referral_signal s where s.kind = any (r.signals) order by s.kind) as signals,
  (select coalesce(sum(a.amount), 0) from commission_accrual a where a.payment_id = r.payment_id) as amount,
  r.state, r.opened_at, r.decided_by, r.decided_at, r.decision_reason`;

function toReview(row: ReviewRow): CommissionReview {
  return {
    id: uuidOf('review', row.id),
    paymentId: uuidOf('payment', row.payment_id),
    affiliateId: uuidOf('account', row.affiliate_id),
    accountId: uuidOf('account', row.account_id),
    signals: row.signals,
    amount: usd(row.amount),
    state: row.state,
    openedAt: row.opened_at,
    decidedBy: row.decided_by,
    decidedAt: row.decided_at,
    decisionReason: row.decision_reason,
  };
}

/** Reviews, newest first; of one state where it is given. */
export async function listCommissionReviews(
  session: Session,
  state: ReviewState | null,
  page: PageRequest,
): Promise<Page<CommissionReview>> {
  const rows = await query<ReviewRow>(session, {
    name: 'list_commission_reviews',
    text: `select ${REVIEW_COLUMNS} from commission_review r
      where ($1::text is null or r.state = $1) and ($2::uuid is null or r.id < $2) order by r.id desc limit $3`,
    values: [state, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toReview), page.limit, (review) => review.id);
}

/** Null when there is no such review. */
export async function findCommissionReview(session: Session, id: Uuid<'review'>): Promise<CommissionReview | null> {
  const [row] = await query<ReviewRow>(session, {
    name: 'find_commission_review',
    text: `select ${REVIEW_COLUMNS} from commission_review r where r.id = $1`,
    values: [id],
  });
  return row === undefined ? null : toReview(row);
}

/**
 * Decides a waiting review. Approving it beyond `limits` takes two persons: the first leaves it waiting. Returns the
 * state that follows, and whether this call decided. Refuses `request_ended` (unknown), `second_person_needed`.
 */
export async function decideCommissionReview(
  session: Session,
  decision: {
    readonly id: Uuid<'review'>;
    readonly state: Exclude<ReviewState, 'waiting'>;
    readonly reason: string;
    readonly by: string;
    readonly limits: ManualLimits | null;
  },
): Promise<{ readonly state: ReviewState; readonly decidedNow: boolean }> {
  const { id, state, reason, by, limits } = decision;
  return decideOnce(
    session,
    'decide_commission_review',
    [id, state, reason, by, limitsText(limits)],
    (row: { state: ReviewState }) => ({ state: row.state }),
  );
}

export type CorrectionState = 'waiting' | 'accrued' | 'rejected';

/** An accrual by hand; the next run pays it or takes it back. */
export interface CommissionCorrection {
  readonly id: Uuid<'correction'>;
  readonly affiliateId: AccountUuid;
  /** Positive for the affiliate, negative takes back. */
  readonly amount: PicoUsd;
  readonly reason: string;
  readonly state: CorrectionState;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
}

interface CorrectionRow {
  id: string;
  affiliate_id: string;
  amount: string;
  reason: string;
  state: CorrectionState;
  requested_by: string;
  requested_at: Date;
  decided_by: string | null;
  decided_at: Date | null;
}

function toCorrection(row: CorrectionRow): CommissionCorrection {
  return {
    id: uuidOf('correction', row.id),
    affiliateId: uuidOf('account', row.affiliate_id),
    amount: usd(row.amount),
    reason: row.reason,
    state: row.state,
    requestedBy: row.requested_by,
    requestedAt: row.requested_at,
    decidedBy: row.decided_by,
    decidedAt: row.decided_at,
  };
}

/**
 * Asks for a correction: accrued at once within `limits`, else it waits for a second person. Refuses
 * `not_found` where the account is no affiliate, `id_reused` for other content under the same id.
 */
export async function requestCommissionCorrection(
  session: Session,
  request: {
    readonly id: Uuid<'correction'>;
    readonly affiliateId: AccountUuid;
    readonly amount: PicoUsd;
    readonly reason: string;
    readonly requestedBy: string;
    readonly limits: ManualLimits | null;
  },
): Promise<CommissionCorrection> {
  const row = await queryOne<CorrectionRow>(session, {
    name: 'request_commission_correction',
    text: 'select * from request_commission_correction($1, $2, $3, $4, $5, $6)',
    values: [
      request.id,
      request.affiliateId,
      formatUsd(request.amount),
      request.reason,
      request.requestedBy,
      limitsText(request.limits),
    ],
  });
  return toCorrection(row);
}

/** A second person decides; a repeat returns the correction as it was decided. Refuses `second_person_needed`. */
export async function decideCommissionCorrection(
  session: Session,
  decision: SecondDecision<Uuid<'correction'>>,
): Promise<CommissionCorrection & { readonly decidedNow: boolean }> {
  return decideOnce(
    session,
    'decide_commission_correction',
    [decision.id, decision.approve, decision.decidedBy],
    toCorrection,
  );
}

/** Corrections, newest first; of one state where it is given. */
export async function listCommissionCorrections(
  session: Session,
  state: CorrectionState | null,
  page: PageRequest,
): Promise<Page<CommissionCorrection>> {
  const rows = await query<CorrectionRow>(session, {
    name: 'list_commission_corrections',
    text: `select * from commission_correction
      where ($1::text is null or state = $1) and ($2::uuid is null or id < $2) order by id desc limit $3`,
    values: [state, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toCorrection), page.limit, (correction) => correction.id);
}
