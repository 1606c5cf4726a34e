/** Credits that were asked for by hand: keyed by the provider's payment, as the automatic ones, and decided once. */
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, picoAmount, usd, type PicoUsd } from '../../domain/money.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { decideOnce, type SecondDecision } from '../accounts/decisions.ts';
import { limitsText, type ManualLimits } from '../accounts/manual-limits.ts';
import type { ForeignAmount } from './top-ups.ts';

/** `superseded`: the payment was credited automatically while this waited. */
export const MANUAL_CREDIT_STATES = ['waiting', 'posted', 'rejected', 'superseded'] as const;
export type ManualCreditState = (typeof MANUAL_CREDIT_STATES)[number];

export interface ManualCredit {
  readonly id: Uuid<'manualCredit'>;
  readonly topUpId: Uuid<'topUp'>;
  readonly accountId: AccountUuid;
  readonly provider: string;
  /** The provider's own id of the money, or `outside/<reference>` for money that came outside of it. */
  readonly paymentId: string;
  readonly amount: PicoUsd;
  /** The amount the provider showed at the time of the request; null for money that came outside the provider. */
  readonly shown: ForeignAmount | null;
  readonly reason: string;
  readonly state: ManualCreditState;
  /** Whether the provider showed the payment as paid, in the order's currency and mode, when this was asked for. */
  readonly isKnown: boolean;
  /** Null where it was asked for in Temporal, where nobody is authenticated. */
  readonly requestedBy: string | null;
  readonly requestedAt: Date;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
}

interface ManualCreditRow {
  id: string;
  top_up_id: string;
  account_id: string;
  provider: string;
  payment_id: string;
  amount: string;
  reason: string;
  state: ManualCreditState;
  is_known: boolean;
  shown: string | null;
  shown_currency: string | null;
  requested_by: string | null;
  requested_at: Date;
  decided_by: string | null;
  decided_at: Date | null;
}

const toManualCredit = (row: ManualCreditRow): ManualCredit => ({
  id: uuidOf('manualCredit', row.id),
  topUpId: uuidOf('topUp', row.top_up_id),
  accountId: uuidOf('account', row.account_id),
  provider: row.provider,
  paymentId: row.payment_id,
  amount: usd(row.amount),
  reason: row.reason,
  state: row.state,
  isKnown: row.is_known,
  shown:
    row.shown === null || row.shown_currency === null
      ? null
      : { currency: row.shown_currency, amount: picoAmount(row.shown) },
  requestedBy: row.requested_by,
  requestedAt: row.requested_at,
  decidedBy: row.decided_by,
  decidedAt: row.decided_at,
});

/**
 * Asks for a credit of a payment by its own key (see `findPayment`); a repeat of the same action returns the existing
 * credit. Posted at once within `limits`, where the provider shows the payment as paid, in the order's currency and
 * mode, and neither it nor the order is credited with more than was received; else it waits for a second person.
 * Refuses `not_found`, `id_reused`, `payment_credited`, `credit_waits`, `payment_unknown`,
 * `payment_of_another_order`.
 */
export async function requestManualCredit(
  session: Session,
  wanted: {
    /** The identity of this call: an idempotency subject, a workflow update. */
    readonly action: string;
    readonly topUpId: Uuid<'topUp'>;
    readonly paymentId: string;
    readonly amount: PicoUsd;
    readonly reason: string;
    readonly requestedBy: string;
    readonly limits: ManualLimits | null;
  },
): Promise<ManualCredit> {
  const row = await queryOne<ManualCreditRow>(session, {
    name: 'request_hand_credit',
    text: 'select * from request_hand_credit($1, $2, $3, $4, $5, $6, $7)',
    values: [
      wanted.action,
      wanted.topUpId,
      wanted.paymentId,
      formatUsd(wanted.amount),
      wanted.reason,
      wanted.requestedBy,
      limitsText(wanted.limits),
    ],
  });
  return toManualCredit(row);
}

/**
 * Asks for a credit from Temporal, where a name proves nothing: it has no requester and waits for two persons of the
 * interface. Refuses as `requestManualCredit`.
 */
export async function askManualCredit(
  session: Session,
  wanted: {
    readonly action: string;
    readonly topUpId: Uuid<'topUp'>;
    readonly paymentId: string;
    readonly amount: PicoUsd;
    readonly reason: string;
  },
): Promise<ManualCredit> {
  const row = await queryOne<ManualCreditRow>(session, {
    name: 'ask_hand_credit',
    text: 'select * from ask_hand_credit($1, $2, $3, $4, $5)',
    values: [wanted.action, wanted.topUpId, wanted.paymentId, formatUsd(wanted.amount), wanted.reason],
  });
  return toManualCredit(row);
}

/**
 * A second person approves or rejects; the first of two that are needed leaves it waiting. A repeat returns it as it
 * was decided; `decidedNow` tells which call decided. Refuses `not_found` and `second_person_needed`. A payment that
 * was credited meanwhile is no refusal: such a credit is `superseded`.
 */
export async function decideManualCredit(
  session: Session,
  decision: SecondDecision<Uuid<'manualCredit'>>,
): Promise<ManualCredit & { readonly decidedNow: boolean }> {
  return decideOnce(session, 'decide_hand_credit', [decision.id, decision.approve, decision.decidedBy], toManualCredit);
}

/** Null when there is no such credit. */
export async function findManualCredit(session: Session, id: Uuid<'manualCredit'>): Promise<ManualCredit | null> {
  const [row] = await query<ManualCreditRow>(session, {
    name: 'find_hand_credit',
    text: 'select * from hand_credit where id = $1',
    values: [id],
  });
  return row === undefined ? null : toManualCredit(row);
}

/** The manual credits of one order, oldest first. */
export async function manualCreditsOf(session: Session, topUpId: Uuid<'topUp'>): Promise<ManualCredit[]> {
  const rows = await query<ManualCreditRow>(session, {
    name: 'hand_credits_of',
    text: 'select * from hand_credits_of($1)',
    values: [topUpId],
  });
  return rows.map(toManualCredit);
}
