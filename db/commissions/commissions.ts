/**
 * Commissions as people read them: what an affiliate earned and what became of it, and the rules behind it. Accruals
 * are written by the database with their payment (db/functions/commissions/accruals.sql); nothing here changes one.
 */
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { addUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { AccrualKind, CommissionRule } from '../../domain/commissions/commission.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { query, queryOne, type Session } from '../shared/client.ts';

/** Where an accrual stands: `held` says why in `heldBy`, `review` and `denied` are a person's to decide. */
export const ACCRUAL_PHASES = ['pending', 'matured', 'credited', 'review', 'held', 'denied'] as const;
export type AccrualPhase = (typeof ACCRUAL_PHASES)[number];

export interface CommissionEntry {
  readonly id: Uuid<'accrual'>;
  readonly kind: AccrualKind;
  readonly amount: PicoUsd;
  readonly accountId: AccountUuid | null;
  readonly paymentId: Uuid<'payment'> | null;
  readonly base: PicoUsd | null;
  readonly ratePpm: number | null;
  readonly ruleVersion: number;
  readonly accruedAt: Date;
  /** Null while its payment is not final. */
  readonly maturesAt: Date | null;
  /** The period of the run that took it. */
  readonly run: string | null;
  readonly postingId: Uuid<'posting'> | null;
  readonly heldBy: string | null;
  readonly phase: AccrualPhase;
  /** The payment it was earned on has been reversed in full; a further accrual has taken it back. */
  readonly isReversed: boolean;
}

interface EntryRow {
  id: string;
  kind: AccrualKind;
  amount: string;
  account_id: string | null;
  payment_id: string | null;
  base: string | null;
  rate_ppm: number | null;
  rule_version: number;
  accrued_at: Date;
  matures_at: Date | null;
  run: string | null;
  posting_id: string | null;
  held_by: string | null;
  phase: AccrualPhase;
  is_reversed: boolean;
}

function toEntry(row: EntryRow): CommissionEntry {
  return {
    id: uuidOf('accrual', row.id),
    kind: row.kind,
    amount: usd(row.amount),
    accountId: row.account_id === null ? null : uuidOf('account', row.account_id),
    paymentId: row.payment_id === null ? null : uuidOf('payment', row.payment_id),
    base: row.base === null ? null : usd(row.base),
    ratePpm: row.rate_ppm,
    ruleVersion: row.rule_version,
    accruedAt: row.accrued_at,
    maturesAt: row.matures_at,
    run: row.run,
    postingId: row.posting_id === null ? null : uuidOf('posting', row.posting_id),
    heldBy: row.held_by,
    phase: row.phase,
    isReversed: row.is_reversed,
  };
}

/** An affiliate's accruals as they stand at `at`, newest first. */
export async function listCommissionEntries(
  session: Session,
  affiliate: { readonly accountId: AccountUuid; readonly at: Date },
  page: PageRequest,
): Promise<Page<CommissionEntry>> {
  const rows = await query<EntryRow>(session, {
    name: 'list_commission_entries',
    text: `select * from commission_entries($1, $2) where $3::uuid is null or id < $3 order by id desc limit $4`,
    values: [affiliate.accountId, affiliate.at, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toEntry), page.limit, (entry) => entry.id);
}

/** An affiliate's figures. The sums are disjoint and together all that was ever accrued. */
export interface CommissionSummary {
  readonly referrals: number;
  readonly sums: Readonly<Record<AccrualPhase, PicoUsd>>;
  /** The sum that the run of the period ending at `endsAt` would pay if nothing changed until then. */
  readonly nextPayout: PicoUsd;
}

export async function commissionSummary(
  session: Session,
  affiliate: { readonly accountId: AccountUuid; readonly at: Date; readonly endsAt: Date },
): Promise<CommissionSummary> {
  const { referrals } = await queryOne<{ referrals: string }>(session, {
    name: 'count_referrals',
    text: 'select count(*) as referrals from referral where affiliate_id = $1',
    values: [affiliate.accountId],
  });
  const rows = await query<{ phase: AccrualPhase; amount: string; due: string }>(session, {
    name: 'sum_commission_entries',
    text: `select phase, sum(amount) as amount,
        coalesce(sum(amount) filter (where run is null and held_by is null and matures_at <= $3), 0) as due
      from commission_entries($1, $2) group by phase`,
    values: [affiliate.accountId, affiliate.at, affiliate.endsAt],
  });
  const amountOf = (phase: AccrualPhase): PicoUsd => usd(rows.find((row) => row.phase === phase)?.amount ?? '0');
  return {
    referrals: Number(referrals),
    sums: {
      pending: amountOf('pending'),
      matured: amountOf('matured'),
      credited: amountOf('credited'),
      review: amountOf('review'),
      held: amountOf('held'),
      denied: amountOf('denied'),
    },
    nextPayout: addUsd(...rows.map(({ due }) => usd(due))),
  };
}

export interface PublishedRule extends CommissionRule {
  readonly validFrom: Date;
  readonly createdBy: string;
  readonly reason: string;
}

interface RuleRow {
  version: number;
  valid_from: Date;
  rate_ppm: number;
  hold_days: number;
  final_hold_days: number;
  dispute_days: number;
  created_by: string;
  reason: string;
}

function toRule(row: RuleRow): PublishedRule {
  return {
    version: row.version,
    validFrom: row.valid_from,
    ratePpm: row.rate_ppm,
    holdDays: row.hold_days,
    finalHoldDays: row.final_hold_days,
    disputeDays: row.dispute_days,
    createdBy: row.created_by,
    reason: row.reason,
  };
}

/** Every version of the rule, newest first. There is always one. */
export async function listCommissionRules(session: Session): Promise<PublishedRule[]> {
  const rows = await query<RuleRow>(session, {
    name: 'list_commission_rules',
    text: 'select * from commission_rule order by version desc',
    values: [],
  });
  return rows.map(toRule);
}

/** The rate of affiliates without one of their own. */
export async function commissionRateNow(session: Session): Promise<number> {
  const row = await queryOne<{ rate_ppm: number }>(session, {
    name: 'commission_rate_now',
    text: 'select rate_ppm from commission_rule order by version desc limit 1',
    values: [],
  });
  return row.rate_ppm;
}

/** Publishes the next version, for what is credited from now on. */
export async function publishCommissionRule(
  session: Session,
  rule: Omit<CommissionRule, 'version'> & {
    readonly reason: string;
    readonly createdBy: string;
    readonly approvedBy?: string | null;
  },
): Promise<PublishedRule> {
  const { ratePpm, holdDays, finalHoldDays, disputeDays, reason, createdBy, approvedBy = null } = rule;
  const row = await queryOne<RuleRow>(session, {
    name: 'publish_commission_rule',
    text: 'select * from publish_commission_rule($1, $2, $3, $4, $5, $6, $7)',
    values: [ratePpm, holdDays, finalHoldDays, disputeDays, reason, createdBy, approvedBy],
  });
  return toRule(row);
}
